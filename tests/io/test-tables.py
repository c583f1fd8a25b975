"""The tables of spec/filesystem.md, row by row, on a real mount.

Each row is an operation and what it gives to root, to www-data and to nobody,
with quorum and without. tests/lint/rows.py holds the names against the list
of all rows. Run by test-tables.sh in a mount namespace of its own; TAP.
"""

import contextlib
import ctypes
import errno
import fcntl
import grp
import json
import mmap
import os
import pwd
import re
import socket
import stat
import subprocess
import sys
import time
import traceback
from pathlib import Path

from localworld import LOG, Daemon, make_world

PROGRAM = sys.argv[1]
PVE = "/etc/pve"
LIMIT = 1 << 20
AT_FDCWD = -100
NOREPLACE, EXCHANGE = 1, 2
CREATE = os.O_WRONLY | os.O_CREAT
OMIT = (1 << 30) - 2
GID = grp.getgrnam("www-data").gr_gid
WHO = {"root": (0, 0),
       "www-data": (pwd.getpwnam("www-data").pw_uid, GID),
       "nobody": (65534, 65534)}
libc = ctypes.CDLL(None, use_errno=True)


def path(name):
    return f"{PVE}/{name}"


def put(name, data=b""):
    fd = os.open(path(name), CREATE | os.O_TRUNC, 0o640)
    try:
        os.write(fd, data)
    finally:
        os.close(fd)


def get(name):
    return Path(path(name)).read_bytes()


def empty(top):
    for name in os.listdir(path(top)):
        inside = f"{top}/{name}"
        if os.path.isdir(path(inside)):
            empty(inside)
            os.rmdir(path(inside))
        else:
            os.unlink(path(inside))


def fill():
    """What each row finds."""
    for name in ("t", "priv", "priv/lock", "nodes"):
        os.makedirs(path(name), exist_ok=True)
        if name != "priv":
            empty(name)
    for name in ("t/empty", "t/empty2", "t/full", "t/full/x", "nodes/n1",
                 "nodes/n1/lxc", "nodes/n1/qemu-server", "nodes/n1/priv",
                 "nodes/n2", "nodes/n2/lxc", "nodes/n2/qemu-server",
                 "nodes/ghost", "nodes/ghost/lxc", "nodes/bad_node",
                 "nodes/bad_node/lxc", "priv/lock/held", "priv/lock/full"):
        os.mkdir(path(name))
    for name, data in (("t/f", b"12345"), ("t/g", b"g"), ("t/none", b""),
                       ("priv/s", b"secret"), ("nodes/n1/lxc/200.conf", b"a"),
                       ("nodes/n1/lxc/201.conf", b"b"), ("priv/lock/file", b""),
                       ("priv/lock/full/x", b""), ("t/100.start", b""),
                       ("t/vps.mount", b"")):
        put(name, data)


# Operations -----------------------------------------------------------------

def opened(name, flags, mode=0o640):
    os.close(os.open(path(name), flags, mode))


def write(name, data, flags=os.O_WRONLY, offset=0):
    fd = os.open(path(name), flags, 0o640)
    try:
        return os.pwrite(fd, data, offset)
    finally:
        os.close(fd)


def read(name):
    fd = os.open(path(name), os.O_RDONLY)
    try:
        return os.read(fd, 100)
    finally:
        os.close(fd)


def check_errno(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "libc")
    return result


def rename(old, new, flags=0):
    check_errno(libc.renameat2(AT_FDCWD, path(old).encode(), AT_FDCWD,
                               path(new).encode(), flags))


class Timespec(ctypes.Structure):
    _fields_ = [("sec", ctypes.c_long), ("nsec", ctypes.c_long)]


def utimens(name, atime, mtime, follow=True):
    """Of each (seconds, nanoseconds)."""
    times = (Timespec * 2)(Timespec(*atime), Timespec(*mtime))
    check_errno(libc.utimensat(AT_FDCWD, path(name).encode(), times,
                               0 if follow else 0x100))


def utime(name, seconds):
    utimens(name, (seconds, 0), (seconds, 0))


def mtime(name):
    return int(os.lstat(path(name)).st_mtime)


def with_fd(name, flags, function):
    fd = os.open(path(name), flags)
    try:
        return function(fd)
    finally:
        os.close(fd)


def same(got, wanted):
    assert got == wanted, f"{got!r} instead of {wanted!r}"


# Rows -----------------------------------------------------------------------

ROWS = []


def row(name, op, root, www, nobody, cut, then=None):
    """What op gives; cut: to root without quorum. then: looks at the result
    of root's success."""
    ROWS.append((name, op, {"root": root, "www-data": www, "nobody": nobody,
                            "cut": cut}, then))


def always(name, op, result):
    row(name, op, result, result, result, result)


def change(name, op, result=0, then=None):
    """Only root may, and only with quorum."""
    row(name, op, result, "EACCES", "EACCES", "EACCES", then)


def kernel(name, op, result):
    """For root the kernel refuses before we are asked; others may not even
    ask."""
    row(name, op, result, "EACCES", "EACCES", result)


def owner(name, op, result, then=None):
    """Attributes: what root may, quorum or not, others may not."""
    row(name, op, result, "EPERM", "EPERM", result, then)


