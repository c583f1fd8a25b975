"""What the agent promises of hold records and migration, on trees laid by hand.

Nothing here uses pct: the files are the only way in (DESIGN.md, section 3).
"""

import re

import pytest

import trees
from cluster import wait_for

PVE = "/etc/pve"
SUBVOL = "subvol-{0}-disk-0.subvol"


@pytest.fixture(scope="module")
def template():
    return trees.tarball("busybox")


@pytest.fixture(autouse=True)
def emptied(cluster):
    """What a test leaves is stopped and removed."""
    yield
    cluster.up()
    cluster.wait_quorate()
    for node in cluster.nodes:
        for ctid in node.containers():
            node.run("lxc-stop", "-n", str(ctid), "-k", check=False)
    cluster["n1"].run("sh", "-c", f"rm -f {PVE}/nodes/*/lxc*/* "
                      f"{PVE}/storage.cfg")
    for node in cluster.nodes:
        node.run("sh", "-c", "rm -rf /var/lib/vz/images/* /var/lib/lxc/*")


def conf_path(node, ctid):
    return f"{PVE}/nodes/{node.name}/lxc/{ctid}.conf"


def hold_path(node, ctid):
    return f"{PVE}/nodes/{node.name}/lxc-holds/{ctid}"


def lay_tree(node, ctid, template):
    path = f"/var/lib/vz/images/{ctid}/" + SUBVOL.format(ctid)
    node.run("mkdir", "-p", path)
    node.run("tar", "-xzf", str(template), "-C", path)


def text_of(ctid, *lines):
    return "".join(f"{line}\n" for line in (
        "arch: amd64", f"hostname: c{ctid}", "memory: 64",
        "ostype: unmanaged",
        f"rootfs: local:{ctid}/{SUBVOL.format(ctid)},size=0T", *lines))


def put(node, path, text):
    """As many an editor does: beside, then renamed into place."""
    node.write(path + ".new", text)
    node.run("mv", path + ".new", path)


def make(node, ctid, template, *lines):
    lay_tree(node, ctid, template)
    put(node, conf_path(node, ctid), text_of(ctid, *lines))


def append(node, path, line):
    node.run("sh", "-c", f"echo '{line}' >> {path}")


def why(node, ctid):
    def text():
        status = node.run("cat", "/run/pve-lxc-agent/status",
                          check=False).stdout
        return str(node.fail(f"container {ctid}: agent says {status!r}",
                             "/var/log/syslog"))
    return text


def runs(node, ctid):
    return str(ctid) in [str(known) for known in node.containers()]


def wait_runs(node, ctid, timeout_s=30):
    wait_for(lambda: runs(node, ctid), timeout_s, why(node, ctid))


def wait_stops(node, ctid, timeout_s=30):
    wait_for(lambda: not runs(node, ctid), timeout_s, why(node, ctid))


def wait_says(node, ctid, part, timeout_s=30):
    """Until the agent's status names the reason."""
    def said():
        lines = node.run("cat", "/run/pve-lxc-agent/status",
                         check=False).stdout.splitlines()
        return any(line.startswith(f"{ctid} ") and part in line
                   for line in lines)
    wait_for(said, timeout_s, why(node, ctid))


def wait_held(node, ctid, timeout_s=30):
    wait_for(lambda: node.ok("test", "-e", hold_path(node, ctid)), timeout_s,
             why(node, ctid))


def record(node, ctid):
    return dict(re.findall(r"^([a-z-]+): (.*)$",
                           node.read(hold_path(node, ctid)), re.M))


def init_of(node, ctid):
    return node.output("lxc-info", "-n", str(ctid), "-p", "-H").strip()


def in_tree(node, ctid, name):
    return (f"/var/lib/vz/images/{ctid}/" + SUBVOL.format(ctid) + "/" + name)


def test_adopted_started_stopped(cluster, template):
    n1, n2, n3 = cluster.nodes
    make(n1, 200, template)
    wait_held(n1, 200)
    assert not runs(n1, 200)
    append(n3, conf_path(n1, 200), "state: started")
    wait_runs(n1, 200, 6)
    wait_for(lambda: record(n1, 200)["ran"] == "1", 10, why(n1, 200))
    assert record(n1, 200)["volumes"] == "local:200/" + SUBVOL.format(200)
    n3.run("sed", "-i", "s/^state:.*/state: stopped/", conf_path(n1, 200))
    wait_stops(n1, 200, 60)
    wait_for(lambda: record(n1, 200)["ran"] == "0", 10, why(n1, 200))


def test_started_again_when_it_ends(cluster, template):
    n1 = cluster["n1"]
    make(n1, 201, template, "state: started")
    wait_runs(n1, 201)
    before = init_of(n1, 201)
    n1.run("lxc-stop", "-n", "201", "-k")
    wait_for(lambda: runs(n1, 201) and init_of(n1, 201) not in ("", before),
             30, why(n1, 201))


