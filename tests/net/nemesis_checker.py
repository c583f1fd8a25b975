#!/usr/bin/python3 -B
"""Decides from a history of ./nemesis whether promises were kept.

  nemesis_checker.py HISTORY...      exit status 1: a promise was broken

What is checked, for each object (DESIGN, promises 1, 3 and 4):

- All changes are in one order, and it respects time: what was begun after
  another one was known to be done (acknowledged, or read anywhere) comes
  after it. A token's order is a chain: each move names what it replaces.
- A read on a node is as new as what was read or acknowledged on that node
  before, and as what had been known anywhere when this node began a change
  that it has got acknowledged. It may be older than what other nodes have.
- Nothing is read that was not written, not yet, or not at all.
- An O_EXCL create is won once, a lock held once, an append done once.
- In the end all nodes agree, and nothing acknowledged is missing.

An error of a change means unknown: it may be done, or not, or later. And an
acknowledged change may vanish, when no fsync on a node that knew of it came
back well, and all who saw it were being cut off or killed about then: such
are counted as undone. What a well ended fsync covers never vanishes; only
where a majority of the daemons was down it covers this node's disk alone.

Values are never used twice, so the order of a register is a graph of what must
come before what; it has a cycle exactly when there is no such order.
"""

import bisect
import errno
import sys
from collections import defaultdict, deque
from dataclasses import dataclass, field

import nemesis_history
from nemesis_history import BEFORE_ALL, INITIAL, NEVER, Op

ENTRY_BYTES = 16
# A fault may change what a node tells us from a little before it was noted to
# when the cluster is whole again, which takes corosync some seconds.
BEFORE_FAULT_US = 1_000_000
AFTER_FAULT_US = 12_000_000
THE_END = 1 << 62
# So soon after its own change a client's fsync is about that change: nobody
# can have overruled it before.
AT_ONCE_US = 20_000
CHANGES = ("write", "swap", "move", "claim", "drop", "lock", "unlock",
           "append")


@dataclass
class Violation:
    object: str
    text: str
    ops: list
    why: list = field(default_factory=list)


@dataclass
class Report:
    violations: list = field(default_factory=list)
    undone: list = field(default_factory=list)  # of Op
    ops: int = 0
    pinned: int = 0  # acknowledged changes that an fsync covers

    def broken(self, name, text, ops, why=()):
        self.violations.append(Violation(
            name, text, [op for op in ops if op is not None], list(why)))


# ---- what nodes knew, and when --------------------------------------------

class Knowledge:
    """What holds for all objects: syncs, faults, and how far nodes were."""

    def __init__(self, history):
        self.syncs = defaultdict(list)  # node -> begins of good ones, sorted
        self.synced = set()  # (client, end) of a change synced at once
        self.faults = defaultdict(list)  # node -> [(begin, end)], sorted
        self.reached = defaultdict(list)  # node -> [(end, begin)] of changes
        last = {}  # client -> its operation before
        for op in sorted(history.ops, key=lambda op: op.begin):
            if op.kind == "sync" and op.is_ok and not any(
                    begin <= op.end and op.begin <= end
                    for begin, end in history.local):
                self.syncs[op.node].append(op.begin)
                before = last.get(op.client)
                if before is not None \
                        and op.begin - before.end <= AT_ONCE_US:
                    self.synced.add((op.client, before.end))
            last[op.client] = op
        for fault in history.faults:
            for node in fault.nodes:
                self.faults[node].append((fault.begin - BEFORE_FAULT_US,
                                          fault.end + AFTER_FAULT_US))
        for begins in self.syncs.values():
            begins.sort()
        # What may have been acknowledged by a node cut off says nothing of
        # what the others had done.
        for op in history.ops:
            if op.kind in CHANGES and op.is_ok \
                    and not self.may_vanish(op):
                self.reached[op.node].append((op.end, op.begin))
        for node, pairs in self.reached.items():
            self.reached[node] = self._rising(sorted(pairs))

    @staticmethod
    def _rising(pairs):
        """For each end, the latest begin up to it."""
        ends, begins, latest = [], [], BEFORE_ALL
        for end, begin in pairs:
            latest = max(latest, begin)
            ends.append(end)
            begins.append(latest)
        return ends, begins

    def is_disturbed(self, node, begin, end):
        return any(b <= end and begin <= e for b, e in self.faults[node])

    def is_pinned(self, node, time):
        """Whether an fsync covers what this node had got at that time."""
        begins = self.syncs[node]
        at = bisect.bisect_left(begins, time)
        return at < len(begins) \
            and not self.is_disturbed(node, time, begins[at])

    def passed(self, node, time):
        """All that was known anywhere before the returned time, this node
        has had at the given one."""
        ends, begins = self.reached.get(node, ([], []))
        at = bisect.bisect_left(ends, time)
        return begins[at - 1] if at > 0 else BEFORE_ALL

    def is_synced(self, op):
        """Whether an fsync covers this acknowledged change."""
        return (op.client, op.end) in self.synced \
            or self.is_pinned(op.node, op.end)

    def may_vanish(self, op, readers=()):
        """readers: (node, begin, end) of who has seen what op did."""
        known = [*readers]
        if op.is_ok:
            if self.is_synced(op):
                return False
            known.append((op.node, op.begin, op.end))
        return all(self.is_disturbed(node, begin, end)
                   and not self.is_pinned(node, end)
                   for node, begin, end in known)


