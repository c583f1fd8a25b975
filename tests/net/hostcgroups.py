"""The cgroups of a test node: one group in every hierarchy of the host.

Hosts differ: cgroup v1 with one mount per controller, cgroup2 alone, or both
(hybrid). A node gets its group `pmxcfs-testbed/<testbed>/<node>` in each, and
its cgroup namespace makes that group the root of all it sees.
"""

import os
import time
from dataclasses import dataclass
from pathlib import Path

BASE = "/sys/fs/cgroup"
TOP = "pmxcfs-testbed"

# cgroup2 lets no process stay in a group that has controllers enabled for
# its children. liblxc strips exactly this name from the group of pid 1
# before it adds its own, as it does below systemd.
LEAF = "init.scope"

# Options of a v1 mount that are not controllers.
_GENERIC = {"rw", "ro", "xattr", "clone_children", "noprefix", "nsdelegate",
            "favordynmods", "memory_recursiveprot", "cpuset_v2_mode"}


@dataclass(frozen=True)
class Hierarchy:
    """One mounted hierarchy: "cgroup" (v1) or "cgroup2", its options, where."""

    kind: str
    options: str
    mountpoint: str

    @property
    def relative(self):
        """Its mount point below /sys/fs/cgroup; "." for a pure cgroup2 host."""
        return os.path.relpath(self.mountpoint, BASE)


def hierarchies():
    """Every hierarchy mounted below /sys/fs/cgroup, each once."""
    found = {}
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        fields, _, tail = line.partition(" - ")
        mountpoint = fields.split()[4]
        kind, _, super_options = tail.split(" ", 2)
        if kind not in ("cgroup", "cgroup2"):
            continue
        if mountpoint != BASE and not mountpoint.startswith(BASE + "/"):
            continue
        options = ""
        if kind == "cgroup":
            options = ",".join(option for option in super_options.split(",")
                               if option not in _GENERIC
                               and not option.startswith("release_agent="))
        found.setdefault((kind, options),
                         Hierarchy(kind, options, mountpoint))
    return list(found.values())


def is_unified(all_hierarchies):
    return all(h.kind == "cgroup2" for h in all_hierarchies)


def make(*names):
    """Make the group TOP/names... everywhere; returns [(hierarchy, path)]."""
    made = []
    mounted = hierarchies()
    unified = is_unified(mounted)
    for hierarchy in mounted:
        path = Path(hierarchy.mountpoint)
        for name in (TOP, *names):
            if unified:
                enable_controllers(path)
            path = path / name
            path.mkdir(exist_ok=True)
            _inherit_cpuset(path)
        made.append((hierarchy, str(path)))
    return made


def enable_controllers(path):
    """Give the children of the cgroup2 group at path all its controllers."""
    for controller in (Path(path) / "cgroup.controllers").read_text().split():
        try:
            (Path(path) / "cgroup.subtree_control").write_text("+" + controller)
        except OSError:
            pass  # threaded or otherwise not to be had here: do without


def _inherit_cpuset(path):
    """A v1 cpuset group takes no process before it has CPUs and memory."""
    if not (path / "cpuset.mems").exists() or (path / "cgroup.type").exists():
        return
    for key in ("cpuset.cpus", "cpuset.mems"):
        if not (path / key).read_text().strip():
            (path / key).write_text((path.parent / key).read_text())
    (path / "cgroup.clone_children").write_text("1")


def entry_groups(*names):
    """The groups a process joins to be in the node, as existing paths."""
    groups = []
    for hierarchy in hierarchies():
        path = Path(hierarchy.mountpoint, TOP, *names)
        if hierarchy.kind == "cgroup2" and (path / LEAF).is_dir():
            path = path / LEAF
        groups.append(str(path))
    return groups


def pids(*names):
    """All processes in the group and below it, in any hierarchy."""
    found = set()
    for hierarchy in hierarchies():
        top = Path(hierarchy.mountpoint, TOP, *names)
        for directory, _, _ in os.walk(top):
            try:
                text = Path(directory, "cgroup.procs").read_text()
            except OSError:
                continue
            found.update(int(word) for word in text.split() if word != "0")
    return found


def remove(*names, timeout_s=10):
    """Remove the group and all below it; then TOP, if that left it empty.

    A group stays busy for a moment after its last process died.
    """
    deadline = time.monotonic() + timeout_s
    for hierarchy in hierarchies():
        top = Path(hierarchy.mountpoint, TOP, *names)
        for directory, _, _ in os.walk(top, topdown=False):
            _rmdir_until(directory, deadline)
        for parent in top.parents:
            if str(parent) == hierarchy.mountpoint:
                break
            try:
                parent.rmdir()
            except OSError:
                break  # others live there, or it is gone


def _rmdir_until(directory, deadline):
    while True:
        try:
            os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
