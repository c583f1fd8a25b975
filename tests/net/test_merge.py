"""What nodes do about their copies when they come together again."""

import stat

from cluster import wait_for
from clustertest import wait_content, wait_equal_rows
from node import DAEMONS

PVE = "/etc/pve"
RECOVERY = "/var/lib/pve-cluster/recovery"


def kept(node, path):
    """The content of @path in the node's recovery folders, newest first."""
    folders = sorted(node.on_disk(RECOVERY).glob("*/tree"), reverse=True)
    files = [folder / path for folder in folders]
    return [file.read_text() for file in files if file.is_file()]


def logged(node, text):
    return text in node.on_disk(DAEMONS["pmxcfs"].log).read_text()


def wait_logged(nodes, text):
    for node in nodes:
        wait_for(lambda n=node: logged(n, text), 30,
                 lambda n=node: f"{n.name} does not say '{text}'")


def write_on_both_sides(cluster):
    """n3 is cut off, and an administrator makes it write all the same."""
    n1, n3 = cluster["n1"], cluster["n3"]
    n1.write(f"{PVE}/conflict", "common")
    n1.write(f"{PVE}/untouched", "common")
    cluster.wait_in_sync()
    cluster.cut(["n3"])
    wait_for(lambda: not n3.is_writable(), 30, "n3 does not notice the cut")
    n3.run("corosync-quorumtool", "-e", "1")
    cluster.wait_writable(n3)
    cluster.wait_writable(n1)
    n1.run("mkdir", "-p", f"{PVE}/priv/majority")
    n1.write(f"{PVE}/priv/majority/file", "of n1")
    n1.write(f"{PVE}/conflict", "of n1")
    for number in range(4):
        n3.write(f"{PVE}/minority-{number}", "of n3")
    n3.write(f"{PVE}/conflict", "of n3")


def test_what_a_merge_overrules_is_kept(cluster):
    n1, n2, n3 = cluster.nodes
    write_on_both_sides(cluster)
    cluster.heal()
    cluster.wait_quorate()
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)

    winner = n1.read(f"{PVE}/conflict")
    assert winner in ("of n1", "of n3")
    if winner == "of n3":
        losers, lost = [n1, n2], {"conflict": "of n1",
                                  "priv/majority/file": "of n1"}
    else:
        losers, lost = [n3], {"conflict": "of n3", "minority-1": "of n3"}
    for node in losers:
        wait_logged([node], "overruled entries of this node")
        for path, content in lost.items():
            wait_for(lambda n=node, p=path, c=content: c in kept(n, p), 20,
                     lambda n=node, p=path: f"{n.name} has not kept {p}")
        assert kept(node, "untouched") == []
        wait_for(lambda n=node: list(n.on_disk(RECOVERY).glob("*/config.db")),
                 20, lambda n=node: f"{n.name} has not kept its copy")
        for place in node.on_disk(RECOVERY).rglob("*"):
            mode = place.stat().st_mode
            assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode)
                                          else 0o600)
        for other in cluster.nodes:
            wait_for(lambda o=other: "overruled entries" in
                     o.read(f"{PVE}/.clusterlog"), 20,
                     lambda o=other: f"the cluster log of {o.name} has nothing")


def test_a_restart_overrules_nothing(cluster):
    n1, n3 = cluster["n1"], cluster["n3"]
    n1.write(f"{PVE}/changed", "before")
    n1.write(f"{PVE}/deleted", "before")
    cluster.wait_in_sync()
    before = list(n3.on_disk(RECOVERY).glob("*/tree"))
    n3.stop("pmxcfs")
    n1.write(f"{PVE}/changed", "after")
    n1.write(f"{PVE}/new", "after")
    n1.run("rm", f"{PVE}/deleted")
    n3.start("pmxcfs")
    wait_content(n3, f"{PVE}/changed", "after")
    wait_content(n3, f"{PVE}/new", "after")
    cluster.wait_in_sync()
    n3.stop("pmxcfs")  # waits for what is being kept
    n3.start("pmxcfs")
    cluster.wait_in_sync()
    assert list(n3.on_disk(RECOVERY).glob("*/tree")) == before


def test_copies_are_compared_after_a_synchronisation(cluster):
    for node in cluster.nodes:
        node.on_disk(DAEMONS["pmxcfs"].log).write_text("")
    cluster["n2"].stop("pmxcfs")
    cluster["n2"].start("pmxcfs")
    wait_logged(cluster.nodes, "data verification successful")
    for node in cluster.nodes:
        assert not logged(node, "wrong checksum")
