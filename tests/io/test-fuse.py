"""What the mount answers, operation by operation: spec/filesystem.md 4, 5.

Run by test-fuse.sh in a mount namespace of its own. Speaks TAP.
"""

import contextlib
import ctypes
import errno
import fcntl
import grp
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

from localworld import (LOG, PID_FILE, PVE, TIMEOUT_S, Daemon, make_world,
                        run_tests, wait_for)

PROGRAM = sys.argv[1]
DATABASE = "/var/lib/pve-cluster/config.db"
RESTART_FLAG = Path("/run/pve-cluster/cfs-restart-flag")
LIMIT = 1 << 20
AT_FDCWD = -100
RENAME_NOREPLACE, RENAME_EXCHANGE = 1, 2

libc = ctypes.CDLL(None, use_errno=True)
tests = []


def test(function):
    tests.append(function)
    return function


# The world ------------------------------------------------------------------

daemon = Daemon(PROGRAM)


# What an operation gives ----------------------------------------------------

def result(function, *arguments, **named):
    """0, or the name of the errno."""
    try:
        function(*arguments, **named)
    except OSError as error:
        return errno.errorcode[error.errno]
    return 0


def expect(what, wanted, function, *arguments, **named):
    got = result(function, *arguments, **named)
    assert got == wanted, f"{what}: {got} instead of {wanted}"


def run_table(rows):
    for row in rows:
        expect(*row)


def shell(script):
    done = subprocess.run(["sh", "-e", "-c", script], cwd=PVE, text=True,
                          capture_output=True, timeout=TIMEOUT_S)
    assert done.returncode == 0 and not done.stderr, \
        f"{script}: {done.returncode}: {done.stderr}"
    return done.stdout


def opened(name, flags):
    os.close(os.open(PVE / name, flags, 0o640))


def write(name, text, flags=os.O_WRONLY | os.O_CREAT | os.O_TRUNC):
    fd = os.open(PVE / name, flags, 0o640)
    try:
        return os.write(fd, text)
    finally:
        os.close(fd)


def write_at(name, data, offset):
    fd = os.open(PVE / name, os.O_WRONLY)
    try:
        return os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def rename(old, new, flags=0):
    if libc.renameat2(AT_FDCWD, bytes(PVE / old), AT_FDCWD, bytes(PVE / new),
                      flags) < 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def rows():
    with contextlib.closing(
            sqlite3.connect(f"file:{DATABASE}?mode=ro", uri=True)) as db:
        return db.execute("SELECT inode, parent, version, writer, mtime, type,"
                          " CAST(name AS TEXT), data FROM tree"
                          " ORDER BY inode").fetchall()


def fresh(name):
    """An empty directory for one test."""
    os.mkdir(PVE / name)
    return name


# Tests ----------------------------------------------------------------------

@test
def versions_in_the_database():
    """The sequence of 2.3, row by row. Must be the first test."""
    shell("mkdir dd; touch dd/new; printf hello > dd/f; printf hi > dd/f;"
          "printf x >> dd/f; truncate -s 3 dd/f; mv dd/f dd/g;"
          "mv dd/g dd/new; touch -d @1234567 dd/new; mkdir ee;"
          "mv dd/new ee/; rmdir dd")
    got = [(i, p, v, w, t, n, d) for i, p, v, w, _, t, n, d in rows()]
    assert got == [(0, 0, 16, 0, 8, "__version__", None),
                   (5, 14, 15, 0, 8, "new", b"hix"),
                   (14, 0, 14, 0, 4, "ee", None)], got
    shell("rm ee/new; rmdir ee")
    got = rows()
    assert [row[:3] for row in got] == [(0, 0, 18)], got


@test
def attributes():
    gid = grp.getgrnam("www-data").gr_gid
    shell("mkdir -p priv at; echo 12345 > at/f; echo x > priv/s;"
          "touch -d @1000000000 at/f")
    for name, mode, links, size, mtime in (
            ("at", 0o40755, 2, 0, None), ("at/f", 0o100640, 1, 6, 1000000000),
            ("priv", 0o40700, 2, 0, None), ("priv/s", 0o100600, 1, 2, None),
            ("local", 0o120755, 1, 8, 0), (".version", 0o100440, 1, None, 0),
            (".", 0o40755, 2, 0, 0)):
        st = os.lstat(PVE / name)
        assert (st.st_mode, st.st_nlink) == (mode, links), (name, st)
        assert (st.st_uid, st.st_gid) == (0, gid), (name, st)
        assert size is None or st.st_size == size, (name, st)
        assert mtime is None or st.st_mtime == mtime, (name, st)
        assert st.st_atime == st.st_mtime == st.st_ctime, (name, st)
        assert st.st_blocks == (st.st_size + 511) // 512, (name, st)
    st = os.statvfs(PVE)
    assert (st.f_bsize, st.f_blocks, st.f_files, st.f_namemax) == \
        (4096, 32768, 262144, 256), st
    assert st.f_ffree == 262144 - len(rows()), st


