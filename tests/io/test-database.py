"""Whatever happens to the database, the daemon starts and loses nothing.

spec/filesystem.md 1.6, W1, W19, W20. Run by test-database.sh in a mount
namespace of its own. Speaks TAP.
"""

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

from localworld import (DATABASE, LOG, PVE, STATE, Daemon, make_world, rows,
                        run_tests, wait_for)

PROGRAM, TOOL = sys.argv[1:3]
ROUNDS = int(os.environ.get("KILL_ROUNDS", "200"))
WRITERS = 4

daemon = Daemon(PROGRAM)
tests = []


def test(function):
    tests.append(function)
    return function


def tool(*words, status=0):
    done = subprocess.run([TOOL, *map(str, words)], text=True, timeout=60,
                          capture_output=True)
    assert done.returncode == status, done
    return done.stdout


def execute(*statements):
    with contextlib.closing(sqlite3.connect(DATABASE)) as db:
        for statement in statements:
            db.execute(statement)
        db.commit()


def forget_aside():
    for path in STATE.glob("config.db.*"):
        path.unlink() if path.is_file() else shutil.rmtree(path)


def aside():
    return sorted(p.name for p in STATE.glob("config.db.corrupt-*"))


def logged_since(offset):
    return LOG.read_text()[offset:]


def insert(inode, parent, version, kind, name, data="NULL"):
    return (f"INSERT INTO tree VALUES ({inode}, {parent}, {version}, 0, 0, "
            f"{kind}, '{name}', {data})")


def fill():
    for directory in ("nodes/n1/lxc", "nodes/n1/qemu-server", "nodes/n2"):
        (PVE / directory).mkdir(parents=True, exist_ok=True)
    (PVE / "nodes/n1/lxc/100.conf").write_text("arch: amd64\n")
    (PVE / "kept").write_text("kept\n")


def rows_schema():
    with contextlib.closing(sqlite3.connect(f"file:{DATABASE}?mode=ro",
                                            uri=True)) as db:
        return db.execute("SELECT sql FROM sqlite_master").fetchone()[0]


def inode_of(name):
    return next(row[0] for row in rows() if row[6] == name)


# What 1.6 lists: how it comes about, what is said, what is gone then.

def damage_rows(*statements):
    return lambda: execute(*statements)


def not_sqlite():
    DATABASE.write_bytes(b"no database" * 1000)


def a_directory():
    DATABASE.unlink()
    DATABASE.mkdir()
    (DATABASE / "x").write_text("x")


def second_name():
    execute(insert(901, 0, 1, 8, "kept", "'old'"))


def second_guest():
    execute(insert(902, inode_of("qemu-server"), 1, 8, "100.conf", "'old'"))


def file_as_guest_folder():
    execute(insert(903, inode_of("n2"), 900, 8, "lxc"))


def below_a_file():
    execute(insert(904, inode_of("kept"), 900, 8, "below"))


KINDS = [
    (not_sqlite, "file is not a database", True),
    (a_directory, "is no regular file", True),
    (damage_rows(insert(905, 77777, 900, 8, "orphan")),
     "set aside: missing directory inode", False),
    (second_name, "set aside: found entry with duplicate name", False),
    (damage_rows(insert(906, 0, 900, 5, "odd")),
     "set aside: inode has unknown type 5", False),
    (damage_rows(insert(907, 0, 900, 4, "full", "x'00'")),
     "kept without its data: directory inode contains data", False),
    (damage_rows(insert(908, 0, 900, 8, "")),
     "set aside: inode has no name", False),
    (damage_rows("UPDATE tree SET name = 'other' WHERE inode = 0"),
     "root inode has unexpected name", False),
    (below_a_file, "set aside: parent is not a directory", False),
    (second_guest, "set aside: detected duplicate VMID 100", False),
    (file_as_guest_folder, "a regular file where the guests' directory",
     False),
    (damage_rows(insert(909, 910, 900, 4, "a"), insert(910, 909, 900, 4, "b")),
     "cannot be reached from the root", False),
    (damage_rows(insert(911, 0, 900, 8, "a/b"), insert(912, 0, 900, 4, "..")),
     "has a name that no path can hold", False),
    (damage_rows("DELETE FROM tree WHERE inode = 0"),
     "no version record: counting goes on at", False),
    (damage_rows("UPDATE tree SET version = 3 WHERE inode = 0"),
     "is below what is in it: raised to", False),
]


