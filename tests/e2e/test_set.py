"""pct set, pending, config: what changes, when, and what does not."""

import hashlib
import json
import uuid

import pytest

from cluster import wait_for
from guests import PVE, create, prepared, template, wait_status  # noqa: F401

CTID = "120"


def conf_path(node, ctid=CTID):
    return f"{PVE}/nodes/{node.name}/lxc/{ctid}.conf"


def change(node, *options, ctid=CTID):
    return node.run("pct", "set", ctid, *options)


def refused(node, *options, ctid=CTID):
    """The message; the file is as it was."""
    before = node.read(conf_path(node, ctid))
    result = node.run("pct", "set", ctid, *options, check=False)
    assert result.returncode == 255
    assert node.read(conf_path(node, ctid)) == before
    return result.stderr


def config(node, *options, ctid=CTID):
    text = node.output("pct", "config", ctid, "--output-format", "json",
                       *options)
    return json.loads(text)


def images(node, ctid=CTID):
    return sorted(path.name for path in
                  node.on_disk(f"/var/lib/vz/images/{ctid}").glob("*"))


def limit(node, controller, file, ctid=CTID):
    """Of a running container, whichever version the controller has."""
    return node.output(
        "sh", "-c", f"cat /sys/fs/cgroup/{controller}/lxc/{ctid}/{file} "
        f"/sys/fs/cgroup/lxc/{ctid}/{file} 2>/dev/null || :").strip()


def inside(node, *command, ctid=CTID):
    return node.output("pct", "exec", ctid, "--", *command)


@pytest.fixture
def stopped(cluster, template):
    create(cluster["n1"], CTID, template, "--unprivileged", "1")
    return cluster["n1"]


@pytest.fixture
def running(stopped):
    stopped.run("pct", "start", CTID)
    wait_status(stopped, CTID, "running")
    return stopped


def test_stopped_container_changes_at_once(stopped):
    change(stopped, "--memory", "+0128", "--tty", "1", "-tags", "b;A",
           "--tags=b", "--onboot", "--description", "a:\n\tb",
           "--env", "A=1", "--env", "B=x y")
    now = config(stopped, "--current")
    assert now["memory"] == 128
    assert (now["tty"], now["onboot"], now["tags"]) == (1, 1, "a;b")
    assert now["description"] == "a:\n\tb\n"
    assert now["env"] == "A=1\nB=x y"
    text = stopped.read(conf_path(stopped))
    assert text.startswith("#a%3A\n#%09b\n")
    assert "lxc.environment.runtime: B=x y\n" in text
    assert "[pve:pending]" not in text
    change(stopped, "--delete", "tty,env", "--tags", "")
    assert not {"tty", "env", "tags"} & set(config(stopped))


def test_options_are_refused_as_a_whole(stopped):
    n = stopped
    assert "Unknown option: unprivileged" in refused(n, "--unprivileged", "0")
    assert "unknown option 'nosuch'" in refused(n, "--delete", "nosuch")
    assert ("unable to delete required option 'memory'"
            in refused(n, "--tty", "1", "--delete", "memory"))
    assert ("unable to delete read-only option: 'unprivileged'"
            in refused(n, "--delete", "unprivileged"))
    assert ("you can't use '-tty' and -delete tty' at the same time"
            in refused(n, "--tty", "1", "--delete", "tty"))
    assert "no options specified" in refused(n)
    assert "no options specified" in refused(n, "--digest", "0" * 40)
    assert ("invalid time zone 'Mars/Olympus'"
            in refused(n, "--tty", "1", "--timezone", "Mars/Olympus"))
    assert ("bridge 'nosuch' does not exist"
            in refused(n, "--net0", "name=eth0,bridge=nosuch,mtu=1400"))
    assert ("Device /dev/nosuch does not exist"
            in refused(n, "--dev0", "/dev/nosuch"))
    assert "/dev/shm is not a device" in refused(n, "--dev0", "/dev/shm")
    assert ("directory '/nosuch' does not exist"
            in refused(n, "--mp0", "/nosuch,mp=/a"))
    bad = refused(n, "--memory", "15", "--hostname", "a_b")
    assert bad == ("400 Parameter verification failed.\n"
                   "hostname: invalid format - value does not look like a "
                   "valid DNS name\n\n"
                   "memory: value must have a minimum value of 16\n"
                   "pct set <vmid> [OPTIONS]\n")


