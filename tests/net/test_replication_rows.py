"""The conformance checklist of the protocol, on real corosync with our nodes.

A row of the table below is one scenario; its number is that of the list in
docs of the protocol (Conformance checklist). What another test has already:

     1, 14, 15   test_files: fresh cluster, large_file, two_hundred_files
    17           test_daemon: corosync_killed_and_started_again (and here)
    25           test_locks
    28, 29       test_status
    30           test_corosync_conf
    22 - 24, 26, 31, 32   what no node of ours sends: tests/sim, tests/unit
"""

import contextlib
import re
import sqlite3
import subprocess
import time

import pytest

from cluster import in_parallel, wait_for
from clustertest import (make_cluster, take_down, wait_content,
                         wait_equal_rows, wait_missing)

PVE = "/etc/pve"
STATE = "/var/lib/pve-cluster"
SYSLOG = "/var/log/syslog"
PYTHON = "/usr/bin/python3"

CONTEST = r"""
import os, sys, time
top, count, start = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
while time.monotonic() < start:
    time.sleep(0.001)
won = []
for i in range(count):
    for kind in ("dir", "file"):
        path = f"{top}/{kind}-{i}"
        try:
            if kind == "dir":
                os.mkdir(path)
            else:
                os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        won.append(f"{kind}-{i}")
print(*won)
"""

# Prints the errno of each round, and the longest, until told to end.
LOOP = r"""
import os, sys, time
path, longest, errors = sys.argv[1], 0, set()
fd = os.open(path, os.O_WRONLY | os.O_CREAT)
print("ready", flush=True)
os.set_blocking(0, False)
while True:
    begin = time.monotonic()
    try:
        os.pwrite(fd, b"%020d" % time.monotonic_ns(), 0)
    except OSError as error:
        errors.add(error.errno)
    longest = max(longest, time.monotonic() - begin)
    try:
        if os.read(0, 1) == b"":
            break
    except BlockingIOError:
        pass
    time.sleep(0.002)
print(longest, *sorted(errors))
"""


class Writer:
    """Rewrites a file on a node, for as long as the block lasts."""

    def __init__(self, node, path):
        self.process = node.popen(PYTHON, "-c", LOOP, path,
                                  stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE)

    def __enter__(self):
        assert self.process.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_):
        out, _ = self.process.communicate(timeout=60)
        longest, *errors = out.split()
        self.longest_s = float(longest)
        self.errors = {int(error) for error in errors}


class Log:
    """What a node logs from now on."""

    def __init__(self, node):
        self.node = node
        self.path = node.on_disk(SYSLOG)
        self.start = self.path.stat().st_size

    def text(self):
        with self.path.open("rb") as log:
            log.seek(self.start)
            return log.read().decode(errors="replace")

    def wait(self, words, timeout_s=30):
        wait_for(lambda: words in self.text(), timeout_s,
                 lambda: str(self.node.fail(f"'{words}' is not logged",
                                            SYSLOG)))


@pytest.fixture(scope="module")
def module_cluster():
    cluster = make_cluster("rows", 4)
    yield cluster
    take_down(cluster)


@pytest.fixture
def four(cluster):
    """Whole before and after, whatever a row leaves."""
    yield cluster
    for node in cluster.nodes:
        for name in ("corosync", "pmxcfs"):
            if node.daemon_pid(name) is not None:
                node.kill(name, "CONT")
    cluster.heal()
    cluster.up()
    cluster.nodes[0].run("sh", "-c", f"rm -rf {PVE}/row*")


def wipe(node):
    for path in node.on_disk(STATE).glob("config.db*"):
        path.unlink()


def count_of_rows(node):
    path = node.on_disk(f"{STATE}/config.db")
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as database:
        return database.execute("SELECT count(*) FROM tree").fetchone()[0]


def fill(node, count, size):
    """count files of size bytes; returns the last one's path."""
    node.run("sh", "-ec", f"mkdir -p {PVE}/row; for i in $(seq {count}); do "
             f"dd if=/dev/urandom of={PVE}/row/f$i bs={size} count=1 "
             "2>/dev/null; done", timeout=300)
    return f"{PVE}/row/f{count}"