def check_kind(damage, words, is_lost):
    daemon.stop()
    forget_aside()
    DATABASE.unlink()
    daemon.start("-l")
    fill()
    daemon.stop()
    damage()
    before = DATABASE.read_bytes() if DATABASE.is_file() else None
    offset = len(LOG.read_text())
    daemon.start("-l")
    text = logged_since(offset)
    assert text.count(words) >= 1, text
    assert len(aside()) == 1, (aside(), text)
    kept = STATE / aside()[0]
    assert str(kept) in text, text
    assert kept.is_dir() if before is None else kept.read_bytes() == before
    if is_lost:
        assert not (PVE / "kept").exists()
    else:
        assert (PVE / "kept").read_text() == "kept\n"
        assert (PVE / "nodes/n1/lxc/100.conf").read_text() == "arch: amd64\n"
    # It works, gives no number twice, and is whole from now on.
    (PVE / "after").write_text("after\n")
    (PVE / "more").mkdir()
    inodes = [row[0] for row in rows()]
    assert len(inodes) == len(set(inodes))
    top = next(row[2] for row in rows() if row[0] == 0)
    assert all(row[0] <= top and row[2] <= top for row in rows()), rows()
    offset = len(LOG.read_text())
    daemon.kill()
    tool("check")
    daemon.start("-l")
    assert "set aside" not in logged_since(offset)
    assert len(aside()) == 1
    assert (PVE / "after").read_text() == "after\n"


# row: 1.1/database-unusable (better than the reference: it is mended)
@test
def bad_content_of_every_kind():
    for damage, words, is_lost in KINDS:
        try:
            check_kind(damage, words, is_lost)
        except BaseException:
            print(f"# kind: {words}")
            raise


@test
def a_log_beside_bad_content_is_kept():
    daemon.stop()
    forget_aside()
    DATABASE.unlink()
    daemon.start("-l")
    fill()
    daemon.kill()
    assert (STATE / "config.db-wal").stat().st_size > 0
    program = ("import sqlite3, os\n"
               f"db = sqlite3.connect('{DATABASE}')\n"
               f"db.execute(\"{insert(950, 77777, 900, 8, 'orphan')}\")\n"
               "db.commit()\n"
               "os._exit(0)\n")
    subprocess.run([sys.executable, "-c", program], check=True)
    log = (STATE / "config.db-wal").read_bytes()
    daemon.start("-l")
    name = aside()[0].removesuffix("-wal")
    assert (STATE / f"{name}-wal").read_bytes() == log
    assert (PVE / "kept").read_text() == "kept\n"
    # The copy is a database with all that was in it.
    assert "name = 'orphan'" in tool("check", "-d", STATE / name, status=1)


@test
def a_start_that_was_cut_off():
    """Between the old file's going and the new one's coming."""
    daemon.stop()
    forget_aside()
    fresh = STATE / "config.db.new"
    shutil.copy(DATABASE, fresh)
    daemon.start("-l")  # never began: the old one counts
    assert not fresh.exists()
    daemon.stop()
    DATABASE.rename(fresh)
    daemon.start("-l")
    assert (PVE / "kept").read_text() == "kept\n"
    assert not fresh.exists()


# W1 ---------------------------------------------------------------------

def sync(path):
    fd = os.open(path, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)