def test_failing_start_says_why_and_goes_on(cluster, template):
    n1 = cluster["n1"]
    make(n1, 202, template, "state: started",
         "net0: name=eth0,bridge=vmbr77,type=veth")
    wait_says(n1, 202, "vmbr77")
    n1.run("ip", "link", "add", "vmbr77", "type", "bridge")
    wait_runs(n1, 202, 30)
    n1.run("ip", "link", "del", "vmbr77")
    assert n1.read("/var/log/syslog").count("vmbr77") == 1, \
        "the reason is logged once"


def test_changed_file_ends_the_back_off(cluster, template):
    n1 = cluster["n1"]
    make(n1, 223, template, "state: started",
         "net0: name=eth0,bridge=vmbr78,type=veth")
    wait_says(n1, 223, "vmbr78")
    wait_for(lambda: "bridge 'vmbr78' does not exist" in
             n1.read("/var/log/syslog"), 10, why(n1, 223))
    n1.run("sed", "-i", "s/vmbr78/vmbr0/", conf_path(n1, 223))
    wait_runs(n1, 223, 10)


def test_file_that_cannot_be_parsed_changes_nothing(cluster, template):
    n1 = cluster["n1"]
    make(n1, 203, template, "state: started")
    wait_runs(n1, 203)
    before = init_of(n1, 203)
    put(n1, conf_path(n1, 203), "state: stopped\nthis is no option\n")
    wait_says(n1, 203, "line 2")
    assert init_of(n1, 203) == before
    put(n1, conf_path(n1, 203), text_of(203, "state: stopped"))
    wait_stops(n1, 203, 60)


def test_lock_keeps_hands_off(cluster, template):
    n1 = cluster["n1"]
    make(n1, 204, template, "state: started", "lock: backup")
    make(n1, 205, template, "state: started")
    wait_runs(n1, 205)
    assert not runs(n1, 204)
    n1.run("sed", "-i", "/^lock:/d", conf_path(n1, 204))
    wait_runs(n1, 204)


def test_agent_killed_disturbs_nothing(cluster, template):
    n1 = cluster["n1"]
    make(n1, 206, template, "state: started")
    wait_runs(n1, 206)
    before = init_of(n1, 206)
    n1.kill("agent", "KILL")
    assert runs(n1, 206)
    n1.start("agent")
    n1.run("sed", "-i", "s/^memory:.*/memory: 65/", conf_path(n1, 206))
    make(n1, 207, template, "state: started")
    wait_runs(n1, 207)
    assert init_of(n1, 206) == before
    n1.run("sed", "-i", "s/^state:.*/state: stopped/", conf_path(n1, 206))
    wait_stops(n1, 206, 60)


def test_filesystem_gone_stops_nothing(cluster, template):
    n1 = cluster["n1"]
    make(n1, 208, template, "state: started")
    wait_runs(n1, 208)
    before = init_of(n1, 208)
    n1.kill("pmxcfs", "KILL")
    wait_for(lambda: "/etc/pve cannot be read" in n1.read("/var/log/syslog"),
             20, why(n1, 208))
    assert init_of(n1, 208) == before
    n1.start("pmxcfs")
    wait_for(lambda: "can be read again" in n1.read("/var/log/syslog"), 20,
             why(n1, 208))
    n1.run("sed", "-i", "s/^state:.*/state: stopped/", conf_path(n1, 208))
    wait_stops(n1, 208, 60)


def test_deleted_file_stops_it_after_30_s(cluster, template):
    n1, n2, _ = cluster.nodes
    make(n1, 209, template, "state: started")
    wait_runs(n1, 209)
    wait_for(lambda: record(n1, 209)["ran"] == "1", 10, why(n1, 209))
    n2.run("rm", conf_path(n1, 209))
    wait_says(n1, 209, "deleted")
    assert runs(n1, 209)
    wait_stops(n1, 209, 100)
    assert n1.ok("test", "-e", in_tree(n1, 209, "bin"))
    assert n1.ok("test", "-e", hold_path(n1, 209))


def test_moved_there_and_back(cluster, template):
    n1, n2, n3 = cluster.nodes
    make(n1, 210, template, "state: started")
    wait_runs(n1, 210)
    n1.write(in_tree(n1, 210, "data"), "from-n1\n")
    n1.run("chown", "12:34", in_tree(n1, 210, "data"))
    n3.run("mv", conf_path(n1, 210), conf_path(n2, 210))
    wait_runs(n2, 210, 40)
    assert not runs(n1, 210)
    assert n2.read(in_tree(n2, 210, "data")) == "from-n1\n"
    assert n2.output("stat", "-c", "%u:%g",
                     in_tree(n2, 210, "data")).strip() == "12:34"
    # Users of the host must not reach the set-user-id files of its root.
    assert n2.output("stat", "-c", "%a",
                     "/var/lib/vz/images/210").strip() == "740"
    for path in ("/var/lib/vz/images/210", "/var/lib/lxc/210",
                 hold_path(n1, 210)):
        wait_for(lambda path=path: not n1.ok("test", "-e", path), 10,
                 why(n1, 210))
    n3.run("mv", conf_path(n2, 210), conf_path(n1, 210))
    wait_runs(n1, 210, 40)
    assert n1.read(in_tree(n1, 210, "data")) == "from-n1\n"


