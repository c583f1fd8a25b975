"""The local socket: what its clients see, and over a daemon's restarts.

Run by test-ipc.sh in namespaces of its own. Speaks TAP. Most of it is
ipc-conform's, a client in C; here is what needs the daemon to come and go.
"""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

from localworld import PVE, TIMEOUT_S, Daemon, make_world, run_tests, wait_for

PROGRAM, CLIENT, EVENTS = sys.argv[1:4]
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


def patient_clients():
    """8: a restart is invisible; the patience ends after 10 s, and the flag."""
    def begin():
        client = subprocess.Popen([EVENTS, "call"], text=True,
                                  stdout=subprocess.PIPE)
        assert client.stdout.readline() == "begins\n"
        return client

    daemon.stop()
    with begin() as client:
        daemon.start("-l")
        assert client.stdout.readline() == "answered\n"
        assert client.wait(TIMEOUT_S) == 0
    daemon.stop()
    began = time.monotonic()
    with begin() as client:
        assert "Connection refused" in client.stdout.readline()
        assert client.wait(TIMEOUT_S) == 1
    assert 10 <= time.monotonic() - began
    assert not FLAG.exists()
    with begin() as client:  # no flag: no patience
        assert "Connection refused" in client.stdout.readline()
    daemon.start("-l")


def left_in_shm():
    return sorted(path.name for path in SHM.glob("qb-*"))


def run_client(program):
    result = subprocess.run([program, "--tap"], text=True, check=False,
                            timeout=20 * TIMEOUT_S, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT)
    for line in result.stdout.splitlines():
        print("#", line)
    assert result.returncode == 0, result.returncode


def client_rows():
    run_client(CLIENT)


def events():
    run_client(EVENTS)


def events_over_a_restart():
    """A watcher goes on by itself, and is told that it may have lost some."""
    with subprocess.Popen([EVENTS, "watch", "again"], text=True,
                          stdout=subprocess.PIPE) as watch:
        assert watch.stdout.readline().strip() == "lost"
        daemon.stop()
        daemon.start("-l")
        line = watch.stdout.readline()
        while line.strip() != "lost":
            assert line.startswith("error "), line
            line = watch.stdout.readline()
        (PVE / "again").mkdir()
        line = watch.stdout.readline()
        while not line.startswith("created again"):
            assert line, "it ended"
            line = watch.stdout.readline()
        watch.kill()


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


def nonsense():
    """Nothing that a client may send ends the daemon, or grows it."""
    def size():
        text = Path(f"/proc/{daemon.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", text).group(1)) >> 10

    def send(count, seed):
        subprocess.run([CLIENT, "fuzz", str(count), str(seed)], check=True,
                       timeout=20 * TIMEOUT_S)

    count = int(os.environ.get("IPC_FUZZ", "20000"))
    send(count // 2, 1)
    before = size()
    send(count // 2, int(os.environ.get("IPC_FUZZ_SEED", "2")))
    assert isinstance(call(1), bytes)
    print(f"# {before} MiB, then {size()} MiB")
    maps = Path(f"/proc/{daemon.process.pid}/maps").read_text()
    # The address sanitizer keeps what was freed for a while.
    assert size() < before + (400 if "libasan" in maps else 64)


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
        client_rows, events, events_over_a_restart, start_time_grows,
        restart_flag, patient_clients, nothing_is_left_in_shm, nonsense,
        silent_strangers, greedy_greeting, taken_name])


sys.exit(main())
