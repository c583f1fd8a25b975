#!/usr/bin/env python3
"""Writes the corpora: the messages that spec/replication.md shows as captured,
cut into the pieces that the targets read, and texts as the agent finds them.
Run it again to add to them."""
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
EPOCH = struct.pack("<4I", 4, 0x6B01F2CA, 1, 729)
START = struct.pack("<QQQ", 7, 0x100, 0xABCD)
TERM = (struct.pack("<HH", 1, 112) + EPOCH +
        struct.pack("<QQII4Q2I", 3, 0x105, 0x6B01F2C2, 3, 7, 8, 0x103, 99,
                    4, 1) + bytes(32) + b"lab\0" + START)
OURS = {
    "term": (1, TERM),
    "flush": (2, struct.pack("<HH", 1, 24) + EPOCH + struct.pack("<Q", 7)),
    "ack": (3, struct.pack("<HH", 1, 36) + EPOCH +
            struct.pack("<QQI", 7, 0x105, 0)),
    "append": (4, struct.pack("<HHQII", 1, 16, 9, 6, 6) + b"cap/a\0hello\n"),
}
for label, (subtype, payload) in OURS.items():
    put("extension", label, bytes([subtype]) + payload)
    put("message", "ours-" + label,
        struct.pack("<HHIII16x", 7, subtype, 1, 0x6B01F2CA, 0) + payload)
put("extension", "settled", bytes([5]) + struct.pack("<HHIQQ", 1, 4, 1, 7, 9))
put("extension", "history", bytes([0]) + START * 2)
put("extension", "longer", bytes([2]) + struct.pack("<HH", 1, 32) + EPOCH +
    struct.pack("<QQ", 7, 1))
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

GUEST = b"""#hello%3A 100%25
arch: amd64
hostname: t105
memory: 256
mp10: /x,mp=/x
mp2: local:105/vm-105-disk-1.raw,mp=/y,size=4G,backup=1,mountoptions=noatime;nodev
net0: name=eth0,bridge=vmbr0,hwaddr=BC:24:11:EE:B5:FE,ip=10.0.0.2/8,gw=10.0.0.1,tag=5
features: nesting=1,keyctl=1
dev0: /dev/net/tun,mode=0666
ostype: debian
rootfs: local:105/subvol-105-disk-0.subvol,size=0T
startup: order=1,up=2
state: started
unprivileged: 1
tags: a;b
lxc.idmap: u 0 100000 65536
lxc.environment.runtime: A=1

[pve:pending]
delete: features,mp1
timezone: host

[s1]
#about
memory: 128
snaptime: 1700000000
"""
REQUEST = b"ostemplate: local:vztmpl/t.tar.gz\nrootfs: local:4\nstate: started\n"
put("guestconf", "whole", GUEST)
put("guestconf", "request", REQUEST)
put("guestconf", "odd", b"half a li\n[no section\nx: y\ncpus: -1\n")
put("guestconf", "pending", b"env: A=1\nmp0: local:105/a.raw,mp=/a\n"
    b"unused0: local:105/b.raw\nlxc.limit.x: 1\nlxc.rootfs.path: /\n"
    b"[pve:pending]\ndelete: !mp0,env;unused0\nenv: B=2\nmp1: local:4,mp=/b\n"
    b"description: x\n[pending]\ndelete: a\n  snapstate: delete\n")
put("lxcconf", "whole", GUEST)
put("lxcconf", "entrypoint", b"rootfs: local:1/a.raw\nentrypoint: /bin/sh -c 'a b'\n"
    b"env: A=1\nconsole: 1\ntty: 2\ncores: 2\ncpulimit: 1.5\ncpuunits: 50\n")
for line in GUEST.splitlines():
    if b": " in line:
        put("guestvalue", line.split(b":")[0].decode(), line)
