"""The daemon's life on a real node: restarts, and a corosync or a disk that
hangs. Times are asserted generously and shown as measured (pytest -s)."""

import errno
import json
import subprocess
import time

import pytest

from cluster import wait_for
from clustertest import wait_content, wait_equal_rows, wait_missing

PVE = "/etc/pve"
PYTHON = "/usr/bin/python3"
SYSLOG = "/var/log/syslog"

# Looks each millisecond; at the end, or after the first absence, prints the
# longest absence of what the condition asks for.
WATCH = r"""
import os, sys, time
path, bit, seconds = sys.argv[1], int(sys.argv[2], 8), float(sys.argv[3])
def there():
    try:
        return os.lstat(path).st_mode & bit == bit
    except OSError:
        return False
while not there():
    time.sleep(0.001)
print("watching", flush=True)
end, longest = time.monotonic() + seconds, 0
while time.monotonic() < end:
    if not there():
        start = time.monotonic()
        while not there():
            time.sleep(0.001)
        longest = max(longest, time.monotonic() - start)
        if bit & 0o200 or longest > 0:
            break
    time.sleep(0.001)
print(longest)
"""


class Watch:
    """How long something was away on a node."""

    def __init__(self, node, path, bit, seconds=30):
        self.process = node.popen(PYTHON, "-c", WATCH, path, oct(bit)[2:],
                                  str(seconds), stdout=subprocess.PIPE)
        assert self.process.stdout.readline() == "watching\n"

    def away_s(self):
        out, _ = self.process.communicate(timeout=60)
        return float(out)


@pytest.fixture
def thawed(cluster):
    """Nothing stays stopped."""
    yield cluster
    for node in cluster.nodes:
        for name in ("corosync", "pmxcfs"):
            if node.daemon_pid(name) is not None:
                node.kill(name, "CONT")
    cluster.up()


def stop_within(node, seconds):
    start = time.monotonic()
    node.stop("pmxcfs")
    took = time.monotonic() - start
    print(f"stop took {took:.2f} s")
    assert took < seconds


def test_away_over_a_restart(cluster):
    n1 = cluster["n1"]
    watch = Watch(n1, f"{PVE}/local", 0o120000)
    pid = n1.daemon_pid("pmxcfs")
    # As systemd does it: the old one ends, the new one is started.
    n1.run("sh", "-c", f"kill -TERM {pid}; while kill -0 {pid} 2>/dev/null; do"
           " sleep 0.005; done; exec pmxcfs")
    away = watch.away_s()
    print(f"/etc/pve was away for {away:.3f} s")
    assert 0 < away < 1
    cluster.wait_writable(n1)


# row: 10/event/daemon-killed
def test_killed(cluster):
    n1, n2, _ = cluster.nodes
    n1.write(f"{PVE}/before", "x")
    n1.kill("pmxcfs")
    program = "import os, sys; os.stat(sys.argv[1])"
    result = n1.run(PYTHON, "-c", program, PVE, check=False)
    assert f"[Errno {errno.ENOTCONN}]" in result.stderr
    n2.write(f"{PVE}/meanwhile", "y")
    start = time.monotonic()
    n1.start("pmxcfs")
    assert n1.read(f"{PVE}/before") == "x"
    readable = time.monotonic() - start
    cluster.wait_writable(n1)
    wait_content(n1, f"{PVE}/meanwhile", "y")
    print(f"readable after {readable:.2f} s, writable and in sync after "
          f"{time.monotonic() - start:.2f} s")
    assert readable < 5


# row: 10/event/corosync-killed, row: 10/event/corosync-started-again
# row: 9/members/corosync-lost
def test_corosync_killed_and_started_again(cluster):
    n1, n2, n3 = cluster.nodes
    version = json.loads(n3.read(f"{PVE}/.version"))["clinfo"]
    watch = Watch(n3, f"{PVE}/local", 0o200)
    n3.kill("corosync")
    wait_for(lambda: not n3.is_writable(), 5, "n3 is still writable")
    result = n3.run("mkdir", f"{PVE}/refused", check=False)
    assert "Permission denied" in result.stderr
    wait_for(lambda: json.loads(n3.read(f"{PVE}/.members"))["nodelist"]
             ["n1"]["online"] == 0, 5, "n1 is still shown online")
    members = json.loads(n3.read(f"{PVE}/.members"))
    assert members["cluster"]["quorate"] == 0
    assert {name: node["online"] for name, node
            in members["nodelist"].items()} == {"n1": 0, "n2": 0, "n3": 1}
    assert json.loads(n3.read(f"{PVE}/.version"))["clinfo"] > version
    wait_for(lambda: n1.ok("sh", "-c", f"echo x >{PVE}/majority"), 20,
             "the others cannot write")
    n3.start("corosync")
    # Quorum is there when corosync says so, give or take a tick of ours.
    wait_for(lambda: n3.quorum()[0], 20, "corosync is not quorate")
    start = time.monotonic()
    cluster.wait_writable(n3)
    print(f"writable {time.monotonic() - start:.2f} s after corosync was seen"
          f" quorate; without quorum for {watch.away_s():.2f} s")
    assert time.monotonic() - start < 1
    wait_content(n3, f"{PVE}/majority", "x\n")
    n3.write(f"{PVE}/again", "y")
    wait_content(n2, f"{PVE}/again", "y")
    wait_equal_rows(cluster.nodes)


