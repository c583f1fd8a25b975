"""One node of a test cluster: its disk, its world of namespaces, its daemons.

What a node writes lies below Node.disk on the host and outlives its crash;
everything else of the node ends with its pid 1 (nodeinit.py).
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import hostcgroups
import switch

PYTHON = "/usr/bin/python3"
HERE = Path(__file__).resolve().parent
REPO = HERE.parent.parent
STATE = Path("/var/lib/pmxcfs-testbed")
RUN = Path("/run/pmxcfs-testbed")
SYSTEM_PATH = ("/usr/local/sbin:/usr/local/bin:"
               "/usr/sbin:/usr/bin:/sbin:/bin")

PRIVATE_DIRS = {
    "/etc/corosync": 0o755,
    "/etc/pve": 0o755,
    "/etc/ssh": 0o755,
    "/root": 0o700,
    "/var/lib/corosync": 0o755,
    "/var/lib/lxc": 0o755,
    "/var/lib/pve-cluster": 0o750,
    "/var/lib/vz": 0o755,
    "/var/log": 0o755,
}
PRIVATE_FILES = {
    "/etc/hostname": 0o644,
    "/etc/hosts": 0o644,
    "/etc/shadow": 0o640,
    "/etc/subgid": 0o644,
    "/etc/subuid": 0o644,
}

# What a caller may set for the programs inside.
PASSED_ENVIRONMENT = re.compile(
    r"TERM|COLUMNS|LINES|LANG|LC_\w+|\w+SAN_OPTIONS|G_\w+|PMXCFS_\w+")


class ClusterError(Exception):
    """The testbed could not do it; the text names node, reason and log."""


@dataclass(frozen=True)
class Daemon:
    """A daemon of a node. All of them fork and leave their pid in a file."""

    name: str
    program: str
    pid_file: str
    log: str  # where to look when it fails

    @property
    def output(self):
        return f"/var/log/{self.name}.out"


DAEMONS = {daemon.name: daemon for daemon in (
    Daemon("sshd", "/usr/sbin/sshd", "/run/sshd.pid", "/var/log/syslog"),
    Daemon("pmxcfs", "pmxcfs", "/run/pve-cluster.pid", "/var/log/syslog"),
    Daemon("corosync", "corosync", "/run/corosync.pid",
           "/var/log/corosync/corosync.log"),
    Daemon("agent", "pve-lxc-agent", "/run/pve-lxc-agent.pid",
           "/var/log/syslog"),
)}
START_ORDER = ("sshd", "pmxcfs", "corosync", "agent")


def wait_for(condition, timeout_s, what):
    """Poll until condition() is true and return what it returned.

    what: text, or a function that makes it, for the error on time-out.
    """
    deadline = time.monotonic() + timeout_s
    delay = 0.02
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            text = what() if callable(what) else what
            raise ClusterError(f"{text}: not within {timeout_s} s")
        time.sleep(delay)
        delay = min(delay * 1.5, 0.25)


def tail(path, lines=15):
    try:
        text = Path(path).read_text(errors="replace").splitlines()
    except OSError:
        return "    (no log)"
    return "\n".join("    " + line for line in text[-lines:])


def start_time(pid):
    """When a process began, in ticks since boot; None if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else int(fields[19])