def private(name, op, result, then=None, cut="EACCES"):
    row(name, op, result, "EACCES", "EACCES", cut, then)


# 4: modes

def modes():
    bits = {name: stat.S_IMODE(os.lstat(path(name)).st_mode) for name in (
        "", "t", "t/f", "priv", "priv/s", "priv/lock/held", "nodes/n1/priv",
        "local", "lxc", "qemu-server", "openvz", ".version", ".debug",
        "t/100.start", "t/vps.mount")}
    quorate = bits["local"] & 0o200
    wanted = ([0o755, 0o755, 0o640, 0o700, 0o600, 0o700, 0o700, 0o755, 0o755,
               0o755, 0o755, 0o440, 0o640, 0o740, 0o740] if quorate else
              [0o755, 0o555, 0o440, 0o500, 0o400, 0o500, 0o500, 0o555, 0o555,
               0o555, 0o555, 0o440, 0o640, 0o540, 0o540])
    same([oct(b) for b in bits.values()], [oct(b) for b in wanted])


row("4/modes", modes, 0, "EACCES", "EACCES", 0)
for _name, _row in (("", "root"), ("t", "directory"), ("t/f", "file"),
                    ("local", "link"), (".version", "virtual")):
    always(f"4/owner/{_row}", lambda n=_name: same(
        (os.lstat(path(n)).st_uid, os.lstat(path(n)).st_gid), (0, GID)), 0)
always("4/stat/directory", lambda: same(
    (os.stat(path("t")).st_nlink, os.stat(path("t")).st_size), (2, 0)), 0)
always("4/stat/file", lambda: same(
    [getattr(os.stat(path("t/f")), "st_" + key)
     for key in ("nlink", "size", "blocks")], [1, 5, 1]), 0)
# What cp(1) writes at once; the reference's 4096 only means the kernel's default.
always("4/stat/blksize", lambda: same(os.stat(path("t/f")).st_blksize, 1 << 20),
       0)
always("4/stat/virtual", lambda: same(mtime(".version"), 0), 0)
always("4/links", lambda: same(
    [os.readlink(path(n)) for n in ("local", "lxc", "qemu-server", "openvz")],
    ["nodes/n1", "nodes/n1/lxc", "nodes/n1/qemu-server", "nodes/n1/openvz"]),
    0)
always("4/readdir/inode", lambda: same(
    {e.inode() == os.lstat(e.path).st_ino for e in os.scandir(path("t"))},
    {True}), 0)
change("4/names/too-long", lambda: put("t/" + "x" * 256), "ENAMETOOLONG")
change("4/names/control", lambda: put("t/a\nb"), "EINVAL")
change("4/names/no-utf-8", lambda: os.mkdir(path("t/").encode() + b"\xff"),
       "EINVAL")
always("4/statfs", lambda: same(
    [getattr(os.statvfs(PVE), "f_" + key) for key in (
        "bsize", "frsize", "blocks", "files", "namemax")],
    [4096, 4096, 32768, 262144, 256]), 0)

# 5.1

always("5.1/mkdir/existing", lambda: os.mkdir(path("t/empty")), "EEXIST")
always("5.1/mkdir/over-a-file", lambda: os.mkdir(path("t/f")), "EEXIST")
always("5.1/mkdir/missing-parent", lambda: os.mkdir(path("no/d")), "ENOENT")
always("5.1/mkdir/in-a-file", lambda: os.mkdir(path("t/f/d")), "ENOTDIR")
change("5.1/mkdir/mode-ignored", lambda: os.mkdir(path("t/new"), 0o700),
       then=lambda: same(os.stat(path("t/new")).st_mode & 0o7777, 0o755))
kernel("5.1/rmdir/file", lambda: os.rmdir(path("t/f")), "ENOTDIR")
change("5.1/rmdir/non-empty", lambda: os.rmdir(path("t/full")), "ENOTEMPTY")
always("5.1/rmdir/missing", lambda: os.rmdir(path("t/no")), "ENOENT")
change("5.1/rmdir/empty", lambda: os.rmdir(path("t/empty")),
       then=lambda: same(os.path.exists(path("t/empty")), False))
kernel("5.1/unlink/directory", lambda: os.unlink(path("t/empty")), "EISDIR")
always("5.1/unlink/missing", lambda: os.unlink(path("t/no")), "ENOENT")


def unlink_open():
    fd = os.open(path("t/f"), os.O_RDONLY)
    os.unlink(path("t/f"))
    same(os.read(fd, 100), b"12345")
    same([n for n in os.listdir(path("t")) if "fuse_hidden" in n], [])
    os.close(fd)


change("5.1/unlink/open-here", unlink_open)
always("5.1/open/missing", lambda: opened("t/no", os.O_RDONLY), "ENOENT")
always("5.1/open/directory-to-write", lambda: opened("t", os.O_WRONLY),
       "EISDIR")
row("5.1/open/o_directory-on-file", lambda: opened("t/f", os.O_DIRECTORY),
    "ENOTDIR", "ENOTDIR", "ENOTDIR", "ENOTDIR")
row("5.1/open/read", lambda: same(read("t/f"), b"12345"), 0, 0, "EACCES", 0)
row("5.1/open/private", lambda: same(read("priv/s"), b"secret"), 0, "EACCES",
    "EACCES", 0)
