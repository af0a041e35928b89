# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Other managers of a host's network leave ours alone, over restarts and a reboot."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from rack import NETWORK_4, Host, Rack

from tests.support.machines import ip, picture, play, prepare
from tests.support.waiting import until

SPACES = ("web", "db", "far")
NICS = {"eth0": "mgmt", "eth1": "trunk", "eth2": "trunk"}
HOSTS = ("nm", "ifupdown", "cloud")

#: Links of the host with and without addresses, with the MAC of their parent too, endpoints on a bare NIC, and routes.
RACK = """\
  tasks:
    - name: rack
      netops.underlay.vlan_map:
        name: rack
        networks:
          - {name: web, driver: macvlan, parent: eth1.10, subnets: [{subnet: 192.168.10.0/24}], host_access: true}
          - {name: db, driver: ipvlan, parent: eth1.20, subnets: [{subnet: 192.168.20.0/24}, {subnet: "2001:db8::/64"}], host_access: true}
          - {name: far, driver: macvlan, parent: eth2, subnets: [{subnet: 192.168.30.0/24, gateway: none}]}
          - {name: inside, driver: macvlan, internal: true, subnets: [{subnet: 192.168.50.0/24}]}
        endpoints:
          - {network: web, name: web, netns: web}
          - {network: db, name: db, netns: db}
          - {network: far, name: far, netns: far}
          - {network: inside, name: web, netns: web}
        links:
          - {parent: eth1, vlan_id: 40, addresses: [10.40.0.1/24, "2001:db8:40::1/64"]}
        routes:
          - {name: up, routes: [{prefix: 10.99.0.0/16, via: 10.40.0.254}, {prefix: "2001:db8:99::/48", via: "2001:db8:40::254"}]}
"""

INSTALL = "apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install {} >/dev/null 2>&1"


@pytest.fixture(scope="module")
def rack() -> Iterator[Rack]:
    with Rack([Host(name, nics=NICS) for name in HOSTS]) as rack:
        network_manager(rack["nm"])
        ifupdown(rack["ifupdown"])
        cloud_init(rack["cloud"])
        for host in rack:
            host.reboot()
        prepare(rack)
        assert all(said["changed"] for said in play(rack, RACK)["rack"].values())
        yield rack


def network_manager(host: Host) -> None:
    """It has all the NICs, one of them by netplan and the others as it finds them."""
    host.ssh(INSTALL.format("network-manager netplan.io"), timeout=600)
    host.ssh(
        "cat > /etc/netplan/eth0.yaml; chmod 600 /etc/netplan/eth0.yaml; "
        "systemctl disable systemd-networkd; rm /etc/systemd/network/20-eth0.network",
        stdin=f"""\
network:
  renderer: NetworkManager
  ethernets:
    eth0: {{addresses: [{host.address}/24], routes: [{{to: default, via: {NETWORK_4[1]}}}]}}
""",
    )


def ifupdown(host: Host) -> None:
    host.ssh(INSTALL.format("ifupdown"), timeout=600)
    nics = "".join(
        f"auto {nic}\niface {nic} inet manual\n up ip link set {nic} up\n down ip link set {nic} down\n"
        for nic in ("eth1", "eth2")
    )
    host.ssh(
        "cat > /etc/network/interfaces; systemctl disable systemd-networkd; systemctl enable networking; rm /etc/systemd/network/20-eth0.network",
        stdin=f"auto lo\niface lo inet loopback\nauto eth0\niface eth0 inet static\n address {host.address}/24\n gateway {NETWORK_4[1]}\n{nics}",
    )


