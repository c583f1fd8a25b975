"""Terms, fsync on a majority, appends from several nodes: docs/replication.md.

What the simulator shows of the core, once more on real corosync and disks.
"""

import re
import sqlite3
import subprocess

from cluster import in_parallel, wait_for
from clustertest import wait_content, wait_equal_rows

PVE = "/etc/pve"
LINES = 150

# Overwrites one file without a pause until it is told no.
LOAD = f"""
import os
fd = os.open("{PVE}/load", os.O_WRONLY | os.O_CREAT)
print("begun", flush=True)
try:
    while True:
        os.pwrite(fd, os.urandom(200).hex().encode(), 0)
except OSError:
    pass
"""

APPEND = f"""
import os, sys
fd = os.open("{PVE}/lines", os.O_WRONLY | os.O_APPEND)
for i in range({LINES}):
    line = f"{{sys.argv[1]}} {{i}} {{'x' * (i % 97)}}\\n".encode()
    assert os.write(fd, line) == len(line)
"""


def version(node):
    text = node.output("pmxcfs-db", "check")
    return int(re.search(r": version (\d+),", text).group(1))


def term(node):
    found = re.search(r"^term (\d+),", node.output("pmxcfs-db", "check"), re.M)
    return int(found.group(1)) if found else 0


def test_a_cut_off_node_erases_nothing(cluster):
    """It is cut off under load and goes on counting, by votes that somebody
    lowered; the majority makes a directory. The reference's rule would let the
    higher version win, and the directory would be gone."""
    n1, n2, n3 = cluster.nodes
    load = n3.popen("python3", "-c", LOAD, stdout=subprocess.PIPE, text=True)
    try:
        assert load.stdout.readline() == "begun\n"
        before = term(n1)
        cluster.cut(["n3"])
        cluster.wait_quorate([n1, n2])
        assert load.wait(timeout=60) == 0
        n1.run("mkdir", f"{PVE}/made-by-the-majority")
        n3.run("corosync-quorumtool", "-e", "1")
        cluster.wait_writable(n3)
        target = version(n1) + 200
        n3.run("python3", "-c", f"for i in range(300):\n"
               f" open('{PVE}/load', 'w').write(str(i))")
        wait_for(lambda: version(n3) > target, 30,
                 "n3 did not count on by itself")
        assert term(n1) > before
        assert term(n3) == before
    finally:
        load.kill()
        load.wait()
        cluster.heal()
    cluster.wait_quorate()
    # corosync takes the highest of its members' expected votes back.
    assert re.search(r"^Expected votes: +3$", n3.output("corosync-quorumtool"),
                     re.M)
    wait_equal_rows(cluster.nodes)
    for node in cluster.nodes:
        node.run("test", "-d", f"{PVE}/made-by-the-majority")
    assert version(n1) > target, "the version was not raised above n3's"
    n1.run("rmdir", f"{PVE}/made-by-the-majority")


def test_fsync_survives_the_loss_of_a_node(cluster):
    """fsync on n1 returns; n1 dies, and its disk with it."""
    n1 = cluster["n1"]
    n1.run("python3", "-c", f"""
import os
fd = os.open("{PVE}/safe", os.O_WRONLY | os.O_CREAT)
os.write(fd, b"kept")
os.fsync(fd)
""")
    safe = version_known_safe(cluster["n2"])
    assert safe > 0
    for node in cluster.nodes:
        node.kill("pmxcfs")
    wait_for(lambda: not any(node.daemon_pid("pmxcfs")
                             for node in cluster.nodes), 20,
             "a pmxcfs does not die")
    for path in n1.on_disk("/var/lib/pve-cluster").glob("config.db*"):
        path.unlink()
    cluster.up()
    for node in cluster.nodes:
        wait_content(node, f"{PVE}/safe", "kept")


def version_known_safe(node):
    found = re.search(r"known safe up to version (\d+)",
                      node.output("pmxcfs-db", "check"))
    return int(found.group(1)) if found else 0


def test_o_sync_is_an_fsync(cluster):
    n1 = cluster["n1"]
    n1.run("python3", "-c", f"""
import os
fd = os.open("{PVE}/each", os.O_WRONLY | os.O_CREAT | os.O_SYNC)
os.write(fd, b"kept")
""")
    with sqlite3.connect(n1.on_disk("/var/lib/pve-cluster/config.db")) as db:
        written = db.execute(
            "SELECT version FROM tree WHERE name = 'each'").fetchone()[0]
    db.close()
    # The others heard of it at the same place, and write it down soon.
    for node in cluster.nodes:
        wait_for(lambda n=node: version_known_safe(n) >= written, 10,
                 f"{node.name} does not know of it")


