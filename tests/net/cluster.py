"""A whole cluster on one machine, for people (./testbed) and tests alike.

    cluster = Cluster("mine")
    cluster.up(3)
    cluster["n1"].write("/etc/pve/hello", "hello\\n")
    cluster.cut(["n3"])
    ...
    cluster.down()

Each node has its own mount, uts, ipc, pid, network and cgroup namespace on
one wire (switch.py) and runs the real corosync, pmxcfs, agent and liblxc.
What is known of a testbed lies in STATE/<name>/testbed.json; what runs, in
RUN/<name>. Both are checked against what is there, so an aborted run or a
reboot of the machine leaves nothing that the next call cannot take up.
"""

import concurrent.futures
import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import hostcgroups
from node import (DAEMONS, REPO, RUN, STATE, SYSTEM_PATH, ClusterError, Node,
                  start_time, wait_for)
from switch import Switch

__all__ = ["Cluster", "ClusterError", "Node", "wait_for"]

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,23}")
MAX_NODES = 32
DEV_LOG = Path("/dev/log")
DEV_LOG_TARGET = "/run/testbed/log"


@contextlib.contextmanager
def locked(path):
    """Hold the lock file; it is removed with the lock, so look twice."""
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):
            path.parent.rmdir()  # only when nothing else is in it


def default_bindir():
    stage = REPO / "build" / "stage" / "bin"
    return str(stage) if stage.is_dir() else None


def in_parallel(function, items):
    """Call for each item in its own thread; the first error is raised."""
    items = list(items)
    if not items:
        return []
    with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
        return list(pool.map(function, items))


