"""What ./nemesis does to a cluster: a seeded schedule, and how it is done.

A fault is a row of FAULTS: what it wants of the world while it lasts. Many may
last at once; the world is made to be what all of them want together, so
each ends by being taken away, and nothing is left when none lasts.
"""

import contextlib
import random
from dataclasses import dataclass, field
from itertools import combinations, permutations

from cluster import ClusterError, in_parallel

CLOCK_FILE = "/run/nemesis-clock"
STATE_DIRECTORY = "/var/lib/pve-cluster"
FILL_FILE = f"{STATE_DIRECTORY}/nemesis-fill"
DAEMON_NAMES = ("pmxcfs", "corosync")


@dataclass(frozen=True)
class Wish:
    """What one fault wants while it lasts."""

    down: tuple = ()  # (node, daemon): killed, and not to run
    stopped: tuple = ()  # (node, daemon): by SIGSTOP
    dropped: tuple = ()  # (from, to): packets between these nodes
    lost_percent: int = 0  # of all packets
    full: tuple = ()  # nodes whose database's disk is full
    frozen: tuple = ()  # ... takes no writes
    clock: tuple = ()  # (node, seconds): its wall clock is off by that
    signal: str = "KILL"  # how what is to be down ends
    wiped: tuple = ()  # nodes that lose their database before they start


@dataclass(frozen=True)
class Step:
    """One line of the schedule."""

    at: float  # seconds since the start
    lasts: float
    name: str
    wish: Wish
    nodes: tuple  # whose view of the cluster this changes
    text: str
    alone: bool = False  # nothing else may last, all must be well before


@dataclass(frozen=True)
class Kind:
    """A kind of fault. make(rng, nodes) gives (Wish, nodes hit, text)."""

    weight: int
    shortest: float
    longest: float
    make: object
    needs: str = ""  # what the world must have: "disk", "clock"
    alone: bool = False


# ---- the kinds -------------------------------------------------------------

def _between(these, those):
    return tuple((a, b) for a in these for b in those) \
        + tuple((b, a) for a in these for b in those)


def _cut(rng, nodes):
    node = rng.choice(nodes)
    others = tuple(n for n in nodes if n != node)
    return Wish(dropped=_between((node,), others)), (node,), f"cut {node} off"


def _shatter(rng, nodes):
    return Wish(dropped=tuple(permutations(nodes, 2))), nodes, \
        "cut all from each other"


def _split(rng, nodes):
    """Into two parts at random; the smaller loses quorum."""
    part = tuple(rng.sample(nodes, rng.randrange(1, len(nodes))))
    rest = tuple(n for n in nodes if n not in part)
    lost = nodes if len(part) == len(rest) else min(part, rest, key=len)
    return Wish(dropped=_between(part, rest)), lost, \
        f"split {','.join(sorted(part))} from {','.join(sorted(rest))}"


def _partial(rng, nodes):
    a, b = rng.choice(list(combinations(nodes, 2)))
    return Wish(dropped=((a, b), (b, a))), nodes, \
        f"cut {a} from {b}, others reach both"


def _one_way(rng, nodes):
    a, b = rng.choice(list(permutations(nodes, 2)))
    return Wish(dropped=((a, b),)), nodes, f"cut one way: {b} hears no {a}"


def _deaf(rng, nodes):
    node = rng.choice(nodes)
    return Wish(dropped=tuple((n, node) for n in nodes if n != node)), nodes, \
        f"cut one way: {node} hears nobody"


def _loss(rng, nodes):
    percent = rng.choice((5, 15, 30))
    return Wish(lost_percent=percent), nodes, f"lose {percent} % of packets"


def _kill(daemons, signal="KILL"):
    verb = "kill -9" if signal == "KILL" else "stop"

    def make(rng, nodes):
        node = rng.choice(nodes)
        return Wish(down=tuple((node, daemon) for daemon in daemons),
                    signal=signal), (node,), \
            f"{verb} {' and '.join(daemons)} of {node}"
    return make


def _kill_all(rng, nodes):
    return Wish(down=tuple((node, "pmxcfs") for node in nodes)), nodes, \
        "kill -9 pmxcfs of all"


def _stop(daemon):
    def make(rng, nodes):
        node = rng.choice(nodes)
        return Wish(stopped=((node, daemon),)), (node,), \
            f"SIGSTOP {daemon} of {node}"
    return make


