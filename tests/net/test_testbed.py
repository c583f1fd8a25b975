"""The testbed itself: what people and the other tests rely on."""

import json
import os
import subprocess
from pathlib import Path

import pytest

import hostcgroups
from cluster import Cluster, ClusterError, in_parallel, wait_for
from clustertest import BINDIR, make_cluster
from node import HERE, RUN, STATE

TESTBED = str(HERE / "testbed")


def testbed(cluster, *arguments, **options):
    return subprocess.run([TESTBED, "--name", cluster.name, *arguments],
                          check=False, text=True, timeout=120,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          **options)


testbed.__test__ = False  # the name begins like a test's


def traces(name):
    """All that a testbed may leave on the host."""
    found = [str(path) for path in (STATE / name, RUN / name)
             if path.exists()]
    for hierarchy in hostcgroups.hierarchies():
        group = Path(hierarchy.mountpoint, hostcgroups.TOP, name)
        if group.exists():
            found.append(str(group))
    if f"pmxcfs-testbed/{name}/" in Path("/proc/self/mountinfo").read_text():
        found.append("a mount")
    return found


def test_run_passes_everything_through(cluster):
    result = testbed(cluster, "run", "n2", "sh", "-c",
                     "cat; echo err >&2; exit 7", input="in\n")
    assert (result.stdout, result.stderr, result.returncode) \
        == ("in\n", "err\n", 7)
    assert testbed(cluster, "run", "n2", "hostname").stdout == "n2\n"
    assert testbed(cluster, "run", "n9", "true").returncode == 1


def test_up_is_idempotent(cluster):
    pids = [node.init_pid() for node in cluster.nodes]
    assert testbed(cluster, "up").returncode == 0
    assert [node.init_pid() for node in cluster.nodes] == pids
    assert testbed(cluster, "up", "-n", "5").returncode == 1


def test_status_tells(cluster):
    text = testbed(cluster, "status").stdout
    assert text.count("quorate, members: n1 n2 n3") == 3
    assert text.count("writable") == 3


def test_ssh_by_name_and_address(cluster):
    for source in cluster.nodes:
        for target in cluster.nodes:
            for how in ([f"root@{target.name}"], [target.address],
                        ["-o", f"HostKeyAlias={target.name}", target.address]):
                assert source.output("ssh", "-o", "BatchMode=yes", *how,
                                     "hostname").strip() == target.name


def test_node_has_its_own_world(cluster):
    n1, n2, _ = cluster.nodes
    assert n1.boot_id() != n2.boot_id()
    n1.write("/dev/shm/mine", "1")
    n1.write("/run/mine", "1")
    n1.write("/var/log/mine", "1")
    for path in ("/dev/shm/mine", "/run/mine", "/var/log/mine"):
        assert not n2.ok("test", "-e", path)
        assert not Path(path).exists()
    assert n1.output("ls", "/sys/class/net").split() \
        == ["lo", "uplink", "vmbr0"]
    groups = {line.split(":", 2)[2] for line
              in n1.output("cat", "/proc/self/cgroup").splitlines()}
    assert groups <= {"/", f"/{hostcgroups.LEAF}"}


def test_crash_and_boot(cluster):
    n2 = cluster["n2"]
    old_boot = n2.boot_id()
    n2.write("/root/kept", "yes\n")
    sleeper = n2.popen("sleep", "1000")
    assert testbed(cluster, "crash", "n2").returncode == 0
    assert sleeper.wait(10) != 0
    assert not n2.is_up()
    assert testbed(cluster, "boot", "n2").returncode == 0
    assert n2.read("/root/kept") == "yes\n"
    assert n2.boot_id() != old_boot
    cluster.wait_quorate()


def test_stop_and_start_a_node(cluster):
    assert testbed(cluster, "stop", "n3").returncode == 0
    assert not cluster["n3"].is_up()
    assert testbed(cluster, "start", "n3").returncode == 0
    cluster.wait_quorate()


def test_cut_and_heal(cluster):
    n1, n2, n3 = cluster.nodes

    def reaches(source, target):
        return source.ok("ssh", "-o", "BatchMode=yes", "-o",
                         "ConnectTimeout=1", target.address, "true")

    assert testbed(cluster, "cut", "n1,n3").returncode == 0
    assert reaches(n1, n3)
    assert not reaches(n1, n2)
    assert not reaches(n2, n3)
    assert "UP" in n2.output("ip", "-br", "link", "show", "uplink")
    wait_for(lambda: n2.quorum() == (False, ["n2"]), 30, "n2 has company")
    assert testbed(cluster, "heal").returncode == 0
    assert reaches(n1, n2)
    cluster.wait_quorate()


def test_two_side_by_side_and_nothing_left():
    clusters = in_parallel(
        lambda name: make_cluster(name, 1), ["side-a", "side-b"])
    try:
        first, second = (Cluster(cluster.name) for cluster in clusters)
        assert first.index != second.index
        for cluster in (first, second):
            cluster["n1"].write("/etc/pve/whose", cluster.name)
        assert first["n1"].read("/etc/pve/whose") == first.name
    finally:
        for cluster in clusters:
            assert testbed(cluster, "down").returncode == 0
    for cluster in clusters:
        assert traces(cluster.name) == []


def test_down_after_an_aborted_up():
    """Killed anywhere on the way, the next call takes it up or away."""
    cluster = Cluster(f"aborted-{os.getpid()}")
    command = [TESTBED, "--name", cluster.name, "up", "-n", "2"]
    if BINDIR:
        command += ["--bindir", BINDIR]
    try:
        for condition in (lambda: (STATE / cluster.name / "n2").exists(),
                          lambda: (RUN / cluster.name / "n1.json").exists()):
            with subprocess.Popen(command, stderr=subprocess.DEVNULL) as up:
                wait_for(condition, 20, "the testbed does not begin")
                up.kill()
        # A record of a process that is another one by now is no record.
        record = RUN / cluster.name / "n1.json"
        record.write_text(json.dumps({"pid": os.getpid(), "start_time": 1,
                                      "boot": "another", "ready": True}))
        assert subprocess.run(command, check=False,
                              timeout=120).returncode == 0
    finally:
        assert testbed(cluster, "down").returncode == 0
    assert traces(cluster.name) == []


def test_bad_requests_are_refused():
    with pytest.raises(ClusterError, match="is no name"):
        Cluster("../etc")
    cluster = Cluster(f"none-{os.getpid()}")
    assert testbed(cluster, "run", "n1", "true").returncode == 1
    assert testbed(cluster, "up", "-n", "0").returncode == 1
    assert testbed(cluster, "down").returncode == 0