def test_digest_lock_and_missing_container(stopped):
    digest = config(stopped)["digest"]
    text = stopped.read(conf_path(stopped))
    assert digest == hashlib.sha1(text.encode()).hexdigest()
    change(stopped, "--tty", "1", "--digest", digest)
    assert ("detected modified configuration - file changed by other user? "
            "Try again." in refused(stopped, "--tty", "2", "--digest", digest))
    change(stopped, "--lock", "backup")
    assert "CT is locked (backup)" in refused(stopped, "--tty", "2")
    stopped.run("pct", "unlock", CTID)
    gone = stopped.run("pct", "set", "999", "--tty", "1", check=False)
    assert gone.returncode == 2
    assert ("Configuration file 'nodes/n1/lxc/999.conf' does not exist"
            in gone.stderr)


def test_protection(stopped):
    change(stopped, "--protection", "1")
    assert ("can't update CT 120 drive 'mp0' - protection mode enabled"
            in refused(stopped, "--mp0", "local:0,mp=/a"))
    change(stopped, "--protection", "0")


def test_volumes_are_made_kept_and_freed(stopped):
    before = images(stopped)
    change(stopped, "--mp0", "local:0,mp=/data")
    mp0 = config(stopped)["mp0"]
    assert mp0 == "local:120/subvol-120-disk-1.subvol,mp=/data,size=0T"
    assert len(images(stopped)) == len(before) + 1
    hold = stopped.read(f"{PVE}/nodes/n1/lxc-holds/{CTID}")
    assert "subvol-120-disk-1" in hold
    change(stopped, "--delete", "mp0")
    now = config(stopped)
    assert "mp0" not in now
    assert now["unused0"] == "local:120/subvol-120-disk-1.subvol"
    assert len(images(stopped)) == len(before) + 1
    change(stopped, "--delete", "unused0")
    assert "unused0" not in config(stopped)
    assert images(stopped) == before
    assert ("subvol-120-disk-1"
            not in stopped.read(f"{PVE}/nodes/n1/lxc-holds/{CTID}"))


def test_failure_leaves_no_volume(stopped):
    before = images(stopped)
    assert ("storage 'nosuch' does not exist"
            in refused(stopped, "--memory", "128", "--mp0", "local:0,mp=/a",
                       "--mp1", "nosuch:1,mp=/b"))
    assert ("mount target '/a' is already used by mp"
            in refused(stopped, "--mp0", "local:0,mp=/a",
                       "--mp1", "local:0,mp=/a"))
    # Found out only when mp0 has been made: there is no room for this one.
    assert ("mp1: unable to apply pending change mp1 : "
            in refused(stopped, "--mp0", "local:0,mp=/a",
                       "--mp1", "local:900000,mp=/b"))
    assert images(stopped) == before


def test_killed_changes_leave_nothing(stopped):
    """Each is killed at another moment; the next one cleans up after it."""
    before = images(stopped)
    for delay_ms in range(5, 125, 10):
        stopped.run("timeout", "-s", "KILL", f"{delay_ms / 1000}", "pct", "set",
                    CTID, "--mp0", "local:1,mp=/a", check=False)
        if "mp0" in config(stopped):
            change(stopped, "--delete", "mp0")
            change(stopped, "--delete", "unused0")
    change(stopped, "--mp0", "local:0,mp=/a")
    change(stopped, "--delete", "mp0")
    change(stopped, "--delete", "unused0")
    assert images(stopped) == before
    assert not {"mp0", "unused0"} & set(config(stopped))
    left = stopped.output("ls", "-a", f"{PVE}/nodes/n1/lxc").split()
    assert left == [".", "..", f"{CTID}.conf"]


