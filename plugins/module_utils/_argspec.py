# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The argument specs of the modules, one function for each documentation fragment and one for each module.

They document and convert; the engine validates, all rows together.
"""

from __future__ import annotations

from typing import Any, Dict

# First of all: one stops on an old Python, the other makes all further imports faster.
from . import _archive, _python  # noqa: F401  pylint: disable=unused-import
from ._engine.declare.network import IPVLAN_FLAGS, IPVLAN_MODES, MACVLAN_MODES
from ._engine.run.transact import DEFAULT_STATE_DIR

Options = Dict[str, Dict[str, Any]]


def common() -> Options:
    """``doc_fragments/common.py``"""
    return {
        "state_dir": {"type": "path", "default": DEFAULT_STATE_DIR},
        "lock_timeout": {"type": "int", "default": 30},
    }


def change() -> Options:
    """``doc_fragments/change.py``"""
    return {
        "adopt": {"type": "bool", "default": False},
        "managed_from": {"type": "list", "elements": "str"},
        "dhcp_timeout": {"type": "int", "default": 30},
        "guard_timeout": {"type": "int", "default": 0},
        "guard_probe": {
            "type": "dict",
            "options": {
                "ping": {"type": "list", "elements": "str"},
                "url": {"type": "list", "elements": "str"},
                "endpoint": {"type": "str"},
            },
        },
    }


def vlan_link() -> Options:
    return {
        "parent": {"type": "str"},
        "vlan_id": {"type": "int"},
        "name": {"type": "str"},
        "protocol": {"type": "str", "choices": ["802.1q", "802.1ad"], "default": "802.1q"},
        "mtu": {"type": "int"},
        "addresses": {"type": "list", "elements": "str"},
        "gvrp": {"type": "bool", "default": False},
        "mvrp": {"type": "bool", "default": False},
        "loose_binding": {"type": "bool", "default": False},
        "reorder_headers": {"type": "bool", "default": True},
        "ingress_qos_map": {"type": "dict"},
        "egress_qos_map": {"type": "dict"},
        "bring_up_parent": {"type": "bool", "default": True},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def vlan_network() -> Options:
    return {
        "name": {"type": "str", "required": True},
        "driver": {"type": "str", "choices": ["macvlan", "ipvlan"]},
        "mode": {"type": "str", "choices": [*MACVLAN_MODES, *IPVLAN_MODES]},
        "flag": {"type": "str", "choices": [*IPVLAN_FLAGS]},
        "parent": {"type": "str"},
        "internal": {"type": "bool", "default": False},
        "subnets": {
            "type": "list",
            "elements": "dict",
            "aliases": ["ipam_config"],
            "options": {
                "subnet": {"type": "str", "required": True},
                "gateway": {"type": "str"},
                "ip_range": {"type": "list", "elements": "str", "aliases": ["iprange"]},
                "aux_addresses": {"type": "dict"},
            },
        },
        "enable_ipv4": {"type": "bool"},
        "enable_ipv6": {"type": "bool"},
        "mtu": {"type": "int"},
        "share_parent": {"type": "bool", "default": False},
        "bring_up_parent": {"type": "bool", "default": True},
        "host_access": {"type": "raw", "default": False},
        "probe": {"type": "bool", "default": False},
        "source_routing": {"type": "bool", "default": False},
        "spoof_check": {"type": "bool", "default": False},
        "dns": {"type": "list", "elements": "str"},
        "dns_search": {"type": "list", "elements": "str"},
        "dns_options": {"type": "list", "elements": "str"},
        "recreate": {"type": "bool", "default": False},
        "bcqueuelen": {"type": "int"},
        "bclim": {"type": "int"},
        "nopromisc": {"type": "bool", "default": False},
        "addressing": {"type": "str", "choices": ["pool", "dhcp"], "default": "pool"},
        "labels": {"type": "dict"},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def vlan_endpoint() -> Options:
    return {
        "network": {"type": "str", "required": True},
        "name": {"type": "str", "required": True},
        "netns": {"type": "str"},
        "pid": {"type": "int"},
        "container": {
            "type": "dict",
            "options": {
                "engine": {"type": "str", "choices": ["docker", "podman"], "required": True},
                "name": {"type": "str", "required": True},
            },
        },
        "interface": {"type": "str"},
        "ipv4_address": {"type": "str"},
        "ipv6_address": {"type": "str"},
        "ipv4_addresses": {"type": "list", "elements": "str"},
        "ipv6_addresses": {"type": "list", "elements": "str"},
        "allowed_addresses": {"type": "list", "elements": "str"},
        "dhcp_client_id": {"type": "str"},
        "dhcp_hostname": {"type": "str"},
        "subnet": {"type": "str"},
        "kind": {"type": "str", "choices": ["link", "tap"], "default": "link"},
        "tap_owner": {"type": "str"},
        "tap_group": {"type": "str"},
        "tap_mode": {"type": "raw"},
        "mac_address": {"type": "str"},
        "source_macs": {"type": "list", "elements": "str"},
        "mtu": {"type": "int"},
        "aliases": {"type": "list", "elements": "str"},
        "hosts": {"type": "dict"},
        "dns": {"type": "list", "elements": "str"},
        "dns_search": {"type": "list", "elements": "str"},
        "dns_options": {"type": "list", "elements": "str"},
        "gw_priority": {"type": "int", "default": 0},
        "default_route": {
            "type": "dict",
            "options": {
                "ipv4": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
                "ipv6": {"type": "str", "choices": ["auto", "always", "never"], "default": "auto"},
            },
        },
        "routes": {
            "type": "list",
            "elements": "dict",
            "options": {
                "prefix": {"type": "str", "required": True},
                "via": {"type": "str"},
                "metric": {"type": "int"},
                "table": {"type": "int"},
            },
        },
        "source_routing": {"type": "bool"},
        "sysctls": {"type": "dict"},
        "accept_ra": {"type": "bool", "default": False},
        "probe": {"type": "bool", "default": False},
        "ingress_rate": {"type": "str"},
        "ingress_burst": {"type": "str"},
        "egress_rate": {"type": "str"},
        "egress_burst": {"type": "str"},
        "vlans": {"type": "list", "elements": "str"},
        "state": {"type": "str", "choices": ["present", "absent", "released"], "default": "present"},
    }


def ipvlan_l3_routes() -> Options:
    return {
        "name": {"type": "str", "required": True},
        "routes": {
            "type": "list",
            "elements": "dict",
            "options": {
                "prefix": {"type": "str", "required": True},
                "via": {"type": "str"},
                "dev": {"type": "str"},
                "type": {
                    "type": "str",
                    "choices": ["unicast", "unreachable", "blackhole", "prohibit"],
                    "default": "unicast",
                },
                "metric": {"type": "int"},
                "table": {"type": "int"},
                "vrf": {"type": "str"},
            },
        },
        "network": {"type": "str"},
        "exact": {"type": "bool", "default": False},
        "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
    }


def vlan_map() -> Options:
    """Only the engine validates the rows: Ansible would check thousands slowly, and report only the first error."""
    rows = {"type": "list", "elements": "dict"}
    return {
        "name": {"type": "str", "required": True},
        "trunks": {"type": "dict"},
        "links": rows,
        "networks": rows,
        "endpoints": rows,
        "routes": rows,
        "src": {"type": "path"},
        "inventory_map": {"type": "bool", "default": False},
        "purge": {"type": "bool", "default": False},
        "purge_limit": {"type": "str", "default": "20%"},
    }


def vlan_info() -> Options:
    return {
        "gather_subset": {
            "type": "list",
            "elements": "str",
            "choices": ["all", "links", "networks", "endpoints", "routes", "drift", "adoptable", "transactions"],
            "default": ["all"],
        },
        "name": {"type": "list", "elements": "str"},
        "dest": {"type": "str"},
    }
