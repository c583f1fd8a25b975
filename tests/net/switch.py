"""The wire between the nodes: Linux bridges in a network namespace of its own.

The host's network is not touched: the switch, its bridges and all ports live
in a namespace that a bind mount, `/run/pmxcfs-testbed/<testbed>/switch`, holds.
A partition is a bridge: a cut moves ports to another one, so no packet passes,
no link goes down, and inside the nodes nothing else changes.

To look at it: nsenter --net=/run/pmxcfs-testbed/default/switch ip link
"""

import subprocess

UPLINK = "uplink"


class Switch:
    def __init__(self, file):
        self.file = file

    def _ip(self, *words, check=True):
        return subprocess.run(["nsenter", f"--net={self.file}", "ip", *words],
                              check=check, stdin=subprocess.DEVNULL, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ensure(self):
        """Make the namespace unless a living one is there."""
        if self._ip("link", check=False).returncode == 0:
            return
        # After a reboot of the host the file may be left, with no namespace.
        self.remove()
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        subprocess.run(["unshare", f"--net={self.file}", "true"], check=True)
        self._ip("link", "set", "lo", "up")

    def remove(self):
        subprocess.run(["umount", "--lazy", str(self.file)], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.file.unlink(missing_ok=True)

    def _ensure_bridge(self, part):
        """Nodes boot side by side: another one may make it meanwhile."""
        bridge = f"part{part}"
        self._ip("link", "add", bridge, "type", "bridge", "stp_state", "0",
                 "forward_delay", "0", "mcast_snooping", "0", check=False)
        self._ip("link", "set", bridge, "up")
        return bridge

    def plug(self, node, init_pid, part):
        """Connect the node whose network namespace is that of init_pid."""
        self._ip("link", "del", node, check=False)
        self._ip("link", "add", node, "type", "veth",
                 "peer", "name", UPLINK, "netns", str(init_pid))
        self._ip("link", "set", node, "master", self._ensure_bridge(part))
        self._ip("link", "set", node, "up")

    def unplug(self, node):
        self._ip("link", "del", node, check=False)

    def arrange(self, part_of):
        """Put each plugged node on the bridge of its part."""
        for node, part in part_of.items():
            if self._ip("link", "show", node, check=False).returncode == 0:
                self._ip("link", "set", node,
                         "master", self._ensure_bridge(part))


def configure_node(init_pid, address, prefix_len, mac):
    """Inside the node: `vmbr0` has the address, the uplink is its port."""
    batch = "\n".join([
        "link set lo up",
        f"link set {UPLINK} up",
        f"link add vmbr0 address {mac} type bridge"
        " stp_state 0 forward_delay 0 mcast_snooping 0",
        f"link set {UPLINK} master vmbr0",
        "link set vmbr0 up",
        f"addr add {address}/{prefix_len} dev vmbr0",
    ])
    subprocess.run(["nsenter", "--target", str(init_pid), "--net",
                    "ip", "-batch", "-"],
                   input=batch + "\n", text=True, check=True)
