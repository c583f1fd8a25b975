#!/usr/bin/python3 -B
"""Container trees for the tests, as template tarballs in a cache.

  trees.py busybox     a tiny one from busybox-static: starts in no time
  trees.py debian      Debian 12 by debootstrap, with systemd

prints the path of the tarball, made first if the cache has none. A node finds
it there too (the cache is not private to a node):

  testbed run n1 cp /var/cache/pmxcfs-lxc/busybox-1_amd64.tar.gz \\
      /var/lib/vz/template/cache/
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

CACHE = Path("/var/cache/pmxcfs-lxc")
SUITE = "bookworm"
DEBIAN_PACKAGES = ("systemd-sysv", "dbus", "ifupdown", "iproute2",
                   "iputils-ping")
# Units that need what an unprivileged container is not allowed: they fail,
# and the system would count as degraded for ever.
DEBIAN_MASKED = ("sys-kernel-debug.mount", "sys-kernel-config.mount",
                 "sys-kernel-tracing.mount")


class TreeError(Exception):
    pass


def architecture():
    return subprocess.run(["dpkg", "--print-architecture"], check=True,
                          text=True, stdout=subprocess.PIPE).stdout.strip()


# ---- busybox ------------------------------------------------------------

INITTAB = """\
::sysinit:/bin/mkdir -p /dev/pts /run /tmp
::sysinit:/etc/init.d/rcS
::respawn:/bin/sleep 2147483647
::ctrlaltdel:/sbin/poweroff
::shutdown:/bin/sync
"""

RCS = """\
#!/bin/sh
# The network as the host set it up; and proof for tests that this ran.
ip link set lo up
date +%s >/run/booted
"""


def is_static(program):
    """ldd(1) fails for a program that needs no libraries."""
    return program.exists() and subprocess.run(
        ["ldd", str(program)], check=False, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL).returncode != 0


def build_busybox(tree):
    """init of busybox halts on SIGPWR and reboots on SIGTERM, as LXC asks."""
    program = Path("/bin/busybox")
    if not is_static(program):
        raise TreeError(f"{program} is not static: install busybox-static")
    for name in ("bin", "sbin", "usr/bin", "usr/sbin", "etc/init.d", "dev",
                 "proc", "sys", "run", "root", "var", "mnt", "tmp"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    (tree / "root").chmod(0o700)
    (tree / "tmp").chmod(0o1777)
    shutil.copy(program, tree / "bin/busybox")
    applets = subprocess.run([str(program), "--list-full"], check=True,
                             text=True, stdout=subprocess.PIPE).stdout.split()
    for applet in applets:
        link = tree / applet
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            link.symlink_to("/bin/busybox")
    for path, text in (("etc/inittab", INITTAB), ("etc/init.d/rcS", RCS),
                       ("etc/passwd", "root:*:0:0:root:/root:/bin/sh\n"),
                       ("etc/group", "root:x:0:\n"),
                       ("etc/hosts", "127.0.0.1 localhost\n")):
        (tree / path).write_text(text)
    (tree / "etc/init.d/rcS").chmod(0o755)


# ---- Debian -------------------------------------------------------------

def mirror():
    """The archive that this machine's own apt uses for its release."""
    sources = [Path("/etc/apt/sources.list"),
               *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    for source in sources:
        if not source.is_file():
            continue
        text = source.read_text(errors="replace")
        if source.suffix == ".sources":
            found = _mirror_of_stanzas(text)
        else:
            found = _mirror_of_lines(text)
        if found is not None:
            return found
    raise TreeError(f"no source of {SUITE} main in /etc/apt/sources.list or "
                    "/etc/apt/sources.list.d: add one for debootstrap")


def _mirror_of_lines(text):
    for line in text.splitlines():
        match = re.match(r"\s*deb\s+(?:\[[^]]*\]\s*)?(\S+)\s+(\S+)\s+(.*)", line)
        if match and match[2] == SUITE and "main" in match[3].split():
            return match[1]
    return None


def _mirror_of_stanzas(text):
    text = re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)
    for stanza in re.split(r"\n\s*\n", text):
        fields = dict(re.findall(r"^([\w-]+):[ \t]*(.*)$", stanza,
                                 re.MULTILINE))
        if fields.get("Enabled", "yes") != "no" \
                and SUITE in fields.get("Suites", "").split() \
                and "main" in fields.get("Components", "").split() \
                and "deb" in fields.get("Types", "").split():
            return fields["URIs"].split()[0]
    return None