def test_moved_without_a_state_key(cluster, template):
    """It goes on as it was: running or not."""
    n1, n2, n3 = cluster.nodes
    make(n1, 211, template)
    make(n1, 212, template, "state: started")
    wait_held(n1, 211)
    wait_runs(n1, 212)
    n1.run("sed", "-i", "/^state:/d", conf_path(n1, 212))
    for ctid in (211, 212):
        n3.run("mv", conf_path(n1, ctid), conf_path(n2, ctid))
    wait_runs(n2, 212, 40)
    wait_held(n2, 211, 40)
    wait_for(lambda: "transfer" not in record(n2, 211), 20, why(n2, 211))
    assert n2.ok("test", "-e", in_tree(n2, 211, "bin"))
    assert not runs(n2, 211)


def test_new_owner_without_the_bridge_offers_nothing(cluster, template):
    n1, n2, n3 = cluster.nodes
    n1.run("ip", "link", "add", "vmbr5", "type", "bridge")
    make(n1, 213, template, "state: started",
         "net0: name=eth0,bridge=vmbr5,type=veth")
    wait_runs(n1, 213)
    before = init_of(n1, 213)
    n3.run("mv", conf_path(n1, 213), conf_path(n2, 213))
    wait_says(n2, 213, "bridge 'vmbr5' does not exist")
    assert init_of(n1, 213) == before
    n3.run("mv", conf_path(n2, 213), conf_path(n1, 213))
    wait_for(lambda: not n2.ok("grep", "-q", "^213 ",
                               "/run/pve-lxc-agent/status"), 20, why(n2, 213))
    assert init_of(n1, 213) == before
    n1.run("ip", "link", "del", "vmbr5")


def test_bind_mount_is_refused(cluster, template):
    n1, n2, _ = cluster.nodes
    make(n1, 214, template, "state: started", "mp0: /mnt,mp=/mnt")
    wait_runs(n1, 214)
    n1.run("mv", conf_path(n1, 214), conf_path(n2, 214))
    wait_says(n2, 214, "shared=1")
    assert runs(n1, 214)


def test_other_volumes_are_no_migration(cluster, template):
    n1, n2, _ = cluster.nodes
    make(n1, 215, template, "state: started")
    wait_runs(n1, 215)
    wait_for(lambda: record(n1, 215)["ran"] == "1", 10, why(n1, 215))
    n1.run("rm", conf_path(n1, 215))
    put(n2, conf_path(n2, 215), text_of(215, "state: started").replace(
        "disk-0", "disk-7"))
    wait_says(n1, 215, "other volumes")
    wait_stops(n1, 215, 90)
    assert n1.ok("test", "-e", in_tree(n1, 215, "bin"))
    assert not runs(n2, 215)


def test_volume_of_another_container_is_refused(cluster, template):
    """It would be copied, and then deleted where it belongs."""
    n1, n2, _ = cluster.nodes
    other = SUBVOL.format(231)
    n1.run("mkdir", "-p", f"/var/lib/vz/images/231/{other}")
    n1.write(f"/var/lib/vz/images/231/{other}/data", "precious\n")
    make(n1, 230, template, "state: started",
         f"mp0: local:231/{other},mp=/mnt")
    wait_runs(n1, 230)
    n1.run("mv", conf_path(n1, 230), conf_path(n2, 230))
    wait_says(n2, 230, "is not one of container 230")
    assert runs(n1, 230)
    assert n1.ok("test", "-e", f"/var/lib/vz/images/231/{other}/data")


def test_cleaning_up_spares_what_is_mounted(cluster, template):
    """Somebody's file system at the old node's rootfs is not the container's."""
    n1, n2, _ = cluster.nodes
    make(n1, 232, template)
    wait_held(n1, 232)
    n1.run("mkdir", "-p", "/var/lib/vz/keep")
    n1.write("/var/lib/vz/keep/data", "precious\n")
    n1.run("mkdir", "-p", "/var/lib/lxc/232/rootfs")
    n1.run("mount", "--bind", "/var/lib/vz/keep", "/var/lib/lxc/232/rootfs")
    n1.run("mv", conf_path(n1, 232), conf_path(n2, 232))
    wait_for(lambda: not n1.ok("test", "-e", "/var/lib/vz/images/232"), 40,
             why(n1, 232))
    wait_for(lambda: not n1.ok("test", "-e", "/var/lib/lxc/232/departed"), 20,
             why(n1, 232))
    assert n1.read("/var/lib/vz/keep/data") == "precious\n"
    n1.run("umount", "/var/lib/lxc/232/rootfs")
    n1.run("rm", "-r", "/var/lib/vz/keep")