def cloud_init(host: Host) -> None:
    """It is given the addresses by its seed, and writes them down for netplan at every boot, as on Ubuntu."""
    host.ssh(INSTALL.format("cloud-init netplan.io"), timeout=600)
    host.ssh(
        "mkdir -p /var/lib/cloud/seed/nocloud; cd /var/lib/cloud/seed/nocloud; echo 'instance-id: one' > meta-data; cat > network-config; "
        "printf '#cloud-config\\ndisable_root: false\\nssh_deletekeys: false\\npreserve_hostname: true\\nresize_rootfs: false\\n' > user-data; "
        "echo 'datasource_list: [NoCloud]' > /etc/cloud/cloud.cfg.d/99.cfg; rm /etc/systemd/network/20-eth0.network; "
        # which waits two minutes for a router on eth1 and eth2, where there is none
        "systemctl mask systemd-networkd-wait-online",
        stdin=f"""\
version: 2
ethernets:
  eth0: {{addresses: [{host.address}/24], routes: [{{to: 0.0.0.0/0, via: {NETWORK_4[1]}}}]}}
  eth1: {{}}
  eth2: {{}}
""",
    )


def ours(host: Host) -> list[str]:
    found = [row["ifname"] for group in ("8021", "8022") for row in ip(host, "link", "show", "group", group)]
    assert len(found) == 6, found
    return found


def settled(host: Host) -> bool:
    return host.ssh("underlay drift", check=False).returncode == 0