@test
def the_log_is_removed_under_the_daemon():
    for name in ("first", "second"):
        (PVE / f"before-{name}").write_text("b\n")
        (STATE / "config.db-wal").unlink()
        (PVE / f"after-{name}").write_text("a\n")
        sync(PVE / f"after-{name}")
        daemon.kill()
        daemon.start("-l")
        assert (PVE / f"before-{name}").read_text() == "b\n"
        assert (PVE / f"after-{name}").read_text() == "a\n"
    assert "anew, nothing was lost" in LOG.read_text()


@test
def another_log_in_its_place():
    (PVE / "before-other").write_text("b\n")
    log = STATE / "config.db-wal"
    log.unlink()
    log.write_bytes(b"something else" * 1000)
    (PVE / "after-other").write_text("a\n")
    sync(PVE)
    daemon.kill()
    daemon.start("-l")
    assert (PVE / "before-other").read_text() == "b\n"
    assert (PVE / "after-other").read_text() == "a\n"


@test
def everything_is_removed_and_nobody_writes():
    for path in STATE.glob("config.db*"):
        path.unlink()
    wait_for(lambda: DATABASE.exists()
             and (STATE / "config.db-wal").exists(), "new database")
    daemon.kill()
    daemon.start("-l")
    assert (PVE / "after-other").read_text() == "a\n"


@test
def another_database_in_its_place():
    daemon.stop()
    shutil.copy(DATABASE, "/run/old.db")
    daemon.start("-l")
    (PVE / "newer").write_text("n\n")
    os.rename(shutil.copy("/run/old.db", STATE / "put.db"), DATABASE)
    (PVE / "newest").write_text("n\n")
    sync(PVE)
    assert list(STATE.glob("config.db.replaced-*"))
    daemon.kill()
    daemon.start("-l")
    assert (PVE / "newer").read_text() == (PVE / "newest").read_text() == "n\n"


@test
def removed_before_a_clean_stop():
    (PVE / "last").write_text("l\n")
    for path in STATE.glob("config.db*"):
        path.unlink()
    daemon.stop()
    daemon.start("-l")
    assert (PVE / "last").read_text() == "l\n"


# The tool ---------------------------------------------------------------

@test
def the_tool_leaves_a_live_database_alone():
    files = {p.name: p.stat().st_ino for p in STATE.glob("config.db*")}
    assert "config.db-wal" in files
    (PVE / "seen").write_text("seen\n")
    assert tool("cat", "seen") == "seen\n"
    assert "seen\n" in tool("ls")
    tool("check")
    first = tool("digest")
    (PVE / "seen").write_text("again\n")
    assert tool("digest") != first
    assert "'seen'" in tool("dump")
    for copy in ("/run/copy.db", "/run/repaired.db"):
        Path(copy).unlink(missing_ok=True)
    tool("backup", "/run/copy.db")
    tool("repair", "/run/repaired.db")
    assert tool("diff", DATABASE, "/run/copy.db") == ""
    assert tool("diff", DATABASE, "/run/repaired.db") == ""
    tool("extract", "/run/extracted")
    assert Path("/run/extracted/seen").read_text() == "again\n"
    names = {p.relative_to("/run/extracted")
             for p in Path("/run/extracted").rglob("*")}
    assert Path("nodes/n1/lxc/100.conf") in names
    # What would write is refused.
    tool("restore", "/run/copy.db", status=2)
    tool("create", "/run/extracted", status=2)
    assert {p.name: p.stat().st_ino
            for p in STATE.glob("config.db*")} == files
    (PVE / "unseen").write_text("x\n")
    assert "+ unseen" in tool("diff", "/run/copy.db", DATABASE, status=1)
    daemon.kill()
    daemon.start("-l")
    assert (PVE / "unseen").read_text() == "x\n"


