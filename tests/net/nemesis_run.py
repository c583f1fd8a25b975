"""One run of ./nemesis: a cluster, clients on it, faults, and a judgement."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import nemesis_checker
import nemesis_faults
import nemesis_history
from cluster import Cluster, ClusterError, wait_for
from nemesis_faults import CLOCK_FILE, FAULTS, STATE_DIRECTORY, World
from nemesis_history import NEVER, Fault, History
from node import REPO, STATE, start_time

PVE = "/etc/pve"
TOP = f"{PVE}/nemesis"
PYTHON = "/usr/bin/python3"
SYSLOG = "/var/log/syslog"
RECOVERY_S = 60
# What a daemon needs to be a member again once it may.
JOIN_US = 4_000_000
KEPT_LOGS = (SYSLOG, "/var/log/corosync/corosync.log",
             "/var/log/pmxcfs.out", "/var/log/corosync.out")

# Makes what clients share, all of it before the first of them.
PREPARE = r"""
import os, sys
top, initial = sys.argv[1], sys.argv[2]
for name in ("", "reg", "tok", "ex", "log", "tmp", "../priv/lock"):
    os.makedirs(os.path.join(top, name), exist_ok=True)
os.chdir(top)
registers, tokens, journals = map(int, sys.argv[3].split(","))
for i in range(registers):
    with open(f"reg/{i}", "w") as out:
        out.write(f"{initial:<15}\n")
for i in range(tokens):
    os.mkdir(f"tok/{i}")
    open(f"tok/{i}/{initial}", "w").close()
for i in range(journals):
    open(f"log/{i}", "w").close()
"""

# All that there is in the end, as one node has it.
COLLECT = r"""
import json, os, sys
os.chdir(sys.argv[1])
out = {}
for name in os.listdir("reg"):
    out["reg/" + name] = open("reg/" + name).read().strip() or "(empty)"
for name in os.listdir("tok"):
    names = sorted(os.listdir("tok/" + name))
    out["tok/" + name] = ",".join(names) or "(none)"
for name in os.listdir("ex"):
    out["ex/" + name] = "present"
for name in os.listdir("log"):
    out["log/" + name] = " ".join(open("log/" + name).read().split())
