"""A node with a broken database ends with the others' state."""

import contextlib
import sqlite3

import pytest

from cluster import in_parallel, wait_for
from clustertest import wait_content, wait_equal_rows

PVE = "/etc/pve"
STATE = "/var/lib/pve-cluster"


def database(node):
    return node.on_disk(f"{STATE}/config.db")


def execute(node, *statements):
    with contextlib.closing(sqlite3.connect(database(node))) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def inode_of(node, name):
    with contextlib.closing(sqlite3.connect(database(node))) as db:
        return db.execute("SELECT inode FROM tree WHERE name = ?",
                          (name,)).fetchone()[0]


def insert(inode, parent, version, kind, name, data="NULL"):
    return (f"INSERT INTO tree VALUES ({inode}, {parent}, {version}, 1, 9, "
            f"{kind}, '{name}', {data})")


def not_sqlite(node):
    database(node).write_bytes(b"no database" * 1000)


def a_directory(node):
    database(node).unlink()
    database(node).mkdir()


def missing_parent(node):
    execute(node, insert(90001, 90002, 90001, 8, "orphan"))


def duplicate_name(node):
    execute(node, insert(90001, 0, 90001, 8, "common", "'wrong'"))


def unknown_type(node):
    execute(node, insert(90001, 0, 90001, 5, "odd"))


def directory_with_data(node):
    execute(node, insert(90001, 0, 90001, 4, "full", "'data'"))


def no_name(node):
    execute(node, insert(90001, 0, 90001, 8, ""))


def wrong_record(node):
    execute(node, "UPDATE tree SET name = 'other', version = 90000 "
                  "WHERE inode = 0")


def parent_is_a_file(node):
    execute(node, insert(90001, inode_of(node, "common"), 90001, 8, "below"))


def duplicate_guest(node):
    execute(node, insert(90001, inode_of(node, "n2"), 90001, 4, "qemu-server"),
            insert(90002, 90001, 90002, 8, "300.conf"))


def file_as_guest_folder(node):
    execute(node, insert(90001, inode_of(node, "n1"), 90001, 8, "openvz"))


def no_record(node):
    execute(node, "DELETE FROM tree WHERE inode = 0")


def no_cluster(node):
    """Cut off from the cluster by the row that says there is one."""
    execute(node, "UPDATE tree SET type = 5 WHERE name = 'corosync.conf'")


KINDS = [not_sqlite, a_directory, missing_parent, duplicate_name, unknown_type,
         directory_with_data, no_name, wrong_record, parent_is_a_file,
         duplicate_guest, file_as_guest_folder, no_record, no_cluster]


def spoil(node, how):
    node.stop("pmxcfs")
    for path in node.on_disk(STATE).glob("config.db.corrupt-*"):
        path.rmdir() if path.is_dir() else path.unlink()
    how(node)


def prepare(cluster):
    n1 = cluster["n1"]
    n1.run("mkdir", "-p", f"{PVE}/nodes/n1/lxc", f"{PVE}/nodes/n2/lxc")
    n1.write(f"{PVE}/common", "common\n")
    n1.write(f"{PVE}/nodes/n1/lxc/300.conf", "arch: amd64\n")
    wait_content(cluster["n3"], f"{PVE}/nodes/n1/lxc/300.conf",
                 "arch: amd64\n")
    cluster.wait_in_sync()


@pytest.mark.parametrize("how", KINDS)
def test_it_gets_the_others_state(cluster, how):
    n1, _, n3 = cluster.nodes
    prepare(cluster)
    spoil(n3, how)
    n1.write(f"{PVE}/common", "meanwhile\n")
    expected = n1.output("cat", f"{PVE}/nodes/n1/lxc/300.conf")
    n3.start("pmxcfs")
    wait_content(n3, f"{PVE}/common", "meanwhile\n", 30)
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)
    assert n3.read(f"{PVE}/nodes/n1/lxc/300.conf") == expected
    assert list(n3.on_disk(STATE).glob("config.db.corrupt-*"))
    cluster.wait_writable(n3)
    n3.write(f"{PVE}/from-n3", how.__name__)
    wait_content(n1, f"{PVE}/from-n3", how.__name__)


def test_the_lowest_node_first(cluster):
    """It would lead where versions are equal, and starts before the others."""
    prepare(cluster)
    n1, n2, n3 = cluster.nodes
    n2.stop("pmxcfs")
    n3.stop("pmxcfs")
    spoil(n1, wrong_record)
    execute(n1, "UPDATE tree SET data = 'wrong' WHERE name = 'common'")
    n1.start("pmxcfs")
    assert n1.read(f"{PVE}/common") == "wrong"
    n2.start("pmxcfs")
    n3.start("pmxcfs")
    for node in cluster.nodes:
        wait_content(node, f"{PVE}/common", "common\n", 30)
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)


def test_nobody_has_a_whole_copy(cluster):
    """What could be saved is what there is, and goes on."""
    prepare(cluster)
    for node in cluster.nodes:
        spoil(node, unknown_type if node.name != "n2" else not_sqlite)
    in_parallel(lambda node: node.start("pmxcfs"), cluster.nodes)
    for node in cluster.nodes:
        wait_content(node, f"{PVE}/common", "common\n", 30)
        cluster.wait_writable(node)
    for node in cluster.nodes:
        node.run("mkdir", f"{PVE}/dir-{node.name}")
        node.write(f"{PVE}/dir-{node.name}/f", node.name)
    cluster.wait_in_sync()
    dump = wait_equal_rows(cluster.nodes).splitlines()
    rows = [line.split("|") for line in dump]
    top = next(int(row[2]) for row in rows if row[0] == "0")
    assert all(int(row[0]) <= top and int(row[2]) <= top for row in rows)
    assert sum(row[6].startswith("dir-") for row in rows) == 3
    wait_for(lambda: cluster["n2"].read(f"{PVE}/common") == "common\n", 10,
             "n2 lost the common file")
    cluster["n1"].run("sh", "-c", "rm -r /etc/pve/dir-*")
