#!/usr/bin/env python3
"""Writes the corpora: the messages that spec/replication.md shows as captured,
cut into the pieces that the targets read. Run it again to add to them."""
import pathlib
import struct

ROOT = pathlib.Path(__file__).parent / "corpus"


def put(target, name, data):
    folder = ROOT / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


def normal(subtype, payload, count=1):
    return struct.pack("<HHIIIQ", 0, subtype, 1, 0x6B01F2CA, 0, count) + payload


def state(kind, payload=b"", epoch=(0, 0, 0, 0)):
    return struct.pack("<HHIII4I", kind, 0, 1, 0x6B01F2CA, 0, *epoch) + payload


def op(path, to=b"", data=b"", offset=0, flags=0):
    path = path + b"\0" if path else b""
    to = to + b"\0" if to else b""
    head = struct.pack("<5I", len(data), offset, len(path), len(to), flags)
    return head + path + to + data


def entry(inode, name, data=b"", kind=8):
    name += b"\0"
    return struct.pack("<QQQIIIIB", 0, inode, 3, 0, 0x6B01F2C2, len(data),
                       len(name), kind) + name + data


def index(records, version=3):
    size = 32 + 40 * len(records)
    out = struct.pack("<QQIIII", version, records[-1], 0, 0x6B01F2C2,
                      len(records), size)
    return out + b"".join(struct.pack("<Q", i) + bytes(32) for i in records)


OPS = {
    "write": (1, op(b"cap/a.txt", data=b"hello\n")),
    "truncate": (1, op(b"cap/a.txt", offset=2, flags=1)),
    "mkdir": (2, op(b"cap")),
    "delete": (3, op(b"cap/b.txt")),
    "rename": (4, op(b"cap/a.txt", to=b"cap/b.txt")),
    "create": (5, op(b"nodes/n1/lxc/100.conf")),
    "mtime": (6, op(b"cap/b.txt", offset=1700000000)),
    "unlock-request": (7, bytes(32) + b"priv/lock/L1\0"),
    "unlock": (8, bytes(32) + b"priv/lock/L1\0"),
    "no-path": (5, op(b"")),
}
for label, (subtype, payload) in OPS.items():
    put("op", label, bytes([subtype]) + payload)
    put("message", label, normal(subtype, payload))
put("entry", "root", entry(0, b"", kind=4))
put("entry", "file", entry(2, b"corosync.conf", b"totem {\n}\n"))
put("index", "one", index([0]))
put("index", "three", index([0, 4, 5]))
put("message", "sync-start", state(1))
put("message", "state", state(2, index([0, 2])))
put("message", "update", state(3, entry(2, b"f", b"hello")))
put("message", "update-complete", state(4))
put("message", "verify-request", state(5, struct.pack("<Q", 1)))
put("message", "verify", state(6, struct.pack("<Q", 1) + bytes(32)))
put("message", "unknown", state(9, b"x"))


# inode, parent, version, kind: name << 3 | type, see fuzz-repair.c
def row(inode, parent, version, name, directory=0, data=0):
    return bytes((inode, parent, version, name << 3 | data << 1 | directory))


put("repair", "guests", row(0, 0, 50, 9) + row(2, 0, 2, 2, 1)
    + row(3, 2, 3, 3, 1) + row(4, 3, 4, 4, 1) + row(5, 3, 5, 5, 1)
    + row(6, 4, 6, 7) + row(7, 5, 7, 7) + row(8, 4, 8, 11))
put("repair", "ring", row(1, 0, 9, 6) + row(2, 3, 2, 0, 1)
    + row(3, 2, 3, 1, 1) + row(4, 4, 4, 1, 1) + row(5, 9, 5, 0)
    + row(251, 0, 6, 0) + row(6, 0, 6, 0, 1, 1) + row(7, 0, 7, 0))
