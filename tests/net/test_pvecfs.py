"""`pvecfs` over the daemon's socket, on real nodes: watch, get, set, sync.

What `doctor`, `status`, `log` and `metrics` say is in test_doctor.py.
"""

import json
import subprocess

import pytest

from cluster import wait_for

PVE = "/etc/pve"


@pytest.fixture
def watch(cluster):
    """Starts `pvecfs watch`; what it says comes line by line."""
    started = []

    def start(node, *words):
        process = node.popen("pvecfs", "watch", "--json", *words,
                             stdout=subprocess.PIPE, text=True)
        started.append(process)
        return process
    yield start
    for process in started:
        process.kill()
        process.wait(10)


def next_event(process, kind):
    """The next of that kind; others pass by."""
    for line in process.stdout:
        event = json.loads(line)
        if event["kind"] == kind:
            return event
    raise AssertionError(f"the watch ended before it told of {kind}")


def test_watch(cluster, watch):
    n1, n2, _ = cluster.nodes
    n1.run("mkdir", "-p", f"{PVE}/watched")
    everything = watch(n2)
    below = watch(n2, f"{PVE}/watched")
    # All that was before is unknown to it: that is told first.
    for process in (everything, below):
        assert json.loads(process.stdout.readline())["kind"] == "lost"
    n1.run("sh", "-c", f"echo a >{PVE}/elsewhere; echo b >{PVE}/watched/new;"
           f"mv {PVE}/watched/new {PVE}/watched/file; rm {PVE}/watched/file")
    paths = {"elsewhere", "watched/new"}
    assert {next_event(everything, "created")["path"] for _ in paths} == paths
    created = next_event(below, "created")
    assert created["path"] == "watched/new" and created["node"] == 1
    assert next_event(below, "changed")["version"] > created["version"]
    renamed = next_event(below, "renamed")
    assert (renamed["path"], renamed["other"]) == ("watched/new",
                                                   "watched/file")
    assert next_event(below, "deleted")["path"] == "watched/file"
    # It goes on when the daemon comes back.
    n2.stop("pmxcfs")
    n2.start("pmxcfs")
    assert next_event(below, "lost")
    n1.run("touch", f"{PVE}/watched/again")
    assert next_event(below, "created")["path"] == "watched/again"


def test_status_keys(cluster):
    n1, n2, _ = cluster.nodes
    n1.run("pvecfs", "set", "greeting", "hello")
    assert n1.output("pvecfs", "get", "greeting") == "hello"
    wait_for(lambda: n2.run("pvecfs", "get", "greeting", "n1",
                            check=False).stdout == "hello", 10,
             "n2 does not get the key of n1")
    n1.run("pvecfs", "set", "greeting", input="from stdin\n")
    assert n1.output("pvecfs", "get", "greeting") == "from stdin\n"
    result = n2.run("pvecfs", "get", "no-such-key", check=False)
    assert result.returncode == 2 and result.stderr.startswith("pvecfs: ")
    result = n2.run("pvecfs", "get", "x" * 256, check=False)
    assert result.returncode == 2 and "255 bytes" in result.stderr


def test_sync(cluster):
    n1, _, _ = cluster.nodes
    n1.run("touch", f"{PVE}/to-be-stable")
    assert n1.output("pvecfs", "sync").startswith("stable on ")


def test_without_the_daemon(cluster):
    _, _, n3 = cluster.nodes
    n3.stop("pmxcfs")
    n3.run("rm", "-f", "/run/pve-cluster/cfs-restart-flag")
    for words in (("get", "key"), ("set", "key", "value"), ("sync",)):
        result = n3.run("pvecfs", *words, check=False)
        assert result.returncode == 2 and result.stderr.startswith("pvecfs: ")
    n3.start("pmxcfs")