# row: 10/event/corosync-frozen
def test_what_hangs_can_be_killed(thawed):
    """A mkdir and a write wait for a frozen corosync; nothing else does."""
    n3 = thawed["n3"]
    n3.run("mkdir", "-p", f"{PVE}/dir")
    n3.write(f"{PVE}/dir/file", "text")
    n3.kill("corosync", "STOP")
    hung = [n3.popen("mkdir", f"{PVE}/dir/new"),
            n3.popen("sh", "-c", f"exec dd if=/dev/zero of={PVE}/dir/file"
                     " bs=10 count=1 conv=notrunc", stderr=subprocess.DEVNULL)]
    wait_for(lambda: all(
        n3.ok("pgrep", "-x", name) for name in ("mkdir", "dd")), 10,
        "they do not run")
    assert n3.read(f"{PVE}/dir/file") == "text"
    assert all(process.poll() is None for process in hung)
    start = time.monotonic()
    n3.run("pkill", "-KILL", "-x", "mkdir|dd")
    for process in hung:
        process.wait(10)
    took = time.monotonic() - start
    print(f"freed {took:.2f} s after the kill")
    assert took < 2
    # The directory is not held by what was killed.
    assert "file" in n3.output("ls", f"{PVE}/dir", timeout=5)
    n3.kill("corosync", "CONT")
    thawed.wait_quorate()
    n3.run("rm", "-r", f"{PVE}/dir")


# row: 1.5/stop-with-corosync-frozen
def test_stop_while_corosync_hangs(thawed):
    n3 = thawed["n3"]
    n3.kill("corosync", "STOP")
    hung = n3.popen("mkdir", f"{PVE}/hangs", stderr=subprocess.PIPE)
    wait_for(lambda: n3.ok("pgrep", "-x", "mkdir"), 10, "no mkdir")
    stop_within(n3, 5)
    assert hung.wait(5) != 0
    hung.stderr.close()
    assert not n3.is_mounted()
    n3.start("pmxcfs")  # it starts, too
    assert n3.ok("ls", PVE)
    stop_within(n3, 5)
    n3.kill("corosync", "CONT")


# row: 10/event/peer-frozen
def test_a_frozen_peer_catches_up(thawed):
    n1, n2, n3 = thawed.nodes
    n3.kill("pmxcfs", "STOP")
    for number in range(50):
        n1.write(f"{PVE}/many-{number}", str(number))
    assert n2.read(f"{PVE}/many-49") == "49"
    n3.kill("pmxcfs", "CONT")
    wait_content(n3, f"{PVE}/many-49", "49")
    n3.run("sh", "-c", f"rm {PVE}/many-*")
    wait_missing(n1, f"{PVE}/many-0")
    wait_equal_rows(thawed.nodes)


@pytest.fixture
def own_disk(cluster):
    """n3's database on a disk of its own that can be frozen."""
    n3 = cluster["n3"]
    state = "/var/lib/pve-cluster"
    n3.stop("pmxcfs")
    n3.run("sh", "-ec", "truncate -s 64M /root/disk;"
           f"mkfs.ext4 -q -O ^has_journal /root/disk; cp -a {state} /root/old;"
           f"mount -o loop /root/disk {state}; cp -a /root/old/. {state}/")
    n3.start("pmxcfs")
    cluster.wait_writable(n3)
    yield n3
    n3.run("fsfreeze", "-u", state, check=False)
    wait_for(lambda: not n3.ok("pgrep", "-x", "pmxcfs"), 20,
             "pmxcfs does not end") if n3.daemon_pid("pmxcfs") is None \
        else n3.stop("pmxcfs")
    n3.run("sh", "-ec", f"umount {state}; rm -rf /root/disk /root/old")
    n3.start("pmxcfs")


# row: 1.5/stop-with-disk-frozen
def test_stop_while_the_disk_hangs(cluster, own_disk):
    n1, n3 = cluster["n1"], own_disk
    n3.run("fsfreeze", "-f", "/var/lib/pve-cluster")
    n3.run("sh", "-c", f"echo x >{PVE}/slow", timeout=20)  # from memory
    assert n3.read(f"{PVE}/slow") == "x\n"
    wait_content(n1, f"{PVE}/slow", "x\n")  # nobody else waits for the disk
    stop_within(n3, 10)
    assert not n3.is_mounted()
    n3.run("fsfreeze", "-u", "/var/lib/pve-cluster")
    wait_for(lambda: not n3.ok("pgrep", "-x", "pmxcfs"), 20, "it does not end")
    n3.start("pmxcfs")
    cluster.wait_writable(n3)
    wait_content(n3, f"{PVE}/slow", "x\n")
    wait_equal_rows([cluster["n1"], cluster["n2"]])
