"""What watchers on one node hear of the others, and what a barrier says.

The programs ipc-events and ipc-conform are built by `make check`.
"""

import contextlib
import os
import signal
import subprocess
import threading
from pathlib import Path

import pytest

from cluster import wait_for
from node import REPO

PVE = "/etc/pve"
MAJORITY = "01000000"


@pytest.fixture(scope="module")
def programs():
    folder = Path(os.environ.get("top_builddir", REPO / "build"))
    done = subprocess.run(["make", "-s", "-C", folder, "tests/io/ipc-events",
                           "tests/io/ipc-conform"], check=False, text=True,
                          capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"no programs in {folder}: {done.stderr[-300:]}")
    return folder / "tests" / "io"


class Listener:
    """Collects the lines of a watcher on a node."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()
        self.wait("lost")

    def _read(self):
        for line in self.process.stdout:
            self.lines.append(line.strip())

    def wait(self, *wanted):
        """Until these lines have come, in this order."""
        def there():
            lines = iter(list(self.lines))
            return all(line in lines for line in wanted)
        wait_for(there, 30, f"{wanted} among {self.lines[-30:]}")

    def forget(self):
        del self.lines[:]


@contextlib.contextmanager
def listening(node, programs, *prefixes):
    with node.popen(programs / "ipc-events", "watch", *prefixes,
                    stdout=subprocess.PIPE) as process:
        try:
            yield Listener(process)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def test_changes_of_another_node(cluster, programs):
    n1, n2 = cluster.nodes[:2]
    n1.run("mkdir", "-p", f"{PVE}/watched")
    cluster.wait_in_sync()
    with listening(n2, programs, "watched") as heard:
        n1.run("sh", "-c", f"cd {PVE}/watched; echo a >x; mv x y")
        heard.wait("created watched/x", "changed watched/x",
                   "renamed watched/x watched/y")
        # Closed, and nobody changes it: whole on all nodes.
        n1.run("sh", "-c", f"echo b >{PVE}/watched/y")
        heard.wait("changed watched/y", "settled watched/y")
        n1.run("rm", f"{PVE}/watched/y")
        heard.wait("deleted watched/y")


def test_a_cut_and_its_end(cluster, programs):
    """The part without quorum hears so; what it missed is a new tree."""
    n1, n2, n3 = cluster.nodes
    n1.run("mkdir", "-p", f"{PVE}/cut")
    cluster.wait_in_sync()
    with listening(n3, programs, "cut") as heard:
        cluster.cut([n3.name])
        heard.wait("quorum")
        wait_for(lambda: n1.is_writable(), 30, "a majority")
        n1.run("sh", "-c", f"echo a >{PVE}/cut/meanwhile")
        heard.forget()
        cluster.heal()
        cluster.wait_quorate()
        heard.wait("reloaded")
        assert "deleted cut/meanwhile" not in heard.lines
        cluster.wait_in_sync()
        n2.run("rm", f"{PVE}/cut/meanwhile")
        heard.wait("deleted cut/meanwhile")


def test_sync_on_a_majority(cluster, programs):
    node = cluster.nodes[0]
    cluster.wait_in_sync()
    node.write(f"{PVE}/barrier", "x")
    answer = node.output(programs / "ipc-conform", "call", "256", "").strip()
    assert answer.startswith(MAJORITY), answer