def settle(cluster, nodes=None):
    cluster.wait_quorate()
    cluster.wait_in_sync()
    return wait_equal_rows(nodes or cluster.nodes)


# ---- joining ---------------------------------------------------------------

def join_empty(four):
    """Row 2. The others pause for the exchange of states alone."""
    n1, n4 = four["n1"], four["n4"]
    last = fill(n1, 300, 20000)
    wait_for(lambda: n4.ok("test", "-s", last), 20, "n4 does not get it")
    n4.stop("pmxcfs")
    wipe(n4)
    log = Log(n4)
    n1.write(f"{PVE}/row/loop", "")
    with Writer(n1, f"{PVE}/row/loop") as writer:
        n4.start("pmxcfs")
        log.wait("update complete")
        four.wait_writable(n4)
    assert writer.errors == set()
    assert f"got {count_of_rows(n1)} inode updates" in log.text()
    print(f"the longest write elsewhere took {writer.longest_s:.3f} s")
    assert writer.longest_s < 5
    settle(four)


def join_older(four):
    """Row 3. Four updates: the root and what changed; a removal is none."""
    n1, n4 = four["n1"], four["n4"]
    n1.run("mkdir", f"{PVE}/row")
    for name in ("deleted", "changed", "renamed"):
        n1.write(f"{PVE}/row/{name}", name)
    settle(four)
    n4.stop("pmxcfs")
    log = Log(n4)
    n1.run("rm", f"{PVE}/row/deleted")
    n1.write(f"{PVE}/row/changed", "new")
    n1.write(f"{PVE}/row/created", "new")
    n1.run("mv", f"{PVE}/row/renamed", f"{PVE}/row/moved")
    n4.start("pmxcfs")
    log.wait("(got 4 inode updates)")
    settle(four)
    wait_missing(n4, f"{PVE}/row/deleted")


def join_identical(four):
    """Row 4. Nothing is sent, nobody waits for updates."""
    settle(four)
    logs = [Log(node) for node in four.nodes]
    four["n4"].stop("pmxcfs")
    four["n4"].start("pmxcfs")
    for log in logs:
        log.wait("all data is up to date")
    settle(four)
    assert any("sent all (0) updates" in log.text() for log in logs)
    assert not any("waiting for updates" in log.text() for log in logs)


# ---- partitions -------------------------------------------------------------

def cut_and_heal(four):
    """Row 6. Two updates for a changed file: itself and the root."""
    n1, n4 = four["n1"], four["n4"]
    n1.run("mkdir", f"{PVE}/row")
    n1.write(f"{PVE}/row/f", "old")
    settle(four)
    four.cut(["n4"])
    wait_for(lambda: not n4.is_writable(), 30, "n4 still feels quorate")
    assert n4.output("stat", "-c", "%a", f"{PVE}/row/f").strip() == "440"
    four.wait_writable(n1)
    n1.write(f"{PVE}/row/f", "new")
    log = Log(n4)
    four.heal()
    settle(four)
    assert n4.read(f"{PVE}/row/f") == "new"
    assert "(got 2 inode updates)" in log.text()


def write_before_the_cut_is_seen(four):
    """Row 7. It hangs until quorum is lost, and is applied nowhere."""
    n1, n4 = four["n1"], four["n4"]
    settle(four)
    four.cut(["n4"])
    print("seen already:", not n4.is_writable())
    late = n4.popen("mkdir", f"{PVE}/row-late", stderr=subprocess.PIPE)
    _, err = late.communicate(timeout=60)
    assert "Permission denied" in err
    assert not n4.ok("test", "-e", f"{PVE}/row-late")
    four.heal()
    settle(four)
    for node in (n1, n4):
        assert not node.ok("test", "-e", f"{PVE}/row-late")


# ---- two copies that went apart: terms decide, not who counted more ---------

def kept_aside(node, name):
    """Whether what a merge overruled there is in the recovery folder."""
    return list(node.on_disk(f"{STATE}/recovery").glob(f"*/tree/{name}"))