@test
def listings():
    name = fresh("list")
    for i in range(300):
        write(f"{name}/file-{i}", b"")
    with os.scandir(PVE / name) as found:
        entries = list(found)
    assert len(entries) == 300
    assert all(e.is_file() and e.inode() == e.stat().st_ino for e in entries)
    root = {e.name: e for e in os.scandir(PVE)}
    assert root["local"].is_symlink() and root[".members"].is_file()
    assert "local" in shell("ls -la") and ".vmlist" in shell("ls -a")
    assert [e.name for e in os.scandir(PVE)][:3] == \
        [".version", ".members", ".vmlist"]
    shell(f"rm -r {name}")
    assert not (PVE / name).exists()


@test
def links():
    for name, target in (("local", "nodes/n1"), ("lxc", "nodes/n1/lxc"),
                         ("qemu-server", "nodes/n1/qemu-server"),
                         ("openvz", "nodes/n1/openvz")):
        assert os.readlink(PVE / name) == target
    shell("mkdir -p nodes/n1/lxc; echo a: 1 > lxc/150.conf")
    assert shell("cat local/lxc/150.conf") == "a: 1\n"
    assert '"150": { "node": "n1", "type": "lxc"' in shell("cat .vmlist")
    expect("same guest elsewhere", "EEXIST", write,
           "nodes/n1/qemu-server/150.conf"
           if shell("mkdir -p nodes/n1/qemu-server") == "" else "", b"x")


@test
def virtual_names_are_fixed():
    write("plain", b"x")
    run_table([
        ("unlink", "EACCES", os.unlink, PVE / ".version"),
        ("unlink link", "EACCES", os.unlink, PVE / "local"),
        ("mkdir", "EEXIST", os.mkdir, PVE / "lxc"),
        ("create", "EEXIST", opened, ".members", os.O_CREAT | os.O_EXCL),
        ("rename away", "EACCES", rename, ".vmlist", "other"),
        ("rename over", "EACCES", rename, "plain", ".vmlist"),
        ("rename over link", "EACCES", rename, "plain", "local"),
        ("write", "EIO", write, ".version", b"x", os.O_WRONLY),
        ("truncate", "EIO", os.truncate, PVE / ".version", 0),
        ("utime", "EACCES", os.utime, PVE / ".version", (1, 1)),
        ("utime link", "EACCES", lambda: os.utime(
            PVE / "local", (1, 1), follow_symlinks=False)),
        ("utime root", "EACCES", os.utime, PVE, (1, 1)),
        ("chmod", 0, os.chmod, PVE / ".version", 0o640),
        ("chmod", "EPERM", os.chmod, PVE / ".version", 0o600),
        ("below", "ENOTDIR", os.stat, PVE / ".version/x"),
    ])


@test
def directories():
    d = fresh("dirs")
    write(f"{d}/file", b"")
    os.mkdir(PVE / d / "full")
    write(f"{d}/full/x", b"")
    run_table([
        ("mkdir", 0, os.mkdir, PVE / d / "new"),
        ("mkdir existing", "EEXIST", os.mkdir, PVE / d / "new"),
        ("mkdir over a file", "EEXIST", os.mkdir, PVE / d / "file"),
        ("mkdir in nothing", "ENOENT", os.mkdir, PVE / d / "no/new"),
        ("mkdir in a file", "ENOTDIR", os.mkdir, PVE / d / "file/new"),
        ("rmdir", 0, os.rmdir, PVE / d / "new"),
        ("rmdir missing", "ENOENT", os.rmdir, PVE / d / "new"),
        ("rmdir a file", "ENOTDIR", os.rmdir, PVE / d / "file"),
        ("rmdir non-empty", "ENOTEMPTY", os.rmdir, PVE / d / "full"),
        ("unlink a directory", "EISDIR", os.unlink, PVE / d / "full"),
        ("unlink missing", "ENOENT", os.unlink, PVE / d / "no"),
        ("unlink", 0, os.unlink, PVE / d / "file"),
        ("rmdir of the mount", "EBUSY", os.rmdir, PVE),
    ])