row("5.1/open/o_wronly-without-quorum",
    lambda: opened("t/f", os.O_WRONLY), 0, "EACCES", "EACCES", 0)
row("5.1/o_creat/existing", lambda: opened("t/f", CREATE), 0, "EACCES",
    "EACCES", 0, lambda: same(get("t/f"), b"12345"))
change("5.1/o_creat/new", lambda: opened("t/new", CREATE),
       then=lambda: same(get("t/new"), b""))
always("5.1/o_creat/o_excl-existing",
       lambda: opened("t/f", CREATE | os.O_EXCL), "EEXIST")
always("5.1/o_creat/missing-parent", lambda: opened("no/f", CREATE), "ENOENT")


def race(flags):
    """How many of 8 processes get the file."""
    pids = []
    for _ in range(8):
        pid = os.fork()
        if pid == 0:
            try:
                opened("t/race", CREATE | flags)
            except FileExistsError:
                os._exit(1)
            except OSError:
                os._exit(2)
            os._exit(0)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    if 2 in codes:
        raise OSError(errno.EACCES, "race")
    return codes.count(0)


change("5.1/o_creat/o_excl-one-winner", lambda: same(race(os.O_EXCL), 1))
change("5.1/o_creat/all-get-it", lambda: same(race(0), 8))
row("5.1/o_trunc", lambda: opened("t/f", os.O_WRONLY | os.O_TRUNC), 0,
    "EACCES", "EACCES", "EACCES", lambda: same(get("t/f"), b""))


def read_current():
    fd = os.open(path("t/f"), os.O_RDONLY)
    put("t/f", b"changed")
    same(os.pread(fd, 100, 0), b"changed")
    os.close(fd)


row("5.1/read/current", read_current, 0, "EACCES", "EACCES", "EACCES")
row("5.1/read/past-the-end", lambda: same(with_fd(
    "t/f", os.O_RDONLY, lambda fd: os.pread(fd, 10, 100)), b""), 0, 0,
    "EACCES", 0)
change("5.1/write/plain", lambda: same(write("t/f", b"ab"), 2),
       then=lambda: same(get("t/f"), b"ab345"))
change("5.1/write/beyond-the-end", lambda: write("t/f", b"x", offset=7),
       then=lambda: same(get("t/f"), b"12345\0\0x"))
row("5.1/write/beyond-1-mib", lambda: write("t/f", b"x", offset=LIMIT),
    "EFBIG", "EACCES", "EACCES", "EFBIG")
change("5.1/write/crossing-1-mib",
       lambda: same(write("t/f", b"xyz", offset=LIMIT - 2), 2),
       then=lambda: same(os.stat(path("t/f")).st_size, LIMIT))
change("5.1/truncate/shorter", lambda: os.truncate(path("t/f"), 2),
       then=lambda: same(get("t/f"), b"12"))
change("5.1/truncate/longer", lambda: os.truncate(path("t/f"), 7),
       then=lambda: same(get("t/f"), b"12345\0\0"))
change("5.1/truncate/empty-to-n", lambda: os.truncate(path("t/none"), 100),
       then=lambda: same(get("t/none"), bytes(100)))
row("5.1/truncate/above-1-mib", lambda: os.truncate(path("t/f"), LIMIT + 1),
    "EFBIG", "EACCES", "EACCES", "EFBIG")
row("5.1/truncate/directory", lambda: os.truncate(path("t"), 0), "EISDIR",
    "EISDIR", "EISDIR", "EISDIR")
change("5.1/ftruncate", lambda: with_fd("t/f", os.O_RDWR,
                                        lambda fd: os.ftruncate(fd, 1)),
       then=lambda: same(get("t/f"), b"1"))
row("5.1/4-gib/write", lambda: write("t/f", b"x", offset=1 << 32), "EFBIG",
    "EACCES", "EACCES", "EFBIG")
row("5.1/4-gib/truncate", lambda: os.truncate(path("t/f"), (1 << 32) + 3),
    "EFBIG", "EACCES", "EACCES", "EFBIG")


def append():
    one, two = (os.open(path("t/f"), os.O_WRONLY | os.O_APPEND)
                for _ in range(2))
    os.write(one, b"a")
    os.write(two, b"b")
    os.write(one, b"c")
    os.close(one)
    os.close(two)


change("5.1/o_append", append, then=lambda: same(get("t/f"), b"12345abc"))
always("5.1/renameat2/noreplace-existing",
       lambda: rename("t/f", "t/g", NOREPLACE), "EEXIST")
change("5.1/renameat2/noreplace-new",
       lambda: rename("t/f", "t/new", NOREPLACE))
row("5.1/renameat2/exchange", lambda: rename("t/f", "t/g", EXCHANGE),
    "EINVAL", "EACCES", "EACCES", "EINVAL")
kernel("5.1/symlink", lambda: os.symlink("x", path("t/s")), "ENOSYS")
kernel("5.1/mkfifo", lambda: os.mkfifo(path("t/p")), "ENOSYS")
row("5.1/mknod/device", lambda: os.mknod(
    path("t/d"), stat.S_IFCHR | 0o640, os.makedev(1, 3)), "ENOSYS", "EACCES",
    "EACCES", "ENOSYS")


