"""What pct and the agent do, on a container that starts in no time."""

import pytest

from cluster import in_parallel, wait_for
from guests import PVE, create, prepared, template, wait_status  # noqa: F401


@pytest.mark.parametrize("unprivileged", ["0", "1"])
def test_life_with_pct(cluster, template, unprivileged):
    n1 = cluster["n1"]
    create(n1, "110", template, "--hostname", "tiny",
           "--unprivileged", unprivileged,
           "--net0", f"name=eth0,bridge=vmbr0,ip=10.99.{cluster.index}.110/24")
    assert "110" in n1.output("pct", "list")
    config = n1.output("pct", "config", "110")
    assert "hostname: tiny" in config
    assert "memory: 64" in config
    n1.run("pct", "start", "110")
    wait_status(n1, "110", "running")
    owner = n1.output("pct", "exec", "110", "--", "cat", "/proc/self/uid_map")
    assert owner.split() == (["0", "100000", "65536"] if unprivileged == "1"
                             else ["0", "0", "4294967295"])
    assert n1.run("pct", "exec", "110", "--", "sh", "-c", "exit 5",
                  check=False).returncode == 5
    n1.run("pct", "shutdown", "110", timeout=90)
    wait_status(n1, "110", "stopped")
    n1.run("pct", "start", "110")
    n1.run("pct", "stop", "110")
    wait_status(n1, "110", "stopped")
    n1.run("pct", "destroy", "110")
    assert not n1.ok("test", "-e", f"{PVE}/nodes/n1/lxc/110.conf")
    assert not list(n1.on_disk("/var/lib/vz/images/110").glob("*"))


def test_limits_and_network_of_the_file(cluster, template):
    n1, n2, _ = cluster.nodes
    create(n1, "111", template, "--unprivileged", "1", "--cores", "1",
           "--net0", f"name=eth0,bridge=vmbr0,ip=10.99.{cluster.index}.111/24")
    n1.run("pct", "start", "111")
    wait_status(n1, "111", "running")
    limit = n1.output("sh", "-c", "cat /sys/fs/cgroup/memory/lxc/111/"
                      "memory.limit_in_bytes /sys/fs/cgroup/lxc/111/memory.max"
                      " 2>/dev/null || :")
    assert limit.split()[0] == str(64 << 20)
    assert "eth0" in n1.output("pct", "exec", "111", "--", "ip", "addr")
    assert "veth111i0" in n1.output("ls", "/sys/class/net/vmbr0/brif")


def test_new_file_gets_the_next_id(cluster, template):
    n1, n2, n3 = cluster.nodes
    text = (f"ostemplate: local:vztmpl/{template.name}\n"
            "ostype: unmanaged\nhostname: fresh\nmemory: 64\n"
            "rootfs: local:0\nunprivileged: 1\nstate: started\n")
    n3.write("/root/new-web.conf", text)
    n3.run("mv", "/root/new-web.conf", f"{PVE}/nodes/n1/lxc/new-web.conf")
    wait_for(lambda: n2.ok("test", "-e", f"{PVE}/nodes/n1/lxc/100.conf"), 30,
             lambda: str(n1.fail("new-web.conf was not made to 100.conf: "
                                 + n1.output("ls", f"{PVE}/nodes/n1/lxc"),
                                 "/var/log/syslog")))
    wait_status(n1, "100", "running")
    config = n2.read(f"{PVE}/nodes/n1/lxc/100.conf")
    assert "ostemplate" not in config
    assert "hostname: fresh" in config
    assert not n2.ok("test", "-e", f"{PVE}/nodes/n1/lxc/new-web.conf")


def test_requests_from_all_nodes_get_different_ids(cluster, template):
    def ask(node):
        node.write("/root/new.conf." + node.name,
                   f"ostemplate: local:vztmpl/{template.name}\n"
                   "ostype: unmanaged\nmemory: 64\nrootfs: local:0\n"
                   "unprivileged: 1\n")
        node.run("mv", "/root/new.conf." + node.name,
                 f"{PVE}/nodes/{node.name}/lxc/new.conf")

    def made():
        paths = cluster["n1"].output(
            "sh", "-c", f"cd {PVE}/nodes; echo n*/lxc/*.conf").split()
        done = [path for path in paths if path[-8:-5].isdigit()]
        return sorted(done) if len(done) == 3 == len(paths) else None

    in_parallel(ask, cluster.nodes)
    paths = wait_for(made, 60, lambda: cluster["n1"].output(
        "sh", "-c", f"ls {PVE}/nodes/*/lxc/"))
    assert len({path.rpartition("/")[2] for path in paths}) == 3
    assert {path.split("/")[0] for path in paths} == {"n1", "n2", "n3"}


def test_request_that_cannot_be_met_says_why(cluster):
    n1 = cluster["n1"]
    n1.write("/root/new-bad.conf", "ostemplate: local:vztmpl/nosuch.tar.gz\n"
             "rootfs: local:0\nunprivileged: 1\n")
    n1.run("mv", "/root/new-bad.conf", f"{PVE}/nodes/n1/lxc/new-bad.conf")
    wait_for(lambda: n1.ok("test", "-e", f"{PVE}/nodes/n1/lxc/failed-bad.conf"),
             30, "new-bad.conf was not renamed to failed-bad.conf")
    first = n1.read(f"{PVE}/nodes/n1/lxc/failed-bad.conf").splitlines()[0]
    assert first.startswith("#")
    assert "nosuch.tar.gz" in first


def test_no_quorum_starts_nothing(cluster, template):
    n1, n2, n3 = cluster.nodes
    create(n3, "112", template, "--unprivileged", "1")
    cluster.cut(["n3"])
    wait_for(lambda: not n3.is_writable(), 30, "n3 still feels quorate")
    assert n3.run("pct", "start", "112", check=False).returncode != 0
    assert n3.containers() == []
    cluster.heal()
    cluster.wait_quorate()
    n3.run("pct", "start", "112")
    wait_status(n3, "112", "running")


def test_node_crash_takes_its_containers_along(cluster, template):
    n1, n2, _ = cluster.nodes
    create(n2, "113", template, "--unprivileged", "1")
    n2.run("sh", "-c", f"echo 'state: started' >>{PVE}/lxc/113.conf")
    wait_status(n2, "113", "running")
    n2.destroy_world()
    assert "state: started" in n1.read(f"{PVE}/nodes/n2/lxc/113.conf")
    cluster.up()
    wait_status(n2, "113", "running", 60)
