# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The files of the command and the service on a host: the launcher, its manual page, the unit, and what udev and systemd-networkd read."""

from __future__ import annotations

import os
from typing import Dict, Tuple

from . import _manual
from ._engine.core.change import LINK_GROUPS
from ._engine.run.converge import SERVICE
from ._engine.run.transact import DEFAULT_STATE_DIR
from ._engine.store import installed

UNIT = f"etc/systemd/system/{SERVICE}"
#: The service that asks for leases.
DHCP_SERVICE = "netops-underlay-dhcp.service"
DHCP_UNIT = f"etc/systemd/system/{DHCP_SERVICE}"
UDEV = "etc/udev/rules.d/70-netops-underlay.rules"
LINK = "etc/systemd/network/05-netops-underlay.link"
NETWORKD = "etc/systemd/network/05-netops-underlay.network"
NETWORKD_ROUTES = "etc/systemd/networkd.conf.d/netops-underlay.conf"
MAN = "usr/local/share/man/man8/underlay.8"
COMPLETION = "usr/local/share/bash-completion/completions/underlay"
METRICS = "run/netops-underlay"  # RuntimeDirectory= of the unit
_HEAD = "# Written by netops.underlay, module vlan_service.\n"

_LAUNCHER = """\
#!{interpreter} -I
# Written by netops.underlay, module vlan_service.
import os
import sys

# Resolved once: a newer version that is installed meanwhile is for the next one.
sys.path.insert(0, os.path.realpath("{current}"))
from _engine.service.cli import main

sys.exit(main())
"""

#: What both services go without; between the two parts each has what it needs.
_SANDBOX = """\
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
"""
_RESTRICTED = """\
RestrictRealtime=yes
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallFilter=~@resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

_SERVICE = (
    _HEAD
    + """\
[Unit]
Description=Underlay networks: {what}
# NICs have their names when udev has settled; what comes later is heard of.
After=local-fs.target network-pre.target systemd-udev-trigger.service systemd-modules-load.service systemd-sysctl.service
Before=network-online.target
RequiresMountsFor={state_dir} {root}

[Service]
Type=notify
ExecStartPre=-/usr/bin/udevadm settle --timeout=30
ExecStart={command} watch --sandboxed{options}
{more}# It is ready once it has looked, after 20 s at most; the boot goes on whatever it found.
TimeoutStartSec=90
# A look that is under way ends by itself.
KillMode=mixed
StateDirectory={state}
StateDirectoryMode=0700
# The metrics, for all to read; they stay while the service is stopped, so that their age tells of it.
RuntimeDirectory={runtime}
RuntimeDirectoryPreserve=yes
UMask=0077

# NET_ADMIN makes links, addresses and routes. SYS_ADMIN enters the namespaces of endpoints and mounts named ones.
# SYS_PTRACE looks at the namespaces of other users' processes. SYS_CHROOT goes to the mounts of the first process, in
# which a named namespace has to appear. NET_BROADCAST hears the events of other namespaces.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_CHROOT CAP_NET_BROADCAST
{devices}"""
    + _SANDBOX
    + """\
# What it needs of other processes it sees by SYS_PTRACE.
ProtectProc=invisible
# Netlink for the kernel, Unix for systemd and container engines: nothing else.
RestrictAddressFamilies=AF_NETLINK AF_UNIX
IPAddressDeny=any
# In its user namespace the hosts file of a container is written, with the rights of its root and no others.
RestrictNamespaces=net mnt user
# Not RestrictSUIDSGID, which takes openat2 away: by that a container's hosts file is opened without leaving the container.
"""
    + _RESTRICTED
)

_DHCP = (
    _HEAD
    + """\
[Unit]
Description=Underlay networks: leases from DHCP servers
# It asks on the links of endpoints as they come, so nothing has to wait for it.
After=local-fs.target netops-underlay.service
RequiresMountsFor={state_dir} {root}

[Service]
Type=notify
ExecStart={command} dhcp --sandboxed
# Nothing is given back when it ends: addresses last as long as their leases, and the next start goes on with them.
Restart=always
RestartSec=2
StateDirectory={state}
StateDirectoryMode=0700
# Its socket; the directory is that of the other service too.
RuntimeDirectory={runtime}
RuntimeDirectoryPreserve=yes
UMask=0077
# Some for each endpoint.
LimitNOFILE=65536

# NET_ADMIN makes addresses and routes. NET_RAW asks before there is an address, and NET_BIND_SERVICE keeps ports 68 and 546, to which
# servers answer. SYS_ADMIN enters the namespaces of endpoints, SYS_PTRACE finds those of other users' processes, and SYS_CHROOT goes to the
# mounts of the first process, where container engines have their files.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW CAP_NET_BIND_SERVICE CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_CHROOT
PrivateDevices=yes
"""
    + _SANDBOX
    + """\