json.dump(out, sys.stdout)
"""


@dataclass
class Options:
    seed: int
    seconds: float = 120
    nodes: int = 3
    faults: tuple = tuple(FAULTS)
    clients: int = 5  # on each node
    pause_us: int = 25000  # between two operations of a client, on average
    objects: str = "40,16,6"  # registers, tokens, journals
    bindir: str = ""
    name: str = field(default_factory=lambda: f"nemesis-{os.getpid()}")


def clock_us():
    return time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000


def find_faketime(program):
    """faketime(1)'s library, to start that daemon with; None: it cannot be.
    A sanitizer's library must be the first that is loaded, and so must this.
    """
    if b"libasan" in Path(program).read_bytes():
        return None
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def find_client(bindir):
    """`make check` builds it beside the programs it goes with."""
    top = os.environ.get("top_builddir")
    candidates = [Path(top)] if top else []
    if bindir:
        candidates += list(Path(bindir).resolve().parents)[:3]
    candidates.append(REPO / "build")
    for folder in candidates:
        if (folder / "Makefile").exists():
            subprocess.run(["make", "-s", "-C", folder,
                            "tests/net/nemesis-client"], check=True,
                           stdout=subprocess.DEVNULL)
            return folder / "tests/net/nemesis-client"
    raise ClusterError("no build directory with tests/net/nemesis-client: "
                       "configure one, or name it with top_builddir=DIR")


class Run:
    def __init__(self, options, directory, say):
        self.options = options
        self.directory = Path(directory)
        self.say = say
        self.cluster = Cluster(options.name)
        self.world = World(self.cluster)
        self.clients = {}  # its name -> Popen
        self.faults = []
        self.active = []
        self.problems = []
        self.start_us = 0
        self.began = 0.0  # what the schedule counts from
        self.features = []

    # ---- the whole ------------------------------------------------------

    def run(self):
        """Returns (Report, History); self.problems has what else is wrong."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.cluster.lock():
            try:
                self._set_up()
                self._start_clients()
                self._do_schedule()
                self._recover()
                self._stop_clients()
                history = self._history()
            except ClusterError as error:
                self.problems.append(str(error))
                self._show_hung()
                self._kill_clients()
                history = self._history()
                # Killed: what was under way says nothing.
                history.ops = [op for op in history.ops if op.end != NEVER]
            finally:
                self.problems += self.world.deaths
                self._kill_clients()
                self.world.thaw()
                self._keep_logs()
                self.cluster.down()
        nemesis_history.save(history, self.directory / "history.txt")
        return nemesis_checker.check(history), history

    # ---- set up -----------------------------------------------------------

    def _set_up(self):
        self.cluster.owner = [os.getpid(), start_time(os.getpid())]
        self.cluster.up(self.options.nodes, self.options.bindir or None)
        first = self.cluster.nodes[0]
        library = find_faketime(first.program_of("pmxcfs"))
        if library is not None:
            self._wrap_clock(first, library)
            self.features.append("clock")
        self._make_disk(self.cluster.nodes[-1])
        self.features.append("disk")
        self.cluster.wait_quorate()
        self.cluster.nodes[0].run(
            PYTHON, "-c", PREPARE, TOP, nemesis_history.INITIAL,
            self.options.objects)
        self.cluster.wait_in_sync()

    def _wrap_clock(self, node, library):
        """Its daemon runs with a wall clock that a file moves."""
        wrapper = STATE / self.cluster.name / "bin" / "pmxcfs"
        wrapper.parent.mkdir(exist_ok=True)
        wrapper.write_text(
            "#!/bin/sh\n"
            f"[ -e {CLOCK_FILE} ] || echo +0 >{CLOCK_FILE}\n"
            f"export LD_PRELOAD={library} "
            f"FAKETIME_TIMESTAMP_FILE={CLOCK_FILE} FAKETIME_CACHE_DURATION=1 "
            "FAKETIME_DONT_FAKE_MONOTONIC=1 DONT_FAKE_MONOTONIC=1\n"
            f"exec {node.program_of('pmxcfs')} \"$@\"\n")
        wrapper.chmod(0o755)
        node.stop("pmxcfs")
        self.cluster.pmxcfs[node.name] = str(wrapper)
        node.start("pmxcfs")

    @staticmethod
    def _make_disk(node):
        """Its database on a disk of its own, that can be full."""
        node.stop("pmxcfs")
        node.run("sh", "-ec", "truncate -s 48M /root/disk;"
                 "mkfs.ext4 -q -b 4096 -O ^has_journal /root/disk;"
                 f"cp -a {STATE_DIRECTORY} /root/old;"
                 f"mount -o loop /root/disk {STATE_DIRECTORY};"
                 f"cp -a /root/old/. {STATE_DIRECTORY}/")
        node.start("pmxcfs")

    # ---- clients ----------------------------------------------------------

    def _start_clients(self):
        program = find_client(self.options.bindir)
        self.start_us = clock_us()
        for node in self.cluster.nodes:
            for number in range(self.options.clients):
                name = f"{node.name}c{number}"
                seed = self.options.seed * 1000 + node.number * 50 + number
                with open(self._record(name), "wb") as out:
                    self.clients[name] = node.popen(
                        program, TOP, name, str(seed), self.options.pause_us,
                        self.options.objects, stdin=subprocess.PIPE,
                        stdout=out)

    def _record(self, client):
        return self.directory / f"client-{client}.txt"

    def _stop_clients(self):
        for process in self.clients.values():
            process.stdin.close()
        deadline = time.monotonic() + 30
        for name, process in self.clients.items():
            try:
                status = process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self.problems.append(f"client {name} hangs")
                continue
            if status != 0:
                self.problems.append(f"client {name} ended with {status}")
        if self.problems:
            self._show_hung()
        self._kill_clients()

    def _kill_clients(self):
        for process in self.clients.values():
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    def _show_hung(self):
        """Where in the kernel the clients are that did not end."""
        for name, process in self.clients.items():
            if process.poll() is None:
                with contextlib.suppress(OSError):
                    stack = Path(f"/proc/{process.pid}/stack").read_text()
                    lines = self._record(name).read_text().splitlines()[-1:]
                    self.problems.append(
                        f"{name} is at `{''.join(lines)}`: "
                        + " ".join(stack.split()[1::2][:6]))

    # ---- faults -----------------------------------------------------------

    def _do_schedule(self):
        options = self.options
        steps = nemesis_faults.schedule(
            options.seed, options.seconds,
            [node.name for node in self.cluster.nodes], options.faults,
            tuple(self.features))
        self.began = time.monotonic()
        while steps or self.active:
            ending = min(self.active, key=lambda active: active[0],
                         default=None)
            if ending and (not steps or steps[0].alone or ending[1].alone
                           or ending[0] <= steps[0].at):
                self._wait_until(ending[0])
                self._end(ending)
                continue
            self._wait_until(steps[0].at)
            self._begin(steps.pop(0))
        self._wait_until(options.seconds)

    def _seconds(self):
        return (clock_us() - self.start_us) / 1e6

    def _wait_until(self, seconds):
        time.sleep(max(0, self.began + seconds - time.monotonic()))

    def _begin(self, step):
        if step.alone:
            # Whose database is lost is a minority only if the others have
            # all that it had.
            self.began += self._wait_whole()
        begin = clock_us()
        self.say(f"{self._seconds():8.2f} s  {step.text}"
                 + (f", for {step.lasts} s" if step.lasts else ""))
        self.world.begin(step.wish)
        self.active.append((time.monotonic() - self.began + step.lasts, step,
                            begin))

    def _end(self, item):
        _, step, begin = item
        self.active.remove(item)
        self.world.end(step.wish)
        self.faults.append((Fault(begin, clock_us(), step.nodes, step.text),
                            step))
        self.say(f"{self._seconds():8.2f} s    ended: {step.text}")
        if step.alone:
            self.began += self._wait_whole()

    # ---- the end --------------------------------------------------------

    def _wait_whole(self):
        began = time.monotonic()
        self.cluster.wait_quorate(timeout_s=RECOVERY_S)
        self.cluster.wait_in_sync(timeout_s=RECOVERY_S)
        return time.monotonic() - began

    def _recover(self):
        self.world.look_for_deaths()
        took = self._wait_whole()
        self.say(f"{self._seconds():8.2f} s  whole again, {took:.1f} s after "
                 "the last fault")

    def _wait_equal(self):
        """All the same, on disk too, and shown so."""
        def digests():
            found = {node.name: node.output("pmxcfs-db", "digest").strip()
                     for node in self.cluster.nodes}
            return found if len(set(found.values())) == 1 else None

        return wait_for(digests, 30, lambda: "the databases differ: " + str({
            node.name: node.output("pmxcfs-db", "digest").split()
            for node in self.cluster.nodes}))

    def _history(self):
        count = len(self.cluster.nodes)
        history = History(faults=widen([fault for fault, _ in self.faults],
                                       self.cluster.nodes),
                          local=alone_in_the_group(self.faults, count))
        for name in self.clients:
            with open(self._record(name), encoding="utf-8") as lines:
                history.ops += nemesis_history.read_client(name, lines)
        if not self.problems:
            self._collect(history)
        self.world.look_for_deaths()
        return history

    def _collect(self, history):
        digest = " ".join(next(iter(self._wait_equal().values())).split())
        found = {node.name: json.loads(node.output(PYTHON, "-c", COLLECT, TOP))
                 for node in self.cluster.nodes}
        for node in self.cluster.nodes:
            json.loads(node.read(f"{PVE}/.version"))
        names = {op.object for op in history.ops
                 if op.object.startswith("ex/")}
        for node, objects in found.items():
            for name in names - set(objects):
                objects[name] = "absent"
            for name, value in objects.items():
                history.add_final(node, name, value)
        self.say(f"{self._seconds():8.2f} s  all nodes have {digest}")

    def _keep_logs(self):
        for node in self.cluster.nodes:
            for path in KEPT_LOGS:
                source = node.on_disk(path)
                if source.exists():
                    shutil.copy(source, self.directory
                                / f"{node.name}-{source.name}")


