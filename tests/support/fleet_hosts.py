# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Many hosts on one kernel: each a process with a network and mounts of its own, whose NICs are ports of two switches."""

from __future__ import annotations

import multiprocessing
import os
import socket
import traceback
from multiprocessing.connection import Connection
from typing import Any, Dict, List, Mapping, Tuple

from ansible_collections.netops.underlay.plugins.module_utils._engine.declare import model
from ansible_collections.netops.underlay.plugins.module_utils._engine.kernel import namespace_search
from ansible_collections.netops.underlay.plugins.module_utils._engine.report import describe
from ansible_collections.netops.underlay.plugins.module_utils._engine.run import converge, transact

from tests.support.engine import Engine
from tests.support.network_host import CLONE_NEWUTS, fresh_host, ip, libc, run
from tests.support.observer import MAC, Place

#: NIC -> the trunk and the switch that it is plugged into.
TRUNKS = {"eth0": "a", "eth1": "b"}
STATE = "/var/lib/netops-underlay"
VLANS = "2-999"


def switches() -> None:
    """Two, in the namespace of the test; each carries every VLAN, tagged, to every port and to itself."""
    for name in TRUNKS.values():
        run(
            f"ip link add name {name} address {MAC.hex(':')} type bridge vlan_filtering 1 mcast_snooping 0; ip link set dev {name} up;"
            f"bridge vlan add dev {name} vid {VLANS} self"
        )


class Host:
    """A host, whose engine is driven by a process that lives in it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("fork").Process(target=_live, args=(name, theirs, self._pipe))
        self.process.start()
        theirs.close()
        assert self._pipe.recv() == "ready"
        for nic, trunk in TRUNKS.items():
            port = f"{name}-{trunk}"
            run(
                f"ip link add {port} type veth peer name {nic} netns {self.process.pid}; ip link set {port} master {trunk} up;"
                f"bridge vlan add dev {port} vid {VLANS}"
            )

    def ports(self) -> Dict[str, Tuple[str, str]]:
        return {f"{self.name}-{trunk}": (trunk, self.name) for trunk in TRUNKS.values()}

    def start(self, verb: str, *arguments: Any) -> None:
        self._pipe.send((verb, *arguments))

    def result(self) -> Any:
        """Of what was started. Raises AssertionError with the host's own traceback."""
        good, found = self._pipe.recv()
        assert good, f"{self.name}: {found}"
        return found

    def lose(self) -> None:
        """The power is gone, and the host with it."""
        self.process.kill()
        self.process.join()
        for trunk in TRUNKS.values():
            port = f"{self.name}-{trunk}"  # it may have gone with the host's end
            run(f"ip link del {port} 2>/dev/null || ! ip link show dev {port} >/dev/null 2>&1")


def ask(hosts: Mapping[str, Host], verb: str, arguments: Mapping[str, Tuple[Any, ...]]) -> Dict[str, Any]:
    """The same of several hosts at once, as Ansible does it; their results."""
    for name, words in arguments.items():
        hosts[name].start(verb, *words)
    return {name: hosts[name].result() for name in arguments}


# --- in the host ---------------------------------------------------------------------------------


def _live(name: str, pipe: Connection, other_end: Connection) -> None:
    other_end.close()
    libc("unshare", CLONE_NEWUTS)
    # One kernel lists the namespaces of all hosts, and each would look into those of every other one. Those of a host have a name in it.
    namespace_search._known_to_the_kernel = list
    socket.sethostname(name)  # two machines of one name and one machine-id would have the same MACs
    with fresh_host():
        run("mkdir -p /etc/netns " + STATE)
        run(f"mount -t tmpfs none /etc/netns; mount -t tmpfs -o mode=700 none {STATE}")
        pipe.send("ready")
        work = _Work()
        while True:
            try:
                verb, *arguments = pipe.recv()
            except EOFError:
                os._exit(0)
            try:
                pipe.send((True, getattr(work, verb)(*arguments)))
            except Exception:
                pipe.send((False, traceback.format_exc()))


class _Work:
    def __init__(self) -> None:
        self.engine = Engine(STATE)

    def predict(self, options: Dict[str, Any]) -> Dict[str, Any]:
        """What vlan_map returns in check mode, as far as the playbook site looks at it."""
        found = self._converge(options, check=True)
        return {**describe.moving(found.changes), "staying": found.staying, "machine": found.machine}

    def apply(self, options: Dict[str, Any]) -> int:
        """The host's task: how many changes it made."""
        return len(self._converge(options).changes)

    def detach(self, endpoints: List[Dict[str, str]]) -> None:
        for endpoint in endpoints:
            self.engine.task("endpoint", "absent", True, **endpoint)

    def shown(self) -> Tuple[Dict[Tuple[str, int], int], Dict[str, List[Place]]]:
        """The kernel's own sub-interfaces, NIC and VLAN -> index; and where each endpoint should answer."""
        links = {
            (row["link"], row["linkinfo"]["info_data"]["id"]): row["ifindex"]
            for row in ip("link", "show", "type", "vlan")
        }
        assert describe.host(STATE, ("drift", "adoptable")) == {"drift": [], "adoptable": []}
        networks, places = self.engine.records("network"), {}
        for key, spec in self.engine.records("endpoint").items():
            nic, _dot, vlan = networks[spec["network"]]["parent"].partition(".")
            places[key] = [(TRUNKS[nic], int(vlan), address.partition("/")[0]) for address in spec["addresses"]]
        return links, places

    def _converge(self, options: Dict[str, Any], check: bool = False) -> converge.Outcome:
        return converge.converge(model.declare_map(options), transact.RunOptions(STATE, check=check))
