"""The kernel's caches are right, and nothing hangs when what keeps them so dies.

The programs stress-tree and stress-look are built by `make check`; STRESS_S
is how long each storm lasts.
"""

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from cluster import wait_for
from clustertest import wait_content, wait_equal_rows
from node import REPO

PVE = "/etc/pve"
STRESS_S = int(os.environ.get("STRESS_S", "20"))
WRITERS_PER_NODE = 8
CHECKERS_PER_NODE = 2
LOOKS = 400
AIM_MS = 5


@pytest.fixture(scope="module")
def programs():
    """Where they are: in the build directory the cluster's programs are of."""
    folder = Path(os.environ.get("top_builddir", REPO / "build"))
    done = subprocess.run(["make", "-s", "-C", folder, "tests/net/stress-tree",
                           "tests/net/stress-look"], check=False, text=True,
                          capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no stress programs in {folder}: {done.stderr[-300:]}")
    return folder / "tests" / "net"


def start(node, *command):
    return node.popen(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process, what, timeout_s=60):
    """Its output; a process that hangs or fails is an error."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{what} hangs") from None
    assert process.returncode == 0, f"{what}: {err.strip()}"
    return out


def helper_pid(node):
    """The process that invalidates, as the node numbers it; None: none."""
    found = node.output("sh", "-c", "cat /proc/[0-9]*/stat 2>/dev/null || :")
    for line in found.splitlines():
        match = re.match(r"(\d+) \((.*)\) (\S)", line)
        if match and match[2] == "pmxcfs-caches" and match[3] not in "ZX":
            return int(match[1])
    return None


def test_stress(cluster, programs):
    """Random valid operations on all nodes; one tree, nothing left behind."""
    n1 = cluster.nodes[0]
    n1.run("mkdir", "-p", f"{PVE}/stress", f"{PVE}/priv/lock")
    storm = [(f"stress-tree {i} on {node.name}",
              start(node, programs / "stress-tree", f"{PVE}/stress",
                    str(i * 10 + node.number), str(STRESS_S)))
             for i in range(WRITERS_PER_NODE) for node in cluster.nodes]
    done = sum(int(finish(process, what, STRESS_S + 60))
               for what, process in storm)
    print(f"{done} operations in {STRESS_S} s")
    cluster.wait_in_sync()
    dump = wait_equal_rows(cluster.nodes)
    assert ".fuse_hidden" not in dump
    trees = [node.output("sh", "-c", f"cd {PVE} && find stress priv -type f "
                         "-exec sha256sum {} + | sort") for node in
             cluster.nodes]
    assert len(set(trees)) == 1
    n1.run("sh", "-c", f"rm -r {PVE}/stress; rmdir {PVE}/priv/lock/stress* "
           "2>/dev/null || :")


def test_nothing_older_than_announced(cluster, programs):
    """Changes from all nodes in one directory, looked at on all nodes."""
    look = programs / "stress-look"
    n1 = cluster.nodes[0]
    n1.run("mkdir", "-p", f"{PVE}/look")
    for path in ("storage.cfg", "look/file"):
        n1.run("sh", "-c", 'printf 0000000000 >"$0"', f"{PVE}/{path}")
    n1.run("sh", "-c", ': >"$0"', f"{PVE}/look/size")
    for node in cluster.nodes:
        wait_content(node, f"{PVE}/storage.cfg", "0000000000")
        wait_content(node, f"{PVE}/look/size", "")
    cluster.wait_in_sync()
    checkers = [(f"a checker on {node.name}", start(node, look, "check",
                                                    f"{PVE}/look"))
                for node in cluster.nodes for _ in range(CHECKERS_PER_NODE)]
    for what, checker in checkers:
        assert checker.stdout.readline() == "ready\n", \
            f"{what}: {checker.stderr.read()}"
    noise = [start(node, "sh", "-c",
                   f"cd {PVE}/look; while test $(cat ../storage.cfg) -lt "
                   "900000000; do echo x >n-$0; mv n-$0 m-$0; ls >/dev/null; "
                   "rm m-$0; sleep 0.02; done 2>/dev/null", node.name)
             for node in cluster.nodes]
    writers = [(f"the writer on {node.name}",
                start(node, look, "write", f"{PVE}/look", str(i),
                      str(len(cluster.nodes)), str(STRESS_S)))
               for i, node in enumerate(cluster.nodes)]
    try:
        for what, process in [*writers, *checkers]:
            print(what, finish(process, what, STRESS_S + 60).strip())
    finally:
        n1.run("sh", "-c", f"printf 900000000 >{PVE}/storage.cfg")
        for process in noise:
            process.wait(30)
    n1.run("rm", "-r", f"{PVE}/look", f"{PVE}/storage.cfg")


def test_remote_stat_follows(cluster, programs):
    """How long after write(2) returned another node's stat(2) shows it."""
    look = programs / "stress-look"
    n1, n2, _ = cluster.nodes
    n1.run("sh", "-c", ': >"$0"', f"{PVE}/grow")
    wait_content(n2, f"{PVE}/grow", "")
    seer = start(n2, look, "see", f"{PVE}/grow", str(LOOKS))
    assert seer.stdout.readline() == "ready\n"
    written = finish(start(n1, look, "grow", f"{PVE}/grow", str(LOOKS)), "grow")
    seen = finish(seer, "see")
    late = sorted((int(b) - int(a)) / 1000 for a, b in
                  zip(written.split(), seen.split(), strict=True))
    print(f"remote stat after a write: p50 {late[LOOKS // 2]:.2f} ms, p99 "
          f"{late[LOOKS * 99 // 100]:.2f} ms, the longest {late[-1]:.2f} ms; "
          f"the aim is p99 {AIM_MS} ms")
    n1.run("rm", f"{PVE}/grow")


def test_old_content_stays_with_its_descriptors(cluster):
    n1, n2, _ = cluster.nodes
    for path in ("removed", "replaced"):
        n1.write(f"{PVE}/{path}", "old\n")
        wait_content(n2, f"{PVE}/{path}", "old\n")
    reader = n2.popen("sh", "-c", f"exec 3<{PVE}/removed 4<{PVE}/replaced; "
                      "echo open; read -r go; cat <&3; cat <&4",
                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert reader.stdout.readline() == "open\n"
    n1.run("rm", f"{PVE}/removed")
    n1.write(f"{PVE}/new", "new\n")
    n1.run("mv", f"{PVE}/new", f"{PVE}/replaced")
    wait_content(n2, f"{PVE}/replaced", "new\n")
    out, _ = reader.communicate("go\n", timeout=20)
    assert out == "old\nold\n"
    n1.run("rm", f"{PVE}/replaced")


def test_killed_helper_is_replaced(cluster):
    n1, n2, _ = cluster.nodes
    n1.write(f"{PVE}/cached", "1\n")
    wait_content(n2, f"{PVE}/cached", "1\n")
    for text in ("2\n", "3\n"):
        old = helper_pid(n2)
        n2.run("kill", "-s", "KILL", str(old))
        n1.write(f"{PVE}/cached", text)
        wait_content(n2, f"{PVE}/cached", text)
        wait_for(lambda: helper_pid(n2) not in (None, old), 20,
                 "n2 has no new helper")
    n2.run("ls", PVE)
    n1.run("rm", f"{PVE}/cached")


@pytest.mark.parametrize("with_helper", [False, True])
def test_killed_with_parked_creates(cluster, with_helper):
    """After kill -9 a start frees whoever waits for an answer."""
    n1, n2, _ = cluster.nodes
    n1.run("mkdir", "-p", f"{PVE}/parked")
    wait_for(lambda: n2.ok("ls", f"{PVE}/parked"), 10, "no directory on n2")
    load = n1.popen("sh", "-c", f"cd {PVE}/parked; for i in $(seq 400); do "
                    "echo $i >a && mv a b && rm b; done 2>/dev/null")
    creators = [n2.popen("sh", "-c", f"cd {PVE}/parked; while echo x >c{n} "
                         f"&& rm c{n} && ! test -e done; do cat b; ls; done",
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                for n in range(6)]
    wait_for(lambda: n2.ok("sh", "-c", f"ls {PVE}/parked | grep -q c"), 10,
             "nothing is created")
    n2.kill("corosync", "STOP")
    helper = helper_pid(n2)
    if with_helper:
        n2.run("kill", "-s", "KILL", str(helper), str(n2.daemon_pid("pmxcfs")))
    else:
        n2.kill("pmxcfs")
    n2.kill("corosync", "CONT")
    wait_for(lambda: n2.daemon_pid("pmxcfs") is None, 20, "pmxcfs lives on")
    n2.start("pmxcfs")
    n1.write(f"{PVE}/parked/done", "")  # for one that was late
    for process in creators:
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError("a process on n2 hangs") from None
    load.wait(60)
    cluster.wait_writable(n2)
    n2.run("rm", "-r", f"{PVE}/parked")
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)