def join_edited_offline(four):
    """Row 5. The reference lets the higher version win, and loses what the
    majority did."""
    n1, n4 = four["n1"], four["n4"]
    settle(four)
    n4.stop("pmxcfs")
    database = n4.on_disk(f"{STATE}/config.db")
    with contextlib.closing(sqlite3.connect(database)) as edited:
        version = edited.execute("SELECT version FROM tree WHERE inode = 0"
                                 ).fetchone()[0] + 1000
        edited.execute("UPDATE tree SET version = ? WHERE inode = 0",
                       (version,))
        edited.execute("INSERT INTO tree VALUES (?, 0, ?, 4, 9, 8, "
                       "'row-offline', 'x')", (version, version))
        edited.commit()
    n1.write(f"{PVE}/row-majority", "kept\n")
    n4.start("pmxcfs")
    settle(four)
    assert n4.read(f"{PVE}/row-majority") == "kept\n"
    assert not n1.ok("test", "-e", f"{PVE}/row-offline")
    wait_for(lambda: kept_aside(n4, "row-offline"), 10, "it is not kept")


def forced_minority(four, more):
    n1, n4 = four["n1"], four["n4"]
    n1.write(f"{PVE}/row-conflict", "old\n")
    settle(four)
    four.cut(["n4"])
    wait_for(lambda: not n4.is_writable(), 30, "n4 still feels quorate")
    four.wait_writable(n1)
    n4.run("corosync-quorumtool", "-e", "1")
    four.wait_writable(n4)
    for node, count in ((n4, 40 if more else 1), (n1, 1 if more else 40)):
        for _ in range(count):
            node.write(f"{PVE}/row-conflict", f"of {node.name}\n")
        node.write(f"{PVE}/row-{node.name}", "own\n")
    n4.stop("corosync")
    four.heal()
    n4.start("corosync")
    settle(four)
    assert n4.read(f"{PVE}/row-conflict") == "of n1\n"
    assert n4.read(f"{PVE}/row-n1") == "own\n"
    assert not n1.ok("test", "-e", f"{PVE}/row-n4")
    for name in ("row-conflict", "row-n4"):
        wait_for(lambda n=name: kept_aside(n4, n), 10, f"{name} is not kept")


def forced_minority_with_more(four):
    """Row 8. The reference lets it win."""
    forced_minority(four, more=True)


def forced_minority_with_fewer(four):
    """Row 9."""
    forced_minority(four, more=False)


# ---- death in the middle ----------------------------------------------------

def prepare_long_join(four):
    """n4 has nothing, the others 30 MiB. Returns n1's last file."""
    n1, n4 = four["n1"], four["n4"]
    last = fill(n1, 60, 512 * 1024)
    settle(four)
    n4.stop("pmxcfs")
    wipe(n4)
    return last


def leader_dies_in_an_update(four):
    """Row 11. The next leader sends everything again."""
    n1, n4 = four["n1"], four["n4"]
    last = prepare_long_join(four)
    sent = Log(n1)
    n4.start("pmxcfs")
    sent.wait("start sending inode updates")
    n1.kill("pmxcfs")
    print("killed " + ("after" if "sent all" in sent.text() else "before")
          + " it had sent all")
    wait_for(lambda: n4.ok("test", "-s", last), 60, "n4 gets no update")
    back = Log(n1)
    n1.start("pmxcfs")
    settle(four)
    # Nothing, or the root alone: a leader may raise its version.
    assert set(re.findall(r"got (\d+) inode", back.text())) <= {"1"}


def joiner_dies_in_an_update(four):
    """Row 12. The others go on; its database is whole, old or new."""
    n1, n4 = four["n1"], four["n4"]
    last = prepare_long_join(four)
    log = Log(n4)
    with Writer(n1, f"{PVE}/row/loop") as writer:
        n4.start("pmxcfs")
        log.wait("waiting for updates")
        n4.kill("pmxcfs")
        print("killed " + ("after" if "update complete" in log.text()
                           else "before") + " the update was complete")
        n4.run("pmxcfs-db", "check")
        n4.start("pmxcfs")
        wait_for(lambda: n4.ok("test", "-s", last), 60, "n4 gets no update")
    assert writer.errors == set()
    settle(four)


# ---- many at once -----------------------------------------------------------