put("guestvalue", "number", b"cpulimit: 1e2")
put("guestvalue", "sign", b"memory: +0512")
put("guestvalue", "env", b"env: A=b c")
put("guestvalue", "idmap", b"mp0: local:8,mp=/a,idmap=u:0:1:1;g:0:1:1,mountoptions=ro")
put("guestvalue", "nameserver", b"nameserver: 1.1.1.1 fe80::1%eth0")
put("holdrec", "record", b"""boot-id: 2f0c6a3e-9f5b-4c43-8a39-0a8a9a3f7f10
ran: 1
volumes: local:105/subvol-105-disk-0.subvol,local:105/vm-105-disk-1.raw
digest: da39a3ee5e6b4b0d3255bfef95601890afd80709
transfer: 0123456789abcdef0123456789abcdef
request: web
resume: 1
adopting: 1
new-key: x
""")
put("storagecfg", "usual", b"""dir: local
\tpath /var/lib/vz
\tcontent backup,images,iso,rootdir,snippets,vztmpl

# a comment
dir: other
\tpath /srv//x/../y
\tcontent rootdir
\tnodes n1,n2
\tshared 1
nfs: far
\tserver x
other
local:105/subvol-105-disk-0.subvol
local:vztmpl/debian.tar.zst
other:4.5
""")
put("clustertext", "members", b"""{
"nodename": "n1",
"version": 4,
"cluster": { "name": "c", "version": 1, "nodes": 2, "quorate": 1 },
"nodelist": {
  "n1": { "id": 1, "online": 1, "ip": "10.99.0.1"},
  "n2": { "id": 2, "online": 0}
  }
}
""")
put("clustertext", "vmlist", b"""{
"version": 5,
"ids": {
"100": { "node": "n1", "type": "lxc", "version": 7 },
"101": { "node": "n2", "type": "qemu", "version": 8 }}

}
""")
put("clustertext", "datacenter", b"keyboard: de\nnext-id: lower=200,upper=300\n")
put("clustertext", "resources", b"ct: 100\n\tstate started\n\nvm: 101\n")
put("guestos", "debian", b'NAME="Debian"\nID=debian\nVERSION_ID="12"\n')
put("guestos", "suse", b"ID='opensuse-leap'\n")
put("guestos", "amd64", b"\x7fELF\2\1\1" + bytes(9) + b"\2\0\x3e\0" + bytes(44))
put("guestos", "riscv", b"\x7fELF\1\1\1" + bytes(9) + b"\2\0\xf3\0" + bytes(32))
put("request", "new", b"new.conf\0" + REQUEST)
put("request", "named", b"new-web.conf\0#failed%3A why\n" + REQUEST)
put("names", "guest", b"nodes/n1/lxc/100.conf")
put("names", "ctid", b"100")
put("names", "node", b"node-1")
put("transfer", "header", b"pve-lxc-transfer 1\nvolume: local:1/a.raw\n\nrest")
put("wire", "all", bytes([0, 1, 2, 3, 4, 4, 5, 3]) + b"abcdefghijk\0xyz\0")

# inode, parent, version, kind: name << 3 | type, see fuzz-repair.c
def row(inode, parent, version, name, directory=0, data=0):
    return bytes((inode, parent, version, name << 3 | data << 1 | directory))


put("repair", "guests", row(0, 0, 50, 9) + row(2, 0, 2, 2, 1)
    + row(3, 2, 3, 3, 1) + row(4, 3, 4, 4, 1) + row(5, 3, 5, 5, 1)
    + row(6, 4, 6, 7) + row(7, 5, 7, 7) + row(8, 4, 8, 11))
put("repair", "ring", row(1, 0, 9, 6) + row(2, 3, 2, 0, 1)
    + row(3, 2, 3, 1, 1) + row(4, 4, 4, 1, 1) + row(5, 9, 5, 0)
    + row(251, 0, 6, 0) + row(6, 0, 6, 0, 1, 1) + row(7, 0, 7, 0))

# read-only?, operation, payload: see fuzz-ipc.c
for name, number, data in (
        ("version", 1, b""), ("config", 6, b"/nodes//n1/lxc/100.conf\0"),
        ("private", 6, b"nodes//n1/priv/x\0"),
        ("set", 4, b"kv/a".ljust(256, b"\0") + b"value\0"),
        ("get", 5, b"kv/a".ljust(512, b"\0")),
        ("log", 7, b"\6\5\4root\0tag\0hello\0"),
        ("read-log", 8, bytes(16) + b"root\0"), ("rrd", 10, b""),
        ("property", 11, b"d\0\0\0lock\0"), ("token", 12, b"lock: backup\0"),
        ("properties", 13, b"\0\0\0\0\2lock\0tags\0"), ("unknown", 9, b""),
        ("subscribe", 129, struct.pack("<IQQH", 0x1fff, 1, 0, 2)
         + b"nodes//n1/\0\0"),
        ("snapshot", 130, b""),
        ("list", 131, struct.pack("<III", 1, 0, 65536) + b"\0"),
        ("read", 132, struct.pack("<IQII", 1, 6, 2, 4096) + b"\0"),
        ("read-now", 132, struct.pack("<IQII", 0, 0, 0, 4096)
         + b"/storage.cfg\0"),
        ("release", 133, struct.pack("<I", 1))):
    put("ipc", name, bytes((0, number)) + data)
    put("ipc", name + "-read-only", bytes((1, number)) + data)


