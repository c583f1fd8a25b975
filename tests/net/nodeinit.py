#!/usr/bin/python3
"""Pid 1 of a test node: makes the node's world, then reaps what dies in it.

Called by cluster.py with the description of the node as JSON on stdin; it
prints `pid <host pid of pid 1>`, then `ready` or `error <reason>`. Killing
pid 1 from outside kills everything of the node, and with its last process
all its namespaces and mounts go.
"""

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import sys
import time
import uuid

import hostcgroups

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MS_NOEXEC = 8
MS_REMOUNT = 32
MS_BIND = 4096
MS_REC = 16384
MS_PRIVATE = 1 << 18
MS_SHARED = 1 << 20
MNT_DETACH = 2

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result, what):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags):
    _check(_libc.unshare(flags), "unshare")


def mount(source, target, fstype=None, flags=0, data=None):
    def text(value):
        return None if value is None else os.fsencode(value)

    _check(_libc.mount(text(source), text(target), text(fstype),
                       ctypes.c_ulong(flags), text(data)),
           f"mount {source} on {target}")


def bind(source, target):
    mount(source, target, None, MS_BIND)


def umount_below(top):
    """Unmount all at or below top; only in this mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8") as mounts:
        points = [line.split()[4] for line in mounts]
    for point in reversed(points):
        if point == top or point.startswith(top + "/"):
            _libc.umount2(os.fsencode(point), MNT_DETACH)


def join_groups(groups):
    for _, path in groups:
        with open(os.path.join(path, "cgroup.procs"), "w",
                  encoding="ascii") as procs:
            procs.write(str(os.getpid()))


def settle_in_leaf(groups, unified):
    """Leave the cgroup2 root of the node, which is to have controllers."""
    for hierarchy, path in groups:
        if hierarchy.kind == "cgroup2":
            leaf = os.path.join(path, hostcgroups.LEAF)
            os.mkdir(leaf)
            join_groups([(hierarchy, leaf)])
            if unified:
                hostcgroups.enable_controllers(path)


def mount_own_proc(boot_id):
    umount_below("/proc/sys/fs/binfmt_misc")
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    # A user namespace may mount a proc only where it sees one without
    # anything mounted over its files, as the boot id is below.
    os.makedirs("/run/testbed/proc", mode=0o700)
    mount("proc", "/run/testbed/proc", "proc",
          MS_NOSUID | MS_NODEV | MS_NOEXEC)
    with open("/run/testbed/boot_id", "w", encoding="ascii") as stream:
        stream.write(boot_id + "\n")
    os.chmod("/run/testbed/boot_id", 0o444)
    bind("/run/testbed/boot_id", "/proc/sys/kernel/random/boot_id")


def mount_own_sys(groups):
    umount_below("/sys")
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    if os.path.isdir("/sys/fs/fuse/connections"):
        mount("fusectl", "/sys/fs/fuse/connections", "fusectl",
              MS_NOSUID | MS_NODEV | MS_NOEXEC)
    flags = MS_NOSUID | MS_NODEV | MS_NOEXEC
    top = "/sys/fs/cgroup"
    if hostcgroups.is_unified([hierarchy for hierarchy, _ in groups]):
        mount("cgroup2", top, "cgroup2", flags)
        return
    mount("tmpfs", top, "tmpfs", flags, "mode=755")
    for hierarchy, _ in groups:
        target = os.path.join(top, hierarchy.relative)
        os.mkdir(target)
        mount(hierarchy.kind, target, hierarchy.kind, flags,
              hierarchy.options or None)
        controllers = hierarchy.options.split(",")
        if len(controllers) > 1:
            for controller in controllers:
                os.symlink(hierarchy.relative, os.path.join(top, controller))


def mount_runtime():
    umount_below("/run")
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    os.mkdir("/run/lock")
    os.chmod("/run/lock", 0o1777)
    os.mkdir("/run/sshd", 0o755)
    os.makedirs("/dev/shm", exist_ok=True)
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")
    if os.path.isdir("/dev/mqueue"):
        mount("mqueue", "/dev/mqueue", "mqueue",
              MS_NOSUID | MS_NODEV | MS_NOEXEC)


def mount_disk(disk, private, keep):
    """Bind the node's own files over the host's.

    keep: directories that must stay visible where they are, like a build
    below /root; they are held open and mounted again in the new place.
    """
    held = [(path, os.open(path, os.O_PATH | os.O_DIRECTORY))
            for path in keep]
    for path in private:
        bind(disk + path, path)
    for path, descriptor in held:
        os.makedirs(path, exist_ok=True)
        bind(f"/proc/self/fd/{descriptor}", path)
        os.close(descriptor)


def build_world(spec, groups):
    os.umask(0o022)
    mount(None, "/", None, MS_REC | MS_PRIVATE)
    mount_disk(spec["disk"], spec["private"], spec["keep"])
    mount_runtime()
    mount_own_proc(str(uuid.uuid4()))
    mount_own_sys(groups)
    # As below systemd: what a new mount namespace sees of later mounts is
    # the choice of who made it.
    mount(None, "/", None, MS_REC | MS_SHARED)
    socket.sethostname(spec["node"])


def open_log():
    """The socket of syslog(3); where /dev/log leads is ours, in /run."""
    target = os.path.realpath("/dev/log")
    log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM
                        | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    if target.startswith("/run/"):
        os.makedirs(os.path.dirname(target), exist_ok=True)
        log.bind(target)
    elif os.path.exists(target):
        log.bind("/run/testbed/log")
        bind("/run/testbed/log", target)
        target = "/run/testbed/log"
    os.chmod(target, 0o666)
    return log


def write_lines(lines):
    """Append to the node's /var/log/syslog, stamped."""
    with open("/var/log/syslog", "ab") as out:
        for line in lines:
            out.write(time.strftime("%F %T ").encode() + line + b"\n")