def _wipe(rng, nodes):
    node = rng.choice(nodes)
    return Wish(down=((node, "pmxcfs"),), wiped=(node,)), (node,), \
        f"wipe the database of {node}"


def _full(rng, nodes):
    return Wish(full=(nodes[-1],)), (nodes[-1],), \
        f"fill the database's disk of {nodes[-1]}"


def _freeze(rng, nodes):
    return Wish(frozen=(nodes[-1],)), (nodes[-1],), \
        f"freeze the database's disk of {nodes[-1]}"


def _clock(rng, nodes):
    seconds = rng.choice((-86400, -300, -5, 5, 300, 86400))
    return Wish(clock=((nodes[0], seconds),)), (), \
        f"set the clock of {nodes[0]} by {seconds:+} s"


FAULTS = {
    "cut": Kind(6, 1, 9, _cut),
    "split": Kind(3, 0.2, 9, _split),
    "shatter": Kind(2, 2, 8, _shatter),
    "partial": Kind(4, 2, 9, _partial),
    "oneway": Kind(3, 2, 9, _one_way),
    "deaf": Kind(2, 2, 9, _deaf),
    "loss": Kind(3, 2, 8, _loss),
    "kill-pmxcfs": Kind(6, 0, 4, _kill(("pmxcfs",))),
    "kill-corosync": Kind(4, 0, 5, _kill(("corosync",))),
    "kill-both": Kind(3, 0, 5, _kill(("pmxcfs", "corosync"))),
    "kill-all": Kind(2, 0, 1, _kill_all),
    "restart-pmxcfs": Kind(3, 0, 1, _kill(("pmxcfs",), "TERM")),
    "restart-corosync": Kind(3, 0, 1, _kill(("corosync",), "TERM")),
    "stop-pmxcfs": Kind(4, 0.2, 8, _stop("pmxcfs")),
    "stop-corosync": Kind(5, 0.2, 8, _stop("corosync")),
    "full": Kind(3, 1, 6, _full, needs="disk"),
    "freeze": Kind(2, 0.5, 5, _freeze, needs="disk"),
    "clock": Kind(3, 2, 20, _clock, needs="clock"),
    "wipe": Kind(2, 0, 2, _wipe, alone=True),
}


def schedule(seed, seconds, nodes, kinds, world=("disk", "clock")):
    """The steps of a run: the same for the same arguments."""
    rng = random.Random(seed)
    names = [name for name in kinds if FAULTS[name].needs in ("", *world)]
    weights = [FAULTS[name].weight for name in names]
    steps, at, last_end = [], 2.0, 0.0
    while names:
        name = rng.choices(names, weights)[0]
        kind = FAULTS[name]
        lasts = rng.uniform(kind.shortest, kind.longest)
        wish, hit, text = kind.make(rng, tuple(nodes))
        if kind.alone:
            at = max(at, last_end)
        if at + lasts > seconds - 1:
            break
        steps.append(Step(round(at, 2), round(lasts, 2), name, wish, hit,
                          text, kind.alone))
        last_end = max(last_end, at + lasts)
        # Some come together, most are given time to do their worst.
        if kind.alone or rng.random() < 0.65:
            at = last_end + rng.choice((0.1, 1, 3, 5, 8))
        else:
            at += rng.uniform(0.05, 4)
    return steps


def describe(step):
    text = f"{step.at:8.2f} s  {step.name:<16} {step.text}"
    return text + (f", for {step.lasts} s" if step.lasts else "")


# ---- the world --------------------------------------------------------------