class Cluster:
    def __init__(self, name="default"):
        if not NAME.fullmatch(name):
            raise ClusterError(f"'{name}' is no name for a testbed: at most 24"
                               " lower-case letters, digits and hyphens")
        self.name = name
        self.directory = STATE / name
        self.switch = Switch(RUN / name / "switch")
        self.index = 0
        self.bindir = None
        self.pmxcfs = {}
        self.parts = {}
        self.owner = None  # [pid, start time] of the test run that made it
        self.nodes = []
        self._load()

    # ---- what is known of it --------------------------------------------

    def _load(self):
        try:
            state = json.loads((self.directory / "testbed.json").read_text())
        except FileNotFoundError:
            return
        self.index = state["index"]
        self.bindir = state["bindir"]
        self.pmxcfs = state["pmxcfs"]
        self.parts = state["parts"]
        self.owner = state.get("owner")
        self.nodes = [Node(self, name) for name in state["nodes"]]

    def _save(self):
        state = {"index": self.index, "bindir": self.bindir,
                 "pmxcfs": self.pmxcfs, "parts": self.parts,
                 "owner": self.owner,
                 "nodes": [node.name for node in self.nodes]}
        self.directory.mkdir(parents=True, exist_ok=True)
        temporary = self.directory / "testbed.json.new"
        temporary.write_text(json.dumps(state, indent=1) + "\n")
        temporary.replace(self.directory / "testbed.json")

    def _create(self, count):
        """Register the testbed: a subnet that no other one has."""
        if not 1 <= count <= MAX_NODES:
            raise ClusterError(f"{count} nodes: 1 to {MAX_NODES} can be had")
        with locked(STATE / ".registry"):
            taken = set()
            for other in STATE.glob("*/testbed.json"):
                taken.add(json.loads(other.read_text())["index"])
            free = [index for index in range(255) if index not in taken]
            if not free:
                raise ClusterError("255 testbeds are up: take one down first")
            self.index = free[0]
            self.nodes = [Node(self, f"n{number}")
                          for number in range(1, count + 1)]
            self._save()

    def exists(self):
        return bool(self.nodes)

    def __getitem__(self, name):
        for node in self.nodes:
            if node.name == name:
                return node
        names = ", ".join(node.name for node in self.nodes) or "none"
        raise ClusterError(f"testbed {self.name} has no node {name}; "
                           f"its nodes: {names}")

    @property
    def path(self):
        return f"{self.bindir}:{SYSTEM_PATH}" if self.bindir else SYSTEM_PATH

    def program_directories(self):
        """Where the programs under test lie, with what they need around."""
        directories = [Path(program).parent for program in self.pmxcfs.values()]
        if self.bindir:
            directories.append(Path(self.bindir).parent)
        return directories

    def lock(self):
        return locked(STATE / f".lock-{self.name}")

    def corosync_conf(self):
        nodes = "".join(
            "    node {\n"
            f"        name: {node.name}\n"
            f"        nodeid: {node.number}\n"
            "        quorum_votes: 1\n"
            f"        ring0_addr: {node.address}\n"
            "    }\n" for node in self.nodes)
        return ("totem {\n"
                "    version: 2\n"
                f"    cluster_name: {self.name}\n"
                "    config_version: 1\n"
                "    transport: knet\n"
                "    crypto_cipher: none\n"
                "    crypto_hash: none\n"
                "    ip_version: ipv4\n"
                "    token: 1000\n"
                "}\n"
                "nodelist {\n" + nodes + "}\n"
                "quorum {\n"
                "    provider: corosync_votequorum\n"
                "}\n"
                "system {\n"
                "    move_to_root_cgroup: no\n"
                "}\n"
                "logging {\n"
                "    to_stderr: no\n"
                "    to_syslog: no\n"
                "    to_logfile: yes\n"
                "    logfile: /var/log/corosync/corosync.log\n"
                "    timestamp: hires\n"
                "}\n")

    # ---- up and down ----------------------------------------------------

    def up(self, count=None, bindir=None, pmxcfs=None):
        """Make the cluster, or what is missing of it; ready on return."""
        if not self.exists():
            self._create(3 if count is None else count)
            self.bindir = default_bindir()
        elif count not in (None, len(self.nodes)):
            raise ClusterError(f"testbed {self.name} has {len(self.nodes)} "
                               "nodes already; take it down first")
        if bindir is not None:
            self.bindir = str(Path(bindir).resolve())
        for name, program in (pmxcfs or {}).items():
            self[name]  # a node that is not there is an error
            self.pmxcfs[name] = str(Path(program).resolve())
        self.parts = {}
        self._save()
        if not DEV_LOG.exists() and not DEV_LOG.is_symlink():
            DEV_LOG.symlink_to(DEV_LOG_TARGET)
        self.switch.ensure()
        self.switch.arrange({node.name: 0 for node in self.nodes})
        in_parallel(Node.ensure_disk, self.nodes)
        for node in self.nodes:
            node.configure()
        in_parallel(Node.create_world,
                    [node for node in self.nodes if not node.is_up()])
        for daemon in ("sshd", "pmxcfs", "corosync"):
            in_parallel(lambda node, name=daemon: node.start(name), self.nodes)
        self.wait_quorate()
        self.prepare_tree()
        self.wait_in_sync()
        in_parallel(lambda node: node.start("agent"),
                    [node for node in self.nodes if node.has_agent()])
        in_parallel(self._check_ssh, self.nodes)

    def _check_ssh(self, node):
        wait_for(lambda: self.nodes[0].ok(
            "ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
            f"root@{node.address}", "true"), 20,
            lambda: str(node.fail("sshd does not let n1 in",
                                  DAEMONS["sshd"].log)))

    def prepare_tree(self):
        """The directories that joining a node makes in Proxmox VE."""
        names = [f"/etc/pve/nodes/{node.name}/{kind}" for node in self.nodes
                 for kind in ("lxc", "qemu-server", "openvz", "priv")]
        self.nodes[0].run("mkdir", "-p", "/etc/pve/priv", *names)

    def down(self):
        """Leaves no process, mount, namespace, cgroup, link or file behind."""
        left = set()
        for base in (self.directory, RUN / self.name):
            if base.is_dir():
                left.update(path.stem for path in base.iterdir()
                            if re.fullmatch(r"n\d+", path.stem))
        names = sorted(left | {node.name for node in self.nodes})
        in_parallel(Node.destroy_world, [Node(self, name) for name in names])
        hostcgroups.remove(self.name)
        self.switch.remove()
        for base in (self.directory, RUN / self.name):
            if base.exists():
                subprocess.run(["rm", "-rf", "--one-file-system", str(base)],
                               check=True)
        self.nodes = []
        with contextlib.suppress(OSError):
            RUN.rmdir()
        if not RUN.exists() and DEV_LOG.is_symlink() \
                and os.readlink(DEV_LOG) == DEV_LOG_TARGET:
            DEV_LOG.unlink()

    # ---- waiting --------------------------------------------------------

    def wait_quorate(self, nodes=None, timeout_s=60):
        """Wait until each of nodes sees exactly them, and can write."""
        nodes = nodes or self.nodes
        names = sorted(node.name for node in nodes)

        def complete(node):
            quorate, members = node.quorum()
            return quorate and sorted(members) == names

        in_parallel(lambda node: wait_for(
            lambda: complete(node), timeout_s, lambda: str(node.fail(
                f"corosync has {node.quorum()[1]} of {names}",
                DAEMONS["corosync"].log))), nodes)
        in_parallel(lambda node: self.wait_writable(node, timeout_s), nodes)

    @staticmethod
    def wait_writable(node, timeout_s=30):
        wait_for(node.is_writable, timeout_s, lambda: str(node.fail(
            "/etc/pve is not writable" if node.is_mounted()
            else "/etc/pve is not mounted", DAEMONS["pmxcfs"].log)))

    def wait_in_sync(self, nodes=None, timeout_s=30):
        """Wait until what one node writes is what all read."""
        nodes = nodes or self.nodes
        probe = f"/etc/pve/testbed-probe-{secrets.token_hex(4)}"
        writer = nodes[0]
        wait_for(lambda: writer.ok("sh", "-c", 'echo "$0" >"$0"', probe),
                 timeout_s, lambda: str(writer.fail(
                     f"cannot write {probe}", DAEMONS["pmxcfs"].log)))
        in_parallel(lambda node: wait_for(
            lambda: node.ok("grep", "-qx", probe, probe), timeout_s,
            lambda: str(node.fail(
                f"does not see {probe} of {writer.name}",
                DAEMONS["pmxcfs"].log))), nodes)
        writer.run("rm", probe)

    # ---- the network ----------------------------------------------------

    def part_of(self, name):
        return self.parts.get(name, 0)

    def cut(self, names):
        """No packets between these nodes and the others."""
        for name in names:
            self[name]
        part = max(self.parts.values(), default=0) + 1
        self.parts.update({name: part for name in names})
        self._arrange()

    def heal(self):
        self.parts = {}
        self._arrange()

    def _arrange(self):
        self._save()
        self.switch.arrange({node.name: self.part_of(node.name)
                             for node in self.nodes})


def take_down_orphans():
    """The testbeds of test runs that were killed before they could."""
    for path in STATE.glob("*/testbed.json"):
        cluster = Cluster(path.parent.name)
        if cluster.owner and start_time(cluster.owner[0]) != cluster.owner[1]:
            with cluster.lock():
                cluster.down()