def test_limits_change_in_the_running_container(running):
    change(running, "--memory", "96", "--swap", "32", "--cpulimit", "0.5",
           "--cpuunits", "50")
    assert limit(running, "memory", "memory.limit_in_bytes") \
        or limit(running, "memory", "memory.max") == str(96 << 20)
    v1 = limit(running, "memory", "memory.limit_in_bytes")
    if v1:
        assert v1 == str(96 << 20)
    quota = limit(running, "cpu", "cpu.cfs_quota_us")
    if quota:
        assert quota == "50000"
        assert limit(running, "cpu", "cpu.shares") == "50"
    change(running, "--memory", "64", "--delete", "cpulimit,swap")
    if v1:
        assert limit(running, "memory",
                     "memory.limit_in_bytes") == str(64 << 20)
    if quota:
        assert limit(running, "cpu", "cpu.cfs_quota_us") == "-1"
    assert "[pve:pending]" not in running.read(conf_path(running))


def test_cores_of_a_running_container(running):
    all_cpus = int(inside(running, "nproc"))
    change(running, "--cores", "1")
    assert inside(running, "nproc").strip() == "1"
    change(running, "--delete", "cores")
    assert int(inside(running, "nproc")) == all_cpus


@pytest.mark.parametrize("unprivileged", ["0", "1"])
def test_device(cluster, template, unprivileged):
    n1 = cluster["n1"]
    create(n1, CTID, template, "--unprivileged", unprivileged)
    change(n1, "--dev0", "/dev/fuse,mode=0640,uid=7,gid=8",
           "--dev1", "/dev/net/tun,deny-write=1")
    n1.run("pct", "start", CTID)
    wait_status(n1, CTID, "running")
    assert inside(n1, "stat", "-c", "%F %a %u %g", "/dev/fuse").strip() == \
        "character special file 640 7 8"
    inside(n1, "sh", "-c", ": <>/dev/fuse")
    inside(n1, "sh", "-c", ": </dev/net/tun")
    denied = n1.run("pct", "exec", CTID, "--", "sh", "-c", ": >/dev/net/tun",
                    check=False)
    assert denied.returncode != 0
    change(n1, "--dev2", "/dev/loop-control,mode=0600,uid=5")
    assert inside(n1, "stat", "-c", "%F %a %u", "/dev/loop-control").strip() \
        == "character special file 600 5"
    inside(n1, "sh", "-c", ": <>/dev/loop-control")
    # A hostile place is refused, and nothing of the change stays.
    name = f"pct-{cluster.index}-{unprivileged}"
    n1.run("sh", "-c", f"mkdir -p /dev/{name}; mknod /dev/{name}/zero c 1 5")
    inside(n1, "ln", "-s", "/tmp", f"/dev/{name}")
    bad = refused(n1, "--dev3", f"/dev/{name}/zero")
    assert "dev3: unable to hotplug dev3: symlink encountered" in bad
    assert "zero" not in inside(n1, "ls", "/tmp")
    n1.run("rm", "-r", f"/dev/{name}")
    bad = refused(n1, "--dev3", "/dev/kmsg", "--net0", "name=e,bridge=nosuch")
    assert "unable to hotplug net0" in bad
    assert not n1.ok("pct", "exec", CTID, "--", "test", "-e", "/dev/kmsg")
    # It goes, also what was there at the start.
    change(n1, "--delete", "dev0,dev2")
    assert not {"dev0", "dev2"} & set(config(n1, "--current"))
    for path in ("/dev/fuse", "/dev/loop-control"):
        assert not n1.ok("pct", "exec", CTID, "--", "test", "-c", path)
    n1.run("pct", "stop", CTID)
    assert not n1.ok("mountpoint", "-q", f"/var/lib/lxc/{CTID}/passthrough")