def bind():
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path("t/socket"))


kernel("5.1/mknod/socket", bind, "ENOSYS")
change("5.1/mknod/file", lambda: os.mknod(path("t/new"), 0o640),
       then=lambda: same(get("t/new"), b""))
row("5.1/link", lambda: os.link(path("t/f"), path("t/l")), "EPERM", "EPERM",
    "EPERM", "EPERM")
owner("5.1/chmod/same", lambda: os.chmod(path("t/f"), 0o640), 0)
owner("5.1/chmod/directory", lambda: os.chmod(path("t"), 0o640), 0)
owner("5.1/chmod/other", lambda: os.chmod(path("t/f"), 0o600), "EPERM")
owner("5.1/chmod/directory-other", lambda: os.chmod(path("t"), 0o755),
      "EPERM")
owner("5.1/chmod/setuid", lambda: os.chmod(path("t/f"), 0o4640), "EPERM")
private("5.1/chmod/private", lambda: os.chmod(path("priv/s"), 0o600), 0,
        cut=0)
private("5.1/chmod/private-0640", lambda: os.chmod(path("priv/s"), 0o640),
        "EPERM", cut="EPERM")
owner("5.1/chmod/virtual", lambda: os.chmod(path(".version"), 0o640), 0)
owner("5.1/chmod/virtual-other", lambda: os.chmod(path(".version"), 0o440),
      "EPERM")
owner("5.1/chown/same", lambda: os.chown(path("t/f"), 0, GID), 0)
owner("5.1/chown/group", lambda: os.chown(path("t/f"), -1, GID), 0)
always("5.1/chown/nothing", lambda: os.chown(path("t/f"), -1, -1), 0)
owner("5.1/chown/user", lambda: os.chown(path("t/f"), 1, -1), "EPERM")
owner("5.1/chown/other-group", lambda: os.chown(path("t/f"), -1, 0), "EPERM")
owner("5.1/lchown/link", lambda: os.lchown(path("local"), 0, GID), 0)
row("5.1/utimens/both", lambda: utimens("t/f", (5, 5), (1500000000, 999)), 0,
    "EPERM", "EPERM", "EACCES", lambda: same(mtime("t/f"), 1500000000))
row("5.1/utimens/negative", lambda: utime("t/f", -5), 0, "EPERM", "EPERM",
    "EACCES", lambda: same(mtime("t/f"), 4294967291))
change("5.1/utimens/now", lambda: os.utime(path("t/f")),
       then=lambda: same(abs(mtime("t/f") - time.time()) < 60, True))
row("5.1/utimens/directory", lambda: utime("t", 77), 0, "EPERM", "EPERM",
    "EACCES", lambda: same(mtime("t"), 77))
row("5.1/utimens/mtime-alone", lambda: utimens("t/f", (0, OMIT), (42, 0)), 0,
    "EPERM", "EPERM", "EACCES", lambda: same(mtime("t/f"), 42))
row("5.1/utimens/atime-alone", lambda: utimens("t/f", (42, 0), (0, OMIT)), 0,
    "EPERM", "EPERM", 0, lambda: same(mtime("t/f") > 42, True))
row("5.1/utimens/root", lambda: utime("", 1), "EACCES", "EPERM", "EPERM",
    "EACCES")
row("5.1/utimens/link",
    lambda: utimens("local", (1, 0), (1, 0), follow=False), "EACCES", "EPERM",
    "EPERM", "EACCES")
row("5.1/utimens/virtual", lambda: utime(".version", 1), "EACCES", "EPERM",
    "EPERM", "EACCES")
row("5.1/xattr/get", lambda: os.getxattr(path("t/f"), "user.x"), "ENOTSUP",
    "ENOTSUP", "EACCES", "ENOTSUP")
always("5.1/xattr/list", lambda: os.listxattr(path("t/f")), "ENOTSUP")
row("5.1/xattr/set", lambda: os.setxattr(path("t/f"), "user.x", b"1"),
    "ENOTSUP", "EACCES", "EACCES", "ENOTSUP")
row("5.1/xattr/remove", lambda: os.removexattr(path("t/f"), "user.x"),
    "ENOTSUP", "EACCES", "EACCES", "ENOTSUP")