@test
def files():
    d = fresh("files")
    write(f"{d}/f", b"12345")
    create = os.O_WRONLY | os.O_CREAT
    run_table([
        ("open missing", "ENOENT", opened, f"{d}/no", os.O_RDONLY),
        ("open dir to write", "EISDIR", opened, d, os.O_WRONLY),
        ("O_DIRECTORY", "ENOTDIR", opened, f"{d}/f", os.O_DIRECTORY),
        ("O_CREAT existing", 0, opened, f"{d}/f", create),
        ("O_EXCL existing", "EEXIST", opened, f"{d}/f", create | os.O_EXCL),
        ("O_EXCL new", 0, opened, f"{d}/g", create | os.O_EXCL),
        ("write too far", "EFBIG", write_at, f"{d}/f", b"x", LIMIT),
        ("write far", "EFBIG", write_at, f"{d}/f", b"x", 1 << 32),
        ("write very far", "EFBIG", write_at, f"{d}/f", b"x", 1 << 40),
        ("truncate too far", "EFBIG", os.truncate, PVE / d / "f", LIMIT + 1),
        ("truncate far", "EFBIG", os.truncate, PVE / d / "f", (1 << 32) + 3),
        ("symlink", "ENOSYS", os.symlink, "x", PVE / d / "s"),
        ("link", "EPERM", os.link, PVE / d / "f", PVE / d / "l"),
        ("mkfifo", "ENOSYS", os.mkfifo, PVE / d / "p"),
        ("mknod", 0, os.mknod, PVE / d / "n", stat.S_IFREG | 0o640),
        ("mknod existing", "EEXIST", os.mknod, PVE / d / "n",
         stat.S_IFREG | 0o640),
        ("setxattr", "ENOTSUP", os.setxattr, PVE / d / "f", "user.x", b""),
        ("getxattr", "ENOTSUP", os.getxattr, PVE / d / "f", "user.x"),
        ("fallocate", 0, lambda: posix_fallocate(f"{d}/g", 100)),
        ("long name", "ENAMETOOLONG", write, d + "/" + "x" * 256, b""),
        ("control character", "EINVAL", write, d + "/a\nb", b""),
    ])
    assert (PVE / d / "f").read_bytes() == b"12345"
    assert (PVE / d / "g").stat().st_size == 100


def posix_fallocate(name, size):
    fd = os.open(PVE / name, os.O_WRONLY)
    try:
        os.posix_fallocate(fd, 0, size)
    finally:
        os.close(fd)


@test
def content():
    d = fresh("content")
    name = f"{d}/f"
    everything = os.urandom(LIMIT)
    path = PVE / name
    # From an address in the middle of a page the kernel sends one page less.
    assert write(name, everything + b"x") in (LIMIT, LIMIT - 4096)
    path.write_bytes(everything)
    assert path.read_bytes() == everything
    # One byte of these fits.
    assert write_at(name, b"yz", LIMIT - 1) == 1
    os.truncate(path, 4)
    assert path.read_bytes() == everything[:4]
    os.truncate(path, 6)
    assert path.read_bytes() == everything[:4] + b"\0\0"
    assert write_at(name, b"end", 10) == 3
    assert path.read_bytes() == everything[:4] + bytes(6) + b"end"
    os.truncate(path, 0)
    os.truncate(path, 100)
    assert path.read_bytes() == bytes(100)


@test
def renames():
    d = fresh("ren")

    def make(*names):
        shell(f"rm -rf {d}/*")
        for name in names:
            if name.endswith("/"):
                os.makedirs(PVE / d / name)
            else:
                write(f"{d}/{name}", name.encode())

    for source, target, wanted, there in (
            ("f", "new", 0, ()), ("f", "g", 0, ("g",)),
            ("f", "dir", "EISDIR", ("dir/",)),
            ("empty/", "new", 0, ()), ("empty/", "dir", 0, ("dir/",)),
            ("empty/", "full", "ENOTEMPTY", ("full/x/",)),
            ("empty/", "g", "ENOTDIR", ("g",)),
            ("full/x/", "new", "ENOTEMPTY", ()),
            ("full/x/", "dir", "ENOTEMPTY", ("dir/",)),
            ("full/", "full/below", "EINVAL", ()),
            ("f", "f", 0, ()), ("f", "no/x", "ENOENT", ())):
        make(source, *there)
        old = source.split("/")[0]
        inode = os.stat(PVE / d / old).st_ino
        expect(f"{source} -> {target}", wanted, rename, f"{d}/{old}",
               f"{d}/{target}")
        if wanted == 0:
            assert os.stat(PVE / d / target).st_ino == inode
            assert old == target or not (PVE / d / old).exists()
        else:
            assert os.stat(PVE / d / old).st_ino == inode
            assert all((PVE / d / name).exists() for name in there)
    make("f", "g")
    run_table([
        ("NOREPLACE", "EEXIST", rename, f"{d}/f", f"{d}/g", RENAME_NOREPLACE),
        ("NOREPLACE new", 0, rename, f"{d}/f", f"{d}/h", RENAME_NOREPLACE),
        ("EXCHANGE", "EINVAL", rename, f"{d}/g", f"{d}/h", RENAME_EXCHANGE),
        ("missing", "ENOENT", rename, f"{d}/no", f"{d}/h"),
        ("out", "EXDEV", os.rename, PVE / d / "g", "/etc/g"),
        ("the mount", "EBUSY", os.rename, PVE, "/etc/other"),
    ])