def contests(four):
    """Row 13. 60 directories and 60 files, wanted by three nodes at once."""
    n1 = four["n1"]
    n1.run("mkdir", f"{PVE}/row")
    settle(four)
    start = str(time.monotonic() + 1.5)
    won = in_parallel(lambda node: node.output(
        PYTHON, "-c", CONTEST, f"{PVE}/row", "60", start).split(),
        four.nodes[:3])
    print("won:", *map(len, won))
    assert sorted(sum(won, [])) == sorted(
        f"{kind}-{i}" for kind in ("dir", "file") for i in range(60))
    settle(four)


def thousand_files(four):
    """Row 15, from one node."""
    n1 = four["n1"]
    began = time.monotonic()
    n1.run(PYTHON, "-c", "import os, sys\nos.mkdir(sys.argv[1])\n"
           "for i in range(1000):\n"
           "    open(f'{sys.argv[1]}/{i}', 'w').write(str(i))", f"{PVE}/row")
    print(f"1000 files took {time.monotonic() - began:.2f} s")
    settle(four)


# ---- frozen members ---------------------------------------------------------

def frozen_while_synced(four):
    """Row 18. 60 MiB pass by a frozen member, who catches up."""
    n1, n4 = four["n1"], four["n4"]
    settle(four)
    n4.kill("pmxcfs", "STOP")
    with Writer(four["n2"], f"{PVE}/row-loop") as writer:
        last = fill(n1, 60, 1 << 20)
    print(f"the longest write elsewhere took {writer.longest_s:.3f} s")
    assert writer.errors == set()
    assert writer.longest_s < 5
    n4.kill("pmxcfs", "CONT")
    wait_for(lambda: n4.ok("test", "-s", last), 60, "n4 does not catch up")
    settle(four)


def start_hung(four, names, path="row-hung"):
    """A mkdir on each of these nodes, while a member of a sync is frozen."""
    hung = {name: four[name].popen("mkdir", f"{PVE}/{path}-{name}",
                                   stderr=subprocess.PIPE) for name in names}
    for name in names:
        wait_for(lambda n=name: four[n].ok("pgrep", "-x", "mkdir"), 10,
                 f"no mkdir on {name}")
    return hung


def freeze_and_restart(four):
    """n4 answers no more, and n3 joins anew: all wait for n4."""
    n3, n4 = four["n3"], four["n4"]
    settle(four)
    log = Log(four["n1"])
    n4.kill("pmxcfs", "STOP")
    n3.stop("pmxcfs")
    n3.start("pmxcfs")
    log.wait("starting data syncronisation")


def frozen_in_a_sync(four):
    """Row 19. Writers wait, and then it is done."""
    freeze_and_restart(four)
    hung = start_hung(four, ["n1", "n2"])
    assert all(process.poll() is None for process in hung.values())
    four["n4"].kill("pmxcfs", "CONT")
    assert [process.wait(30) for process in hung.values()] == [0, 0]
    settle(four)


def frozen_and_a_further_join(four):
    """Row 20. What waits is done once: another mkdir would be refused."""
    freeze_and_restart(four)
    hung = start_hung(four, ["n1", "n2"])
    log = Log(four["n1"])
    four["n3"].stop("pmxcfs")
    four["n3"].start("pmxcfs")
    log.wait("starting data syncronisation")
    assert all(process.poll() is None for process in hung.values())
    four["n4"].kill("pmxcfs", "CONT")
    assert [process.wait(30) for process in hung.values()] == [0, 0]
    settle(four)
    for name in hung:
        assert four["n4"].ok("test", "-d", f"{PVE}/row-hung-{name}")


def writer_dies_in_a_sync(four):
    """Row 21. Its change is nowhere, the others' is."""
    freeze_and_restart(four)
    hung = start_hung(four, ["n1", "n2"])
    four["n2"].kill("pmxcfs")
    assert hung["n2"].wait(30) != 0
    four["n4"].kill("pmxcfs", "CONT")
    assert hung["n1"].wait(30) == 0
    four["n2"].start("pmxcfs")
    settle(four)
    for node in four.nodes:
        assert node.ok("test", "-d", f"{PVE}/row-hung-n1")
        assert not node.ok("test", "-e", f"{PVE}/row-hung-n2")


