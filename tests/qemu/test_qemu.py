# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation's way to start QEMU on a tap: a small guest boots on it, under emulation, and pings its gateway.

``make soak-qemu`` makes the image and runs this.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path
from typing import Iterator, List

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.modules import vlan_endpoint

from tests.support.checkout import CHECKOUT
from tests.support.engine import Engine
from tests.support.network_host import fresh_host, run
from tests.support.traffic import Capture

TREE = CHECKOUT / ".cache" / "qemu" / "tree"
GATEWAY = "172.16.50.1"


@pytest.fixture(autouse=True)
def host() -> Iterator[None]:
    """A host with a trunk, and a gateway behind it, which has no other way to a guest."""
    with fresh_host():
        run("""
            ip link add eth0 type veth peer name far; ip link set eth0 up
            ip netns add gateway; ip link set far netns gateway; ip -n gateway link set far up
            ip -n gateway link add link far name far.50 type vlan id 50; ip -n gateway link set far.50 up
            ip -n gateway addr add 172.16.50.1/24 dev far.50
        """)
        yield
        run("ip netns del gateway; rm -rf /dev/netops-underlay")


def documented(mac: str, node: str) -> List[str]:
    """The command of the example, for a guest without a disk."""
    text = next(part for part in vlan_endpoint.EXAMPLES.split("\n- ") if "qemu-system-x86_64" in part)
    found = re.search(r"^#   (qemu-system-x86_64 (?:.*\\\n#  *)*.*)$", text, re.MULTILINE)
    assert found
    command = re.sub(r"\\\n# *", "", found[1]).replace("mac=MAC", f"mac={mac}")
    assert command.endswith(f" 3<>{node}") and "-drive file=vm1.qcow2 " in command
    return shlex.split(command.replace("-drive file=vm1.qcow2 ", "").rpartition(" 3<>")[0])


def test_a_guest_on_a_tap_pings_its_gateway(tmp_path: Path) -> None:
    engine = Engine(str(tmp_path / "state"))
    subnets = [{"subnet": "172.16.50.0/24", "gateway": GATEWAY}]
    engine.network("macvlan50", parent="eth0.50", subnets=subnets)
    example = next(task for task in yaml.safe_load(vlan_endpoint.EXAMPLES) if "tap" in task["name"])
    options = {**example["netops.underlay.vlan_endpoint"], "tap_group": "daemon"}
    name, network = options.pop("name"), options.pop("network")
    made = engine.endpoint(name, network, **options)
    node = f"/dev/netops-underlay/{network}/{name}"
    append = f"console=ttyS0 quiet panic=-1 address={made['addresses'][0]} gateway={GATEWAY}"
    more = ["-kernel", "/boot/vmlinuz", "-initrd", "/initramfs", "-append", append]
    more += ["-accel", "tcg", "-display", "none", "-serial", "stdio", "-no-reboot"]
    command = shlex.join(["chroot", str(TREE), *documented(made["mac"], node), *more])
    wire = Capture(tmp_path / "wire", "far", "vlan 50 and icmp", netns="gateway")
    try:
        said = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", f"mount --rbind /dev {TREE}/dev; exec {command} 3<>{node}"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        print(said.stdout, said.stderr)
        assert f"guest: {made['mac']}" in said.stdout and "guest: the gateway answers" in said.stdout
        own = made["addresses"][0].partition("/")[0]
        assert wire.sees(f"{own} > {GATEWAY}: ICMP echo request") and wire.sees(f"{GATEWAY} > {own}: ICMP echo reply")
    finally:
        wire.close()