def host_boot_id():
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Node:
    def __init__(self, cluster, name):
        self.cluster = cluster
        self.name = name
        self.number = int(name[1:])
        self.disk = STATE / cluster.name / name
        self.state_file = RUN / cluster.name / f"{name}.json"
        self._cgroup = (cluster.name, name)

    def __repr__(self):
        return f"<node {self.cluster.name}/{self.name}>"

    @property
    def address(self):
        return f"10.99.{self.cluster.index}.{self.number}"

    def on_disk(self, path):
        """Where the host sees a private file of the node, also when down."""
        return Path(str(self.disk) + path)

    def fail(self, what, log=None):
        text = f"{self.cluster.name}/{self.name}: {what}"
        if log is not None:
            text += f"\n  the end of {self.on_disk(log)}:\n" \
                    + tail(self.on_disk(log))
        return ClusterError(text)

    # ---- the disk -------------------------------------------------------

    def ensure_disk(self):
        """Make what a fresh installation has; keeps what is there."""
        for path, mode in PRIVATE_DIRS.items():
            Path(path).mkdir(parents=True, exist_ok=True)
            directory = self.on_disk(path)
            if not directory.is_dir():
                directory.mkdir(parents=True)
                directory.chmod(mode)
        for path, mode in PRIVATE_FILES.items():
            if not Path(path).exists():
                Path(path).touch(mode)
            self.on_disk(path).touch(mode)
        for path in ("/var/log/corosync", "/var/lib/vz/template/cache"):
            self.on_disk(path).mkdir(parents=True, exist_ok=True)
        self.on_disk("/etc/hostname").write_text(self.name + "\n")
        for path in ("/etc/subuid", "/etc/subgid"):
            self.on_disk(path).write_text("root:100000:65536\n")
        self._write_shadow()
        for path, who in (("/etc/ssh/ssh_host_ed25519_key", self.name),
                          ("/root/.ssh/id_ed25519", f"root@{self.name}")):
            self._ensure_key(self.on_disk(path), who)

    def _write_shadow(self):
        """No password works; but no "!" either: sshd takes it for a lock."""
        lines = []
        for line in Path("/etc/shadow").read_text().splitlines():
            fields = line.split(":")
            lines.append(":".join([fields[0], "*", *fields[2:]]))
        self.on_disk("/etc/shadow").write_text("\n".join(lines) + "\n")

    @staticmethod
    def _ensure_key(path, comment):
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if path.exists() and Path(f"{path}.pub").exists():
            return
        path.unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "",
                        "-C", comment, "-f", str(path)],
                       check=True, stdin=subprocess.DEVNULL)

    def configure(self):
        """Write what depends on the other nodes."""
        nodes = self.cluster.nodes
        hosts = "127.0.0.1 localhost\n::1 localhost ip6-localhost\n"
        hosts += "".join(f"{n.address} {n.name}\n" for n in nodes)
        self.on_disk("/etc/hosts").write_text(hosts)
        known, allowed = "", ""
        for node in nodes:
            key = node.on_disk("/etc/ssh/ssh_host_ed25519_key.pub")
            known += f"{node.name},{node.address} {key.read_text()}"
            allowed += node.on_disk("/root/.ssh/id_ed25519.pub").read_text()
        self.on_disk("/etc/ssh/ssh_known_hosts").write_text(known)
        self.on_disk("/root/.ssh/authorized_keys").write_text(allowed)
        self.on_disk("/etc/ssh/ssh_config").write_text("")
        self.on_disk("/etc/ssh/sshd_config").write_text(
            f"ListenAddress {self.address}\n"
            "HostKey /etc/ssh/ssh_host_ed25519_key\n"
            "PidFile /run/sshd.pid\n"
            "PermitRootLogin prohibit-password\n"
            "PasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\n"
            "UsePAM no\nUseDNS no\nPrintMotd no\nMaxStartups 100\n"
            "LogLevel ERROR\n"
            f"SetEnv PATH={self.cluster.path}\n"
            "Subsystem sftp internal-sftp\n")
        corosync_conf = self.on_disk("/etc/corosync/corosync.conf")
        if not corosync_conf.exists():
            corosync_conf.write_text(self.cluster.corosync_conf())

    # ---- the world ------------------------------------------------------

    def init_pid(self):
        """The host's pid of the node's pid 1, or None if it is down."""
        try:
            state = json.loads(self.state_file.read_text())
        except (OSError, ValueError):
            return None
        if state["boot"] != host_boot_id():
            return None
        if start_time(state["pid"]) != state["start_time"]:
            return None
        return state["pid"]

    def is_up(self):
        """Whether it was booted to the end and lives."""
        return self.init_pid() is not None \
            and json.loads(self.state_file.read_text())["ready"]

    def _record_init(self, pid, ready):
        self.state_file.parent.mkdir(parents=True, exist_ok=True)
        temporary = self.state_file.with_suffix(".new")
        temporary.write_text(json.dumps({
            "pid": pid, "start_time": start_time(pid),
            "boot": host_boot_id(), "ready": ready}))
        temporary.replace(self.state_file)

    def _kept_directories(self):
        """What must stay visible though a private directory covers it."""
        wanted = [REPO, *self.cluster.program_directories()]
        covered = [str(path) for path in wanted
                   if any(str(path).startswith(private + "/")
                          for private in PRIVATE_DIRS)]
        return sorted(path for path in set(covered)
                      if not any(path.startswith(other + "/")
                                 for other in covered))

    def create_world(self):
        """Boot as far as pid 1 and the network; no daemon yet."""
        self.destroy_world()
        spec = {"node": self.name, "cgroup": self._cgroup,
                "disk": str(self.disk), "keep": self._kept_directories(),
                "private": [*PRIVATE_DIRS, *PRIVATE_FILES]}
        with subprocess.Popen([PYTHON, "-B", str(HERE / "nodeinit.py")],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              start_new_session=True, text=True) as launcher:
            launcher.stdin.write(json.dumps(spec))
            launcher.stdin.close()
            pid, reply = None, ""
            for line in launcher.stdout:
                word, _, rest = line.strip().partition(" ")
                reply = line.strip()
                if word == "pid":
                    pid = int(rest)
                    self._record_init(pid, ready=False)
                else:
                    break
        if reply != "ready":
            raise self.fail(f"the node did not boot: {reply or 'no reply'}")
        self.cluster.switch.plug(self.name, pid, self.cluster.part_of(self.name))
        switch.configure_node(
            pid, self.address, 24,
            f"02:99:{self.cluster.index:02x}:00:00:{self.number:02x}")
        self._record_init(pid, ready=True)

    def destroy_world(self):
        """Everything of the node dies at once; its disk stays."""
        pid = self.init_pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        # What an aborted start left has no record, but it has its cgroup.
        def all_dead():
            left = hostcgroups.pids(*self._cgroup) - {os.getpid()}
            for process in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return not left and self.init_pid() is None

        wait_for(all_dead, 20, lambda: str(self.fail(
            f"processes survive SIGKILL: {hostcgroups.pids(*self._cgroup)}")))
        hostcgroups.remove(*self._cgroup)
        self.cluster.switch.unplug(self.name)
        self.state_file.unlink(missing_ok=True)

    # ---- commands inside ------------------------------------------------

    def command_line(self, command):
        """The argv that runs a command inside, with stdio as it is."""
        pid = self.init_pid()
        if pid is None:
            raise self.fail("is not running; boot it first")
        join = 'while [ "$1" != : ]; do echo 0 >"$1/cgroup.procs" || exit 125;' \
               ' shift; done; shift; exec "$@"'
        environment = {key: value for key, value in os.environ.items()
                       if PASSED_ENVIRONMENT.fullmatch(key)}
        environment.update(PATH=self.cluster.path, HOME="/root", USER="root",
                           LOGNAME="root", SHELL="/bin/bash")
        return ["/bin/sh", "-c", join, "sh",
                *hostcgroups.entry_groups(*self._cgroup), ":",
                "nsenter", f"--target={pid}", "--mount", "--uts", "--ipc",
                "--net", "--pid", "--cgroup", "/usr/bin/env", "-i",
                "-C", "/root",
                *(f"{key}={value}" for key, value in environment.items()),
                *map(str, command)]

    def popen(self, *command, **options):
        """A running command; text streams unless told otherwise."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("text", True)
        return subprocess.Popen(self.command_line(command),
                                start_new_session=True, **options)

    def run(self, *command, input=None, check=True, timeout=60, text=True):
        """Run inside and wait. Returns a CompletedProcess with its output.

        A command that fails (unless check is false) or hangs is an error.
        """
        with self.popen(
                *command, text=text,
                stdin=subprocess.DEVNULL if input is None else subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            try:
                out, err = process.communicate(input, timeout)
            except BaseException as error:
                # Its process group reaches into the node, also when the
                # command is one the kernel will not let go of before.
                os.killpg(process.pid, signal.SIGKILL)
                if isinstance(error, subprocess.TimeoutExpired):
                    raise self.fail(f"`{' '.join(map(str, command))}` "
                                    f"hangs for {timeout} s") from error
                raise
        result = subprocess.CompletedProcess(
            command, process.returncode, out, err)
        if check and result.returncode != 0:
            raise self.fail(
                f"`{' '.join(map(str, command))}` failed with status "
                f"{result.returncode}: {str(err).strip() or str(out).strip()}")
        return result

    def output(self, *command, **options):
        return self.run(*command, **options).stdout

    def ok(self, *command, **options):
        """Whether the command succeeds; one that hangs does not."""
        try:
            return self.run(*command, check=False,
                            **{"timeout": 20, **options}).returncode == 0
        except ClusterError:
            return False

    # ---- daemons --------------------------------------------------------

    def daemon_pid(self, name):
        """The daemon's pid as the node sees it, or None."""
        init = self.init_pid()
        if init is None:
            return None
        root = f"/proc/{init}/root"
        try:
            pid = int(Path(root + DAEMONS[name].pid_file).read_text())
            stat = Path(f"{root}/proc/{pid}/stat").read_text()
        except (OSError, ValueError):
            return None
        return None if stat.rpartition(")")[2].split()[0] in "ZX" else pid

    def program_of(self, name):
        """The program file of a daemon, or None if there is none."""
        program = DAEMONS[name].program
        if name == "pmxcfs":
            program = self.cluster.pmxcfs.get(self.name, program)
        return shutil.which(program, path=self.cluster.path)

    def start(self, name):
        """Start a daemon unless it runs; returns when it says it is up."""
        daemon = DAEMONS[name]
        if self.daemon_pid(name) is not None:
            return
        program = self.program_of(name)
        if program is None:
            raise self.fail(f"no program {daemon.program} in "
                            f"{self.cluster.path}: build and install it, "
                            "or name its directory with --bindir")
        with open(self.on_disk(daemon.output), "ab") as out:
            process = self.popen(program, stdout=out, stderr=out)
            try:
                status = process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise self.fail(f"{name} does not get to its background",
                                daemon.output) from None
        if status != 0:
            log = daemon.output
            if self.on_disk(log).stat().st_size == 0:
                log = daemon.log
            raise self.fail(f"{name} did not start (status {status})", log)
        wait_for(lambda: self.daemon_pid(name), 15, lambda: str(self.fail(
            f"{name} has not written its pid to {daemon.pid_file}",
            daemon.log)))

    def kill(self, name, signal_name="KILL"):
        pid = self.daemon_pid(name)
        if pid is None:
            raise self.fail(f"{name} does not run")
        signal_name = str(signal_name).upper().removeprefix("SIG")
        self.run("kill", "-s", signal_name, str(pid))
        if signal_name in ("KILL", "9"):
            self._wait_gone(name, pid, 15)

    def stop(self, name):
        """The daemon's own clean stop; nothing if it does not run."""
        pid = self.daemon_pid(name)
        if pid is not None:
            self.run("kill", "-s", "TERM", str(pid))
            self._wait_gone(name, pid, 40)

    def _wait_gone(self, name, pid, timeout_s):
        stat = Path(f"/proc/{self.init_pid()}/root/proc/{pid}/stat")

        def gone():
            try:
                return stat.read_text().rpartition(")")[2].split()[0] in "ZX"
            except OSError:
                return True

        wait_for(gone, timeout_s, lambda: str(self.fail(
            f"{name} (pid {pid}) does not end", DAEMONS[name].log)))

    def has_agent(self):
        return self.program_of("agent") is not None

    def start_daemons(self):
        for name in START_ORDER:
            if name != "agent" or self.has_agent():
                self.start(name)

    def shutdown(self):
        """The clean stop of the whole node."""
        if self.is_up():
            self.stop("agent")
            self._stop_containers()
            for name in ("pmxcfs", "corosync", "sshd"):
                self.stop(name)
        self.destroy_world()

    def _stop_containers(self):
        stopping = [self.popen("lxc-stop", "-n", name, "--timeout", "30")
                    for name in self.containers()]
        for process in stopping:
            process.wait(60)

    # ---- what a node knows ----------------------------------------------

    def containers(self):
        """The names of the containers that run."""
        result = self.run("lxc-ls", "-1", "--active", check=False)
        return sorted(set(result.stdout.split()))

    def quorum(self):
        """(quorate, [names of members]) as corosync has it."""
        text = self.run("corosync-quorumtool", "-s", check=False,
                        timeout=20).stdout
        quorate = re.search(r"^Quorate:\s*Yes", text, re.MULTILINE)
        members = re.findall(r"^\s*0*\d+\s+\d+\s+(?:\S+\s+)?(n\d+)", text,
                             re.MULTILINE)
        return quorate is not None, members

    def is_mounted(self):
        return self.ok("test", "-L", "/etc/pve/local")

    def is_writable(self):
        """The one test of quorum clients use: a mode bit of /etc/pve/local."""
        try:
            mode = self.run("stat", "-c", "%a", "/etc/pve/local",
                            check=False, timeout=20).stdout.strip()
        except ClusterError:
            return False
        return mode != "" and int(mode, 8) & 0o200 != 0

    def boot_id(self):
        return self.output("cat", "/proc/sys/kernel/random/boot_id").strip()

    def read(self, path):
        return self.output("cat", path)

    def write(self, path, text):
        """One open, write, close, as an editor without a backup does it."""
        self.run("sh", "-c", 'cat >"$1"', "sh", path, input=text)


def exec_in(node, command):
    """Become the command inside the node, with all streams as they are."""
    argv = node.command_line(command)
    sys.stdout.flush()
    os.execvp(argv[0], argv)