def test_create_settles_values_too(cluster, template):
    n1 = cluster["n1"]
    n1.write(f"{PVE}/datacenter.cfg", "mac_prefix: 02:aa\n"
             "tag-style: case-sensitive=1\n")
    create(n1, CTID, template, "--tags", "b;A", "--net0",
           "name=eth0,bridge=vmbr0", "--env", "A=1", "--env", "B=2")
    now = config(n1)
    assert now["tags"] == "A;b"
    assert "hwaddr=02:AA:" in now["net0"]
    assert now["env"] == "A=1\nB=2"
    bad = n1.run("pct", "create", "121", f"local:vztmpl/{template.name}",
                 "--timezone", "Mars/Olympus", check=False)
    assert bad.returncode == 255 and "invalid time zone" in bad.stderr
    assert not n1.ok("test", "-e", conf_path(n1, "121"))
    n1.run("rm", f"{PVE}/datacenter.cfg")


def test_what_cannot_change_now_is_pending(running):
    change(running, "--hostname", "other", "--tty", "1", "--arch", "i386",
           "--features", "nesting=1")
    lines = running.output("pct", "pending", CTID).splitlines()
    assert "cur hostname: other" in lines
    assert "new tty: 1" in lines
    assert lines[lines.index("cur arch: amd64") + 1] == "new arch: i386"
    assert "tty: 1" in running.output("pct", "config", CTID).splitlines()
    assert "tty" not in config(running, "--current")
    change(running, "--revert", "arch,features", "--delete", "onboot")
    assert running.output("pct", "pending", CTID).count("new ") == 1
    rows = json.loads(running.output("pct", "pending", CTID,
                                     "--output-format", "json"))
    assert [row for row in rows if "pending" in row] == [
        {"key": "tty", "pending": 1}]
    running.run("pct", "stop", CTID)
    assert "new tty: 1" in running.output("pct", "pending", CTID)
    running.run("pct", "start", CTID)
    assert config(running, "--current")["tty"] == 1
    assert "[pve:pending]" not in running.read(conf_path(running))
    tty = running.output("grep", "tty.max", f"/var/lib/lxc/{CTID}/config")
    assert tty.strip() == "lxc.tty.max = 1"


def test_deletion_waits_and_is_carried_out(running):
    change(running, "--tty", "1")
    running.run("pct", "stop", CTID)
    running.run("pct", "start", CTID)
    change(running, "--delete", "tty")
    assert "del tty: 1" in running.output("pct", "pending", CTID)
    assert config(running, "--current")["tty"] == 1
    running.run("pct", "stop", CTID)
    running.run("pct", "start", CTID)
    assert "tty" not in config(running, "--current")


def test_interface_of_a_running_container(cluster, running):
    ip = f"10.99.{cluster.index}.120"
    change(running, "--net0", f"name=eth0,bridge=vmbr0,ip={ip}/24")
    net0 = config(running, "--current")["net0"]
    assert "hwaddr=BC:24:11:" in net0 and net0.endswith("type=veth")
    assert f"inet {ip}/24" in inside(running, "ip", "addr", "show", "eth0")
    assert "veth120i0" in running.output("ls", "/sys/class/net/vmbr0/brif")
    address = net0.partition("hwaddr=")[2][:17]
    other = f"name=eth0,bridge=vmbr0,hwaddr={address}"
    change(running, "--net0", f"{other},ip=10.99.{cluster.index}.121/24")
    shown = inside(running, "ip", "addr", "show", "eth0")
    assert f"10.99.{cluster.index}.121/24" in shown and ip not in shown
    told = change(running, "--net0", f"{other},link_down=1,rate=3").stderr
    assert "WARN: net0: 'rate' is not supported and ignored" in told
    assert "veth120i0" not in running.output("ls",
                                             "/sys/class/net/vmbr0/brif")
    change(running, "--net0", f"name=lan0,bridge=vmbr0,hwaddr={address}")
    assert "lan0" in inside(running, "ip", "link")
    bad = refused(running, "--net0", "name=eth9,bridge=nosuch")
    assert ("net0: unable to hotplug net0: bridge 'nosuch' does not exist"
            in bad)
    assert "lan0" in inside(running, "ip", "link")
    change(running, "--delete", "net0")
    assert "lan0" not in inside(running, "ip", "link")
    assert "net0" not in config(running)


