"""Containers that start in no time, made by pct; fixtures and helpers."""

import pytest

import trees
from cluster import in_parallel, wait_for

PVE = "/etc/pve"


@pytest.fixture(scope="module")
def template():
    return trees.tarball("busybox")


@pytest.fixture(autouse=True)
def prepared(cluster, template):
    """Each node has the template; what a test leaves is destroyed."""
    in_parallel(lambda node: node.run(
        "cp", str(template), "/var/lib/vz/template/cache/"), cluster.nodes)
    yield
    for node in cluster.nodes:
        files = node.output("ls", f"{PVE}/nodes/{node.name}/lxc").split()
        for name in files:
            if name.endswith(".conf") and name[:-5].isdigit():
                node.run("pct", "stop", name[:-5], check=False)
                node.run("pct", "destroy", name[:-5], check=False)
            elif name.endswith(".conf"):
                node.run("rm", "-f", f"{PVE}/nodes/{node.name}/lxc/{name}")


def create(node, ctid, template, *options):
    return node.run("pct", "create", ctid, f"local:vztmpl/{template.name}",
                    "--rootfs", "local:0", "--ostype", "unmanaged",
                    "--memory", "64", *options)


def wait_status(node, ctid, wanted, timeout_s=30):
    def status():
        return node.run("pct", "status", ctid, check=False).stdout.strip()
    wait_for(lambda: status() == f"status: {wanted}", timeout_s,
             lambda: str(node.fail(f"{ctid} is '{status()}', not {wanted}",
                                   "/var/log/syslog")))