def event(kind, path, other=b""):
    strings = path + b"\0" + other + b"\0"
    return struct.pack("<IHHQQQII", 40 + len(strings), kind, 12, 7, 99, 5, 1,
                       0) + strings


put("event", "tree", event(0, b"a/b") + event(3, b"a/b", b"c") + event(12, b""))
put("event", "cut", event(1, b"a/b")[:-1])
LISTED = b"nodes/n1/lxc/100.conf\0"
put("listing", "one", struct.pack("<I", 0) + struct.pack(
    "<IQQQIIIIB", 45 + len(LISTED) + 5, 7, 9, 3, 1, 1000, 5, 5, 8)
    + LISTED + b"a: b\n")
put("listing", "large", struct.pack("<I", 9) + struct.pack(
    "<IQQQIIIIB", 45 + len(LISTED), 7, 9, 3, 1, 1000, 500000, 0, 8) + LISTED)


def fnv(text):
    digest = 0xcbf29ce484222325
    for byte in text:
        digest = (digest ^ byte) * 0x100000001b3 % 2 ** 64
    return digest


def log_entry(uid, time, node, text, prev=0, after=0):
    strings = [node + b"\0", b"root@pam\0", b"tag1\0", text + b"\0"]
    return struct.pack(
        "<4IQQI4BI", prev, after, uid, time, fnv(strings[0]), fnv(strings[1]),
        780, 6, *map(len, strings[:3]), len(strings[3])) \
        + b"".join(strings) + bytes(4)


def ring(*entries):
    out, prev = b"", 0
    for uid, time, node, text in entries:
        at = 8 + len(out)
        size = len(log_entry(uid, time, node, text)) + 7 & ~7
        out += log_entry(uid, time, node, text, prev, at + size).ljust(
            size, b"\0")
        prev = at
    return struct.pack("<II", 8 + len(out), prev) + out


def status(kind, payload, count=1, subtype=0, epoch=(4, 1, 1, 10)):
    head = struct.pack("<HHIII", kind, subtype, 0, 1000, 0)
    return head + (struct.pack("<4I", *epoch) if kind
                   else struct.pack("<Q", count)) + payload


def happens(what, data=b""):
    return struct.pack("<BH", what, len(data)) + data


LOGGED = log_entry(2, 0x6B01F2CD, b"cpg2", b"hello log")
RING = ring((1, 1000, b"n1", b"starting cluster log"), (2, 1001, b"n1", b"x"))
put("clog", "entry", LOGGED)
put("clog", "odd", log_entry(3, 5, b"n\"\xff\n", b"a\\u12\\\"\x01\xc3\xa4"))
put("clog", "ring", RING)
put("clog", "empty", struct.pack("<IIII", 16, 0, 0, 0))
put("clog", "reference", struct.pack("<I", 4096) + RING[4:].ljust(4092, b"\0"))
KEY = b"kv/a".ljust(256, b"\x55").replace(b"/a\x55", b"/a\0", 1)
# 0, 1, 2: member 1, this one, member 3 says; 3: members change (11: to three);
# 4: a client asks; 5: our own comes back; 6, 7: flush, 15: disconnected.
SYNC = happens(0, status(1, b"")) + happens(0, status(2, RING)) \
    + happens(5) + happens(2, status(2, struct.pack("<IIII", 16, 0, 0, 0)))
put("status", "synced", SYNC + happens(0, status(0, KEY + b"value", 1, 1))
    + happens(2, status(0, b"nodeip".ljust(256, b"\0") + b"1.2.3.4\0", 2, 1))
    + happens(0, status(0, LOGGED, 3, 3))
    + happens(0, status(0, b"rrd/pve2-node/n1".ljust(256, b"\0")
                        + b"1:2\0", 4, 1)))