#: Who is asked whether they really manage this host, what has to be in the answer, and what they do.
NEIGHBOURS = {
    "nm": ("nmcli -t -f NAME,STATE connection", r"^netplan-eth0:activated$", "netplan apply; systemctl restart NetworkManager"),
    "ifupdown": ("ifquery --state", r"^eth0=eth0$", "systemctl restart networking"),
    "cloud": (
        "cat /run/systemd/network/*netplan*", r"^(Permanent)?(Name|MACAddress)=", "netplan apply; systemctl restart systemd-networkd"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTS)
def test_ours_are_left_alone(rack: Rack, name: str) -> None:
    host = rack[name]
    ask, answer, command = NEIGHBOURS[name]
    said = host.ssh(ask, check=False).stdout
    assert re.search(answer, said, re.MULTILINE), said
    # udev has announced each of ours, and gave none the name of the NIC whose MAC it has.
    for link in ours(host):
        assert "NETOPS_UNDERLAY=1" in host.ssh(f"udevadm info --query=property /sys/class/net/{link}").stdout, link
    before = picture(host, *SPACES)
    assert before["web/eth0"][5] and before["/eth1.40"][5]
    since = host.ssh("date +%s").stdout.strip()
    host.ssh(command)
    if name == "ifupdown":  # it takes the NIC under ours down, and with that the kernel drops their routes
        assert until(lambda: settled(host))
    assert until(lambda: re.search(answer, host.ssh(ask, check=False).stdout, re.MULTILINE))
    assert settled(host) and picture(host, *SPACES) == before
    if name != "ifupdown":
        healed = re.findall(
            r"^healed: (.*)$", host.ssh(f"journalctl -o cat -u netops-underlay --since @{since}").stdout, re.MULTILINE
        )
        # When NetworkManager ends, it has the kernel make link-local addresses again on whatever link there is.
        again = re.compile(r"(link \S+ )?is not isolated, should have profile \w+(: link \S+.*)?$")
        left = healed if name != "nm" else [text for text in healed if not again.match(text)]
        assert left == [], "ours are left alone, not brought back"
    host.reboot()
    assert until(lambda: settled(host))
    assert re.search(answer, host.ssh(ask, check=False).stdout, re.MULTILINE)
    assert picture(host, *SPACES) == before
    assert host.ssh("systemctl --failed --no-legend --plain").stdout == ""
    assert not play(rack, RACK, "--limit", name)["rack"][name]["changed"]


def test_to_networkmanager_ours_are_unmanaged(rack: Rack) -> None:
    said = rack["nm"].ssh("nmcli -t -f DEVICE,STATE device").stdout
    states = dict(line.split(":", 1) for line in said.splitlines())
    assert {states[link] for link in ours(rack["nm"])} == {"unmanaged"}
    # Also what is made while it runs, and what it is asked for by name.
    play(
        rack,
        "  tasks: [{name: new, netops.underlay.vlan_link: {parent: eth1, vlan_id: 77, addresses: [10.77.7.1/24]}}]\n",
        "--limit",
        "nm",
    )
    assert until(lambda: "eth1.77:unmanaged" in rack["nm"].ssh("nmcli -t -f DEVICE,STATE device").stdout)


def test_udev_runs_nothing_for_ours(rack: Rack) -> None:
    """Distributions set a laxer rp_filter on every link that comes, by systemd-sysctl, which udev runs for each."""
    host = rack["cloud"]
    host.ssh(
        "printf '%s\\n' 'net.ipv4.conf.*.rp_filter = 2' -net.ipv4.conf.all.rp_filter > /etc/sysctl.d/50-default.conf"
    )
    host.ssh(
        "cat > /etc/udev/rules.d/90-witness.rules; udevadm control --reload",
        stdin='SUBSYSTEM=="net", ACTION=="add", RUN+="/bin/touch /run/seen-%k"\n',
    )
    since = host.ssh("date +%s").stdout.strip()
    host.ssh("ip link add eth1.79 link eth1 type vlan id 79")
    play(rack, "  tasks: [{name: new, netops.underlay.vlan_link: {parent: eth1, vlan_id: 78}}]\n", "--limit", "cloud")
    host.ssh("udevadm settle")
    assert host.ssh("cd /run; ls seen-*").stdout.split() == ["seen-eth1.79"]
    assert host.ssh("cat /proc/sys/net/ipv4/conf/eth1.7[89]/rp_filter").stdout.split() == ["1", "2"]
    assert settled(host)
    assert "healed" not in host.ssh(f"journalctl -o cat -u netops-underlay --since @{since}").stdout
    assert "NETOPS_UNDERLAY=1" in host.ssh("udevadm info --query=property /sys/class/net/eth1.78").stdout
    host.ssh("udevadm verify /etc/udev/rules.d/70-netops-underlay.rules")
    play(
        rack, "  tasks: [{name: gone, netops.underlay.vlan_link: {name: eth1.78, state: absent}}]\n", "--limit", "cloud"
    )


#: A router's sysctls, and those of many a distribution, for every link.
LAX = "".join(
    f"net.{key} = {value}\\n"
    for key, value in (
        ("ipv4.ip_forward", 1), ("ipv4.conf.all.rp_filter", 0), ("ipv4.conf.*.rp_filter", 2), ("ipv4.conf.*.arp_ignore", 0),
        ("ipv6.conf.all.forwarding", 1), ("ipv6.conf.*.accept_ra", 2), ("ipv6.conf.*.disable_ipv6", 0),
    )
)  # fmt: skip
REWRITES = (
    "systemctl restart systemd-sysctl",
    "sysctl -q --system",
    "networkctl reload; systemctl restart systemd-networkd",
    "udevadm trigger --action=add --subsystem-match=net --settle",
    "nft flush ruleset",
)


def sysctls(host: Host, *names: str) -> str:
    """Those of some links that LAX is about."""
    keys = "ipv4/conf/{0}/rp_filter ipv4/conf/{0}/arp_ignore ipv4/conf/{0}/forwarding ipv6/conf/{0}/disable_ipv6 ipv6/conf/{0}/accept_ra"
    return host.ssh(f"cd /proc/sys/net; grep . {' '.join(keys.format(name) for name in names)}").stdout


@pytest.mark.parametrize("command", REWRITES)
def test_resetting_the_hosts_sysctls_leaves_ours_isolated(rack: Rack, command: str) -> None:
    host = rack["cloud"]
    assert until(lambda: settled(host))
    links = [name for name in ours(host) if name != "eth1.40"]  # which has addresses of the host
    before, closed = picture(host, *SPACES), sysctls(host, *links)
    try:
        host.ssh(f"printf '{LAX}' > /etc/sysctl.d/99-lax.conf; {command}")
        theirs = sysctls(host, "eth1", "all")
        assert until(lambda: settled(host) and sysctls(host, *links) == closed), sysctls(host, *links)
        assert picture(host, *SPACES) == before
        assert sysctls(host, "eth1", "all") == theirs, "theirs are as they left them"
    finally:
        host.ssh("rm /etc/sysctl.d/99-lax.conf")