def test_mount_point_of_a_running_container(running):
    change(running, "--mp0", "local:0,mp=/data")
    assert " /data " in inside(running, "cat", "/proc/mounts")
    inside(running, "sh", "-c", "echo hi >/data/file")
    volume = config(running, "--current")["mp0"].partition(",")[0]
    path = f"/var/lib/vz/images/{volume.partition(':')[2]}/file"
    assert running.read(path) == "hi\n"
    # Its loop device, when an image, goes with the container.
    change(running, "--mp1", "local:1,mp=/deep/er,ro=1")
    assert " /deep/er ext4 ro," in inside(running, "cat", "/proc/mounts")
    assert running.output("losetup", "-j", "/var/lib/vz/images/120/"
                          "vm-120-disk-2.raw").count("loop") == 1
    assert "-disk-2" in running.read(f"{PVE}/nodes/n1/lxc-holds/{CTID}")
    running.run("pct", "stop", CTID)
    assert "loop" not in running.output(
        "losetup", "-j", "/var/lib/vz/images/120/vm-120-disk-2.raw")
    assert images(running)[1:] == ["subvol-120-disk-1.subvol",
                                   "vm-120-disk-2.raw"]


def test_hot_mount_point_stays_read_only_and_inside(running):
    running.run("mkdir", "-p", "/srv/shown")
    running.write("/srv/shown/canary", "untouched\n")
    change(running, "--mp0", "/srv/shown,mp=/ro,ro=1")
    assert inside(running, "cat", "/ro/canary") == "untouched\n"
    for command in ("echo x >/ro/canary", "mount -o remount,rw,bind /ro",
                    "mount -o remount,rw /ro"):
        result = running.run("pct", "exec", CTID, "--", "sh", "-c", command,
                             check=False)
        assert result.returncode != 0
    assert running.read("/srv/shown/canary") == "untouched\n"
    inside(running, "ln", "-s", "/", "/evil")
    inside(running, "ln", "-s", "/etc", "/direct")
    # The nodes share the machine's /tmp.
    outside = f"/tmp/{uuid.uuid4()}"
    for target in (f"/evil{outside}", "/direct"):
        bad = refused(running, "--mp1", f"/srv/shown,mp={target}")
        assert "mp1: unable to hotplug mp1: symlink" in bad, bad
    assert "/srv/shown" not in running.read("/proc/mounts")
    assert not running.ok("test", "-e", outside)


def test_mount_point_goes_unless_it_is_used(running):
    change(running, "--mp0", "local:0,mp=/data")
    running.run("pct", "stop", CTID)
    running.run("pct", "start", CTID)
    wait_status(running, CTID, "running")
    change(running, "--mp1", "local:0,mp=/keep", "--mp2", "local:0,mp=/more")
    running.run("pct", "exec", CTID, "--", "sh", "-c",
                "cd /keep; sleep 1000 >/dev/null 2>&1 & echo $! >/pid")
    told = change(running, "--delete", "mp0,mp1,mp2").stderr
    # The kernel locks what an unprivileged container started with.
    assert "mp0: stays until the next start: " in told
    assert "mp1: stays until the next start: " in told
    mounts = inside(running, "cat", "/proc/mounts")
    assert " /data " in mounts and " /keep " in mounts
    assert " /more " not in mounts
    now = config(running, "--current")
    assert {"mp0", "mp1"} < set(now) and "mp2" not in now
    assert "del mp1: " in running.output("pct", "pending", CTID)
    # What went is back when the change fails.
    inside(running, "sh", "-c", "kill $(cat /pid)")
    change(running, "--revert", "mp1")
    bad = refused(running, "--delete", "mp1", "--net0",
                  "name=eth0,bridge=nosuch")
    assert "unable to hotplug net0" in bad
    assert " /keep " in inside(running, "cat", "/proc/mounts")