put("status", "early", happens(0, status(0, KEY + b"value", 1, 1))
    + happens(2, status(0, LOGGED, 1, 3)) + happens(27) + SYNC)
put("status", "asked", SYNC + happens(4, b"kv/x".ljust(20, b"\0") + b"value")
    + happens(4, b"nodeip\0".ljust(20, b"\0")) + happens(7) + happens(5))
put("status", "alone", happens(3) + happens(4, b"old\nold2\na\"b") + happens(15)
    + happens(6) + happens(11) + SYNC)
put("status", "newer", SYNC + happens(0, struct.pack("<HHIII", 0, 1, 9, 0, 0)))
put("status", "odd-keys", SYNC + happens(
    0, status(0, b"a\"\\\n\xff".ljust(256, b"\0") + b"v", 1, 1)))
# actions of a group, see fuzz-replica.c
RAW, TYPED, ROUND, STATE, UPDATE, ASK, SUM, THEIRS, OWN, ITSELF, MEMBERS, TIME, \
    QUORUM, ANEW, WORK, ALL = range(16)
JOIN = bytes((MEMBERS, 7, ROUND, 0, 9, ITSELF))
put("replica", "follower", bytes((0,)) + JOIN + bytes((
    STATE, 1, 0, STATE, 1, 2, THEIRS, 0, 9, 5, 1, ALL, 1, 0, OWN, 5, 2, ITSELF)))
put("replica", "leader", bytes((129,)) + bytes((MEMBERS, 6, ITSELF, ITSELF,
    STATE, 0, 2, WORK, WORK, ITSELF, ITSELF, ITSELF, ITSELF, ITSELF, TIME, 6,
    ITSELF, WORK, ITSELF)))
put("replica", "phantom", bytes((1,)) + JOIN + bytes((
    STATE, 2, 0, STATE, 1, 2, ALL, 2, 0, TIME, 1, TIME, 1, ITSELF)))
put("replica", "verify", bytes((1,)) + JOIN + bytes((
    STATE, 1, 0, STATE, 1, 2, TYPED, 4, 0, 0, 0, ASK, 1, 0, SUM, 0, 1, 0, ANEW))
    + JOIN + bytes((STATE, 1, 0, STATE, 1, 2, ASK, 1, 0, SUM, 1, 1, 0)))
put("replica", "alone", bytes((0, MEMBERS, 2, OWN, 5, 1, ITSELF, QUORUM, 1,
    OWN, 5, 2, QUORUM, 0, MEMBERS, 3, OWN, 4, 0, TIME, 20)))
put("replica", "bad", bytes((0,)) + JOIN + bytes((UPDATE, 1, 1, 0, STATE, 1, 0,
    TYPED, 2, 3, 65, 66, 67, 2, 0, UPDATE, 2, 1, 0, TYPED, 4, 0, 2, 0,
    TYPED, 4, 0, 0, 0, THEIRS, 0, 1, 5, 1, RAW, 0, 3, 1, 2, 3)))
OURS, TERM, ACK, BARRIER, FLUSHED = range(16, 21)
put("replica", "terms", bytes((73, MEMBERS, 7, ROUND, 0, 9, ITSELF,
    TERM, 1, 1, 3, 1, 1, 0, 0, 0, TERM, 1, 1, 3, 1, 1, 0, 0, 2, ITSELF,
    STATE, 1, 0, STATE, 1, 2, ALL, 1, 0, BARRIER, ITSELF, FLUSHED, 0, ITSELF,
    ACK, 1, 4, 0, ACK, 1, 8, 2, OWN, 5, 2, ITSELF)))
put("replica", "raised", bytes((73, MEMBERS, 7, ROUND, 0, 9, ITSELF,
    TERM, 0, 0, 3, 0, 0, 0, 0, 0, TERM, 2, 2, 3, 2, 2, 0, 0, 2, ITSELF, ITSELF,
    STATE, 0, 0, STATE, 2, 2, ALL, 2, 2)))
put("replica", "foreign", bytes((73, MEMBERS, 3, ROUND, 0, 9, ITSELF,
    TERM, 1, 1, 2, 1, 1, 0, 2, 0, ITSELF, OURS, 3, 1, 2, 3, 1, 0)))
