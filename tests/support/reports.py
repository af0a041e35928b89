# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Fleets as ``vlan_info`` tells of them, of any size: the input of the report's tests."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

Info = dict[str, Any]


def network(name: str, vlan: int | None, subnets: Iterable[str], **more: Any) -> Info:
    """A network of VLAN ``vlan`` on eth1, or on eth1 itself."""
    rows = [
        {
            "subnet": subnet,
            "gateway": str(ipaddress.ip_network(subnet).network_address + 1),
            "ip_range": None,
            "aux_addresses": {},
        }
        for subnet in subnets
    ]
    return {
        "name": name, "driver": "macvlan", "mode": "bridge", "flag": None, "trunk": "eth1", "vlan_id": vlan,
        "parent": f"eth1.{vlan}" if vlan else "eth1", "internal": False, "mtu": None, "subnets": rows, "interface": None,
        "addresses": [], "labels": {}, "owner": "trunk", "endpoints": [], **more,
    }  # fmt: skip


def endpoint(of: Info, name: str, *addresses: str, **more: Any) -> Info:
    of["endpoints"].append(name)
    return {
        "network": of["name"], "name": name, "workload": f"netns:{name}", "interface": "eth0", "addresses": list(addresses),
        "mac": f"02:00:00:{len(name):02x}:00:{len(of['endpoints']) % 256:02x}",
        "gateway": {"ipv4": of["subnets"][0]["gateway"] if of["subnets"] else None, "ipv6": None}, "parent": of["parent"],
        "owner": "endpoints", "alive": True, **more,
    }  # fmt: skip


def host(networks: list[Info], endpoints: list[Info], **more: Any) -> Info:
    """A host's answer, with the use of its pools as the engine counts it."""
    for row in networks:
        row["pools"] = []
        for subnet in row["subnets"]:
            pool = ipaddress.ip_network(subnet["ip_range"] or subnet["subnet"])
            held = [a for e in endpoints if e["network"] == row["name"] for a in e["addresses"]]
            used = sum(ipaddress.ip_interface(address).ip in pool for address in held)
            row["pools"].append({"pool": str(pool), "used": used, "free": pool.num_addresses - 3 - used})
    return {
        "changed": False, "links": [], "networks": networks, "endpoints": endpoints, "routes": [], "drift": [], "adoptable": [],
        "transactions": [{"number": 7, "state": "applied", "time": "2026-11-24T22:10:05Z", "who": "alice, Ansible", "owner": "trunk"}],
        **more,
    }  # fmt: skip


def rack() -> dict[str, Info]:
    """Two hosts with one of everything: tags, L3, a network that stays inside, an endpoint that is away, a drift."""
    found = {}
    for number in (1, 2):
        web = network("web", 50, ["172.16.50.0/24", "2001:db8:50::/64"])
        shop = network("shop", 60, ["172.16.60.0/29"], driver="ipvlan", mode="l2", flag="bridge")
        edge = network("edge", None, [f"10.30.{number}.0/24"], driver="ipvlan", mode="l3", flag="bridge")
        edge["subnets"][0]["gateway"] = None
        lab = network("lab", None, ["172.17.0.0/16"], parent="dm-0c1d2e3f4a5b", trunk=None, internal=True)
        lab["subnets"][0]["gateway"] = None
        first = 10 * number
        members = [
            endpoint(web, f"web-{number}", f"172.16.50.{first}/24", f"2001:db8:50::{first}/64"),
            endpoint(
                web,
                f"cache-{number}",
                f"172.16.50.{first + 1}/24",
                f"2001:db8:50::{first + 1}/64",
                workload=f"podman:cache-{number}",
            ),
            endpoint(shop, f"till-{number}", f"172.16.60.{number + 1}/29", mac=None),
            endpoint(edge, f"router-{number}", f"10.30.{number}.2/24", mac=None),
        ]
        if number == 1:
            members.append(endpoint(shop, "till-old", "172.16.60.4/29", mac=None, alive=False))
        members.append(endpoint(lab, f"probe-{number}", "172.17.0.2/16"))
        routes = [{
            "name": "other-hosts", "network": "edge", "owner": "task",
            "routes": [{"prefix": f"10.30.{3 - number}.0/24", "type": "unicast", "via": f"192.0.2.{3 - number}", "dev": None,
                        "metric": None, "table": None, "vrf": None}],
        }]  # fmt: skip
        links = [{
            "name": "eth1.99", "interface": "eth1.99", "altnames": [], "parent": "eth1", "vlan_id": 99, "protocol": "802.1q",
            "mtu": 1500, "mac": None, "addresses": [f"192.0.2.{number}/30"], "owner": "task",
        }]  # fmt: skip
        found[f"rack1-h{number}"] = host([web, shop, edge, lab], members, routes=routes, links=links)
    found["rack1-h2"]["drift"] = [
        {"object": "link eth1.60", "of": "parent", "verb": "change", "before": {"netns": "", "name": "eth1.60", "up": False},
         "after": {"netns": "", "name": "eth1.60", "up": True}},
        {"object": "address netns:till-2/eth0 172.16.60.3/29", "of": "endpoint:shop/till-2", "verb": "create", "before": None,
         "after": {"netns": "netns:till-2", "link": "eth0", "address": "172.16.60.3/29"}},
    ]  # fmt: skip
    return found


