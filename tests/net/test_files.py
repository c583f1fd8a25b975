"""What is written on one node is on all; nothing that goes wrong loses it."""

import errno
import json
import os
import sqlite3
import subprocess
import threading

import pytest

from cluster import in_parallel, wait_for
from clustertest import wait_content, wait_equal_rows, wait_missing

PVE = "/etc/pve"


def error_of_write(node, path, mode="w"):
    """The errno a plain write gets inside the node; 0 if it works."""
    program = ("import sys\n"
               "try:\n"
               "    with open(sys.argv[1], sys.argv[2]) as f: f.write('x')\n"
               "except OSError as e: print(e.errno)\n"
               "else: print(0)\n")
    return int(node.output("/usr/bin/python3", "-c", program, path, mode))


@pytest.mark.parametrize("writer", ["n1", "n2", "n3"])
def test_written_on_one_read_on_all(cluster, writer):
    path = f"{PVE}/from-{writer}"
    cluster[writer].write(path, f"hello from {writer}\n")
    for node in cluster.nodes:
        wait_content(node, path, f"hello from {writer}\n")


def test_what_editors_and_shells_do(cluster):
    n1, n2, n3 = cluster.nodes
    n1.run("mkdir", "-p", f"{PVE}/work/deep")
    n1.write(f"{PVE}/work/a", "one\ntwo\n")
    n2.run("cp", f"{PVE}/work/a", f"{PVE}/work/deep/b")
    n3.run("sed", "-i", "s/two/three/", f"{PVE}/work/deep/b")
    wait_content(n1, f"{PVE}/work/deep/b", "one\nthree\n")
    n1.run("mv", f"{PVE}/work/deep/b", f"{PVE}/work/c")
    wait_content(n2, f"{PVE}/work/c", "one\nthree\n")
    wait_missing(n2, f"{PVE}/work/deep/b")
    n2.run("sh", "-c", 'echo four >>"$0"', f"{PVE}/work/c")
    wait_content(n3, f"{PVE}/work/c", "one\nthree\nfour\n")
    n3.run("mv", f"{PVE}/work/c", f"{PVE}/work/a")  # over an old one
    wait_content(n1, f"{PVE}/work/a", "one\nthree\nfour\n")
    listing = n1.output("ls", "-l", f"{PVE}/work")
    assert "-rw-r----- 1 root www-data" in listing
    assert "drwxr-xr-x 2 root www-data" in listing
    assert n1.run("rmdir", f"{PVE}/work", check=False).returncode != 0
    n2.run("rm", "-r", f"{PVE}/work")
    for node in cluster.nodes:
        wait_missing(node, f"{PVE}/work")
    wait_equal_rows(cluster.nodes)


def test_large_file(cluster):
    n1, n2, _ = cluster.nodes
    data = os.urandom(512 * 1024).hex()  # 1 MiB of text: the most there is
    n1.write(f"{PVE}/large", data)
    wait_content(n2, f"{PVE}/large", data)
    assert error_of_write(n1, f"{PVE}/large", "a") == errno.EFBIG
    n2.run("rm", f"{PVE}/large")


def test_links_and_virtual_files(cluster):
    for node in cluster.nodes:
        assert node.output("readlink", f"{PVE}/local").strip() \
            == f"nodes/{node.name}"
        assert node.output("readlink", f"{PVE}/lxc").strip() \
            == f"nodes/{node.name}/lxc"
    n1, _, n3 = cluster.nodes
    n3.write(f"{PVE}/nodes/n2/lxc/4711.conf", "arch: amd64\n")
    expected = {"node": "n2", "type": "lxc"}

    def listed():
        ids = json.loads(n1.read(f"{PVE}/.vmlist"))["ids"]
        return ids.get("4711", {}).items() >= expected.items()

    wait_for(listed, 10, "4711 is not in .vmlist of n1")
    n1.run("rm", f"{PVE}/nodes/n2/lxc/4711.conf")
    version = json.loads(n1.read(f"{PVE}/.version"))
    assert version["starttime"] > 0

    def members_complete():
        members = json.loads(n1.read(f"{PVE}/.members"))
        nodes = members.get("nodelist", {})
        return members["nodename"] == "n1" \
            and members["cluster"]["quorate"] == 1 \
            and all(nodes.get(n.name, {}).get("online") == 1
                    and nodes[n.name].get("ip") == n.address
                    for n in cluster.nodes)

    wait_for(members_complete, 15, lambda: ".members of n1: "
             + n1.read(f"{PVE}/.members"))