@dataclass
class Value:
    """A value of a register: written once, read by any number."""

    name: str
    op: Op  # None: it was there from the beginning
    previous: str = ""  # of a token: what it replaced
    readers: list = field(default_factory=list)
    known: float = NEVER
    is_final: bool = False

    @property
    def begin(self):
        return BEFORE_ALL if self.op is None else self.op.begin

    @property
    def happened(self):
        return self.known != NEVER

    def add_reader(self, op):
        self.readers.append((op.node, op.begin, op.end))
        self.known = min(self.known, op.end)


# ---- graphs ----------------------------------------------------------------

def find_cycle(successors):
    """A cycle with few vertices that are names, or None if there is none."""
    part = _cyclic_part(successors)
    cycles = [_shortest_way_back(successors, start, part)
              for start in sorted(v for v in part if isinstance(v, str))[:40]]
    return min((cycle for cycle in cycles if cycle is not None),
               key=lambda cycle: sum(isinstance(v, str) for v in cycle),
               default=None)


def _cyclic_part(successors):
    """The vertices on cycles and on ways between cycles."""
    left = set(successors)
    left.update(*successors.values())
    backward = defaultdict(set)
    for vertex, targets in successors.items():
        for target in targets:
            backward[target].add(vertex)
    _trim(left, {v: set(successors.get(v, ())) for v in left}, backward)
    _trim(left, {v: backward[v] & left for v in left},
          {v: set(successors.get(v, ())) & left for v in left})
    return left


def _trim(left, nexts, befores):
    """Takes away what nothing that is left comes next to."""
    ends = [vertex for vertex in left if not nexts[vertex]]
    while ends:
        vertex = ends.pop()
        left.discard(vertex)
        for before in befores.get(vertex, ()):
            nexts[before].discard(vertex)
            if not nexts[before] and before in left:
                ends.append(before)


def _shortest_way_back(successors, start, part):
    came = {}
    queue = deque([start])
    while queue:
        vertex = queue.popleft()
        for target in successors.get(vertex, ()):
            if target == start:
                cycle = [vertex]
                while cycle[-1] != start:
                    cycle.append(came[cycle[-1]])
                return cycle[::-1]
            if target in part and target not in came:
                came[target] = vertex
                queue.append(target)
    return None


# ---- registers and tokens ------------------------------------------------