@test
def modes_and_owners():
    gid = grp.getgrnam("www-data").gr_gid
    d = fresh("modes")
    os.makedirs(PVE / "priv", exist_ok=True)
    write(f"{d}/f", b"")
    write("priv/m", b"")
    f, m = PVE / d / "f", PVE / "priv/m"
    run_table([
        ("0640", 0, os.chmod, f, 0o640), ("0600", "EPERM", os.chmod, f, 0o600),
        ("setuid", "EPERM", os.chmod, f, 0o4640),
        ("dir 0640", 0, os.chmod, PVE / d, 0o640),
        ("dir 0755", "EPERM", os.chmod, PVE / d, 0o755),
        ("private 0600", 0, os.chmod, m, 0o600),
        ("private 0640", "EPERM", os.chmod, m, 0o640),
        ("owner", 0, os.chown, f, 0, gid), ("group", 0, os.chown, f, -1, gid),
        ("nothing", 0, os.chown, f, -1, -1),
        ("user", "EPERM", os.chown, f, 1, -1),
        ("other group", "EPERM", os.chown, f, 0, 0),
    ])
    assert f.stat().st_mode == 0o100640


@test
def times():
    d = fresh("times")
    write(f"{d}/f", b"")
    path = PVE / d / "f"
    os.utime(path, (5, 1500000000))
    assert path.stat().st_mtime == path.stat().st_atime == 1500000000
    os.utime(path, (0, -5))
    assert path.stat().st_mtime == (1 << 32) - 5
    shell(f"touch -m -d @42 {d}/f")
    assert path.stat().st_mtime == 42
    shell(f"touch -a -d @43 {d}/f")
    assert path.stat().st_mtime == 42
    before = int(time.time())
    os.utime(path)
    assert path.stat().st_mtime >= before
    os.utime(PVE / d, (7, 7))
    assert (PVE / d).stat().st_mtime == 7


@test
def open_files_outlive_their_names():
    d = fresh("open")
    write(f"{d}/f", b"first")
    fd = os.open(PVE / d / "f", os.O_RDWR)
    os.rename(PVE / d / "f", PVE / d / "g")
    os.pwrite(fd, b"F", 0)
    assert (PVE / d / "g").read_bytes() == b"First"
    write(f"{d}/h", b"second")
    os.rename(PVE / d / "h", PVE / d / "g")
    assert os.pread(fd, 100, 0) == b"First"
    assert os.fstat(fd).st_nlink == 0
    expect("write to a replaced file", "ESTALE", os.pwrite, fd, b"x", 0)
    assert (PVE / d / "g").read_bytes() == b"second"
    os.close(fd)
    fd = os.open(PVE / d / "g", os.O_RDONLY)
    os.unlink(PVE / d / "g")
    assert os.read(fd, 100) == b"second"
    assert os.listdir(PVE / d) == [], "no hidden names"
    os.close(fd)
    directory = os.open(PVE / d, os.O_RDONLY | os.O_DIRECTORY)
    os.rmdir(PVE / d)
    assert os.listdir(directory) == []
    os.close(directory)


@test
def a_listing_is_a_snapshot():
    d = fresh("snapshot")
    for i in range(500):
        write(f"{d}/long-name-of-a-file-{i}", b"")
    names = []
    with os.scandir(PVE / d) as found:
        for entry in found:
            names.append(entry.name)
            os.unlink(PVE / d / entry.name)
    assert len(set(names)) == len(names) == 500