def test_one_ctid_once(cluster):
    n1, n2, n3 = cluster.nodes
    path = f"{PVE}/nodes/%s/lxc/200.conf"
    n1.write(path % "n1", "arch: amd64\n")
    wait_content(n2, path % "n1", "arch: amd64\n")
    assert error_of_write(n2, path % "n2") == errno.EEXIST
    n2.write(f"{PVE}/other", "arch: amd64\n")
    assert n2.run("mv", f"{PVE}/other", path % "n2",
                  check=False).returncode != 0
    # Moving it is no duplicate, and done from anywhere.
    n3.run("mv", path % "n1", path % "n2")
    wait_content(n1, path % "n2", "arch: amd64\n")
    n1.run("rm", path % "n2", f"{PVE}/other")
    n1.run("sh", "-c", 'echo >"$0"', path % "n1")
    n1.run("rm", path % "n1")


def test_killed_daemon_loses_nothing(cluster):
    n1, n2, n3 = cluster.nodes
    for number in range(50):
        n2.write(f"{PVE}/kept-{number}", f"{number}\n")
    n2.kill("pmxcfs")
    assert not n2.ok("test", "-e", f"{PVE}/kept-1")
    n1.write(f"{PVE}/meanwhile", "yes\n")
    n2.start("pmxcfs")
    for number in range(50):
        assert n2.read(f"{PVE}/kept-{number}") == f"{number}\n"
    wait_content(n2, f"{PVE}/meanwhile", "yes\n")
    cluster.wait_writable(n2)
    n2.write(f"{PVE}/after", "yes\n")
    wait_content(n3, f"{PVE}/after", "yes\n")
    n1.run("sh", "-c", "rm /etc/pve/kept-* /etc/pve/meanwhile /etc/pve/after")
    wait_equal_rows(cluster.nodes)


def test_killed_while_others_write(cluster):
    """kill -9 at any moment, under load from another node."""
    n1, n2, _ = cluster.nodes
    writer = n1.popen(
        "sh", "-c", "i=0; while [ $i -lt 300 ]; do i=$((i+1)); "
        "echo $i >/etc/pve/load-$((i % 20)) || exit 1; done")
    for _ in range(3):
        n2.kill("pmxcfs")
        n2.start("pmxcfs")
    assert writer.wait(120) == 0
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)
    n1.run("sh", "-c", "rm /etc/pve/load-*")


def test_clean_stop_and_start(cluster):
    n3 = cluster["n3"]
    n3.write(f"{PVE}/before-stop", "yes\n")
    n3.stop("pmxcfs")
    assert "/etc/pve" not in n3.output("sh", "-c", "mount -t fuse")
    database = n3.on_disk("/var/lib/pve-cluster/config.db")
    assert not database.with_name("config.db-wal").exists()
    n3.start("pmxcfs")
    assert n3.read(f"{PVE}/before-stop") == "yes\n"
    cluster.wait_writable(n3)
    n3.run("rm", f"{PVE}/before-stop")


# row: 10/event/link-cut
def test_cut_off_node(cluster):
    n1, n2, n3 = cluster.nodes
    n1.write(f"{PVE}/common", "old\n")
    wait_content(n3, f"{PVE}/common", "old\n")
    cluster.cut(["n3"])
    wait_for(lambda: not n3.is_writable(), 30, "n3 still feels quorate")
    assert error_of_write(n3, f"{PVE}/refused") == errno.EACCES
    assert error_of_write(n3, f"{PVE}/common") == errno.EACCES
    assert n3.run("rm", f"{PVE}/common", check=False).returncode != 0
    assert n3.read(f"{PVE}/common") == "old\n"
    wait_for(lambda: n1.quorum()[1] == ["n1", "n2"], 30,
             "n1 still waits for n3")
    cluster.wait_writable(n1)
    n1.write(f"{PVE}/common", "new\n")
    wait_content(n2, f"{PVE}/common", "new\n")
    assert n3.read(f"{PVE}/common") == "old\n"
    cluster.heal()
    cluster.wait_quorate()
    wait_content(n3, f"{PVE}/common", "new\n")
    assert not n3.ok("test", "-e", f"{PVE}/refused")
    n3.run("rm", f"{PVE}/common")
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)