def write_log(log):
    lines = []
    with contextlib.suppress(BlockingIOError):
        while True:
            line = log.recv(65536)
            lines.append(line[line.find(b">") + 1:].rstrip(b"\0\n"))
    write_lines(lines)


def reap():
    """A daemon's own parent has ended: nobody else hears how it ends."""
    try:
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            if os.WIFSIGNALED(status) and os.WTERMSIG(status) not in (
                    signal.SIGKILL, signal.SIGTERM):
                name = signal.Signals(os.WTERMSIG(status)).name
                with contextlib.suppress(OSError):
                    write_lines([f"init: process {pid} died of {name}"
                                 .encode()])
    except ChildProcessError:
        pass


def serve_forever(log):
    """Reaps orphans and writes the log; no other signal reaches pid 1."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    reap()
    while True:
        readable, _, _ = select.select([wake_read, log], [], [])
        if wake_read in readable:
            os.read(wake_read, 4096)
            reap()
        if log in readable:
            try:
                write_log(log)
            except OSError:
                pass  # a full disk must not be the end of the node


def run_as_init(spec, groups):
    try:
        build_world(spec, groups)
        log = open_log()
    except Exception as error:  # whatever it was, the caller must hear it
        os.write(1, f"error {error}\n".encode())
        os._exit(1)
    os.write(1, b"ready\n")
    os.chdir("/")
    null = os.open("/dev/null", os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    serve_forever(log)


def main():
    spec = json.load(sys.stdin)
    groups = hostcgroups.make(*spec["cgroup"])
    join_groups(groups)
    unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET
            | CLONE_NEWCGROUP | CLONE_NEWPID)
    settle_in_leaf(groups, hostcgroups.is_unified([h for h, _ in groups]))
    # The child says "ready" only when told that its pid has been printed.
    go_read, go_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        os.read(go_read, 1)
        os.close(go_read)
        run_as_init(spec, groups)
    os.write(1, f"pid {pid}\n".encode())
    os.write(go_write, b".")


if __name__ == "__main__":
    try:
        main()
    except OSError as error:
        print(f"error {error}", flush=True)
        sys.exit(1)