def widen(faults, nodes):
    """Faults that together leave no majority untouched hit all nodes."""
    everyone = tuple(node.name for node in nodes)
    out = []
    for fault in faults:
        hit = set()
        for other in faults:
            if other.begin <= fault.end + nemesis_checker.AFTER_FAULT_US \
                    and fault.begin <= other.end \
                    + nemesis_checker.AFTER_FAULT_US:
                hit.update(other.nodes)
        out.append(Fault(fault.begin, fault.end, everyone
                         if fault.nodes and 2 * len(hit) >= len(everyone)
                         else fault.nodes, fault.text))
    return out


def alone_in_the_group(faults, count):
    """When too many daemons were away for a majority, though their nodes'
    corosync may have made one. Returns [(begin, end)]."""
    absent = [(fault.begin, fault.end + JOIN_US, fault.nodes, any(
        daemon == "pmxcfs" for _, daemon in step.wish.down))
        for fault, step in faults if fault.nodes
        and not step.wish.full and not step.wish.frozen]
    out = []
    for begin, end, nodes, is_daemon in absent:
        others = [other for other in absent
                  if is_daemon and other[0] <= end and begin <= other[1]]
        away = {node for other in others for node in other[2]}
        if 2 * (count - len(away)) <= count and others:
            out += [(max(begin, other[0]), min(end, other[1]))
                    for other in others]
    return sorted(set(out))


def statistics(history):
    """How many of each kind, and how they ended."""
    kinds = Counter((op.kind, op.outcome) for op in history.ops)
    lines = []
    for kind in sorted({kind for kind, _ in kinds}):
        counts = [kinds[kind, outcome] for outcome in ("ok", "maybe", "no")]
        slow = max((op.end - op.begin for op in history.ops
                    if op.kind == kind and op.end != NEVER), default=0)
        lines.append(f"    {kind:<8} {counts[0]:>7} ok {counts[1]:>6} unknown "
                     f"{counts[2]:>6} not done, longest {slow / 1e6:.2f} s")
    return lines
