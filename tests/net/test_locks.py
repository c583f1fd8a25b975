"""The clients' convention of lock directories, with real clients."""

import json

import pytest

from cluster import in_parallel, wait_for

LOCKS = "/etc/pve/priv/lock"

# spec/filesystem.md 8.1, as clients do it.
CLIENT = r"""
import os, sys, time
lock, path, rounds, timeout = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
for _ in range(rounds):
    end = time.monotonic() + timeout
    while True:
        try:
            os.mkdir(lock)
            break
        except FileExistsError:
            pass
        if time.monotonic() > end:
            sys.exit("got lock request timeout")
        try:
            os.utime(lock, (0, 0))
        except (PermissionError, FileNotFoundError):
            pass
        time.sleep(0.02)
    with open(path) as file:
        number = int(file.read())
    with open(path, "w") as file:
        file.write(str(number + 1))
    os.rmdir(lock)
"""


def client(node, lock, path, rounds, timeout_s=60):
    return node.run("/usr/bin/python3", "-c", CLIENT, f"{LOCKS}/{lock}", path,
                    str(rounds), str(timeout_s), timeout=timeout_s + 30)


def test_only_one_at_a_time(cluster):
    cluster["n1"].run("mkdir", "-p", LOCKS)
    cluster["n1"].write("/etc/pve/counter", "0")
    in_parallel(lambda node: client(node, "file-counter", "/etc/pve/counter",
                                    15), cluster.nodes * 2)
    for node in cluster.nodes:
        assert int(node.read("/etc/pve/counter")) == 15 * 6


@pytest.fixture
def later(cluster, tmp_path):
    """Restarts the daemon of a node as if seconds had passed for it."""
    def restart(node, seconds):
        program = tmp_path / f"pmxcfs-{node.name}"
        program.write_text("#!/bin/sh\nexec unshare --time --boottime "
                           f"{seconds} {node.program_of('pmxcfs')} \"$@\"\n")
        program.chmod(0o755)
        target = node.on_disk("/root/pmxcfs-later")
        target.write_bytes(program.read_bytes())
        target.chmod(0o755)
        node.stop("pmxcfs")
        node.run("/root/pmxcfs-later")
        wait_for(lambda: node.daemon_pid("pmxcfs"), 10, "no pid file")

    yield restart
    for node in cluster.nodes:
        node.stop("pmxcfs")
        node.start("pmxcfs")


def test_a_lock_of_the_dead_is_freed(cluster, later):
    n1, n2, n3 = cluster.nodes
    n1.run("mkdir", "-p", f"{LOCKS}/dead")
    n1.write("/etc/pve/counter", "0")
    for node in cluster.nodes:
        wait_for(lambda n=node: n.ok("test", "-d", f"{LOCKS}/dead"), 10,
                 f"{node.name} does not see it")
    # The deciding node's time passes; the others' does not.
    later(n1, 121)
    cluster.wait_writable(n1)
    client(n3, "dead", "/etc/pve/counter", 1, 10)
    assert n2.read("/etc/pve/counter") == "1"


def test_the_others_see_to_it(cluster, later):
    """The deciding node has lost its time: after 2 s another decides."""
    n1, n2, n3 = cluster.nodes
    n1.run("mkdir", "-p", f"{LOCKS}/dead")
    n1.write("/etc/pve/counter", "0")
    wait_for(lambda: n2.ok("test", "-d", f"{LOCKS}/dead"), 10, "not on n2")
    later(n2, 121)
    cluster.wait_writable(n2)
    client(n3, "dead", "/etc/pve/counter", 1, 20)
    assert n1.read("/etc/pve/counter") == "1"
    log = n2.read("/var/log/syslog")
    assert "removing the expired lock 'priv/lock/dead'" in log
    assert json.loads(n1.read("/etc/pve/.members"))["cluster"]["quorate"] == 1