def corosync_dies(four):
    """Row 17. Who waits is told at once, who asks later too."""
    n4 = four["n4"]
    settle(four)
    with Writer(n4, f"{PVE}/row-loop") as writer:
        n4.kill("corosync")
        wait_for(lambda: not n4.is_writable(), 5, "n4 is still writable")
        n4.start("corosync")
        four.wait_quorate()
    assert writer.errors <= {13, 16}  # EACCES, EBUSY
    assert 13 in writer.errors
    settle(four)


# ---- stores ----------------------------------------------------------------

def database_full(four):
    """Row 27. An error on that node alone; it is back without a restart. Its
    disk has small blocks: a page that is mapped may have holes."""
    n1, n4 = four["n1"], four["n4"]
    n1.write(f"{PVE}/row-full", "1")
    settle(four)
    n4.stop("pmxcfs")
    n4.run("sh", "-ec", "truncate -s 96M /root/disk;"
           "mkfs.ext4 -q -b 1024 -O ^has_journal /root/disk;"
           f"cp -a {STATE} /root/old;"
           f"mount -o loop /root/disk {STATE}; cp -a /root/old/. {STATE}/")
    try:
        n4.start("pmxcfs")
        pid = n4.daemon_pid("pmxcfs")
        four.wait_writable(n4)
        log = Log(n4)
        n4.run("dd", "if=/dev/zero", f"of={STATE}/fill", "bs=4k", check=False)
        with Writer(n1, f"{PVE}/row-loop") as other:
            with Writer(n4, f"{PVE}/row-full") as own:
                fill(n1, 40, 50000)
                log.wait("the database cannot be written")
        assert other.errors == set()
        assert own.errors <= {5, 28}  # EIO, ENOSPC
        n4.run("rm", f"{STATE}/fill")
        wait_for(lambda: n4.ok("sh", "-c", f"echo 2 >{PVE}/row-full"), 30,
                 "n4 is not back")
        assert n4.daemon_pid("pmxcfs") == pid
        four.wait_in_sync()
        wait_for(lambda: n1.output("pmxcfs-db", "digest")
                 == n4.output("pmxcfs-db", "digest"), 30, "they differ")
    finally:
        n4.stop("pmxcfs")
        n4.run("sh", "-ec", f"umount {STATE}; rm -rf /root/disk /root/old")
        n4.start("pmxcfs")
    settle(four)


def many_inodes(four):
    """Row 16. One leads who has 30,000 files: its state is in fragments."""
    n1, others = four["n1"], four.nodes[1:]
    settle(four)
    in_parallel(lambda node: node.stop("pmxcfs"), four.nodes)
    in_parallel(wipe, four.nodes)
    n1.run("sh", "-ec", "mkdir /root/many; cd /root/many;"
           "for i in $(seq 30000); do echo $i >$i; done;"
           f"cp /etc/corosync/corosync.conf .; cd; pmxcfs-db create -d "
           f"{STATE}/config.db /root/many; rm -r /root/many", timeout=120)
    logs = [Log(node) for node in others]
    began = time.monotonic()
    n1.start("pmxcfs")
    in_parallel(lambda node: node.start("pmxcfs"), others)
    for log in logs:
        log.wait("update complete", 60)
    for node in others:
        wait_content(node, f"{PVE}/30000", "30000\n", 60)
    print(f"30,000 files were on all nodes after "
          f"{time.monotonic() - began:.1f} s")
    assert "got 30002 inode updates" in logs[-1].text()
    settle(four)


ROWS = [
    (2, join_empty), (3, join_older), (4, join_identical), (6, cut_and_heal),
    (7, write_before_the_cut_is_seen), (5, join_edited_offline),
    (8, forced_minority_with_more), (9, forced_minority_with_fewer),
    (11, leader_dies_in_an_update),
    (12, joiner_dies_in_an_update), (13, contests), (15, thousand_files),
    (17, corosync_dies), (18, frozen_while_synced), (19, frozen_in_a_sync),
    (20, frozen_and_a_further_join), (21, writer_dies_in_a_sync),
    (27, database_full), (16, many_inodes),
]


@pytest.mark.parametrize("scenario", [
    pytest.param(scenario, id=f"{number}-{scenario.__name__}")
    for number, scenario in ROWS])
def test_row(four, scenario):
    scenario(four)