class Register:
    """The values of one object and the order they must have had."""

    def __init__(self, name, ops, finals, knowledge, report):
        self.name = name
        self.knowledge = knowledge
        self.report = report
        self.values = {INITIAL: Value(INITIAL, None)}
        self.values[INITIAL].known = BEFORE_ALL
        self.reads = []  # (Op, Value)
        for op in ops:
            if op.kind in ("write", "swap", "move"):
                previous, _, written = op.argument.rpartition(" ")
                value = Value(written, op, previous)
                self.values[written] = value
                if op.is_ok:
                    value.known = op.end
        for op in ops:
            if op.kind in ("read", "list") and op.is_ok:
                self._add_read(op)
        self.final = None
        self._add_finals(finals)

    def _add_read(self, op):
        value = self.values.get(op.value)
        if value is None:
            self.report.broken(
                self.name, f"'{op.value}' was read, which is no value that "
                "was ever written", [op])
        elif value.op is not None and value.op.outcome == "no":
            self.report.broken(
                self.name, f"{value.name} was read, though it could not be "
                "written", [value.op, op])
        elif op.end < value.begin:
            self.report.broken(self.name, f"{value.name} was read before it "
                               "was written", [value.op, op])
        else:
            value.add_reader(op)
            self.reads.append((op, value))

    def _add_finals(self, finals):
        if not finals:
            return
        if len(set(finals.values())) > 1:
            self.report.broken(self.name, "the nodes do not agree in the end: "
                               + ", ".join(f"{n} has {v}"
                                           for n, v in finals.items()), [])
            return
        name = next(iter(finals.values()))
        self.final = self.values.get(name)
        if self.final is None or (self.final.op is not None
                                  and self.final.op.outcome == "no"):
            self.report.broken(self.name, f"'{name}' is there in the end, "
                               "which was never written", [])
            self.final = None
        else:
            self.final.is_final = True
            self.final.known = min(self.final.known, THE_END)

    def may_vanish(self, value):
        return value.op is not None and not value.is_final \
            and self.knowledge.may_vanish(value.op, value.readers)

    def undo(self, value):
        del self.values[value.name]
        self.report.undone.append(value.op)

    # -- the chain of a token

    def follow_chain(self):
        """What did not lead to the end was undone, or is a violation."""
        if self.final is None:
            return
        chain, at = set(), self.final
        while at is not None and at.name not in chain:
            chain.add(at.name)
            at = self.values.get(at.previous)
        for value in list(self.values.values()):
            if value.name in chain or not value.happened:
                continue
            if self.may_vanish(value):
                self.undo(value)
                continue
            rival = next((v for v in self.values.values()
                          if v.previous == value.previous
                          and v.name in chain), None)
            why = [f"{value.previous} became {value.name} and also "
                   f"{rival.name}"] if rival and value.previous else []
            self.report.broken(
                self.name, f"{value.name} was there and is lost: it did not "
                "lead to what is there in the end", self._ops_of(value)
                + ([rival.op] if rival else []), why)
            return

    def _ops_of(self, value):
        reads = [op for op, read in self.reads if read is value]
        return [value.op, *reads[:2], *reads[2:][-1:]]

    # -- the order

    def check_order(self):
        while True:
            edges = self._edges()
            cycle = find_cycle(edges)
            if cycle is None:
                return
            on_it = [self.values[v] for v in cycle if isinstance(v, str)]
            lost = [value for value in on_it if self.may_vanish(value)]
            if not lost:
                self._report_cycle(edges, on_it, cycle)
                return
            self.undo(min(lost, key=lambda v: (len(v.readers), -v.begin)))

    def _edges(self):
        """vertex -> {vertex: reason}; a number is a moment in time."""
        edges = defaultdict(dict)
        happened = [value for value in self.values.values() if value.happened]
        happened.sort(key=lambda value: value.known)
        times = [value.known for value in happened]
        for i, value in enumerate(happened):
            edges[value.name][i] = "known"
            if i > 0:
                edges[i - 1][i] = "later"
        for value in happened:
            at = bisect.bisect_left(times, value.begin) - 1
            if at >= 0:
                edges[at][value.name] = "begun after that"
            if value.previous in self.values:
                edges[value.previous][value.name] = "replaced"
            if self.final is not None and value is not self.final:
                edges[value.name][self.final.name] = \
                    "must not be missing in the end"
        self._add_read_edges(edges, happened, times)
        return edges

    def _add_read_edges(self, edges, happened, times):
        for node, events in self._events_by_node().items():
            seen = {}  # value -> since when this node is known to have it
            for time, order, op, value in events:
                if order == 0:  # a read begins
                    for old in seen:
                        if old != value.name:
                            edges[old].setdefault(
                                value.name, f"seen before on {node}")
                    self._add_passed(edges, op, value, happened, times)
                    continue
                for old in [old for old, since in seen.items()
                            if since < op.begin]:
                    del seen[old]
                seen.setdefault(value.name, time)

    def _events_by_node(self):
        events = defaultdict(list)
        for value in self.values.values():
            if value.op is not None and value.op.is_ok:
                events[value.op.node].append((value.op.end, 1, value.op,
                                              value))
        for op, value in self.reads:
            if value.name in self.values:
                events[op.node].append((op.begin, 0, op, value))
                events[op.node].append((op.end, 1, op, value))
        for of_node in events.values():
            of_node.sort(key=lambda event: event[:2])
        return events

    def _add_passed(self, edges, op, value, happened, times):
        """What the node had passed when this was read; older ones are in
        order already."""
        passed = self.knowledge.passed(op.node, op.begin)
        first = bisect.bisect_left(times, value.begin)
        for i in range(first, bisect.bisect_left(times, passed)):
            if happened[i] is not value:
                edges[happened[i].name].setdefault(
                    value.name, f"passed by {op.node} before")

    def _report_cycle(self, edges, on_it, cycle):
        why, ops = [], []
        names = [v for v in cycle if isinstance(v, str)]
        turned = cycle[cycle.index(names[0]):] + cycle[:cycle.index(names[0])]
        turned.append(names[0])
        at, reason = names[0], ""
        for one, other in zip(turned, turned[1:], strict=False):
            reason = edges[one][other]
            if isinstance(other, str):
                why.append(f"{at} before {other}: {reason}")
                at = other
        for value in on_it:
            ops += self._ops_of(value)
        self.report.broken(self.name, "no order of its values explains this",
                           ops, why)