def test_failure_takes_hot_changes_back(running):
    before = images(running)
    bad = refused(running, "--memory", "96", "--mp0", "local:0,mp=/a",
                  "--net0", "name=eth0,bridge=nosuch")
    assert "net0: unable to hotplug net0: bridge 'nosuch'" in bad
    assert " /a " not in inside(running, "cat", "/proc/mounts")
    assert images(running) == before
    v1 = limit(running, "memory", "memory.limit_in_bytes")
    assert v1 in ("", str(64 << 20))


def test_pending_volume_is_made_at_the_next_start(running):
    change(running, "--mp0", "local:0,mp=/old")
    change(running, "--mp0", "local:0,mp=/data")
    assert "new mp0: local:0,mp=/data" in running.output("pct", "pending",
                                                          CTID)
    assert len(images(running)) == 2
    running.run("pct", "stop", CTID)
    running.run("pct", "start", CTID)
    now = config(running, "--current")
    assert now["mp0"] == "local:120/subvol-120-disk-2.subvol,mp=/data,size=0T"
    assert now["unused0"] == "local:120/subvol-120-disk-1.subvol"
    mounts = inside(running, "cat", "/proc/mounts")
    assert " /data " in mounts and " /old " not in mounts


def test_pending_change_that_fails_stays(running):
    change(running, "--mp0", "local:0,mp=/old")
    change(running, "--mp0", "local:0,mp=/data", "--tty", "1")
    running.run("pct", "stop", CTID)
    text = running.read(conf_path(running))
    running.write("/root/120.conf", text.replace("mp0: local:0,",
                                                 "mp0: nosuch:0,"))
    running.run("cp", "/root/120.conf", conf_path(running))
    told = running.run("pct", "start", CTID).stderr
    assert ("unable to apply pending change mp0 : storage 'nosuch' does not "
            "exist" in told)
    wait_status(running, CTID, "running")
    assert config(running, "--current")["tty"] == 1
    assert "new mp0: nosuch:0" in running.output("pct", "pending", CTID)
    change(running, "--revert", "mp0")


def test_hookscript(cluster, stopped):
    n = stopped
    n.write(f"{PVE}/storage.cfg", "dir: local\n\tpath /var/lib/vz\n"
            "\tcontent rootdir,vztmpl,snippets\n")
    n.run("mkdir", "-p", "/var/lib/vz/snippets")
    n.write("/var/lib/vz/snippets/hook",
            "#!/bin/sh\necho \"$2\" >>/root/phases\n"
            "test ! -e /root/fail-$2\n")
    assert ("script 'local:snippets/hook' is not executable"
            in refused(n, "--hookscript", "local:snippets/hook"))
    assert ("script 'local:snippets/none' does not exist"
            in refused(n, "--hookscript", "local:snippets/none"))
    assert ("'local:vztmpl/x.tar.gz' is not in the snippets directory"
            in refused(n, "--hookscript", "local:vztmpl/x.tar.gz"))
    n.run("chmod", "755", "/var/lib/vz/snippets/hook")
    change(n, "--hookscript", "local:snippets/hook")
    n.run("touch", "/root/fail-pre-start", "/root/fail-pre-stop")
    bad = n.run("pct", "start", CTID, check=False)
    assert bad.returncode == 255
    assert "hookscript error for 120 on pre-start: " in bad.stderr
    n.run("rm", "/root/fail-pre-start", "/root/phases")
    n.run("pct", "start", CTID)
    told = n.run("pct", "stop", CTID).stderr
    assert "WARN: hookscript error for 120 on pre-stop: " in told
    assert n.read("/root/phases").split() == ["pre-start", "post-start",
                                              "pre-stop", "post-stop"]
    change(n, "--delete", "hookscript")
    n.run("rm", f"{PVE}/storage.cfg", "/root/fail-pre-stop")


