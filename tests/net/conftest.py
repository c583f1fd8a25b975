"""Fixtures of the tests that need a whole cluster; also used by tests/e2e.

A test of ours never sleeps for luck: it waits for a condition, and the error
on time-out names the node and shows its log.
"""

import os
import sys
import time
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster import Cluster  # noqa: E402
from node import DAEMONS, tail  # noqa: E402

BINDIR = os.environ.get("PMXCFS_TEST_BINDIR") or None


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root"))


def make_cluster(purpose, count=3):
    """A testbed of an own name; the caller takes it down."""
    cluster = Cluster(f"{purpose}-{os.getpid()}")
    with cluster.lock():
        try:
            cluster.up(count, BINDIR)
        except BaseException:
            cluster.down()
            raise
    return cluster


@pytest.fixture(scope="module")
def module_cluster(request):
    purpose = request.module.__name__.rpartition(".")[2]
    cluster = make_cluster(purpose.removeprefix("test_").replace("_", "-")[:14])
    yield cluster
    cluster.down()


@pytest.fixture
def cluster(module_cluster):
    """The module's cluster, whole again: what a test broke is mended."""
    module_cluster.up()
    module_cluster.began = time.time()
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