ProtectProc=invisible
# Netlink for the kernel, Unix for systemd and container engines, packets and ports 68 and 546 for DHCP servers and ARP: nothing else.
RestrictAddressFamilies=AF_NETLINK AF_UNIX AF_PACKET AF_INET AF_INET6
IPAddressDeny=any
# DHCPv6 servers: the group of them, and their link-local addresses.
IPAddressAllow=ff02::1:2 fe80::/10
RestrictNamespaces=net mnt
RestrictSUIDSGID=yes
"""
    + _RESTRICTED
)

_NO_DEVICES = "PrivateDevices=yes\n"
_DEVICES_OF_TAPS = """\
# The nodes of taps are in the host's /dev: MKNOD makes them and CHOWN gives them to their owner. They are never opened here.
CapabilityBoundingSet=CAP_MKNOD CAP_CHOWN
DevicePolicy=closed
DeviceAllow=char-* m
"""

# While they are made, many links are in a group of PRIVATE_GROUPS, 802100000 to 802199999.
_UDEV_RULE = (
    _HEAD
    + """\
# Keep other managers off our links: NetworkManager, and systemd-networkd since 255 (ID_NET_MANAGED_BY) and before (by the file
# 05-netops-underlay.network). And udev runs no program for it: systemd-sysctl would set what the patterns of sysctl.d say, such
# as a laxer rp_filter, and is most of what a link costs. RUN may not be empty; this builtin only looks at names.
SUBSYSTEM=="net", ACTION!="remove", ATTR{{netdev_group}}=="{groups}", \\
  ENV{{NETOPS_UNDERLAY}}="1", ENV{{NM_UNMANAGED}}="1", ENV{{ID_NET_MANAGED_BY}}="netops.underlay", RUN{{builtin}}:="net_id"
"""
)

# An ipvlan link has the MAC of its parent, and a file that names NICs by theirs would be about it too.
_LINK_FILE = (
    _HEAD
    + """\
# See 70-netops-underlay.rules: they keep the name and the MAC that they were made with.
[Match]
Property=NETOPS_UNDERLAY=1

[Link]
NamePolicy=keep
MACAddressPolicy=none
"""
)

_NETWORKD_FILE = (
    _HEAD
    + """\
# See 70-netops-underlay.rules.
[Match]
Property=NETOPS_UNDERLAY=1

[Link]
Unmanaged=yes
"""
)

_NETWORKD_CONF = (
    _HEAD
    + """\
# Else systemd-networkd removes the routes of others from the links that it manages whenever it starts.
[Network]
ManageForeignRoutes=no
"""
)


#: What udev matches (udev(7)): every link that is ours, and PRIVATE_GROUPS, in which links are while they are made.
UDEV_GROUPS = "|".join([*map(str, LINK_GROUPS), "8021[0-9][0-9][0-9][0-9][0-9]"])


def texts(interpreter: str, heal: bool, taps: bool, dhcp: bool) -> Dict[str, Tuple[str, int]]:
    """The text and the mode of each file, by its path below the root.

    ``interpreter`` is the path of the Python that runs the command. With ``heal`` the service repairs what is lost, else it only
    restores at boot; with ``taps`` it may make device nodes. With ``dhcp`` another one asks for leases.
    """
    if heal:
        what, options, more = (
            "restored at boot, repaired when something is lost",
            "",
            "Restart=on-failure\nRestartSec=2\n",
        )
    else:
        what, options, more = (
            "restored at boot",
            " --no-heal",
            "RemainAfterExit=yes\nRestart=on-failure\nRestartSec=2\n",
        )
    places = {
        "command": installed.COMMAND,
        "root": installed.ROOT,
        "state_dir": DEFAULT_STATE_DIR,
        "state": os.path.basename(DEFAULT_STATE_DIR),
        "runtime": os.path.basename(METRICS),
    }
    devices = _DEVICES_OF_TAPS if taps else _NO_DEVICES
    unit = _SERVICE.format(what=what, options=options, more=more, devices=devices, **places)
    return {
        **({DHCP_UNIT: (_DHCP.format(**places), 0o644)} if dhcp else {}),
        installed.COMMAND.lstrip("/"): (
            _LAUNCHER.format(interpreter=interpreter, current=installed.CURRENT),
            0o755,
        ),
        MAN: (_manual.man(), 0o644),
        COMPLETION: (_manual.bash(), 0o644),
        UNIT: (unit, 0o644),
        UDEV: (_UDEV_RULE.format(groups=UDEV_GROUPS), 0o644),
        LINK: (_LINK_FILE, 0o644),
        NETWORKD: (_NETWORKD_FILE, 0o644),
        NETWORKD_ROUTES: (_NETWORKD_CONF, 0o644),
    }
