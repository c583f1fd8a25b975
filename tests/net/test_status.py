"""What nodes tell each other beside the tree: keys, addresses, measurements
and the cluster log, on real corosync. Rows 28 and 29 of the protocol's
conformance list, and what of it must not depend on quorum.
"""

import errno
import json
import os
import secrets
import struct
import subprocess
from pathlib import Path

import pytest

from cluster import wait_for
from node import REPO

PVE = "/etc/pve"
BUILD = Path(os.environ.get("top_builddir", REPO / "build"))
SYSLOG = "/var/log/syslog"
SET, GET, LOG, GET_LOG, RRD = 4, 5, 7, 8, 10
RRD_BASE = "/var/lib/rrdcached/db"


@pytest.fixture(scope="module")
def client():
    """The program that makes one request over the local socket."""
    subprocess.run(["make", "-s", "-C", str(BUILD), "tests/io/ipc-conform"],
                   check=True, timeout=600, stdout=subprocess.DEVNULL)
    return str(BUILD / "tests/io/ipc-conform")


class Socket:
    """The local socket of a node."""

    def __init__(self, client, node):
        self.client, self.node = client, node

    def call(self, operation, payload):
        """The bytes of the answer, or an errno."""
        answer = self.node.output(self.client, "call", str(operation),
                                  payload.hex()).strip()
        if answer.startswith("errno "):
            return int(answer.split()[1])
        return bytes.fromhex(answer)

    def set(self, key, value):
        return self.call(SET, key.encode().ljust(256, b"\0") + value)

    def get(self, key, node=""):
        return self.call(GET, key.encode().ljust(256, b"\0")
                         + node.encode().ljust(256, b"\0"))

    def log(self, text, user="root@pam", tag="test"):
        fields = [word.encode() + b"\0" for word in (user, tag, text)]
        return self.call(LOG, struct.pack("<BBB", 6, len(fields[0]),
                                          len(fields[1])) + b"".join(fields))

    def entries(self):
        answer = self.call(GET_LOG, struct.pack("<4I", 10000, 0, 0, 0) + b"\0")
        return json.loads(answer)["data"]


@pytest.fixture
def sockets(cluster, client):
    return {node.name: Socket(client, node) for node in cluster.nodes}


def versions(node):
    return json.loads(node.read(f"{PVE}/.version"))


def members(node):
    return json.loads(node.read(f"{PVE}/.members"))["nodelist"]


def wait_value(socket, key, owner, value, timeout_s=10):
    """Until the socket's node knows value (None: no such key)."""
    wanted = errno.ENOENT if value is None else value
    wait_for(lambda: socket.get(key, owner) == wanted, timeout_s,
             lambda: str(socket.node.fail(
                 f"{key} of {owner} is {socket.get(key, owner)!r}, not "
                 f"{wanted!r}", SYSLOG)))


def wait_online(node, wanted, timeout_s=20):
    wait_for(lambda: {name: entry["online"] for name, entry
                      in members(node).items()} == wanted, timeout_s,
             lambda: str(node.fail(f"sees {members(node)}", SYSLOG)))


def test_addresses(cluster):
    """Each knows the address that each resolved for itself."""
    wanted = {node.name: node.address for node in cluster.nodes}
    for node in cluster.nodes:
        wait_for(lambda n=node: {name: entry.get("ip") for name, entry
                                 in members(n).items()} == wanted, 20,
                 lambda n=node: str(n.fail(f"sees {members(n)}", SYSLOG)))


def test_keys_follow(cluster, sockets):
    """Row 28, the first half: value and version at the others."""
    s1, s2 = sockets["n1"], sockets["n2"]
    for value in (b"one\0", b"a\0b", bytes(32768)):
        assert s1.set("kv/follow", value) == b""
        assert s1.get("kv/follow") == value
        wait_value(s2, "kv/follow", "n1", value)
    before = versions(s2.node)["kvstore"]["n1"]["kv/follow"]
    assert s1.set("kv/follow", bytes(32769)) == errno.EFBIG
    assert s1.set('kv/"', b"x") == errno.EINVAL
    assert s1.set("kv/follow", b"again\0") == b""
    wait_value(s2, "kv/follow", "n1", b"again\0")
    assert versions(s2.node)["kvstore"]["n1"]["kv/follow"] > before
    assert s1.set("kv/follow", b"") == b""
    wait_value(s2, "kv/follow", "n1", None)
    assert "kv/follow" not in versions(s2.node)["kvstore"]["n1"]


def test_keys_over_stop_and_restart(cluster, sockets):
    """Row 28, the second half. A stopped node's keys stay; after a restart
    those are gone that it does not set again."""
    s1, s2, s3 = (sockets[name] for name in ("n1", "n2", "n3"))
    n3 = s3.node
    assert s3.set("kv/gone", b"1\0") == b"" and s3.set("kv/kept", b"1\0") == b""
    assert s1.set("kv/mine", b"1\0") == b""
    wait_value(s1, "kv/kept", "n3", b"1\0")
    n3.stop("pmxcfs")
    wait_online(s1.node, {"n1": 1, "n2": 1, "n3": 0})
    assert s1.get("kv/gone", "n3") == b"1\0"
    n3.start("pmxcfs")
    assert s3.set("kv/kept", b"2\0") == b""
    for socket in (s1, s2):
        wait_value(socket, "kv/kept", "n3", b"2\0")
        wait_value(socket, "kv/gone", "n3", None)
    wait_value(s3, "kv/mine", "n1", b"1\0")  # told anew to who came
    n3.kill("pmxcfs")
    n3.start("pmxcfs")
    for socket in (s1, s2):
        wait_value(socket, "kv/kept", "n3", None)