# ---- claims and locks ------------------------------------------------------

def check_claim(name, ops, finals, knowledge, report):
    """An O_EXCL create is won once for each life of the name."""
    won = sorted((op for op in ops if op.kind == "claim" and op.is_ok),
                 key=lambda op: op.end)
    drops = [op for op in ops if op.kind == "drop" and op.outcome != "no"]
    kept = []
    for op in won:
        rival = next((old for old in kept if not any(
            drop.begin < op.end and drop.end > old.begin for drop in drops)),
            None)
        if rival is not None:
            lost = next((o for o in (op, rival) if knowledge.may_vanish(o)),
                        None)
            if lost is None:
                report.broken(name, "was created twice with O_EXCL, and not "
                              "removed between", [rival, op, *drops])
                continue
            report.undone.append(lost)
            if lost is op:
                continue
            kept.remove(rival)
        kept.append(op)
    _check_existing(name, ops, report)
    _check_final_claim(name, ops, kept, drops, finals, knowledge, report)


def _check_existing(name, ops, report):
    for op in ops:
        if op.kind == "claim" and op.errno == errno.EEXIST and not any(
                other.kind == "claim" and other.outcome != "no"
                and other is not op and other.begin < op.end for other in ops):
            report.broken(name, "is said to exist, but nobody has created it",
                          [op])


def _check_final_claim(name, ops, won, drops, finals, knowledge, report):
    if len(set(finals.values())) > 1:
        report.broken(name, "exists on some nodes alone in the end: "
                      f"{finals}", ops)
        return
    if not finals:
        return
    is_there = "present" in finals.values()
    pinned = [op for op in won if not knowledge.may_vanish(op)]
    if pinned and not drops and not is_there:
        report.broken(name, "was created, never removed, and is missing in "
                      "the end", pinned)
    removed = [op for op in drops if op.is_ok
               and not knowledge.may_vanish(op)]
    claims = [op for op in ops if op.kind == "claim" and op.outcome != "no"]
    if is_there and removed and not any(
            claim.end > removed[-1].begin for claim in claims
            if claim.errno != errno.EEXIST):
        report.broken(name, "was removed, not created again, and is there in "
                      "the end", [*claims, *removed])