def test_cut_while_writing(cluster):
    """Writers on both sides at the moment of the cut; one tree in the end."""
    writers = {node: node.popen(
        "sh", "-c", 'for i in $(seq 200); do echo $i >"$0" || :; done',
        f"{PVE}/cut-{node.name}", stderr=subprocess.DEVNULL)
        for node in cluster.nodes}
    wait_for(lambda: cluster["n1"].ok("test", "-s", f"{PVE}/cut-n3"), 10,
             "the writers do not write")
    cluster.cut(["n2"])
    for writer in writers.values():
        writer.wait(120)
    cluster.heal()
    cluster.wait_quorate()
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)
    cluster["n1"].run("sh", "-c", "rm -f /etc/pve/cut-n*")


def test_emptied_node_gets_everything(cluster):
    n1, _, n3 = cluster.nodes
    n1.run("mkdir", "-p", f"{PVE}/priv/keys")
    n1.write(f"{PVE}/priv/keys/k", "secret\n")
    n1.write(f"{PVE}/everything", "all\n")
    n3.stop("pmxcfs")
    for path in n3.on_disk("/var/lib/pve-cluster").glob("config.db*"):
        path.unlink()
    n3.start("pmxcfs")
    wait_content(n3, f"{PVE}/everything", "all\n", 30)
    wait_content(n3, f"{PVE}/priv/keys/k", "secret\n")
    cluster.wait_in_sync()
    wait_equal_rows(cluster.nodes)
    n3.run("rm", "-r", f"{PVE}/priv/keys", f"{PVE}/everything")


def test_corosync_killed_and_started(cluster):
    n2 = cluster["n2"]
    n2.write(f"{PVE}/readable", "yes\n")
    n2.kill("corosync")
    wait_for(lambda: not n2.is_writable(), 20, "n2 still feels quorate")
    assert error_of_write(n2, f"{PVE}/readable") == errno.EACCES
    assert n2.read(f"{PVE}/readable") == "yes\n"
    n2.start("corosync")
    cluster.wait_quorate()
    n2.run("rm", f"{PVE}/readable")
    cluster.wait_in_sync()


def test_two_hundred_files_from_each_of_three(cluster):
    script = ('mkdir "$0" && cd "$0" && for i in $(seq 200); do '
              'echo "$HOSTNAME $i" >file-$i || exit 1; done')
    barrier = threading.Barrier(3)

    def create(node):
        process = node.popen("bash", "-c", "read -r; " + script,
                             f"{PVE}/many-{node.name}",
                             stdin=subprocess.PIPE)
        barrier.wait()
        process.communicate("go\n", timeout=180)
        return process.returncode

    assert in_parallel(create, cluster.nodes) == [0, 0, 0]
    cluster.wait_in_sync()
    dump = wait_equal_rows(cluster.nodes)
    assert sum("|file-" in line for line in dump.splitlines()) == 600
    for node in cluster.nodes:
        for writer in cluster.nodes:
            names = node.output("ls", f"{PVE}/many-{writer.name}").split()
            assert len(names) == 200
            assert node.read(f"{PVE}/many-{writer.name}/file-77") \
                == f"{writer.name} 77\n"
    in_parallel(lambda node: node.run(
        "rm", "-r", f"{PVE}/many-{node.name}"), cluster.nodes)


def test_database_is_the_reference_schema(cluster):
    path = cluster["n1"].on_disk("/var/lib/pve-cluster/config.db")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        columns = [row[1] for row in database.execute(
            "PRAGMA table_info(tree)")]
        record = database.execute(
            "SELECT parent, type, name FROM tree WHERE inode = 0").fetchone()
    assert columns == ["inode", "parent", "version", "writer", "mtime",
                       "type", "name", "data"]
    assert record == (0, 8, "__version__")
    assert oct(path.stat().st_mode & 0o777) == "0o600"


def test_whole_cluster_crashes_and_comes_back(cluster):
    n1 = cluster["n1"]
    n1.write(f"{PVE}/survivor", "yes\n")
    for node in cluster.nodes:
        wait_content(node, f"{PVE}/survivor", "yes\n")
    in_parallel(lambda node: node.destroy_world(), cluster.nodes)
    cluster.up()
    for node in cluster.nodes:
        assert node.read(f"{PVE}/survivor") == "yes\n"
    n1.run("rm", f"{PVE}/survivor")