def test_fsync_without_quorum_is_no_success(cluster):
    n3 = cluster["n3"]
    cluster.cut(["n3"])
    try:
        wait_for(lambda: not n3.is_writable(), 60, "n3 keeps its quorum")
        result = n3.run("python3", "-c", f"""
import errno, os
fd = os.open("{PVE}/corosync.conf", os.O_RDONLY)
try:
    os.fsync(fd)
except OSError as error:
    print(errno.errorcode[error.errno])
""")
        assert result.stdout.strip() == "EIO"
    finally:
        cluster.heal()
    cluster.wait_quorate()


def test_three_nodes_append(cluster):
    """Each line of each node is there once, and whole."""
    cluster["n1"].run("sh", "-c", f": >{PVE}/lines")
    for node in cluster.nodes:
        wait_content(node, f"{PVE}/lines", "")
    in_parallel(lambda node: node.run("python3", "-c", APPEND, node.name),
                cluster.nodes)
    cluster.wait_in_sync()
    wanted = sorted(f"{node.name} {i} {'x' * (i % 97)}"
                    for node in cluster.nodes for i in range(LINES))
    for node in cluster.nodes:
        # By whoever looked while others appended, too: what the kernel kept
        # of the file is right.
        assert sorted(node.output("cat", f"{PVE}/lines").splitlines()) \
            == wanted, node.name


def test_a_database_goes_to_the_reference_and_back(cluster):
    """The reference reads and writes its own table, and leaves ours alone."""
    n2 = cluster["n2"]
    n2.stop("pmxcfs")
    with sqlite3.connect(n2.on_disk("/var/lib/pve-cluster/config.db")) as db:
        tables = [row[0] for row in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table'")]
        assert sorted(tables) == ["pmxcfs_terms", "tree"]
        db.execute("UPDATE tree SET version = version + 1 WHERE inode = 0")
    db.close()
    n2.start("pmxcfs")
    cluster.wait_quorate()
    wait_equal_rows(cluster.nodes)


def test_a_foreign_copy_is_refused(cluster):
    """A disk of another cluster, with more versions behind it, comes up as n3.
    It stays out, readable; its journal says what to do; that works."""
    n1, n3 = cluster["n1"], cluster["n3"]
    n1.run("sh", "-c", f"echo precious >{PVE}/precious")
    wait_content(n3, f"{PVE}/precious", "precious\n")
    n3.stop("pmxcfs")
    with sqlite3.connect(n3.on_disk("/var/lib/pve-cluster/config.db")) as db:
        text = db.execute("SELECT data FROM tree WHERE name = ?",
                          ("corosync.conf",)).fetchone()[0].decode()
        foreign = re.sub(r"(cluster_name:).*", r"\1 elsewhere", text)
        assert foreign != text
        db.execute("UPDATE tree SET data = ? WHERE name = ?",
                   (foreign.encode(), "corosync.conf"))
        db.execute("UPDATE tree SET version = version + 9999 WHERE inode = 0")
        db.execute("DELETE FROM tree WHERE name = 'precious'")
        db.execute("DROP TABLE pmxcfs_terms")
    db.close()
    log = n3.on_disk("/var/log/syslog")
    before = log.stat().st_size
    n3.start("pmxcfs")
    wait_for(lambda: b"refusing to merge: node 3 of 'elsewhere'"
             in log.read_bytes()[before:], 30, "n3 says nothing")
    result = n3.run("mkdir", f"{PVE}/not-here", check=False)
    assert "Permission denied" in result.stderr
    assert "elsewhere" in n3.read(f"{PVE}/corosync.conf")
    for node in cluster.nodes[:2]:
        wait_content(node, f"{PVE}/precious", "precious\n")
        cluster.wait_writable(node)

    n3.stop("pmxcfs")
    for path in n3.on_disk("/var/lib/pve-cluster").glob("config.db*"):
        path.unlink()
    n3.start("pmxcfs")
    cluster.wait_quorate()
    wait_content(n3, f"{PVE}/precious", "precious\n")
    wait_equal_rows(cluster.nodes)
