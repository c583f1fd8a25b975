"""What the tests of whole clusters share, here and in tests/e2e.

A test of ours never sleeps for luck: it waits for a condition, and the error
on time-out names the node and shows its log.
"""

import os
import subprocess

import pytest

from cluster import Cluster, take_down_orphans, wait_for
from node import DAEMONS, start_time, tail

ROWS = ("SELECT inode, parent, version, writer, mtime, type, name, "
        "hex(data) FROM tree ORDER BY inode")
BINDIR = os.environ.get("PMXCFS_TEST_BINDIR") or None


def pytest_sessionstart():
    if os.geteuid() == 0:
        take_down_orphans()


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def make_cluster(purpose, count=3):
    """A testbed of an own name; the caller takes it down."""
    cluster = Cluster(f"{purpose}-{os.getpid()}")
    cluster.owner = [os.getpid(), start_time(os.getpid())]
    with cluster.lock():
        try:
            cluster.up(count, BINDIR)
        except BaseException:
            cluster.down()
            raise
    return cluster


def take_down(cluster):
    with cluster.lock():
        cluster.down()


@pytest.fixture(scope="module")
def module_cluster(request):
    purpose = request.module.__name__.rpartition(".")[2]
    cluster = make_cluster(purpose.removeprefix("test_").replace("_", "-")[:14])
    yield cluster
    take_down(cluster)


@pytest.fixture
def cluster(module_cluster):
    """The module's cluster, whole again: what a test broke is mended."""
    module_cluster.up()
    return module_cluster


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what the nodes logged at last."""
    outcome = yield
    report = outcome.get_result()
    cluster = getattr(item, "funcargs", {}).get("module_cluster")
    if not report.failed or cluster is None:
        return
    for node in cluster.nodes:
        logs = {DAEMONS[name].log for name in DAEMONS}
        logs |= {daemon.output for daemon in DAEMONS.values()}
        for log in sorted(logs):
            path = node.on_disk(log)
            if path.exists() and path.stat().st_size > 0:
                report.sections.append((f"{node.name} {log}", tail(path, 25)))


def wait_content(node, path, text, timeout_s=10):
    """Until node reads exactly text at path."""
    def same():
        result = node.run("cat", path, check=False)
        return result.returncode == 0 and result.stdout == text
    wait_for(same, timeout_s, lambda: str(node.fail(
        f"{path} is not {text[:60]!r}", "/var/log/syslog")))


def wait_missing(node, path, timeout_s=10):
    wait_for(lambda: not node.ok("test", "-e", path), timeout_s,
             f"{node.name} still has {path}")


def rows(node):
    """The database as another program sees it, without touching it."""
    path = node.on_disk("/var/lib/pve-cluster/config.db")
    return subprocess.run(["sqlite3", "-readonly", str(path), ROWS],
                          check=True, text=True, timeout=30,
                          stdout=subprocess.PIPE).stdout


def wait_equal_rows(nodes, timeout_s=30):
    """The databases follow the trees; in the end all are the same."""
    def equal():
        dumps = [rows(node) for node in nodes]
        return dumps[0] if len(set(dumps)) == 1 else None

    def difference():
        dumps = {node.name: rows(node).splitlines() for node in nodes}
        first = nodes[0].name
        return "databases differ: " + "; ".join(
            f"{name}: {sorted(set(dump) ^ set(dumps[first]))[:4]}"
            for name, dump in dumps.items() if dump != dumps[first])

    return wait_for(equal, timeout_s, difference)