@test
def digests_are_those_of_the_reference():
    """The second vector of spec/filesystem.md 3."""
    path = Path("/run/vector.db")
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(rows_schema())
        db.execute("INSERT INTO tree VALUES "
                   "(0, 0, 3, 0, 1234, 8, '__version__', NULL)")
        db.execute("INSERT INTO tree VALUES "
                   "(2, 0, 3, 0, 1234, 8, 'f', x'68656c6c6f')")
        db.commit()
    lines = dict(line.split() for line in
                 tool("digest", "-d", path).splitlines())
    assert lines["index"] == ("af83bd670d1b68760551a7cda725b723c7ae5d6cd494a4b8"
                              "d6f16b67dc83db6a"), lines
    assert lines["checksum"] == ("323056c208f8899b23198aacd4fc689857c7854538bf1"
                                 "e4a1c4908a00dd4bca2"), lines
    # What is dumped makes the same database.
    copy = Path("/run/vector-copy.db")
    with contextlib.closing(sqlite3.connect(copy)) as db:
        db.executescript(tool("dump", "-d", path))
    tool("diff", path, copy)
    assert rows(path) == rows(copy)


@test
def a_database_made_of_a_folder():
    folder, path = Path("/run/folder"), Path("/run/folder.db")
    (folder / "left-out").mkdir(parents=True)
    (folder / "b").write_text("b\n")
    (folder / "a").write_text("")
    assert "version 4, 2 entries, 2 bytes" in tool("create", "-d", path, folder)
    got = [(i, p, v, w, k, n, d) for i, p, v, w, _, k, n, d in rows(path)]
    assert got == [(0, 0, 4, 0, 8, "__version__", None),
                   (2, 0, 2, 0, 8, "a", None),
                   (3, 0, 4, 0, 8, "b", b"b\n")], got
    tool("create", "-d", path, folder, status=2)
    tool("check", "-d", "/run/nothing.db", status=2)
    tool("frobnicate", status=255)


