# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Why something differs from Docker: a closed list, of which every entry is in use.

N and R are rules of this collection's design (what it never does, and how it settles open questions); D is
what Docker does and is not followed in, by the number of the chapter in which its behaviour was collected.
"""

from __future__ import annotations

#: A larger list would be an excuse for everything.
MOST = 25

PURPOSES = {
    "N1": "Nothing that is not ours is removed, nor by cascade: a link of ours stays while somebody else's uses it.",
    "N3": "What cannot work is refused before anything is touched, not when the first endpoint comes.",
    "N5": "An address, and the MAC with it, stays with its endpoint's name until that is absent.",
    "N6": "No option is ignored: it works, or it is refused.",
    "N7": "The host has no presence in a tenant's VLAN: a link that is made for it takes no address, answers and forwards nothing.",
    "R1": "``NAME.VID`` is made on any base that exists, a sub-interface too, the VLAN ID a plain number; longer names become "
    "alternative ones; a base or parent that is down is set up.",
    "R2": "A gateway is the first usable address of the subnet, never guessed for /31, /32, /127 and /128, and may be link-local.",
    "R3": "``internal`` is a dummy, as the guide has it; together with a parent it is refused. An L3 network without a parent routes "
    "by device.",
    "R4": "A parent is shared only where both networks say so, never by macvlan and ipvlan, and is known by the link, not by its name.",
    "R5": "The same subnet may be on two VLANs, and not twice on one; host bits are taken off, with a warning.",
    "R6": "IPv4 and IPv6 that were not asked for follow the guide; subnets that are not given are picked, IPv6 too.",
    "R7": "An L3 network needs a subnet that its parent is not in.",
    "R8": "The parent's own addresses are never handed out.",
    "R9": "The MTU of a network is that of its endpoints and of the sub-interface that is made for it.",
    "R10": "Of several ways out the highest priority has it, then the name, for each family.",
    "D2.1": "A network of that name is refused; here a task that is repeated changes nothing.",
    "D2.5": "To remove what is not there is refused; here it is what was asked for.",
    "D3.4": "Endpoints announce themselves since 28.0 only, and the wire is never asked whether a stranger holds an address.",
    "D4.2": "Endpoints end with Docker's daemon; here there is none that they need.",
    "D4.3": "A parent that comes after the daemon is of no use until that is restarted; here the next task makes what is missing.",
}
