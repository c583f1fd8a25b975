"""`pvecfs doctor` finds what is wrong: each fault is staged on a real node.

Where a node follows from another's fault only the cause is named.
"""

import json
import subprocess
from pathlib import Path

import pytest

from cluster import wait_for

HOSTS = "/etc/hosts"
STATE = "/var/lib/pve-cluster"
PVE = "/etc/pve"

# A clock an hour ahead, for one process.
AHEAD = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>

time_t time(time_t *out)
{
    struct timeval now;

    gettimeofday(&now, NULL);
    now.tv_sec += 3600;
    if (out != NULL)
        *out = now.tv_sec;
    return now.tv_sec;
}
"""


def doctor(node):
    """What it finds: {cause: text}, its verdict, and its exit status."""
    result = node.run("pvecfs", "doctor", "--json", check=False)
    assert result.returncode in (0, 1), result.stderr
    answer = json.loads(result.stdout)
    found = {f["cause"]: f["text"] for f in answer["findings"]}
    assert all(f["advice"] for f in answer["findings"])
    assert (result.returncode == 0) == (
        not found and answer["verdict"] == "writable")
    return found, answer["verdict"]


def is_well(node):
    return doctor(node) == ({}, "writable")


def wait_finding(node, causes, verdict, timeout_s=30):
    """Until it finds exactly these; returns the texts."""
    last = []

    def same():
        last[:] = [doctor(node)]
        return sorted(last[0][0]) == sorted(causes) and last[0][1] == verdict
    wait_for(same, timeout_s, lambda: f"{node} finds {last} instead of "
             f"{causes}, {verdict}")
    return last[0][0]


@pytest.fixture
def nodes(cluster):
    """All well before; what a test does not mend itself is mended."""
    for node in cluster.nodes:
        wait_for(lambda n=node: is_well(n), 30,
                 lambda n=node: f"{n} is not well: {doctor(n)}")
    yield cluster.nodes
    cluster.heal()


def restart(node):
    node.stop("pmxcfs")
    node.start("pmxcfs")


def test_corosync_stopped(nodes):
    n1, _, n3 = nodes
    n3.stop("corosync")
    wait_finding(n3, ["corosync"], "read-only")
    assert "n3" in wait_finding(n1, ["link"], "writable")["link"]


def test_corosync_frozen(nodes):
    _, _, n3 = nodes
    n3.kill("corosync", "STOP")
    try:
        wait_for(lambda: "corosync-hangs" in doctor(n3)[0], 30, "no finding")
    finally:
        n3.kill("corosync", "CONT")


def test_link_cut(nodes, cluster):
    n1, _, n3 = nodes
    cluster.cut(["n3"])
    assert "n3" in wait_finding(n1, ["link"], "writable")["link"]
    found = wait_finding(n3, ["link", "no-quorum"], "read-only")
    assert "n1" in found["link"] and "n2" in found["link"]


def test_no_quorum(nodes):
    n1, n2, n3 = nodes
    for node in (n2, n3):
        node.stop("corosync")
    found = wait_finding(n1, ["link", "no-quorum"], "read-only")
    assert "majority" in found["no-quorum"]


def test_full_disk(nodes):
    _, _, n3 = nodes
    n3.stop("pmxcfs")
    n3.run("mount", "-t", "tmpfs", "-o", "size=2m", "none", STATE)
    try:
        n3.start("pmxcfs")
        n3.run("sh", "-c", f"cat /dev/zero >{STATE}/fill", check=False)
        assert "/var/lib/pve-cluster is full" in wait_finding(
            n3, ["disk-full"], "writable")["disk-full"]
        n3.run("rm", f"{STATE}/fill")
        wait_finding(n3, ["disk-low"], "writable")
    finally:
        n3.stop("pmxcfs")
        n3.run("umount", STATE)
        n3.start("pmxcfs")


@pytest.mark.parametrize("line, word", [
    ("10.99.99.99 n3", "10.99.99.99"),
    ("127.0.1.1 n3", "this host alone"),
    ("10.99.99.99 somebody", "no address")])
def test_wrong_hosts_entry(nodes, line, word):
    _, _, n3 = nodes
    text = n3.output("cat", HOSTS)
    wrong = "".join(f"{old}\n" for old in text.splitlines()
                    if "n3" not in old.split()) + line + "\n"
    n3.run("sh", "-c", f"cat >{HOSTS}", input=wrong)
    try:
        assert word in wait_finding(n3, ["hosts"], "writable")["hosts"]
    finally:
        n3.run("sh", "-c", f"cat >{HOSTS}", input=text)


def test_two_nodes_with_one_name(nodes):
    _, _, n3 = nodes
    n3.run("hostname", "n1")
    try:
        restart(n3)
        # Its name has the other's address, too.
        found = wait_finding(n3, ["name-clash", "hosts"], "writable")
        assert "node 1; this is node 3" in found["name-clash"]
    finally:
        n3.run("hostname", "n3")
        restart(n3)


def test_clock_off_by_an_hour(nodes, tmp_path):
    n1, _, n3 = nodes
    source, shim = tmp_path / "ahead.c", Path(f"{n3.on_disk(STATE)}/ahead.so")
    source.write_text(AHEAD)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source], check=True)
    n3.stop("pmxcfs")
    try:
        n3.run("env", f"LD_PRELOAD={STATE}/ahead.so", "pmxcfs")
        found = wait_finding(n1, ["clock"], "writable")
        assert "n3 is 6" in found["clock"] or "n3 is 59" in found["clock"]
        assert "min ahead of" in found["clock"]
        assert "clock of this node" in wait_finding(
            n3, ["clock"], "writable")["clock"]
    finally:
        restart(n3)
        shim.unlink()


def test_daemon_killed(nodes):
    n1, _, n3 = nodes
    n3.kill("pmxcfs")
    assert "died" in wait_finding(n3, ["daemon"], "absent")["daemon"]
    assert "n3" in wait_finding(n1, ["peer-away"], "writable")["peer-away"]
    n3.start("pmxcfs")


def test_daemon_stopped_by_a_signal(nodes):
    """The doctor itself does not hang."""
    _, _, n3 = nodes
    n3.kill("pmxcfs", "STOP")
    try:
        wait_finding(n3, ["daemon-stopped"], "absent")
    finally:
        n3.kill("pmxcfs", "CONT")


def test_database_damaged(nodes):
    """The way out that it names is one."""
    n1, _, n3 = nodes
    n1.run("sh", "-c", f"head -c 200000 /dev/urandom >{PVE}/bulk")
    restart(n3)  # all of it is in the file itself
    wait_for(lambda: is_well(n3), 30, "n3 is not back")
    n3.run("sh", "-c", "head -c 40000 /dev/urandom | dd of="
           f"{STATE}/config.db bs=512 seek=3 conv=notrunc status=none")
    found = wait_finding(n3, ["database"], "writable")
    assert "config.db is damaged" in found["database"]
    n3.kill("pmxcfs")  # it must not mend the file as it stops
    n3.start("pmxcfs")
    wait_for(lambda: is_well(n3), 30, lambda: f"{doctor(n3)}")
    assert n3.output("sha256sum", f"{PVE}/bulk") == \
        n1.output("sha256sum", f"{PVE}/bulk")


def test_foreign_mount(nodes):
    _, _, n3 = nodes
    n3.run("mount", "-t", "tmpfs", "none", PVE)
    try:
        assert "'tmpfs'" in wait_finding(
            n3, ["foreign-mount"], "absent")["foreign-mount"]
    finally:
        n3.run("umount", PVE)


def test_people_can_read_it(nodes, cluster):
    """The page says the same, and what to do; status points to it."""
    _, _, n3 = nodes
    result = n3.run("pvecfs", "status")
    assert "writable on n3" in result.stdout and "n1" in result.stdout
    n3.stop("corosync")
    wait_finding(n3, ["corosync"], "read-only")
    result = n3.run("pvecfs", "doctor", check=False)
    assert result.returncode == 1
    assert "read-only on n3" in result.stdout
    assert "-> 'systemctl start corosync'" in result.stdout
    result = n3.run("pvecfs", "status", check=False)
    assert result.returncode == 1 and "doctor" in result.stdout
    assert "\033" not in result.stdout
    status = json.loads(n3.run("pvecfs", "status", "--json",
                               check=False).stdout)
    assert status["verdict"] == "read-only" and status["quorate"] is False
    assert {n["name"] for n in status["nodes"]} == {"n1", "n2", "n3"}


def test_metrics_and_log(nodes):
    n1, _, _ = nodes
    assert "pmxcfs_quorate 1\n" in n1.output("pvecfs", "metrics")
    log = n1.output("pvecfs", "log", "-n", "1")
    assert len(log.splitlines()) == 1 and "cluster[" in log