def test_bad_addition_leaves_the_container_as_it_is(cluster, template):
    """A volume that cannot be made is no reason to give the container up."""
    n1, _, n3 = cluster.nodes
    make(n1, 233, template)
    wait_held(n1, 233)
    append(n3, conf_path(n1, 233), "mp0: nosuch:4,mp=/x")
    wait_says(n1, 233, "nosuch")
    assert n1.ok("test", "-e", conf_path(n1, 233))
    assert n1.ok("test", "-e", hold_path(n1, 233))
    assert "lock" not in n1.read(conf_path(n1, 233))
    n3.run("sed", "-i", "s/^mp0:.*/state: started/", conf_path(n1, 233))
    wait_runs(n1, 233)


def test_unreachable_receiver_keeps_it_running(cluster, template):
    """Asked before the stop: a dead sshd costs no downtime."""
    n1, n2, n3 = cluster.nodes
    make(n1, 216, template, "state: started")
    wait_runs(n1, 216)
    before = init_of(n1, 216)
    n2.stop("sshd")
    n3.run("mv", conf_path(n1, 216), conf_path(n2, 216))
    wait_says(n1, 216, "does not answer")
    assert init_of(n1, 216) == before
    n2.start("sshd")
    wait_runs(n2, 216, 60)
    assert not runs(n1, 216)


def test_holder_killed_between_handover_and_clean(cluster, template):
    """The note says what to delete; only once the record is elsewhere."""
    n1, n2, _ = cluster.nodes
    make(n2, 217, template)
    wait_held(n2, 217)
    lay_tree(n1, 217, template)
    n1.run("mkdir", "-p", "/var/lib/lxc/217")
    n1.write("/var/lib/lxc/217/departed", "local:217/" + SUBVOL.format(217)
             + "\n")
    wait_for(lambda: not n1.ok("test", "-e", "/var/lib/lxc/217"), 20,
             why(n1, 217))
    assert not n1.ok("test", "-e", "/var/lib/vz/images/217")
    assert n2.ok("test", "-e", in_tree(n2, 217, "bin"))


def test_running_without_right_is_killed(cluster, template):
    n1, n2, n3 = cluster.nodes
    make(n1, 218, template, "state: started")
    wait_runs(n1, 218)
    n3.run("mv", conf_path(n1, 218), conf_path(n2, 218))
    n3.run("mv", hold_path(n1, 218), hold_path(n2, 218))
    wait_stops(n1, 218, 20)


def test_running_owner_claims_again(cluster, template):
    n1, _, n3 = cluster.nodes
    make(n1, 219, template, "state: started")
    wait_runs(n1, 219)
    before = init_of(n1, 219)
    n3.run("rm", hold_path(n1, 219))
    wait_held(n1, 219)
    assert init_of(n1, 219) == before
    wait_for(lambda: record(n1, 219)["ran"] == "1", 10, why(n1, 219))


def test_adoption_waits_for_every_node(cluster, template):
    n1, _, n3 = cluster.nodes
    n3.stop("sshd")
    make(n1, 220, template, "state: started")
    wait_says(n1, 220, "does not answer")
    assert not n1.ok("test", "-e", hold_path(n1, 220))
    assert not runs(n1, 220)
    n3.start("sshd")
    wait_runs(n1, 220, 60)


def test_two_records_start_nothing(cluster, template):
    n1, n2, n3 = cluster.nodes
    make(n1, 221, template)
    wait_held(n1, 221)
    n3.run("cp", hold_path(n1, 221), hold_path(n2, 221))
    append(n3, conf_path(n1, 221), "state: started")
    wait_says(n1, 221, "both this node and n2")
    assert not runs(n1, 221)
    n3.run("rm", hold_path(n2, 221))
    wait_runs(n1, 221)


def test_no_quorum_changes_nothing(cluster, template):
    n1, n2, n3 = cluster.nodes
    make(n3, 222, template, "state: started")
    wait_runs(n3, 222)
    before = init_of(n3, 222)
    cluster.cut(["n3"])
    wait_for(lambda: not n3.is_writable(), 30, "n3 still feels quorate")
    n1.run("mv", conf_path(n3, 222), conf_path(n1, 222))
    wait_says(n1, 222, "n3, which is offline")
    assert init_of(n3, 222) == before
    cluster.heal()
    cluster.wait_quorate()
    wait_runs(n1, 222, 60)
    assert not runs(n3, 222)
