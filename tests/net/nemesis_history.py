"""What happened in a run of ./nemesis: operations, faults, the end.

The clients' records (nemesis-client.c) are merged into one text file that can
be kept and judged again by nemesis_checker.py. A line each, times in
microseconds of one clock:

    op CLIENT BEGIN END KIND OBJECT ARGUMENT OUTCOME ERRNO VALUE
    fault BEGIN END NODE,NODE TEXT
    local BEGIN END
    final NODE OBJECT VALUE...

with "-" for what is not there: the END of an operation that hung.
"""

import re
from dataclasses import dataclass, field

NEVER = float("inf")
BEFORE_ALL = float("-inf")
INITIAL = "initial"


class HistoryError(Exception):
    """The record cannot be read; the text names file and line."""


@dataclass(frozen=True)
class Op:
    """One operation of one client; end is NEVER when nothing came back."""

    client: str
    begin: float
    end: float
    kind: str
    object: str
    argument: str
    outcome: str  # ok, no, maybe
    errno: int
    value: str

    @property
    def node(self):
        return self.client.partition("c")[0]

    @property
    def is_ok(self):
        return self.outcome == "ok"


@dataclass(frozen=True)
class Fault:
    """What the nemesis did, and whose view of the cluster that may change."""

    begin: float
    end: float
    nodes: tuple
    text: str


@dataclass
class History:
    ops: list = field(default_factory=list)
    faults: list = field(default_factory=list)
    finals: dict = field(default_factory=dict)  # object -> {node: value}
    # (begin, end): when a node may have been alone in the group and quorate
    # all the same; its fsync then reaches its own disk and says so to nobody.
    local: list = field(default_factory=list)

    def add_final(self, node, name, value):
        self.finals.setdefault(name, {})[node] = value

    @property
    def start(self):
        return min((op.begin for op in self.ops), default=0)


def _dash(text):
    return text or "-"


def _undash(text):
    return "" if text == "-" else text


def _time(time):
    return "-" if time == NEVER else str(time)


def _parse_time(text):
    return NEVER if text == "-" else int(text)


def read_client(client, lines):
    """The operations of one client's record, in their order."""
    ops, began = [], None
    for number, line in enumerate(lines, 1):
        words = line.split()
        if words[:1] == ["b"] and began is None and len(words) >= 4:
            began = words
        elif words[:1] == ["e"] and began is not None and len(words) >= 4:
            ops.append(_make(client, began, int(words[1]), words[2],
                             int(words[3]), " ".join(words[4:])))
            began = None
        elif line.endswith("\n"):
            raise HistoryError(f"{client}:{number}: {line.strip()!r} is no "
                               "line of a record, or not in its place")
    if began is not None:
        ops.append(_make(client, began, NEVER, "maybe", 0, ""))
    return ops


def _make(client, began, end, outcome, errno, value):
    return Op(client, int(began[1]), end, began[2], began[3],
              " ".join(began[4:]), outcome, errno, value)


def save(history, path):
    with open(path, "w", encoding="utf-8") as out:
        for fault in history.faults:
            out.write(f"fault {fault.begin} {_time(fault.end)} "
                      f"{_dash(','.join(fault.nodes))} {fault.text}\n")
        for begin, end in history.local:
            out.write(f"local {begin} {_time(end)}\n")
        for op in sorted(history.ops, key=lambda op: op.begin):
            argument = op.argument.replace(" ", "/")
            out.write(f"op {op.client} {op.begin} {_time(op.end)} {op.kind} "
                      f"{op.object} {_dash(argument)} {op.outcome} "
                      f"{op.errno} {_dash(op.value)}\n")
        for name, finals in history.finals.items():
            for node, value in finals.items():
                out.write(f"final {node} {name} {value}\n")


def _load_op(words):
    client, begin, end, kind, name, argument, outcome, errno, value = words
    return Op(client, int(begin), _parse_time(end), kind, name,
              _undash(argument).replace("/", " ") if kind == "move"
              else _undash(argument), outcome, int(errno), _undash(value))


def load(path):
    history = History()
    with open(path, encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            word, _, rest = line.strip().partition(" ")
            try:
                if word == "op":
                    history.ops.append(_load_op(rest.split(" ")))
                elif word == "fault":
                    begin, end, nodes, text = rest.split(" ", 3)
                    history.faults.append(Fault(
                        int(begin), _parse_time(end),
                        tuple(filter(None, _undash(nodes).split(","))), text))
                elif word == "local":
                    begin, end = rest.split(" ")
                    history.local.append((int(begin), _parse_time(end)))
                elif word == "final":
                    node, name, *value = re.split(" ", rest, maxsplit=2)
                    history.add_final(node, name, "".join(value))
                elif word and not word.startswith("#"):
                    raise ValueError("unknown kind of line")
            except ValueError as error:
                raise HistoryError(f"{path}:{number}: {error}") from error
    return history
