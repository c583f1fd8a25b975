"""The local socket: what its clients see, and over a daemon's restarts.

Run by test-ipc.sh in namespaces of its own. Speaks TAP. Most of it is
ipc-conform's, a client in C; here is what needs the daemon to come and go.
"""

import contextlib
import re
import socket
import subprocess
import sys
from pathlib import Path

from localworld import TIMEOUT_S, Daemon, make_world, run_tests, wait_for

PROGRAM, CLIENT = sys.argv[1:3]
SHM = Path("/dev/shm")
FLAG = Path("/run/pve-cluster/cfs-restart-flag")

daemon = Daemon(PROGRAM)


def call(operation, payload=b""):
    """The answer's bytes, or the words that say what went wrong."""
    text = subprocess.run([CLIENT, "call", str(operation), payload.hex()],
                          timeout=TIMEOUT_S, text=True, check=False,
                          stdout=subprocess.PIPE).stdout.strip()
    return text if " " in text else bytes.fromhex(text)


def start_time():
    return int(re.search(rb'"starttime": (\d+)', call(1)).group(1))


def left_in_shm():
    return sorted(path.name for path in SHM.glob("qb-*"))


def client_rows():
    result = subprocess.run([CLIENT, "--tap"], text=True, check=False,
                            timeout=20 * TIMEOUT_S, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    for line in result.stdout.splitlines():
        print("#", line)
    assert result.returncode == 0, result.returncode


def start_time_grows():
    """Also when the clock of the host does not, row 1.3."""
    first = start_time()
    daemon.stop()
    daemon.start("-l")
    second = start_time()
    assert second > first, (first, second)
    daemon.stop()
    # As if the clock had been an hour ahead when we started.
    Path("/run/pve-cluster/start-time").write_text(f"{second + 3600}\n")
    daemon.start("-l")
    assert start_time() == second + 3601


def restart_flag():
    """8: it is there while the daemon is away for a moment."""
    assert not FLAG.exists()
    daemon.stop()
    assert FLAG.exists()
    assert call(1).startswith("connect 111"), "ECONNREFUSED"
    daemon.start("-l")
    assert not FLAG.exists()
    assert call(1)


def nothing_is_left_in_shm():
    assert call(1)
    wait_for(lambda: not left_in_shm(), "cleaning after the client")
    with subprocess.Popen([CLIENT, "hold"], stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        assert len(left_in_shm()) == 1, left_in_shm()
        daemon.kill()
        foreign = SHM / f"qb-{daemon.process.pid}-1-2-abcdef"
        foreign.mkdir()
        (foreign / "qb-request-cmap-data").touch()
        holder.kill()
    assert len(left_in_shm()) == 2
    daemon.start("-l")
    assert left_in_shm() == [foreign.name]


def connect_raw():
    raw = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    raw.connect(b"\0pve2".ljust(108, b"\0"))
    return raw


def silent_strangers():
    """Who connects and says nothing takes no place for long."""
    silent = [connect_raw() for _ in range(300)]
    assert call(1)
    for raw in silent:
        raw.settimeout(TIMEOUT_S)
        assert raw.recv(1) == b""
        raw.close()
    assert call(1)


def greedy_greeting():
    """Nobody gets a buffer of gigabytes."""
    raw = connect_raw()
    raw.sendall(b"\xff\xff\xff\xff\0\0\0\0\x18\0\0\0\0\0\0\0"
                b"\0\0\0\xf0\0\0\0\0")
    raw.settimeout(TIMEOUT_S)
    with contextlib.suppress(ConnectionResetError):
        assert raw.recv(1) == b""
    assert call(1)


def taken_name():
    daemon.stop()
    taken = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    taken.bind(b"\0pve2".ljust(108, b"\0"))
    daemon.start("-l")
    taken.close()
    wait_for(lambda: isinstance(call(1), bytes), "service")


def main():
    make_world(own_disk=False)
    subprocess.run(["mount", "-t", "tmpfs", "none", SHM], check=True)
    subprocess.run(["hostname", "ipcl"], check=True)
    Path("/etc/hosts").write_text("127.0.0.1 localhost\n10.77.0.1 ipcl\n")
    return run_tests(daemon, [
        client_rows, start_time_grows, restart_flag, nothing_is_left_in_shm,
        silent_strangers, greedy_greeting, taken_name])


sys.exit(main())