def check_lock(name, ops, knowledge, report):
    """Two do not hold a lock at the same time."""
    holds = []
    by_client = defaultdict(list)
    for op in ops:
        by_client[op.client].append(op)
    for own in by_client.values():
        for i, op in enumerate(own):
            if op.kind == "lock" and op.is_ok:
                unlock = next((o for o in own[i + 1:] if o.kind == "unlock"),
                              None)
                holds.append((op.end, unlock.begin if unlock else op.end, op))
    holds.sort(key=lambda hold: hold[0])
    for i, (_, end, op) in enumerate(holds):
        for begin, _, other in holds[i + 1:]:
            if begin >= end:
                break
            lost = next((o for o in (op, other) if knowledge.may_vanish(o)),
                        None)
            if lost is None:
                report.broken(name, "is held by two", [
                    o for o in ops if o.client in (op.client, other.client)
                    and o.begin <= end and o.end >= op.begin])
                return
            report.undone.append(lost)


# ---- journals --------------------------------------------------------------

class Journal:
    """Appended entries: each is there once, in time's order; a read shows
    the first of them."""

    def __init__(self, name, ops, finals, knowledge, report):
        self.name = name
        self.knowledge = knowledge
        self.report = report
        self.appends = {op.argument: op for op in ops if op.kind == "append"}
        self.reads = sorted((op for op in ops if op.kind == "journal"
                             and op.is_ok), key=lambda op: op.begin)
        self.has_undone = False
        self.entries = None
        if len(set(finals.values())) > 1:
            report.broken(name, "the nodes do not agree in the end", [])
        elif finals:
            self.entries = next(iter(finals.values())).split()

    def check(self):
        if self.entries is None or not self._check_entries():
            return
        self.place = {entry: i for i, entry in enumerate(self.entries)}
        self._check_missing()
        self._check_order()
        self._check_reads()

    def _check_entries(self):
        seen = set()
        for entry in self.entries:
            op = self.appends.get(entry)
            if op is None or op.outcome == "no":
                self.report.broken(self.name, f"'{entry}' is in it, which was "
                                   "never appended", [op])
                return False
            if entry in seen:
                self.report.broken(self.name, f"{entry} is in it twice", [op])
                return False
            seen.add(entry)
        return True

    def _check_missing(self):
        for entry, op in self.appends.items():
            if op.is_ok and entry not in self.place:
                if self.knowledge.may_vanish(op):
                    self.report.undone.append(op)
                    self.has_undone = True
                else:
                    self.report.broken(self.name, f"{entry} was appended and "
                                       "is missing in the end", [op])

    def _check_order(self):
        latest = None
        for entry in self.entries:
            op = self.appends[entry]
            if latest is not None and op.is_ok and op.end < latest.begin:
                self.report.broken(
                    self.name, f"{entry} comes after {latest.argument}, which "
                    "was begun when it was done", [op, latest])
                return
            if latest is None or op.begin > latest.begin:
                latest = op

    def _check_reads(self):
        prefixes = self._prefixes()
        acked = sorted((op.end, self.place[entry] + 1, op)
                       for entry, op in self.appends.items()
                       if op.is_ok and entry in self.place)
        for op in self.reads:
            n = self._count_of(op, prefixes)
            if n is None:
                continue
            passed = self.knowledge.passed(op.node, op.begin)
            for end, count, append in acked:
                if count > n and (end < passed or end < op.begin
                                  and append.node == op.node):
                    self.report.broken(
                        self.name, f"{append.argument} is not in what was "
                        f"read on {op.node} later ({n} entries)",
                        [append, op])
                    return
            if n > 0 and self.appends[self.entries[n - 1]].begin > op.end:
                self.report.broken(
                    self.name, f"{self.entries[n - 1]} was read before it was "
                    "appended", [self.appends[self.entries[n - 1]], op])
                return

    def _count_of(self, op, prefixes):
        """How many entries were read; None, and told, if it was another
        content than these had at any time."""
        size, _, digest = op.value.partition(":")
        n, odd = divmod(int(size), ENTRY_BYTES)
        if not odd and n < len(prefixes) and prefixes[n] == digest:
            return n
        if not self.has_undone:
            self.report.broken(self.name, f"what was read ({n} entries) is "
                               "not how it began", [op])
        return None

    def _prefixes(self):
        state, out = 0xcbf29ce484222325, ["cbf29ce484222325"]
        for entry in self.entries:
            for byte in b"%-15.15s\n" % entry.encode():
                state = (state ^ byte) * 0x100000001b3 & 0xffffffffffffffff
            out.append(f"{state:016x}")
        return out