def flock():
    one, two = (os.open(path("t/f"), os.O_RDONLY) for _ in range(2))
    fcntl.flock(one, fcntl.LOCK_EX)
    try:
        fcntl.flock(two, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    raise AssertionError("two have it")


row("5.1/locks/flock", flock, 0, 0, "EACCES", 0)
row("5.1/locks/fcntl", lambda: with_fd(
    "t/f", os.O_RDONLY, lambda fd: fcntl.lockf(fd, fcntl.LOCK_SH)), 0, 0,
    "EACCES", 0)
# Without quorum nothing is known to be safe (docs/replication.md).
row("5.1/fsync", lambda: with_fd("t/f", os.O_RDONLY, os.fsync), 0, 0,
    "EACCES", "EIO")
row("5.1/fdatasync", lambda: with_fd("t/f", os.O_RDONLY, os.fdatasync), 0, 0,
    "EACCES", "EIO")
row("5.1/fallocate", lambda: with_fd(
    "t/f", os.O_WRONLY,
    lambda fd: check_errno(libc.fallocate(fd, 0, ctypes.c_long(0),
                                          ctypes.c_long(10)))),
    "ENOTSUP", "EACCES", "EACCES", "ENOTSUP")
change("5.1/posix_fallocate", lambda: with_fd(
    "t/f", os.O_RDWR, lambda fd: os.posix_fallocate(fd, 0, 100)),
    then=lambda: same(os.stat(path("t/f")).st_size, 100))
row("5.1/o_tmpfile", lambda: opened("t", os.O_TMPFILE | os.O_RDWR),
    "ENOTSUP", "EACCES", "EACCES", "ENOTSUP")
row("5.1/mmap/shared", lambda: with_fd(
    "t/f", os.O_RDWR, lambda fd: mmap.mmap(
        fd, 5, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)), "ENODEV",
    "EACCES", "EACCES", "ENODEV")
# Better than the reference: what is only read is in the page cache.
row("5.1/mmap/shared-to-read", lambda: same(with_fd(
    "t/f", os.O_RDONLY, lambda fd: mmap.mmap(
        fd, 5, mmap.MAP_SHARED, mmap.PROT_READ)[:]), b"12345"), 0, 0,
    "EACCES", 0)
row("5.1/mmap/private", lambda: same(with_fd(
    "t/f", os.O_RDONLY, lambda fd: mmap.mmap(
        fd, 5, mmap.MAP_PRIVATE, mmap.PROT_READ)[:]), b"12345"), 0, 0,
    "EACCES", 0)
row("5.1/lseek/data-and-hole", lambda: with_fd("t/f", os.O_RDONLY, lambda fd: (
    same(os.lseek(fd, 0, os.SEEK_DATA), 0),
    same(os.lseek(fd, 0, os.SEEK_HOLE), 5))), 0, 0, "EACCES", 0)
kernel("5.1/the-mount/rmdir", lambda: os.rmdir(PVE), "EBUSY")
kernel("5.1/the-mount/rename", lambda: os.rename(PVE, "/etc/other"), "EBUSY")
always("5.1/the-mount/out", lambda: os.rename(path("t/f"), "/etc/f"), "EXDEV")
always("5.1/virtual/below", lambda: os.stat(path(".version/x")), "ENOTDIR")
for _name in (".version", ".members", ".vmlist", ".rrd", ".clusterlog"):
    row(f"5.1/virtual/read/{_name}", lambda n=_name: read(n), 0, 0, "EACCES",
        0)
    row(f"5.1/virtual/open-to-write/{_name}",
        lambda n=_name: opened(n, os.O_WRONLY), 0, "EACCES", "EACCES", 0)
    row(f"5.1/virtual/write/{_name}", lambda n=_name: write(n, b"x\n"), "EIO",
        "EACCES", "EACCES", "EIO")
    row(f"5.1/virtual/truncate/{_name}",
        lambda n=_name: os.truncate(path(n), 0), "EIO", "EACCES", "EACCES",
        "EIO")
row("5.1/virtual/unlink", lambda: os.unlink(path(".version")), "EACCES",
    "EACCES", "EACCES", "EACCES")
row("5.1/virtual/unlink-link", lambda: os.unlink(path("local")), "EACCES",
    "EACCES", "EACCES", "EACCES")
always("5.1/virtual/mkdir", lambda: os.mkdir(path("lxc")), "EEXIST")
always("5.1/virtual/o_excl",
       lambda: opened(".members", CREATE | os.O_EXCL), "EEXIST")

# 5.2: from, to, result; what the kernel sees first is the same without quorum.

for _row, _old, _new, _result, _cut in (
        ("file-missing", "f", "new", 0, "EACCES"),
        ("file-file", "f", "g", 0, "EACCES"),
        ("file-directory", "f", "empty", "EISDIR", "EISDIR"),
        ("empty-missing", "empty", "new", 0, "EACCES"),
        ("empty-empty", "empty", "empty2", 0, "EACCES"),
        ("empty-full", "empty", "full", "ENOTEMPTY", "EACCES"),
        ("directory-file", "empty", "g", "ENOTDIR", "ENOTDIR"),
        ("full-missing", "full", "new", "ENOTEMPTY", "EACCES"),
        ("full-empty", "full", "empty", "ENOTEMPTY", "EACCES")):
    def _then(old=_old, new=_new):
        same((os.path.exists(path(f"t/{old}")),
              os.path.exists(path(f"t/{new}"))), (False, True))

    row(f"5.2/{_row}", lambda o=_old, n=_new: rename(f"t/{o}", f"t/{n}"),
        _result, "EACCES", "EACCES", _cut, _then)


def rename_keeps_inode():
    inode = os.stat(path("t/f")).st_ino
    rename("t/f", "t/g")
    same((os.stat(path("t/g")).st_ino, get("t/g")), (inode, b"12345"))


def full_onto_empty():
    """W2: a refused rename changes nothing."""
    with contextlib.suppress(OSError):
        rename("t/full", "t/empty")
    same((os.listdir(path("t/empty")), os.listdir(path("t/full"))),
         ([], ["x"]))


change("5.2/keeps-the-inode", rename_keeps_inode)
always("5.2/full-empty-changes-nothing", full_onto_empty, 0)
row("5.2/below-itself", lambda: rename("t/full", "t/full/x/y"), "EINVAL",
    "EINVAL", "EINVAL", "EINVAL")
always("5.2/same-path", lambda: rename("t/f", "t/f"), 0)
row("5.2/out-of-virtual", lambda: rename(".vmlist", "t/new"), "EACCES",
    "EACCES", "EACCES", "EACCES")
row("5.2/onto-virtual", lambda: rename("t/f", ".vmlist"), "EACCES", "EACCES",
    "EACCES", "EACCES")
row("5.2/onto-link", lambda: rename("t/f", "local"), "EACCES", "EACCES",
    "EACCES", "EACCES")
always("5.2/missing", lambda: rename("t/no", "t/new"), "ENOENT")
always("5.2/missing-parent", lambda: rename("t/f", "no/new"), "ENOENT")
private("5.2/lock-directory", lambda: rename("priv/lock/held", "t/new"),
        "EACCES")
private("5.2/into-priv-lock", lambda: rename("t/empty", "priv/lock/new"), 0)

# 5.3


def handles():
    fd = os.open(path("t/f"), os.O_RDWR)
    rename("t/f", "t/new")
    os.pwrite(fd, b"X", 0)
    same(get("t/new"), b"X2345")
    rename("t/g", "t/new")
    same((os.pread(fd, 9, 0), get("t/new")), (b"X2345", b"g"))
    try:
        os.pwrite(fd, b"x", 0)
    except OSError as error:
        same(error.errno, errno.ESTALE)
    same(get("t/new"), b"g")
    os.close(fd)


change("5.3/handles-follow-files", handles)
row("5.3/seek-end", lambda: same(with_fd(
    "t/f", os.O_RDONLY, lambda fd: os.lseek(fd, 0, os.SEEK_END)), 5), 0, 0,
    "EACCES", 0)

# 7

change("7/create/other-node", lambda: opened("nodes/n2/lxc/200.conf", CREATE),
       "EEXIST")
change("7/create/other-type",
       lambda: opened("nodes/n1/qemu-server/200.conf", CREATE), "EEXIST")
change("7/create/ghost",
       lambda: opened("nodes/ghost/lxc/200.conf", CREATE), "EEXIST")
change("7/create/bad-node",
       lambda: opened("nodes/bad_node/lxc/200.conf", CREATE))
private("7/create/no-guest-path",
        lambda: opened("nodes/n1/priv/200.conf", CREATE), 0)
change("7/rename/other-node", lambda: rename("t/f", "nodes/n2/lxc/200.conf"),
       "EEXIST")
change("7/rename/replace", lambda: rename("t/f", "nodes/n1/lxc/200.conf"),
       then=lambda: same(get("lxc/200.conf"), b"12345"))


def guests():
    return {int(vmid): (guest["node"], guest["type"]) for vmid, guest
            in json.loads(get(".vmlist")).get("ids", {}).items()}


change("7/rename/ownership",
       lambda: rename("nodes/n1/lxc/200.conf", "nodes/n2/lxc/200.conf"),
       then=lambda: same(guests()[200], ("n2", "lxc")))
change("7/rename/type", lambda: rename("nodes/n1/lxc/200.conf",
                                       "nodes/n1/qemu-server/200.conf"),
       then=lambda: same(guests()[200], ("n1", "qemu")))
change("7/rename/renumber",
       lambda: rename("nodes/n1/lxc/201.conf", "nodes/n1/lxc/202.conf"),
       then=lambda: same(set(guests()), {200, 202}))


def away_and_back():
    rename("nodes/n1/lxc/200.conf", "t/away")
    same(set(guests()), {201})
    rename("t/away", "nodes/n1/lxc/200.conf")
    same(set(guests()), {200, 201})


change("7/rename/away-and-back", away_and_back)
for _name in ("0200.conf", "5x.conf", "4294967296.conf", "200.conf.tmp.5"):
    change(f"7/ordinary/{_name}",
           lambda n=_name: opened(f"nodes/n2/lxc/{n}", CREATE),
           then=lambda: same(set(guests()), {200, 201}))


def list_version():
    return json.loads(get(".vmlist"))["version"]


def list_steps():
    """What each operation adds to the version of the guest list."""
    steps = []
    before = list_version()
    for op in (lambda: opened("nodes/n1/lxc/210.conf", CREATE),
               lambda: write("nodes/n1/lxc/210.conf", b"x"),
               lambda: os.truncate(path("nodes/n1/lxc/210.conf"), 0),
               lambda: utime("nodes/n1/lxc/210.conf", 5),
               lambda: rename("nodes/n1/lxc/210.conf", "nodes/n2/lxc/210.conf"),
               lambda: rename("t/g", "nodes/n2/lxc/210.conf"),
               lambda: os.unlink(path("nodes/n2/lxc/210.conf"))):
        op()
        steps.append(list_version() - before)
        before += steps[-1]
    same(steps, [1, 1, 1, 0, 2, 1, 1])


change("7/registry/versions", list_steps)
change("7/directory/mkdir", lambda: os.mkdir(path("nodes/n1/lxc/300.conf")),
       "EINVAL")
change("7/directory/rename",
       lambda: rename("t/empty", "nodes/n1/lxc/300.conf"), "EINVAL")
change("7/directory/file-as-folder", lambda: opened("nodes/n1/openvz", CREATE),
       "EINVAL")

# 8

private("8/mkdir/acquire", lambda: os.mkdir(path("priv/lock/new")), 0)
private("8/mkdir/held", lambda: os.mkdir(path("priv/lock/held")), "EEXIST",
        cut="EEXIST")
private("8/utime/unlock-request", lambda: utime("priv/lock/held", 0),
        "EACCES", cut="EACCES")
private("8/utime/unlock-missing", lambda: utime("priv/lock/no", 0), "ENOENT",
        cut="ENOENT")


def renew(delta):
    utime("priv/lock/held", mtime("priv/lock/held") + delta)


private("8/utime/renew", lambda: renew(1), 0)
private("8/utime/renew-same", lambda: renew(0), 0)
private("8/utime/renew-older", lambda: renew(-1), "EACCES")
private("8/utime/too-far-in-the-future",
        lambda: utime("priv/lock/held", int(time.time()) + 70), "EACCES")
private("8/utime/file", lambda: utime("priv/lock/file", 5), 0,
        lambda: same(mtime("priv/lock/file"), 5))
private("8/rmdir/release", lambda: os.rmdir(path("priv/lock/held")), 0)
private("8/rmdir/non-empty", lambda: os.rmdir(path("priv/lock/full")),
        "ENOTEMPTY")
private("8/rename", lambda: rename("priv/lock/held", "priv/lock/new"),
        "EACCES")

# 9

for _row, _op, _taken in (
        ("on", lambda: same(write(".debug", b"1\n"), 2), 0),
        ("off", lambda: same(write(".debug", b"0\n"), 2), 0),
        ("longer", lambda: same(write(".debug", b"0\nmore"), 2), 0),
        ("one-byte", lambda: write(".debug", b"1"), "EIO"),
        ("other", lambda: write(".debug", b"2\n"), "EIO"),
        ("offset", lambda: write(".debug", b"0\n", offset=1), "EIO"),
        ("truncate", lambda: os.truncate(path(".debug"), 0), 0)):
    row(f"9/debug/{_row}", _op, _taken, "EACCES", "EACCES", _taken)


def debug_shell():
    subprocess.run(["sh", "-ec", f"echo 1 > {PVE}/.debug;"
                    f"test $(cat {PVE}/.debug) = 1; echo 0 > {PVE}/.debug;"
                    f"test $(cat {PVE}/.debug) = 0"], check=True)


row("9/debug/shell", debug_shell, 0, None, None, 0)
row("9/debug/read", lambda: same(read(".debug"), b"0\n"), 0, 0, "EACCES", 0)


def counter(name):
    return json.loads(get(".version"))[name]


def observed():
    """The measured line below the table of counters."""
    steps = []
    if os.path.exists(path("storage.cfg")):
        os.unlink(path("storage.cfg"))
    before = counter("storage.cfg")
    for op in (lambda: put("storage.cfg", b"x"),
               lambda: write("storage.cfg", b"y"),
               lambda: put("storage.cfg", b"z"),
               lambda: utime("storage.cfg", 5),
               lambda: os.chmod(path("storage.cfg"), 0o640),
               lambda: rename("t/f", "storage.cfg"),
               lambda: rename("storage.cfg", "t/away"),
               lambda: rename("t/away", "storage.cfg"),
               lambda: os.unlink(path("storage.cfg")),
               lambda: os.mkdir(path("storage.cfg")),
               lambda: os.rmdir(path("storage.cfg"))):
        op()
        steps.append(counter("storage.cfg") - before)
        before += steps[-1]
    same(steps, [2, 1, 2, 1, 0, 1, 1, 1, 1, 0, 1])


change("9/version/counters", observed)


def version_text():
    text = get(".version").decode()
    keys = list(json.loads(text))
    same(keys[:5], ["starttime", "clinfo", "vmlist", "corosync.conf",
                    "corosync.conf.new"])
    same((keys[-2:], len(keys)), (["mapping/usb.cfg", "kvstore"], 3 + 43 + 1))
    assert re.match(r'\{\n"starttime": \d+,\n"clinfo": \d+,\n"vmlist": \d+,\n'
                    r'"corosync.conf": \d+,\n', text), text
    assert text.endswith('"kvstore": {\n"n1": {\n}\n}\n}\n'), text


row("9/version/text", version_text, 0, 0, "EACCES", 0)
row("9/members/local", lambda: same(
    re.sub(r"\d+\n", "N\n", get(".members").decode()),
    '{\n"nodename": "n1",\n"version": N\n}\n'), 0, 0, "EACCES", 0)


def vmlist_text():
    text = get(".vmlist").decode()
    assert re.fullmatch(
        r'\{\n"version": \d+,\n"ids": \{\n'
        r'"200": \{ "node": "n1", "type": "lxc", "version": \d+ \},\n'
        r'"201": \{ "node": "n1", "type": "lxc", "version": \d+ \}\}\n\n\}\n',
        text), text
    json.loads(text)


row("9/vmlist/text", vmlist_text, 0, 0, "EACCES", 0)


def clusterlog_text():
    text = get(".clusterlog").decode()
    assert re.fullmatch(
        r'\{\n"data": \[\n\{"uid": \d+, "time": \d+, "pri": 6, "tag":'
        r' "cluster", "pid": \d+, "node": "n1", "user": "root", "msg":'
        r' "starting cluster log"\}\n\]\n\}\n', text), text
    json.loads(text)


row("9/clusterlog/text", clusterlog_text, 0, 0, "EACCES", 0)
row("9/rrd/empty", lambda: same(get(".rrd"), b""), 0, 0, "EACCES", 0)

# 10: what goes on without quorum, and what does not.

row("10/works/list", lambda: os.listdir(path("t")), 0, 0, 0, 0)
row("10/works/statfs", lambda: os.statvfs(PVE), 0, 0, 0, 0)
row("10/works/readlink", lambda: os.readlink(path("local")), 0, 0, 0, 0)
change("10/refused/create", lambda: opened("t/new", CREATE))
change("10/refused/mkdir", lambda: os.mkdir(path("t/new")))
change("10/refused/write", lambda: write("t/f", b"x"))
change("10/refused/truncate", lambda: os.truncate(path("t/f"), 0))
change("10/refused/unlink", lambda: os.unlink(path("t/f")))
change("10/refused/rmdir", lambda: os.rmdir(path("t/empty")))
change("10/refused/rename", lambda: rename("t/f", "t/new"))
row("10/refused/utime", lambda: utime("t/f", 5), 0, "EPERM", "EPERM",
    "EACCES")

# 11, 12

PREFIX = b"totem {\n version: 2\n cluster_name: x\n config_version: "


def rename_conf(text):
    put("t/conf", text)
    rename("t/conf", "corosync.conf")


def conf_rows():
    conf = PREFIX + b"5\n}\n"
    rename_conf(conf)
    for bad in (PREFIX + b"4\n}\n", PREFIX + b"6\n", b"", PREFIX + b"0\n}\n"):
        try:
            rename_conf(bad)
        except OSError as error:
            same(error.errno, errno.EINVAL)
        else:
            raise AssertionError(bad)
        same(get("corosync.conf"), conf)
    rename_conf(conf)
    rename_conf(PREFIX + b"6\n}\n")
    os.unlink(path("corosync.conf"))


change("11/rename/versions", conf_rows)


# Running --------------------------------------------------------------------

def outcome(who, op):
    """0, the name of an errno, or what else went wrong; run as who."""
    out, into = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(out)
        try:
            uid, gid = WHO[who]
            os.setgroups([])
            os.setresgid(gid, gid, gid)
            os.setresuid(uid, uid, uid)
            op()
            text = "0"
        except OSError as error:
            text = errno.errorcode[error.errno]
        except BaseException as error:  # pylint: disable=broad-except
            text = f"{type(error).__name__}: {error}"
        os.write(into, text.encode()[:4000])
        os._exit(0)
    os.close(into)
    with os.fdopen(out, "rb") as pipe:
        text = pipe.read().decode()
    os.waitpid(pid, 0)
    return 0 if text == "0" else text


def run_row(entry, who, quorate):
    name, op, wanted, then = entry
    # EIO: a barrier concerns all alike: the node is cut off.
    is_cut = not quorate and (
        who == "root" or (wanted[who] == 0 and wanted["cut"] == "EIO"))
    key = "cut" if is_cut else who
    if wanted[key] is None:
        return None
    if quorate:
        fill()
    got = outcome(who, op)
    if got != wanted[key]:
        return f"{name} as {who}: {got} instead of {wanted[key]}"
    if quorate and who == "root" and got == 0 and then is not None:
        then()
    return None


def run_all(who, quorate):
    faults = []
    for entry in ROWS:
        try:
            faults.append(run_row(entry, who, quorate))
        except Exception:  # pylint: disable=broad-except
            faults.append(f"{entry[0]} as {who}: {traceback.format_exc()}")
    return [fault for fault in faults if fault]


def main():
    make_world()
    daemon = Daemon(PROGRAM)
    runs = [(who, quorate) for quorate in (True, False) for who in WHO]
    print(f"1..{len(runs)}", flush=True)
    failed = 0
    try:
        daemon.start("-l")
        for number, (who, quorate) in enumerate(runs, 1):
            if (who, quorate) == ("root", False):
                fill()
                put("corosync.conf")
                daemon.stop()
                daemon.start()  # a cluster whose corosync is not there
            faults = run_all(who, quorate)
            failed += bool(faults)
            print(f"{'not ' if faults else ''}ok {number} - {len(ROWS)} rows"
                  f" as {who} {'with' if quorate else 'without'} quorum")
            for line in "\n".join(faults).splitlines():
                print("#", line)
            sys.stdout.flush()
        daemon.stop()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
    text = LOG.read_text()
    if "ERROR: " in text or "runtime error" in text:
        failed += 1
        for line in text.splitlines():
            print("#", line)
    return 1 if failed else 0


if __name__ == "__main__":
    if PROGRAM == "--rows":
        print("\n".join(entry[0] for entry in ROWS))
    else:
        sys.exit(main())
