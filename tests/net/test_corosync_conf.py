"""A corosync.conf written anywhere reaches all hosts; a broken one none."""

import json
import re
import subprocess
import time

import pytest

from cluster import wait_for

PVE = "/etc/pve"
CONF = f"{PVE}/corosync.conf"
HOST = "/etc/corosync/corosync.conf"
SYSLOG = "/var/log/syslog"


def version_of(text):
    return int(re.search(r"config_version: (\d+)", text)[1])


def raised(text, by=1):
    return text.replace(f"config_version: {version_of(text)}",
                        f"config_version: {version_of(text) + by}")


def corosyncs_version(node):
    """What the running corosync works with."""
    text = node.output("corosync-cmapctl", "-g", "totem.config_version")
    return int(text.split("=")[1])


def replace(node, text, name="corosync.conf"):
    """As the tools do it: beside it, then renamed."""
    node.write(f"{CONF}.new", text)
    return node.run("mv", f"{CONF}.new", f"{PVE}/{name}",
                    check=False).returncode


def wait_host(node, text, timeout_s=15):
    wait_for(lambda: node.read(HOST) == text, timeout_s,
             lambda: str(node.fail(f"{HOST} is not the new one", SYSLOG)))


def log_size(node):
    return node.on_disk(SYSLOG).stat().st_size


def logged(node, start, text):
    with node.on_disk(SYSLOG).open("rb") as log:
        log.seek(start)
        return log.read().decode(errors="replace").count(text)


def wait_logged(node, start, text, timeout_s=15):
    wait_for(lambda: logged(node, start, text), timeout_s,
             lambda: str(node.fail(f"nothing of '{text}' is logged", SYSLOG)))


# row: 11/greater, row: 11/reload-at-origin
def test_a_new_version_reaches_all(cluster):
    starts = {node: log_size(node) for node in cluster.nodes}
    text = raised(cluster["n1"].read(CONF))
    assert replace(cluster["n2"], text) == 0
    for node in cluster.nodes:
        wait_host(node, text)
        assert node.output("stat", "-c", "%a %U:%G", HOST) == "644 root:root\n"
        wait_for(lambda n=node: corosyncs_version(n) == version_of(text), 15,
                 f"corosync of {node.name} does not read it")
        wait_for(lambda n=node: json.loads(n.read(f"{PVE}/.members"))
                 ["cluster"]["version"] == version_of(text), 15,
                 f".members of {node.name} does not follow")
        assert node.output("sh", "-c", "ls /etc/corosync/*.tmp.* 2>/dev/null"
                           " || true") == ""
        assert logged(node, starts[node], "wrote new corosync config "
                      f"'{HOST}' (version = {version_of(text)})") == 1
    told = [node.name for node in cluster.nodes
            if logged(node, starts[node], "corosync has read its new")]
    assert told == ["n2"]  # only where it came from
    cluster.wait_quorate()


# row: 11/partial-writes
def stays(seconds, condition, what):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert condition(), what
        time.sleep(0.1)


def test_partial_writes_are_not_taken_over(cluster):
    """An editor that writes line by line, in place, and thinks in between;
    what is there by then is whole, as text."""
    n1, n2, n3 = cluster.nodes
    before = n1.read(HOST)
    text = raised(before)
    starts = {node: log_size(node) for node in cluster.nodes}
    n3.run("mkfifo", "/run/hold")
    n3.run("sh", "-c", f"echo x >{PVE}/told-of")  # n3 tells of its writers
    writer = n3.popen("sh", "-c", f"exec >{CONF}; while IFS= read -r line; do"
                      " printf '%s\\n' \"$line\"; done; cat /run/hold >&2",
                      stdin=subprocess.PIPE)
    writer.stdin.write(text)
    writer.stdin.flush()
    wait_for(lambda: n1.read(CONF) == text, 10, "the text does not arrive")
    # For longer than the quiet that must do for other kinds of nodes.
    stays(3, lambda: all(node.read(HOST) == before for node in cluster.nodes),
          "it was taken over while it was open")
    text += "# the end\n"
    writer.stdin.write("# the end\n")
    writer.stdin.close()
    wait_for(lambda: n1.read(CONF) == text, 10, "the end does not arrive")
    stays(0.5, lambda: n1.read(HOST) == before, "it is still open")
    n3.run("sh", "-c", "echo >/run/hold")
    assert writer.wait(10) == 0
    for node in cluster.nodes:
        wait_host(node, text)
        assert logged(node, starts[node], "is not taken over") == 0
    for node in cluster.nodes:
        wait_for(lambda n=node: corosyncs_version(n) == version_of(text), 15,
                 f"corosync of {node.name} does not read it")
    cluster.wait_quorate()