def test_without_quorum_or_agent(cluster, stopped):
    change(stopped, "--state", "stopped")
    cluster.cut(["n1"])
    wait_for(lambda: not stopped.is_writable(), 30, "n1 still feels quorate")
    bad = stopped.run("pct", "set", CTID, "--tty", "1", check=False)
    assert bad.returncode == 255
    assert "cluster not ready - no quorum?" in bad.stderr
    assert config(stopped)["state"] == "stopped"
    assert "cur state: stopped" in stopped.output("pct", "pending", CTID)
    assert CTID in stopped.output("pct", "list")
    cluster.heal()
    cluster.wait_quorate()


def test_agent_applies_pending_changes_of_an_edited_file(stopped):
    text = stopped.read(conf_path(stopped))
    stopped.write("/root/120.conf", text + "state: started\n\n[pve:pending]\n"
                  "delete: swap\nmp0: local:0,mp=/data\ntty: 1\n")
    stopped.run("cp", "/root/120.conf", conf_path(stopped))
    wait_status(stopped, CTID, "running")
    now = config(stopped, "--current")
    assert now["tty"] == 1 and "swap" not in now
    assert now["mp0"].startswith("local:120/subvol-120-disk-1.subvol,")
    assert " /data " in inside(stopped, "cat", "/proc/mounts")
    assert "[pve:pending]" not in stopped.read(conf_path(stopped))
    change(stopped, "--state", "stopped")
    wait_status(stopped, CTID, "stopped", 90)


def test_from_another_node(cluster, stopped):
    n2 = cluster["n2"]
    change(n2, "--tty", "3")
    assert config(n2)["tty"] == 3
    assert config(stopped)["tty"] == 3
    bad = n2.run("pct", "set", CTID, "--delete", "memory", check=False)
    assert bad.returncode == 255
    assert "unable to delete required option 'memory'" in bad.stderr


def test_output_formats(cluster, stopped):
    rows = json.loads(stopped.output("pct", "list", "--output-format",
                                     "json"))
    assert {"vmid": 120, "status": "stopped", "name": "CT120",
            "node": "n1"} in rows
    status = stopped.output("pct", "status", CTID, "--output-format", "yaml")
    assert status == "---\nstatus: stopped\n"
    pretty = stopped.output("pct", "config", CTID, "--out", "json-pretty")
    assert json.loads(pretty) == config(stopped)
    assert pretty.startswith("{\n   \"arch\" : \"amd64\",\n")
    bad = stopped.run("pct", "list", "--output-format", "xml", check=False)
    assert bad.returncode == 255
    assert "output-format: value 'xml' does not have a value" in bad.stderr


def test_snapshot_section_is_kept_and_shown(stopped):
    text = stopped.read(conf_path(stopped))
    extra = ("\n[s1]\n#my snap%3A 1%25\nmemory: 32\nsnaptime: 1795285942\n"
             "lxc.cap.drop: sys_admin\n\n[x y]\nstrange: stuff\n")
    stopped.write("/root/120.conf", text + extra)
    stopped.run("cp", "/root/120.conf", conf_path(stopped))
    shown = stopped.output("pct", "config", CTID, "--snapshot", "s1")
    assert shown == ("description: my snap%3A 1%25%0A\nmemory: 32\n"
                     "snaptime: 1795285942\nlxc.cap.drop: sys_admin\n")
    stopped.write("/root/120.conf", text + extra.partition("\n[x y]")[0])
    stopped.run("cp", "/root/120.conf", conf_path(stopped))
    change(stopped, "--tty", "1")
    assert stopped.read(conf_path(stopped)).endswith(
        extra.partition("\n[x y]")[0])
    both = stopped.run("pct", "config", CTID, "--snapshot", "s1", "--current",
                       check=False)
    assert both.stderr.startswith(
        "400 Parameter verification failed.\n"
        "current: cannot use 'snapshot' parameter with 'current'\n"
        "snapshot: cannot use 'snapshot' parameter with 'current'\n")