@dataclass
class World:
    """Makes the cluster what the wishes of all lasting faults want."""

    cluster: object
    wishes: list = field(default_factory=list)
    stopped: set = field(default_factory=set)
    dropped: object = None
    full: set = field(default_factory=set)
    frozen: set = field(default_factory=set)
    clocks: dict = field(default_factory=dict)
    running: set = field(default_factory=set)  # (node, daemon)
    deaths: list = field(default_factory=list)  # texts: nobody killed them

    def begin(self, wish):
        self.wishes.append(wish)
        self._arrange()

    def end(self, wish):
        self.wishes.remove(wish)
        self._arrange()

    def thaw(self):
        """Whatever went wrong: the nodes can be taken down."""
        self.wishes = []
        self._arrange_disks()

    def _all(self, name):
        return {item for wish in self.wishes for item in getattr(wish, name)}

    def look_for_deaths(self):
        """Whatever runs runs until we end it."""
        for name, daemon in sorted(self.running):
            if self.cluster[name].daemon_pid(daemon) is None:
                self.deaths.append(f"{daemon} of {name} has died")
                self.running.discard((name, daemon))

    def _arrange(self):
        self.look_for_deaths()
        self._arrange_network()
        self._arrange_clocks()
        # In this order: nobody starts on a disk that hangs, or is killed
        # while the kernel cannot let go of it.
        self._arrange_disks()
        self._arrange_processes()

    # -- network: each node drops what comes in, so it may be one way

    def _arrange_network(self):
        percent = max((wish.lost_percent for wish in self.wishes), default=0)
        wanted = (self._all("dropped"), percent)
        if wanted == self.dropped:
            return
        in_parallel(lambda node: self._filter(node, *wanted),
                    self.cluster.nodes)
        self.dropped = wanted

    def _filter(self, node, dropped, percent):
        rules = "".join(f"    ip saddr {self.cluster[a].address} drop\n"
                        for a, b in sorted(dropped) if b == node.name)
        if percent:
            rules += f"    iifname != lo numgen random mod 100 < {percent}" \
                     " drop\n"
        node.run("nft", "-f", "-", input=(
            "table inet nemesis\ndelete table inet nemesis\n"
            "table inet nemesis {\n  chain in {\n"
            "    type filter hook input priority 0;\n" + rules + "  }\n}\n"))

    # -- disks, clocks

    def _arrange_disks(self):
        full, frozen = self._all("full"), self._all("frozen")
        for name in self.frozen - frozen:
            self.cluster[name].run("fsfreeze", "-u", STATE_DIRECTORY)
            self.frozen.discard(name)
        for name in self.full - full:
            self.cluster[name].run("rm", "-f", FILL_FILE)
            self.full.discard(name)
        for name in full - self.full - frozen:
            self.cluster[name].run(
                "dd", "if=/dev/zero", f"of={FILL_FILE}", "bs=4k", check=False)
            self.full.add(name)
        for name in frozen - self.frozen:
            self.cluster[name].run("fsfreeze", "-f", STATE_DIRECTORY)
            self.frozen.add(name)

    def _arrange_clocks(self):
        wanted = {}
        for node, seconds in sorted(self._all("clock")):
            wanted[node] = seconds
        for node in set(wanted) | set(self.clocks):
            seconds = wanted.get(node, 0)
            if self.clocks.get(node, 0) != seconds:
                self.cluster[node].run("sh", "-c", 'echo "$0" >"$1"',
                                       f"{seconds:+}", CLOCK_FILE)
                self.clocks[node] = seconds

    # -- processes

    def _arrange_processes(self):
        down, stopped = self._all("down"), self._all("stopped")
        waits = {(name, "pmxcfs") for name in self.frozen}
        for wish in self.wishes:
            in_parallel(lambda pair, how=wish.signal: self._end(*pair, how),
                        [pair for pair in wish.down if pair not in waits])
        for name, daemon in sorted(self.stopped - stopped):
            self._signal(name, daemon, "CONT")
            self.stopped.discard((name, daemon))
        for name in self._all("wiped"):
            self._wipe(self.cluster[name])
        up = {(node.name, daemon) for node in self.cluster.nodes
              for daemon in DAEMON_NAMES} - down
        in_parallel(lambda pair: self.cluster[pair[0]].start(pair[1]),
                    sorted(up - waits))
        self.running = up - waits | (self.running & up)
        for name, daemon in sorted(stopped - self.stopped - down):
            self._signal(name, daemon, "STOP")
            self.stopped.add((name, daemon))

    def _end(self, name, daemon, how):
        node = self.cluster[name]
        if node.daemon_pid(daemon) is None:
            return
        self.stopped.discard((name, daemon))
        if how == "TERM":
            self._signal(name, daemon, "CONT")
            node.stop(daemon)
        else:
            node.kill(daemon)

    def _signal(self, name, daemon, signal):
        # It may have ended by itself: then the next start is all it needs.
        with contextlib.suppress(ClusterError):
            self.cluster[name].kill(daemon, signal)

    @staticmethod
    def _wipe(node):
        for path in node.on_disk(STATE_DIRECTORY).glob("config.db*"):
            path.unlink()
