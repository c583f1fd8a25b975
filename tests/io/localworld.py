"""One daemon in local mode, in a mount namespace of its own.

For tests that a shell wrapper runs under unshare(1); they speak TAP.
"""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import traceback
from pathlib import Path

PVE = Path("/etc/pve")
STATE = Path("/var/lib/pve-cluster")
DATABASE = STATE / "config.db"
PID_FILE = Path("/run/pve-cluster.pid")
LOG = Path("/run/pmxcfs.log")
TIMEOUT_S = 30  # with sanitizers, on a busy machine


def make_world(own_disk=True):
    """Copies of the directories the daemon knows, on a disk in memory; with
    one of its own for the database, which can be filled and emptied."""
    def mount(*words):
        subprocess.run(["mount", *words], check=True)

    mount("-t", "tmpfs", "none", "/mnt")
    for name in ("/etc", "/var/lib"):
        upper, work = f"/mnt{name}/upper", f"/mnt{name}/work"
        os.makedirs(upper)
        os.makedirs(work)
        mount("-t", "overlay", "none", "-o",
              f"lowerdir={name},upperdir={upper},workdir={work}", name)
    mount("-t", "tmpfs", "none", "/run")
    subprocess.run(["rm", "-rf", STATE, PVE, "/etc/corosync/corosync.conf"],
                   check=True)
    if own_disk:
        STATE.mkdir(mode=0o750)
        mount("-t", "tmpfs", "none", str(STATE))
    subprocess.run(["hostname", "n1.example.com"], check=True)
    Path("/etc/hosts").write_text("127.0.0.1 localhost\n10.77.0.1 n1\n")


def wait_for(condition, what):
    end = time.monotonic() + TIMEOUT_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"no {what} within {TIMEOUT_S} s")
        time.sleep(0.01)


def is_link(path):
    try:
        return path.is_symlink()
    except OSError:
        return False


class Daemon:
    """The program in the foreground; what it logs goes to LOG."""

    def __init__(self, program):
        self.program = program
        self.process = None

    def start(self, *options, under=()):
        with LOG.open("ab") as log:
            self.process = subprocess.Popen(
                [*under, self.program, "-f", *options], stderr=log)
        wait_for(lambda: self.process.poll() is not None
                 or is_link(PVE / "local"), "mount")
        assert self.process.poll() is None, LOG.read_text()

    def end(self, number):
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)

    def stop(self):
        status = self.end(signal.SIGTERM)
        assert status == 0, status

    def kill(self):
        self.end(signal.SIGKILL)


def rows(path=DATABASE):
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro",
                                            uri=True)) as db:
        return db.execute("SELECT * FROM tree ORDER BY inode").fetchall()


def run_tests(daemon, tests):
    """Runs each on a running daemon. Returns the exit status."""
    print(f"1..{len(tests)}", flush=True)
    failed = 0
    try:
        daemon.start("-l")
        for number, function in enumerate(tests, 1):
            name = function.__name__.replace("_", " ")
            try:
                function()
                print(f"ok {number} - {name}", flush=True)
            except Exception:  # pylint: disable=broad-except
                failed += 1
                print(f"not ok {number} - {name}")
                for line in traceback.format_exc().splitlines():
                    print("#", line)
                sys.stdout.flush()
        daemon.stop()
    finally:
        if daemon.process is not None and daemon.process.poll() is None:
            daemon.kill()
        text = LOG.read_text()
        if failed or "ERROR: " in text or "runtime error" in text:
            failed += 1
            for line in text.splitlines()[-200:]:
                print("#", line)
    return 1 if failed else 0