# ---- all of it -------------------------------------------------------------

def check(history):
    """Judges a whole history. Returns a Report."""
    report = Report(ops=len(history.ops))
    knowledge = Knowledge(history)
    by_object = defaultdict(list)
    for op in history.ops:
        if op.kind != "sync":
            by_object[op.object].append(op)
        if op.end == NEVER:
            report.broken(op.object, "an operation never ended", [op])
        elif op.kind in CHANGES and op.is_ok:
            report.pinned += knowledge.is_synced(op)
    for name in history.finals:
        by_object.setdefault(name, [])
    for name in sorted(by_object):
        _check_object(name, by_object[name], history.finals.get(name, {}),
                      knowledge, report)
    return report


def _check_object(name, ops, finals, knowledge, report):
    kind = name.partition("/")[0]
    if kind in ("reg", "tok"):
        register = Register(name, ops, finals, knowledge, report)
        if kind == "tok":
            register.follow_chain()
        register.check_order()
    elif kind == "ex":
        check_claim(name, ops, finals, knowledge, report)
    elif kind == "..":
        check_lock(name, ops, knowledge, report)
    elif kind == "log":
        Journal(name, ops, finals, knowledge, report).check()


# ---- telling ---------------------------------------------------------------

def describe_op(op, start):
    def seconds(time):
        return "never" if time == NEVER else f"{(time - start) / 1e6:.6f}"
    result = op.outcome
    if op.errno:
        result += " " + errno.errorcode.get(op.errno, str(op.errno))
    if op.value:
        result += " " + op.value
    return f"{seconds(op.begin)} - {seconds(op.end)}  {op.client:<6} " \
           f"{op.kind} {op.object} {op.argument}".rstrip() + f" -> {result}"


def explain(violation, history):
    """The smallest story: what, why, whose operations, which faults."""
    start = history.start
    lines = [f"{violation.object}: {violation.text}"]
    lines += [f"    {why}" for why in violation.why]
    ops = sorted(set(violation.ops), key=lambda op: op.begin)
    lines += ["  operations (seconds since the start):"] if ops else []
    lines += [f"    {describe_op(op, start)}" for op in ops]
    near = [fault for fault in history.faults if any(
        fault.begin - AFTER_FAULT_US <= op.end
        and op.begin <= fault.end + AFTER_FAULT_US for op in ops)]
    lines += ["  what the nemesis did about then:"] if near else []
    lines += [f"    {(fault.begin - start) / 1e6:.3f} - "
              + ("never" if fault.end == NEVER
                 else f"{(fault.end - start) / 1e6:.3f}")
              + f"  {fault.text}" for fault in near]
    return "\n".join(lines)


def summary(report):
    return (f"{report.ops} operations, {report.pinned} changes covered by "
            f"fsync, {len(report.undone)} acknowledged without fsync and "
            f"undone, {len(report.violations)} violations")


def main(argv):
    if not argv:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    failed = False
    for path in argv:
        history = nemesis_history.load(path)
        report = check(history)
        for violation in report.violations:
            print(explain(violation, history))
        print(f"{path}: {summary(report)}")
        failed |= bool(report.violations)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
