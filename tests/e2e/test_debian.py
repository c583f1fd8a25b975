"""A real Debian container from file to systemd, moved by mv."""

import pytest

import trees
from cluster import wait_for

PVE = "/etc/pve"


@pytest.fixture(scope="module")
def template():
    return trees.tarball("debian")


@pytest.fixture
def container(cluster, template):
    """Container 100 on n1, made by pct, not started; gone afterwards."""
    n1 = cluster["n1"]
    n1.run("cp", str(template), "/var/lib/vz/template/cache/")
    n1.run("pct", "create", "100", f"local:vztmpl/{template.name}",
           "--rootfs", "local:0", "--unprivileged", "1",
           "--hostname", "web", "--memory", "256",
           "--net0", "name=eth0,bridge=vmbr0,ip=10.99.%d.100/24"
           % cluster.index, timeout=180)
    yield "100"
    for node in cluster.nodes:
        if node.ok("test", "-e", f"{PVE}/nodes/{node.name}/lxc/100.conf"):
            node.run("pct", "stop", "100", check=False, timeout=90)
            node.run("pct", "destroy", "100", check=False, timeout=90)


def status(node, ctid):
    return node.run("pct", "status", ctid, check=False).stdout.strip()


def wait_status(node, ctid, wanted, timeout_s):
    wait_for(lambda: status(node, ctid) == f"status: {wanted}", timeout_s,
             lambda: str(node.fail(f"container {ctid} is not {wanted} but "
                                   f"'{status(node, ctid)}'",
                                   "/var/log/syslog")))


def in_container(node, ctid, *command):
    return node.output("pct", "exec", ctid, "--", *command)


def wait_systemd(node, ctid):
    def state():
        return node.run("pct", "exec", ctid, "--", "systemctl",
                        "is-system-running", check=False).stdout.strip()
    wait_for(lambda: state() == "running", 60, lambda: str(node.fail(
        f"systemd of {ctid} is '{state()}': " + node.run(
            "pct", "exec", ctid, "--", "systemctl", "--failed",
            check=False).stdout)))


def init_of(node, ctid):
    """The pid of the container's init as the node sees it."""
    return node.output("lxc-info", "-n", ctid, "-p", "-H").strip()


def start_by_file(cluster):
    """Said on n3, done by n1, within the promised 5 s."""
    n1, _, n3 = cluster.nodes
    n3.run("sh", "-c", f"echo 'state: started' >> {PVE}/nodes/n1/lxc/100.conf")
    wait_status(n1, "100", "running", 5)


def test_file_says_started_then_mv_migrates(cluster, container):
    n1, n2, n3 = cluster.nodes
    start_by_file(cluster)
    wait_systemd(n1, container)
    in_container(n1, container, "sh", "-c",
                 "echo from-n1 >/root/data; chown 33:33 /root/data; sync")
    assert in_container(n1, container, "hostname").strip() == "web"

    n3.run("mv", f"{PVE}/nodes/n1/lxc/100.conf", f"{PVE}/nodes/n2/lxc/")
    wait_status(n2, container, "running", 60)
    wait_systemd(n2, container)
    assert in_container(n2, container, "cat", "/root/data") == "from-n1\n"
    assert in_container(n2, container, "stat", "-c", "%u:%g",
                        "/root/data") == "33:33\n"
    assert n1.containers() == []
    assert n2.containers() == [container]
    # Only one holds it, and the old one keeps nothing of it.
    wait_for(lambda: n3.output(
        "sh", "-c", f"ls {PVE}/nodes/*/lxc-holds/100").split()
        == [f"{PVE}/nodes/n2/lxc-holds/100"], 20,
        lambda: "hold records: " + n3.output(
            "sh", "-c", f"ls {PVE}/nodes/*/lxc-holds/100"))
    wait_for(lambda: not list(n1.on_disk("/var/lib/vz/images/100").glob("*")),
             30, "n1 still has volumes of 100")


def test_there_and_back_again(cluster, container):
    n1, n2, _ = cluster.nodes
    start_by_file(cluster)
    wait_systemd(n1, container)
    for source, target in ((n1, n2), (n2, n1)):
        in_container(source, container, "sh", "-c",
                     f"echo {source.name} >>/root/way; sync")
        source.run("mv", f"{PVE}/nodes/{source.name}/lxc/100.conf",
                   f"{PVE}/nodes/{target.name}/lxc/")
        wait_status(target, container, "running", 60)
    assert in_container(n1, container, "cat", "/root/way") == "n1\nn2\n"


def test_killed_agent_disturbs_nothing(cluster, container):
    n1, _, n3 = cluster.nodes
    start_by_file(cluster)
    wait_systemd(n1, container)
    init = init_of(n1, container)
    n1.kill("agent")
    assert init_of(n1, container) == init
    assert in_container(n1, container, "echo", "alive") == "alive\n"
    n1.start("agent")
    # It picks up where it was: the container goes on, and obeys its file.
    assert status(n1, container) == "status: running"
    n3.run("sed", "-i", "s/^state: started/state: stopped/",
           f"{PVE}/nodes/n1/lxc/100.conf")
    wait_status(n1, container, "stopped", 60)
    n3.run("sed", "-i", "s/^state: stopped/state: started/",
           f"{PVE}/nodes/n1/lxc/100.conf")
    wait_status(n1, container, "running", 30)


def test_change_said_while_the_agent_was_dead(cluster, container):
    n1, n2, n3 = cluster.nodes
    start_by_file(cluster)
    wait_systemd(n1, container)
    n1.kill("agent")
    n3.run("mv", f"{PVE}/nodes/n1/lxc/100.conf", f"{PVE}/nodes/n2/lxc/")
    wait_for(lambda: n2.ok("test", "-e", f"{PVE}/nodes/n2/lxc/100.conf"), 10,
             "n2 does not own 100")
    assert n1.containers() == [container]
    n1.start("agent")
    wait_status(n2, container, "running", 60)
    assert n1.containers() == []


def test_killed_filesystem_stops_nothing(cluster, container):
    n1 = cluster["n1"]
    start_by_file(cluster)
    wait_systemd(n1, container)
    init = init_of(n1, container)
    n1.kill("pmxcfs")
    assert init_of(n1, container) == init
    n1.start("pmxcfs")
    cluster.wait_in_sync()
    assert status(n1, container) == "status: running"
    assert init_of(n1, container) == init