@pytest.mark.parametrize("change", [
    pytest.param(lambda text: raised(text).replace("}\n", "", 1), id="braces"),
    pytest.param(lambda text: text.replace("config_version", "x"),
                 id="no-version"),
    pytest.param(lambda text: raised(text, -1), id="older"),
    pytest.param(lambda text: "", id="empty")])
def test_a_bad_rename_is_refused(cluster, change):
    n1 = cluster["n1"]
    before = n1.read(HOST)
    bad = change(n1.read(CONF))
    n1.write(f"{CONF}.new", bad)
    # mv(1) has words of its own for EINVAL.
    result = n1.run("/usr/bin/python3", "-c", "import os, sys;"
                    "os.rename(*sys.argv[1:])", f"{CONF}.new", CONF,
                    check=False)
    assert "[Errno 22] Invalid argument" in result.stderr
    assert n1.read(CONF) == before
    n1.run("rm", f"{CONF}.new")
    for node in cluster.nodes:
        assert node.read(HOST) == before


def test_without_this_node_it_is_refused(cluster):
    """Passes the sender, who cannot know, but no host takes it."""
    n1, n2, n3 = cluster.nodes
    before = n1.read(HOST)
    starts = {node: log_size(node) for node in cluster.nodes}
    bad = raised(before).replace("name: n", "name: other").replace(
        "ring0_addr: 10", "ring0_addr: 11")
    assert replace(n1, bad) == 0
    for node in cluster.nodes:
        wait_logged(node, starts[node], "its nodelist lacks this node")
        assert any(entry["node"] == node.name
                   and "its nodelist lacks this node" in entry["msg"]
                   for entry in json.loads(node.read(f"{PVE}/.clusterlog"))
                   ["data"])
        assert node.read(HOST) == before
    # The next good one mends it.
    text = raised(before, 2)
    assert replace(n2, text) == 0
    for node in cluster.nodes:
        wait_host(node, text)
        assert logged(node, starts[node], "is not taken over") == 1
    wait_for(lambda: corosyncs_version(n3) == version_of(text), 15,
             "corosync does not read it")


# row: 11/start, row: 11/transfer, row: 11/lower, row: 11/host-file-missing
def test_at_start_and_after_a_transfer(cluster):
    """A node that was away gets it: from its peers, or from its database."""
    n1, _, n3 = cluster.nodes
    n3.stop("pmxcfs")
    text = raised(n1.read(CONF))
    assert replace(n1, text) == 0
    wait_host(n1, text)
    start = log_size(n3)
    n3.start("pmxcfs")
    wait_host(n3, text)
    wait_logged(n3, start, "wrote new corosync config")
    # Behind our back: at the next start, before anything else.
    n3.stop("pmxcfs")
    n3.run("rm", HOST)
    n3.start("pmxcfs")
    assert n3.read(HOST) == text
    # Newer than the tree: stays.
    newer = raised(text, 5)
    n3.stop("pmxcfs")
    n3.write(HOST, newer)
    start = log_size(n3)
    n3.start("pmxcfs")
    assert n3.read(HOST) == newer
    wait_logged(n3, start, "local corosync.conf is newer")
    n3.write(HOST, text)


# row: 11/deleted, row: 11/identical
def test_deleting_and_touching_it_change_nothing(cluster):
    n1 = cluster["n1"]
    text = n1.read(CONF)
    starts = {node: log_size(node) for node in cluster.nodes}
    n1.run("touch", CONF)
    n1.run("cp", CONF, f"{CONF}.keep")
    n1.run("rm", CONF)
    for node in cluster.nodes:
        assert node.read(HOST) == text
    n1.run("mv", f"{CONF}.keep", CONF)
    for node in cluster.nodes:
        wait_for(lambda n=node: n.read(CONF) == text, 10, "it is not back")
        assert node.read(HOST) == text
        assert logged(node, starts[node], "wrote new corosync config") == 0