@test
def appending():
    d = fresh("append")
    one = os.open(PVE / d / "f", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    two = os.open(PVE / d / "f", os.O_WRONLY | os.O_APPEND)
    for i in range(20):
        os.write(one if i % 2 else two, b"%d\n" % i)
    os.close(one)
    os.close(two)
    assert (PVE / d / "f").read_text() == "".join(
        f"{i}\n" for i in range(20))


@test
def what_is_written_at_once_is_one_change():
    """Readers, peers and the disk see few steps on the way to a large file."""
    d = fresh("once")
    big = Path("/run/big")
    big.write_bytes(os.urandom(LIMIT))
    for script in (f"cp /run/big {d}/a", f"cp /run/big {d}/a",
                   f"cat /run/big >{d}/a", f"cp {d}/a {d}/b"):
        before = rows()[0][2]
        shell(script)
        # It is made or truncated, and written.
        assert rows()[0][2] == before + 2, script
    for name in "ab":
        assert (PVE / d / name).read_bytes() == big.read_bytes()


@test
def copying_within_the_mount():
    d = fresh("copy")
    (PVE / d / "from").write_bytes(b"0123456789")
    a = os.open(PVE / d / "from", os.O_RDONLY)
    b = os.open(PVE / d / "to", os.O_RDWR | os.O_CREAT)
    assert os.copy_file_range(a, b, 4, 3, 12) == 4
    assert os.pread(b, 100, 0) == bytes(12) + b"3456"
    assert os.copy_file_range(a, b, 100, 8, 0) == 2
    assert os.copy_file_range(a, b, 100, 10, 0) == 0
    assert os.pread(b, 100, 0) == b"89" + bytes(10) + b"3456"
    # The end of the largest file cuts it off.
    assert os.copy_file_range(a, b, 10, 0, LIMIT - 2) == 2
    expect("beyond", "EFBIG", os.copy_file_range, a, b, 10, 0, LIMIT)
    # Of a virtual file, with content that is no file of the tree.
    v = os.open(PVE / ".version", os.O_RDONLY)
    os.ftruncate(b, 0)
    size = os.fstat(v).st_size
    assert os.copy_file_range(v, b, size, 0, 0) == size
    assert os.pread(b, 1 << 16, 0) == os.pread(v, 1 << 16, 0)
    (PVE / d / "to").unlink()
    expect("removed", "ESTALE", os.copy_file_range, a, b, 10, 0, 0)
    for fd in (a, b, v):
        os.close(fd)


@test
def virtual_files_are_whole():
    """The text is that of the open, whatever happens meanwhile."""
    fd = os.open(PVE / ".version", os.O_RDONLY)
    size = os.fstat(fd).st_size
    start = os.read(fd, 10)
    write("storage.cfg", b"x")
    text = start + os.read(fd, 100000)
    os.close(fd)
    assert len(text) == size
    # It may be told a little later: when the kernel's caches have let go.
    wait_for(lambda: text.decode() != (PVE / ".version").read_text(),
             "the new version")


@test
def metrics():
    """For those who know the name; listings are as peers' tools know them."""
    assert ".metrics" not in os.listdir(PVE)
    st = (PVE / ".metrics").stat()
    assert (oct(st.st_mode), st.st_gid) == ("0o100440",
                                            grp.getgrnam("www-data").gr_gid)
    expect("metrics", "EIO", write, ".metrics", b"x", os.O_WRONLY)
    fresh("measured")

    def read():
        lines = (PVE / ".metrics").read_text().splitlines()
        return {name: float(value) for name, _, value in
                (line.rpartition(" ") for line in lines if line[0] != "#")}

    before = read()
    for i in range(10):
        write("measured/f", b"%d" % i)
    expect("no such directory", "ENOENT", write, "nowhere/f", b"x")
    fd = os.open(PVE / "measured/f", os.O_WRONLY)
    os.fsync(fd)
    os.close(fd)
    grown = {name: value - before[name] for name, value in read().items()}
    for name, at_least in (
            ('pmxcfs_fuse_requests_total{kind="write"}', 10),
            ('pmxcfs_change_seconds_count{operation="write"}', 10),
            ('pmxcfs_change_seconds_count{operation="truncate"}', 9),
            ('pmxcfs_change_seconds_count{operation="create"}', 1),
            ("pmxcfs_fsync_seconds_count", 1),
            ("pmxcfs_changes_applied_total", 20),
            ("pmxcfs_commits_total", 20),
            ("pmxcfs_commit_seconds_count", 20),
            ("pmxcfs_rows_written_total", 40),
            ("pmxcfs_log_bytes_written_total", 20 * 1024),
            ("pmxcfs_tree_version", 20),
            ("pmxcfs_commit_seconds_sum", 1e-6)):
        assert at_least <= grown[name] < 50 * at_least + 1, \
            (name, grown[name])
    after = read()
    assert after["pmxcfs_quorate"] == 1 and after["pmxcfs_durable"] == 1
    assert after['pmxcfs_sync_state{state="synced"}'] == 1
    assert after["pmxcfs_requests_waiting"] <= 1  # our own
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert after["process_disk_written_bytes_total"] >= 0


@test
def editors():
    d = fresh("edit")
    shell(f"""cd {d}
        cat > a < /etc/passwd; cat a > b; cp a c; cp -p a e; cmp a c; cmp a e
        echo one > f; echo two >> f; sed -i s/one/three/ f
        mkdir -p x/y/z; mv f x/y/z/; rm -r x; test ! -e x
        dd if=/dev/zero of=zeros bs=100k count=3 2>/dev/null conv=fsync
        tar cf /run/t.tar a b c; mkdir copy
        tar xf /run/t.tar -C copy; cmp a copy/a
        ls -l >/dev/null; du -s . >/dev/null; find . -name a >/dev/null""")
    assert (PVE / d / "zeros").stat().st_size == 3 * 100 * 1024


@test
def flushing():
    d = fresh("fsync")
    fd = os.open(PVE / d / "f", os.O_WRONLY | os.O_CREAT)
    os.write(fd, b"x")
    os.fsync(fd)
    os.fdatasync(fd)
    os.close(fd)
    directory = os.open(PVE / d, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


@test
def many_at_once():
    d = fresh("many")
    failures = []

    def work(number):
        try:
            for i in range(50):
                name = f"{d}/{number}-{i}"
                write(name + ".tmp", name.encode() * 50)
                os.rename(PVE / (name + ".tmp"), PVE / name)
        except OSError as error:
            failures.append(error)

    workers = [threading.Thread(target=work, args=(n,)) for n in range(16)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not failures, failures
    assert len(os.listdir(PVE / d)) == 16 * 50
    for n in range(16):
        assert (PVE / d / f"{n}-49").read_text() == f"{d}/{n}-49" * 50


@test
def exclusive_creation():
    """Exactly one wins; without O_EXCL all get it."""
    d = fresh("race")
    for flags, winners in ((os.O_EXCL, 1), (0, 8)):
        wins = []
        start = threading.Barrier(8)

        def work():
            start.wait()
            if result(opened, f"{d}/{flags}",
                      os.O_WRONLY | os.O_CREAT | flags) == 0:
                wins.append(1)

        workers = [threading.Thread(target=work) for _ in range(8)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        assert len(wins) == winners, (flags, wins)


@test
def the_kernel_answers_what_it_knows():
    """Names, missing names, attributes and contents, while we are asleep."""
    d = fresh("cached")
    write(f"{d}/f", b"text")
    fd = os.open(PVE / d / "f", os.O_RDONLY)

    def look():
        return (os.stat(PVE / d / "f").st_size, os.pread(fd, 9, 0),
                result(os.stat, PVE / d / "missing"))

    def is_kept():
        seen = [look() for _ in range(3)]
        looker = threading.Thread(target=lambda: seen.append(look()))
        daemon.process.send_signal(signal.SIGSTOP)
        try:
            looker.start()
            looker.join(0.5)
            return not looker.is_alive()
        finally:
            daemon.process.send_signal(signal.SIGCONT)
            looker.join()
            assert set(seen) == {(4, b"text", "ENOENT")}, seen

    wait_for(is_kept, "cache")
    write(f"{d}/missing", b"")
    write(f"{d}/f", b"longer text")
    assert look() == (11, b"longer te", 0)
    (PVE / d / "f").rename(PVE / d / "missing")
    expect("renamed", "ENOENT", os.stat, PVE / d / "f")
    assert (PVE / d / "missing").read_bytes() == b"longer text"
    os.close(fd)


@test
def a_crash_loses_nothing():
    d = fresh("crash")
    for i in range(50):
        write(f"{d}/{i}", b"%d" % i)
    fd = os.open(PVE / d / "1", os.O_RDONLY)
    daemon.end(signal.SIGKILL)
    # The helper process ends the mount when it sees that.
    wait_for(lambda: result(os.stat, PVE / d) == "ENOTCONN", "dead mount")
    daemon.start("-l")
    assert sorted(os.listdir(PVE / d)) == sorted(str(i) for i in range(50))
    assert all((PVE / d / str(i)).read_text() == str(i) for i in range(50))
    mounts = [line for line in Path("/proc/self/mountinfo").read_text()
              .splitlines() if line.split()[4] == str(PVE)]
    assert len(mounts) == 1, mounts
    assert "rw,nosuid,nodev,relatime" in mounts[0], mounts
    assert "- fuse /dev/fuse rw,user_id=0,group_id=0,default_permissions," \
        "allow_other" in mounts[0], mounts
    expect("old descriptor", "ENOTCONN", os.read, fd, 1)
    os.close(fd)  # nothing is written back: nothing can fail


@test
def outside_readers_do_no_harm():
    """W1: any sqlite3 reader, then a kill."""
    for i in range(3):
        rows()
        subprocess.run([sys.executable, "-c", "import sqlite3;"
                        f"sqlite3.connect('{DATABASE}')"
                        ".execute('SELECT * FROM tree').fetchall()"],
                       check=True)
        write("reader", b"%d" % i)
    daemon.end(signal.SIGKILL)
    daemon.start("-l")
    assert (PVE / "reader").read_bytes() == b"2"


# row: 1.1/signals
@test
def a_clean_stop_leaves_one_file():
    busy = os.open(PVE / "reader", os.O_RDONLY)
    assert PID_FILE.read_text() == f"{daemon.process.pid}\n"
    assert stat.S_IMODE(PID_FILE.stat().st_mode) == 0o644
    assert not RESTART_FLAG.exists()
    daemon.stop()
    os.close(busy)
    assert not os.path.ismount(PVE)
    assert not PID_FILE.exists()
    assert stat.S_IMODE(RESTART_FLAG.stat().st_mode) == 0o440
    left = sorted(os.listdir("/var/lib/pve-cluster"))
    assert left == [".pmxcfs.lockfile", "config.db"], left
    for path, mode in (("/var/lib/pve-cluster", 0o750),
                       ("/var/lib/pve-cluster/config.db", 0o600),
                       ("/run/pve-cluster", 0o750), ("/etc/pve", 0o750)):
        assert stat.S_IMODE(os.stat(path).st_mode) == mode, path
    for number in (signal.SIGINT, signal.SIGHUP):
        daemon.start("-l")
        assert daemon.end(number) == 0
    daemon.start("-l")
    assert (PVE / "reader").read_bytes() == b"2"


# row: 1.1/started
@test
def in_the_background():
    daemon.stop()
    done = subprocess.run([PROGRAM, "-l"], timeout=TIMEOUT_S,
                          stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 0, done
    # No waiting: it serves, and the pid file is there.
    assert (PVE / "reader").read_bytes() == b"2"
    pid = int(PID_FILE.read_text())
    os.kill(pid, signal.SIGTERM)
    wait_for(lambda: not Path(f"/proc/{pid}").exists()
             or " Z " in Path(f"/proc/{pid}/stat").read_text(), "end")
    assert not os.path.ismount(PVE)
    daemon.start("-l")


# row: 1.1/unknown-option, row: 1.1/extra-argument, row: 1.1/lock-busy
# row: 1.1/name-not-resolvable
@test
def what_keeps_it_from_starting():
    def attempt(*options):
        done = subprocess.run([PROGRAM, *options], timeout=TIMEOUT_S,
                              text=True, capture_output=True)
        return done.returncode, done.stderr

    assert attempt("-x")[0] == 1
    assert "option parsing failed: Unknown option -x" in attempt("-x")[1]
    assert attempt("-f", "more")[0] == 255
    assert "too many arguments" in attempt("-f", "more")[1]
    assert attempt("-h")[0] == attempt("--version")[0] == 0
    status, text = attempt("-l")  # the other one runs
    assert status == 255 and "unable to acquire pmxcfs lock" in text, text
    daemon.stop()
    hosts = Path("/etc/hosts")
    text = hosts.read_text()
    for bad in ("127.0.0.1 localhost\n", "127.0.1.1 n1\n::1 n1\n"):
        hosts.write_text(bad)
        for options in (("-l",), ("-f", "-l")):
            status, said = attempt(*options)
            assert status == 255, said
            assert "[main] crit: Unable to resolve node name 'n1' to a " \
                "non-loopback IP address - missing entry in '/etc/hosts' or " \
                "DNS?" in said, said
    hosts.write_text(text)
    # Something alive that is not ours.
    daemon.start("-l")
    subprocess.run(["rm", "-f", "/var/lib/pve-cluster/.pmxcfs.lockfile"],
                   check=True)
    status, text = attempt("-f", "-l")
    assert status == 255 and "alive" in text, text
    assert (PVE / "reader").read_bytes() == b"2"


# row: 1.1/mount-point-not-empty
@test
def a_new_cluster_imports_its_configuration():
    daemon.stop()
    os.rename(DATABASE, DATABASE + ".good")
    os.makedirs("/etc/corosync", exist_ok=True)
    Path("/etc/corosync/corosync.conf").write_text("totem { }\n")
    PVE.joinpath("hidden").write_text("x")  # below the mount: a warning
    daemon.start()
    assert (PVE / "corosync.conf").read_text() == "totem { }\n"
    got = [(i, p, v, w, t, n, d) for i, p, v, w, _, t, n, d in rows()]
    assert got == [(0, 0, 3, 0, 8, "__version__", None),
                   (2, 0, 3, 0, 8, "corosync.conf", b"totem { }\n")], got
    assert "is not empty: 'hidden'" in LOG.read_text()
    # A cluster without corosync: all can be read, nothing changed.
    assert stat.S_IMODE(os.lstat(PVE / "local").st_mode) == 0o555
    f = PVE / "corosync.conf"
    assert f.stat().st_mode == 0o100440
    run_table([
        ("create", "EACCES", opened, "new", os.O_WRONLY | os.O_CREAT),
        ("open to write", 0, opened, "corosync.conf", os.O_WRONLY),
        ("write", "EACCES", write, "corosync.conf", b"x", os.O_WRONLY),
        ("truncate", "EACCES", os.truncate, f, 0),
        ("mkdir", "EACCES", os.mkdir, PVE / "d"),
        ("unlink", "EACCES", os.unlink, f),
        ("rename", "EACCES", rename, "corosync.conf", "new"),
        ("utime", "EACCES", os.utime, f, (1, 1)),
        ("chmod", 0, os.chmod, f, 0o640),
        ("unlink missing", "ENOENT", os.unlink, PVE / "no"),
        ("mkdir existing", "EEXIST", os.mkdir, f),
    ])
    daemon.stop()
    os.rename(DATABASE + ".good", DATABASE)
    Path("/etc/corosync/corosync.conf").unlink()
    daemon.start("-l")


@test
def a_slow_database_holds_nobody_up():
    """After 1 s answers come from memory, and nothing is lost."""
    d = fresh("slow")
    with contextlib.closing(sqlite3.connect(
            DATABASE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        start = time.monotonic()
        write(f"{d}/f", b"x")
        assert 0.5 < time.monotonic() - start < 5
        assert (PVE / d / "f").read_bytes() == b"x"
        start = time.monotonic()
        for i in range(100):
            write(f"{d}/{i}", b"%d" % i)
        assert time.monotonic() - start < 5
        assert "is not durable" in LOG.read_text()
        other.execute("ROLLBACK")
    fd = os.open(PVE / d, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    wait_for(lambda: "is durable again" in LOG.read_text(), "recovery")
    daemon.end(signal.SIGKILL)
    daemon.start("-l")
    assert len(os.listdir(PVE / d)) == 101


@test
def a_full_disk():
    """Changes fail, reads go on; with room again all is well."""
    daemon.stop()
    state = "/var/lib/pve-cluster"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=750", "none",
                    state], check=True)
    try:
        daemon.start("-l")
        write("small", b"x")
        expect("too much", "ENOSPC", (PVE / "large").write_bytes,
               bytes(LIMIT))
        assert (PVE / "small").read_bytes() == b"x"
        expect("while it is full", "ENOSPC", write, "small", b"y")
        subprocess.run(["mount", "-o", "remount,size=64m", state], check=True)
        wait_for(lambda: result(write, "small", b"z") == 0, "recovery")
        daemon.end(signal.SIGKILL)
        daemon.start("-l")
        assert (PVE / "small").read_bytes() == b"z"
        daemon.stop()
    finally:
        if daemon.process.poll() is None:
            daemon.end(signal.SIGKILL)
        subprocess.run(["umount", state], check=True)
    daemon.start("-l")


@test
def names_that_no_kernel_takes():
    """A foreign database brings them; the rest of the folder is listed."""
    daemon.stop()
    with contextlib.closing(sqlite3.connect(DATABASE)) as db:
        top = db.execute("SELECT max(version) FROM tree").fetchone()[0]
        for i, name in enumerate(("a/b", "..", ".", "x" * 2000, "local"), 1):
            db.execute("INSERT INTO tree VALUES (?, 0, ?, 0, 0, 8, ?, NULL)",
                       (top + i, top + i, name))
        db.execute("UPDATE tree SET version = ? WHERE inode = 0", (top + 9,))
        db.commit()
    daemon.start("-l")
    names = os.listdir(PVE)
    assert "reader" in names and "a/b" not in names, names
    assert len(names) == len(set(names)), names
    assert os.readlink(PVE / "local") == "nodes/n1"


@test
def locks_are_local():
    write("locked", b"")
    one, two = (os.open(PVE / "locked", os.O_RDWR) for _ in range(2))
    fcntl.flock(one, fcntl.LOCK_EX)
    expect("second flock", "EAGAIN", fcntl.flock, two,
           fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.close(one)
    os.close(two)


# row: 8/expiry/local-mode
@test
def locks_expire():
    """Over a restart too. The time comes from a time namespace."""
    later = ("unshare", "--time", "--boottime", "110")
    os.makedirs(PVE / "priv/lock", exist_ok=True)
    lock, full = PVE / "priv/lock/old", PVE / "priv/lock/full"
    os.mkdir(lock)
    os.mkdir(full)
    (full / "x").touch()
    start = time.monotonic()
    expect("unlock", "EACCES", os.utime, lock, (0, 0))
    daemon.stop()
    daemon.start("-l", under=later)
    if time.monotonic() - start < 8:
        expect("held for 110 s", "EACCES", os.utime, lock, (0, 0))
    daemon.end(signal.SIGKILL)
    later = ("unshare", "--time", "--boottime", "121")
    daemon.start("-l", under=later)
    os.mkdir(PVE / "priv/lock/new")
    expect("held for 121 s", "ENOENT", os.utime, lock, (0, 0))
    assert not lock.exists()
    os.mkdir(lock)
    expect("a new one", "EACCES", os.utime, lock, (0, 0))
    expect("with content", "EACCES", os.utime, full, (0, 0))
    expect("made now", "EACCES", os.utime, PVE / "priv/lock/new", (0, 0))
    expect("missing", "ENOENT", os.utime, PVE / "priv/lock/no", (0, 0))
    assert full.exists() and lock.exists()
    daemon.stop()
    daemon.start("-l")
    shell("rm -r priv/lock")


def main():
    make_world(own_disk=False)
    try:
        return run_tests(daemon, tests)
    finally:
        if PID_FILE.exists():  # ours: /run is private
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(PID_FILE.read_text()), signal.SIGKILL)


sys.exit(main())