def plans() -> dict[str, list[Info]]:
    lines = ["create link eth1.70: VLAN 70 of eth1", "create netns netns:mail-1: a namespace that does not exist yet"]
    return {
        "rack1-h1": [{"changed": True, "plan": {"counts": {}, "total": 25, "first": lines, "plan_file": "/var/lib/x/plan"}}],
        "rack1-h2": [{"failed": True, "msg": "networks[3].parent: eth7 does not exist; this host has eth0, eth1", "changed": False}],
    }  # fmt: skip


def verified() -> dict[str, Info]:
    text = "eth1, VLAN 50: no answer from gateway 172.16.50.1 of web: the switch port does not carry VLAN 50, or the gateway is down"
    finding = {"kind": "arrival", "trunk": "eth1", "nic": "eth1", "vlan": 50, "network": "web", "text": text}
    return {
        "rack1-h1": {"findings": [], "proved": 2, "unproved": ["lab"]},
        "rack1-h2": {"failed": True, "msg": text, "findings": [finding], "proved": 1, "unproved": ["lab"]},
    }


def fleet(hosts: int, vlans: int, endpoints: int) -> dict[str, Info]:
    """Many hosts that carry the same VLANs, each with endpoints in some of them, and a few of them with trouble."""
    found: dict[str, Info] = {}
    subnets = list(ipaddress.ip_network("10.0.0.0/8").subnets(new_prefix=22))
    kinds = ({}, {"driver": "ipvlan", "mode": "l2", "flag": "bridge"}, {"mode": "private"})
    plain = [network(f"vlan{vlan}", vlan, [str(subnets[vlan])], **kinds[vlan % 3]) for vlan in range(1, vlans + 1)]
    for row in plain:
        row["pools"] = [{"pool": row["subnets"][0]["subnet"], "used": 0, "free": 1021}]
    for number in range(hosts):
        networks, members = list(plain), []  # one row for all hosts without an endpoint in it: a fleet in little memory
        for each in range(endpoints):
            at = (number * endpoints + each) % vlans
            networks[at] = {**plain[at], "endpoints": [], "pools": [{**plain[at]["pools"][0], "used": 1, "free": 1020}]}
            address = subnets[at + 1].network_address + 2 + number
            members.append(endpoint(networks[at], f"app{each}-{number}", f"{address}/22"))
        found[f"rack{number // 40 + 1:02}-h{number % 40 + 1:02}"] = {**host([], members), "networks": networks}
    names = list(found)
    if hosts > 20:
        found[names[7]] = {
            "unreachable": True,
            "msg": "ssh: connect to host 192.0.2.7 port 22: No route to host",
            "changed": False,
        }
        for name in names[9:12]:
            found[name]["drift"] = [
                {"object": "link eth1.12", "of": "parent", "verb": "change", "before": {"netns": "", "name": "eth1.12", "up": False},
                 "after": {"netns": "", "name": "eth1.12", "up": True}}
            ]  # fmt: skip
    return found