def test_online_is_the_daemon(cluster):
    """A node whose corosync runs and whose daemon does not is offline."""
    n1, n3 = cluster["n1"], cluster["n3"]
    wait_online(n1, {"n1": 1, "n2": 1, "n3": 1})
    before = versions(n1)["clinfo"]
    n3.stop("pmxcfs")
    wait_online(n1, {"n1": 1, "n2": 1, "n3": 0})
    assert versions(n1)["clinfo"] > before
    assert n1.quorum() == (True, ["n1", "n2", "n3"])
    n3.start("pmxcfs")
    for node in cluster.nodes:
        wait_online(node, {"n1": 1, "n2": 1, "n3": 1})


def test_address_set_by_hand(cluster, sockets):
    n1, n2 = cluster["n1"], cluster["n2"]
    before = versions(n2)["clinfo"]
    assert sockets["n1"].set("nodeip", b"10.5.5.5\0") == b""
    wait_for(lambda: members(n2)["n1"]["ip"] == "10.5.5.5", 10,
             "n2 does not hear of the address")
    assert versions(n2)["clinfo"] > before
    assert sockets["n1"].set("nodeip", f"{n1.address}\0".encode()) == b""
    wait_for(lambda: members(n2)["n1"]["ip"] == n1.address, 10,
             "n2 does not hear of the old address")


def test_log_over_a_partition(cluster, sockets):
    """Row 29: entries of both sides, each once, everywhere."""
    mark = secrets.token_hex(4)
    sockets["n1"].log(f"{mark} before")
    cluster.cut(["n3"])
    wait_for(lambda: not cluster["n3"].is_writable(), 20, "n3 has quorum")
    wait_online(cluster["n1"], {"n1": 1, "n2": 1, "n3": 0})
    for number in range(20):
        for name in ("n1", "n2", "n3"):
            assert sockets[name].log(f"{mark} {number}") == b""
    assert sockets["n3"].set("kv/cut", b"minority\0") == b""
    cluster.heal()
    cluster.wait_quorate()

    def texts(name):
        return sorted((entry["node"], entry["msg"]) for entry
                      in sockets[name].entries() if mark in entry["msg"])

    wanted = sorted([("n1", f"{mark} before")]
                    + [(name, f"{mark} {number}") for number in range(20)
                       for name in ("n1", "n2", "n3")])
    for name in ("n1", "n2", "n3"):
        wait_for(lambda n=name: texts(n) == wanted, 20, lambda n=name: str(
            cluster[n].fail(f"its log has {len(texts(n))} of {len(wanted)} "
                            "entries", SYSLOG)))
    everything = {name: [tuple(sorted(entry.items())) for entry
                         in sockets[name].entries()]
                  for name in ("n1", "n2", "n3")}
    for entries in everything.values():
        assert len(entries) == len(set(entries))
        assert set(entries) == set(everything["n1"])
    wait_value(sockets["n1"], "kv/cut", "n3", b"minority\0")


def test_log_is_seen_at_once(cluster, sockets):
    mark = secrets.token_hex(4)
    assert sockets["n2"].log(f'{mark} "quoted" back\\slash \u00e4') == b""
    for node in cluster.nodes:
        wait_for(lambda n=node: mark in n.read(f"{PVE}/.clusterlog"), 10,
                 lambda n=node: str(n.fail("lacks the entry", SYSLOG)))
        newest = json.loads(node.read(f"{PVE}/.clusterlog"))["data"][0]
        assert newest["msg"] == f'{mark} "quoted" back\\slash \u00e4'
        assert (newest["node"], newest["user"]) == ("n2", "root@pam")


@pytest.fixture
def archive(cluster):
    """n2 keeps measurements: a real rrdcached, its files in memory."""
    n2 = cluster["n2"]
    if not n2.ok("sh", "-c", "command -v rrdcached"):
        pytest.skip("no rrdcached")
    for node in cluster.nodes:
        node.run("sh", "-ec", f"mkdir -p {RRD_BASE}; mount -t tmpfs none "
                 f"{RRD_BASE}")
    n2.run("rrdcached", "-l", "unix:/var/run/rrdcached.sock", "-b", RRD_BASE,
           "-B", "-j", RRD_BASE, "-p", "/run/rrdcached.pid")
    yield n2
    n2.run("sh", "-c", "kill $(cat /run/rrdcached.pid)")
    wait_for(lambda: not n2.ok("pgrep", "-x", "rrdcached"), 20,
             "rrdcached does not end")
    for node in cluster.nodes:
        node.run("umount", "-l", RRD_BASE)


def test_measurements(cluster, sockets, archive):
    """They are seen everywhere, and kept where rrdcached runs; where it does
    not, senders still find the directory that they look for."""
    path = f"{RRD_BASE}/pve-storage-9.0/n1/local"
    seconds = 1795285758

    def is_kept():
        nonlocal seconds
        seconds += 60
        assert sockets["n1"].set("rrd/pve-storage-9.0/n1/local",
                                 f"{seconds}:10:5\0".encode()) == b""
        return archive.ok("test", "-s", path)

    # A refused connection is tried again a little later: so do we.
    wait_for(is_kept, 20, lambda: str(archive.fail("keeps nothing", SYSLOG)))
    line = f"pve-storage-9.0/n1/local:{seconds}:10:5"
    for node in cluster.nodes:
        wait_for(lambda n=node: line in n.read(f"{PVE}/.rrd").splitlines(), 10,
                 lambda n=node: str(n.fail("lacks the measurement", SYSLOG)))
    assert line.encode() in sockets["n3"].call(RRD, b"")
    assert int(archive.output("stat", "-c", "%s", path)) == 159392
    wait_for(lambda: cluster["n3"].ok(
        "test", "-d", f"{RRD_BASE}/pve-storage-9.0"), 10, "n3 has no directory")