def apt_proxy():
    """debootstrap downloads with wget, which knows nothing of apt's proxy."""
    environment = dict(os.environ)
    for line in subprocess.run(["apt-config", "dump"], check=False, text=True,
                               stdout=subprocess.PIPE).stdout.splitlines():
        match = re.match(r'Acquire::(https?)::Proxy "(.+)";', line)
        if match and match[2] != "DIRECT":
            environment.setdefault(f"{match[1]}_proxy", match[2])
    return environment


def build_debian(tree):
    log = CACHE / "debootstrap.log"
    with open(log, "wb") as out:
        process = subprocess.Popen(
            ["debootstrap", "--variant=minbase",
             "--include=" + ",".join(DEBIAN_PACKAGES), SUITE, str(tree),
             mirror()],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            env=apt_proxy() | {"DEBIAN_FRONTEND": "noninteractive"})
        wait_with_progress(process, "debootstrap", log)
    if process.returncode != 0:
        end = log.read_text(errors="replace").splitlines()[-10:]
        raise TreeError("debootstrap failed; the end of "
                        f"{log}:\n  " + "\n  ".join(end))
    for path in ("etc/machine-id", "var/lib/dbus/machine-id", "etc/hostname",
                 "etc/resolv.conf"):
        (tree / path).unlink(missing_ok=True)
    (tree / "etc/machine-id").touch()
    for unit in DEBIAN_MASKED:
        (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    subprocess.run(["chroot", str(tree), "passwd", "--lock", "root"],
                   check=True, stdout=subprocess.DEVNULL)
    for cached in (tree / "var/cache/apt/archives").glob("*.deb"):
        cached.unlink()
    for index in (tree / "var/lib/apt/lists").glob("*_*"):
        index.unlink()


def wait_with_progress(process, what, log):
    """A line every few seconds, with the last word of the log."""
    began = time.monotonic()
    while True:
        try:
            process.wait(5)
            return
        except subprocess.TimeoutExpired:
            lines = log.read_text(errors="replace").splitlines() or [""]
            print(f"  {what}: {time.monotonic() - began:.0f} s: "
                  f"{lines[-1][:60]}", file=sys.stderr, flush=True)


# ---- the cache ----------------------------------------------------------

TREES = {
    "busybox": ("busybox-1", build_busybox),
    "debian": ("debian-12-minbase_12", build_debian),
}


def empty_devices(tree):
    """A container gets its /dev from LXC, and may not unpack devices."""
    for entry in (tree / "dev").iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def tarball(kind):
    """The path of the tree's tarball; made when it is not there."""
    stem, build = TREES[kind]
    path = CACHE / f"{stem}_{architecture()}.tar.gz"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".lock-{kind}", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if path.exists():
            return path
        remove_leftovers(kind)
        work = Path(tempfile.mkdtemp(prefix=f".{kind}-", dir=CACHE))
        try:
            tree = work / "tree"
            tree.mkdir(mode=0o755)
            build(tree)
            empty_devices(tree)
            subprocess.run(["tar", "-C", str(tree), "--numeric-owner",
                            "--sort=name", "-czf", str(work / "tar.gz"), "."],
                           check=True)
            (work / "tar.gz").rename(path)
        finally:
            remove_tree(work)
    return path


def remove_leftovers(kind):
    """What an aborted run left: its lock is ours now."""
    for work in CACHE.glob(f".{kind}-*"):
        remove_tree(work)


def remove_tree(work):
    """debootstrap mounts /proc and /sys in the tree while it works."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    for line in reversed(mounts):
        point = line.split()[4]
        if point.startswith(f"{work}/"):
            subprocess.run(["umount", "-l", point], check=False)
    subprocess.run(["rm", "-rf", "--one-file-system", str(work)], check=True)


def main(argv):
    if len(argv) != 1 or argv[0] not in TREES:
        print(__doc__.strip(), file=sys.stderr)
        return 2
    try:
        print(tarball(argv[0]))
    except TreeError as error:
        print(f"trees.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