@test
def terms_go_where_a_copy_goes():
    folder, path = Path("/run/term-folder"), Path("/run/terms.db")
    folder.mkdir()
    (folder / "a").write_text("a")
    tool("create", "-d", path, folder)
    assert "cluster id" not in tool("check", "-d", path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute("CREATE TABLE pmxcfs_terms (id INTEGER PRIMARY KEY, term, "
                   "seen, acked, cluster, version, history)")
        db.execute("INSERT INTO pmxcfs_terms VALUES (0, 7, 8, 2, 9, 3, x'')")
        db.commit()
    known = "term 7, known safe up to version 2, cluster id 0000000000000009"
    assert known in tool("check", "-d", path)
    assert "pmxcfs_terms VALUES(0,7,8,2,9,3,X'')" in tool("dump", "-d", path)
    tool("backup", "-d", path, "/run/terms-copy.db")
    tool("restore", "-d", "/run/terms-back.db", "/run/terms-copy.db")
    assert known in tool("check", "-d", "/run/terms-back.db")
    assert tool("diff", path, "/run/terms-back.db") == ""
    # What had to be repaired is no more as the cluster knew it.
    tool("repair", "-d", path, "/run/terms-new.db")
    assert "cluster id" not in tool("check", "-d", "/run/terms-new.db")
    assert "~ term (7 of" in tool("diff", path, "/run/terms-new.db", status=1)


@test
def a_backup_is_restored():
    daemon.stop()
    tool("restore", "/run/copy.db")
    assert list(STATE.glob("config.db.before-restore-*"))
    # Without a log beside it the database is read without leaving one.
    tool("ls", "-lR")
    assert not (STATE / "config.db-wal").exists()
    daemon.start("-l")
    assert (PVE / "seen").read_text() == "again\n"
    assert not (PVE / "unseen").exists()


@test
def a_start_on_a_full_disk():
    """Reads work; writes do as soon as there is room, without a restart."""
    (PVE / "on-full-disk").write_text("x\n")
    daemon.stop()
    forget_aside()
    used = sum(p.stat().st_size for p in STATE.iterdir())
    resize(f"{(used // 4096 + 16) * 4096}")
    try:
        filler = os.open(STATE / "filler", os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(filler, bytes(4096))
        os.close(filler)
        daemon.start("-l")
        assert (PVE / "on-full-disk").read_text() == "x\n"
        wait_for(lambda: error_of_write("refused") == errno.ENOSPC, "ENOSPC")
        resize("64m")
        wait_for(lambda: error_of_write("accepted") == 0, "recovery")
        sync(PVE / "accepted")
        daemon.kill()
        daemon.start("-l")
        assert (PVE / "on-full-disk").read_text() == "x\n"
        assert (PVE / "accepted").read_text() == "y\n"
    finally:
        resize("1g")
        (STATE / "filler").unlink()


def resize(size):
    subprocess.run(["mount", "-o", f"remount,size={size}", str(STATE)],
                   check=True)


def error_of_write(name):
    try:
        (PVE / name).write_text("y\n")
    except OSError as error:
        return error.errno
    return 0


# kill -9 ----------------------------------------------------------------

class Writer(threading.Thread):
    """Writes numbers and notes what an fsync covered."""

    def __init__(self, name):
        super().__init__(daemon=True)
        self.folder = PVE / name
        self.stable = 0
        self.made = []  # files that an fsync covered
        self.go = threading.Event()
        self.is_idle = threading.Event()
        self.has_ended = False
        self.failure = None

    def write_one(self):
        number = self.stable + 1
        fd = os.open(self.folder / "number", os.O_WRONLY | os.O_CREAT)
        try:
            os.pwrite(fd, b"%08d" % number, 0)
            os.fsync(fd)
        finally:
            os.close(fd)
        self.stable = number
        if number % 5 == 0:
            path = self.folder / f"made-{number}"
            path.with_suffix(".tmp").write_text(str(number))
            path.with_suffix(".tmp").rename(path)
            sync(self.folder)
            self.made.append((path, str(number)))
        if len(self.made) > 20:
            path, _ = self.made.pop(0)
            path.unlink()

    def run(self):
        while True:
            self.go.wait()
            if self.has_ended:
                return
            try:
                self.write_one()
            except OSError:
                # The daemon is gone.
                self.go.clear()
                self.is_idle.set()
            except Exception as error:  # pylint: disable=broad-except
                self.failure = error
                self.is_idle.set()
                return

    def check(self):
        assert self.failure is None, self.failure
        number = int((self.folder / "number").read_text() or 0)
        assert number in (self.stable, self.stable + 1), \
            f"{self.folder}: {number} is there, {self.stable} was stable"
        for path, text in self.made:
            assert path.read_text() == text, path
        self.stable = number


@test
def kill_9_at_random_moments():
    seed = int(os.environ.get("KILL_SEED", random.randrange(1 << 30)))
    print(f"# {ROUNDS} rounds, KILL_SEED={seed}", flush=True)
    chance = random.Random(seed)
    writers = [Writer(f"kill-{i}") for i in range(WRITERS)]
    for writer in writers:
        writer.folder.mkdir()
        (writer.folder / "number").write_text("%08d" % 0)
        sync(writer.folder)
        writer.start()
    writes, longest = 0, 0.0
    for number in range(ROUNDS):
        for writer in writers:
            writer.is_idle.clear()
            writer.go.set()
        time.sleep(chance.uniform(0, 0.1))
        daemon.kill()
        for writer in writers:
            assert writer.is_idle.wait(30), f"round {number}: a writer hangs"
        start = time.monotonic()
        daemon.start("-l")
        longest = max(longest, time.monotonic() - start)
        for writer in writers:
            writer.check()
        if number % 20 == 0:
            tool("check")
    for writer in writers:
        writes += writer.stable
        writer.has_ended = True
        writer.go.set()
        writer.join(30)
    print(f"# {writes} stable writes, longest start {longest * 1000:.0f} ms",
          flush=True)
    assert writes > ROUNDS
    assert not aside()


if __name__ == "__main__":
    make_world()
    sys.exit(run_tests(daemon, tests))
