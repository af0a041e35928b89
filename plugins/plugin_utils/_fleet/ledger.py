# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The ledger: which slice of a pool belongs to which host, and which address to which endpoint, in the whole fleet.

It is a text file that lives in git. Addresses are the keys, one a line and in their order: two branches that give the
same address away write to the same line, so that git itself sees the conflict; and where a merge kept both, an address
stands twice, which is found here. What is given stays, until it is released by name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Dict, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Sequence, Set, Tuple

try:
    import netaddr
except ImportError:  # the plugins say so
    pass
import yaml

from ...module_utils._engine import fields, ipam, model
from ...module_utils._engine.fields import Invalid, Problem
from .cells import Document, Fault, Place, unreadable
from .rows import is_for, pool, slice_length

VERSION = 1
HEAD = """\
# Which slice of a pool belongs to which host, and which address to which endpoint (HOST/ENDPOINT).
# Written by the playbook netops.underlay.allocate; keep it in git beside the map. What is given here never moves.
"""
_MARKERS = re.compile(r"^(<<<<<<< |=======$|>>>>>>> )", re.MULTILINE)

Row = Mapping[str, Any]  # as rows.Network.data() has it


@dataclass
class Ledger:
    """network -> slice -> host, and network -> address -> host/endpoint."""

    slices: Dict[str, Dict[str, str]] = field(default_factory=dict)
    addresses: Dict[str, Dict[str, str]] = field(default_factory=dict)

    def text(self) -> str:
        """The file: the same for the same content, whatever led to it."""
        lines = [HEAD + f"version: {VERSION}"]
        for section, content in (("slices", self.slices), ("addresses", self.addresses)):
            given = {network: entries for network, entries in content.items() if entries}
            lines.append(f"{section}:" if given else f"{section}: {{}}")
            for network in sorted(given):
                lines.append(f"  {_quoted(network)}:")
                lines += [f"    {_quoted(key)}: {_quoted(given[network][key])}" for key in sorted(given[network], key=_numeric)]
        return "\n".join(lines) + "\n"

    def slices_of(self, network: str, host: str) -> List[str]:
        return [text for text, holder in self.slices.get(network, {}).items() if holder == host]

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> Ledger:
        """The ledger that :meth:`data` was made of."""
        new = cls()
        for network, hosts in data["slices"].items():
            new.slices[str(network)] = {str(text): str(host) for host, texts in hosts.items() for text in texts}
        for network, hosts in data["addresses"].items():
            new.addresses[str(network)] = {
                str(text): f"{host}/{name}" for host, endpoints in hosts.items() for name, texts in endpoints.items() for text in texts
            }
        return new

    def data(self) -> Dict[str, Any]:
        """The same by holder, as hosts look it up: network -> host -> slices, network -> host -> endpoint -> addresses."""
        slices: Dict[str, Dict[str, List[str]]] = {}
        for network, given in self.slices.items():
            for text, host in given.items():
                slices.setdefault(network, {}).setdefault(host, []).append(text)
        addresses: Dict[str, Dict[str, Dict[str, List[str]]]] = {}
        for network, given in self.addresses.items():
            for text, holder in given.items():
                host, _rest, endpoint = holder.rpartition("/")
                addresses.setdefault(network, {}).setdefault(host, {}).setdefault(endpoint, []).append(text)
        return {"slices": slices, "addresses": addresses}


def _quoted(text: str) -> str:
    """A plain scalar where it can be one; IPv6 addresses and numbers cannot."""
    is_plain = _IPV4.match(text) or (_PLAIN.match(text) and text.lower() not in _WORDS)
    return text if is_plain else f'"{text}"'


_WORDS = {"yes", "no", "on", "off", "true", "false", "null", "y", "n"}
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*\Z")
_IPV4 = re.compile(r"\d+\.\d+\.\d+\.\d+(/\d+)?\Z")


@lru_cache(maxsize=65536)
def _network(text: str) -> fields.Network:
    return ipaddress.ip_network(text)


def _numeric(text: str) -> Tuple[int, int, int]:
    network = _network(text)
    return network.version, int(network.network_address), network.prefixlen


# --- reading -------------------------------------------------------------------------------------


def read(text: str, file: str) -> Tuple[Ledger, List[Fault]]:
    """The ledger of a file; an empty one is a ledger in which nothing is given yet."""
    ledger = Ledger()
    faults: List[Fault] = []
    marker = _MARKERS.search(text)
    if marker is not None:
        line = text.count("\n", 0, marker.start()) + 1
        what = "a merge was left unfinished here"
        return ledger, [Fault(Place(file, line, 1), "", what, "keep one of the two sides, then allocate again")]
    try:
        document = Document(text, file)
    except yaml.YAMLError as error:
        return ledger, [unreadable(error, file)]
    if document.root is None:
        return ledger, []
    sections = _mapping(document.root, document, "the ledger", faults)
    version = next((node.value for key, node in sections if key.value == "version"), None)
    if version != str(VERSION):
        faults.append(Fault(Place(file, 1, 1), "version", f"{version} is not {VERSION}", "use the collection that wrote this ledger"))
        return ledger, faults
    for key, node in sections:
        if key.value in ("slices", "addresses"):
            _section(key.value, node, document, ledger, faults)
        elif key.value != "version":
            faults.append(Fault(document.place(key), key.value, "unknown section", "known are slices and addresses"))
    return ledger, faults


def _mapping(node: yaml.Node, document: Document, what: str, faults: List[Fault]) -> List[Tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    faults.append(Fault(document.place(node), "", f"{what} is not a mapping", "take it from git as it was"))
    return []


def _section(section: str, node: yaml.Node, document: Document, ledger: Ledger, faults: List[Fault]) -> None:
    content: Dict[str, Dict[str, str]] = getattr(ledger, section)
    for network, entries in _mapping(node, document, section, faults):
        given = content.setdefault(str(network.value), {})
        where: Dict[str, Place] = {}
        for key, holder in _mapping(entries, document, f"{section} of {network.value}", faults):
            place = document.place(key)
            try:
                text = str(fields.network(key.value)) if section == "slices" else fields.address()(key.value)
                owner = _holder(section, str(holder.value))
            except Invalid as error:
                faults.append(Fault(place, section, str(error), error.faults[0][2]))
                continue
            if text in given:
                what = f"{text} of {network.value} is given to {given[text]} (line {where[text].line}) and to {owner}"
                faults.append(Fault(place, section, what, "two branches gave it away: remove the line that came later, then allocate again"))
                continue
            given[text] = owner
            where[text] = place
        if section == "slices":
            for one, two in ipam.overlaps((text, text) for text in given):
                what = f"{two} of {given[two]} overlaps {one} of {given[one]} (line {where[one].line})"
                faults.append(Fault(where[two], section, what, "remove one of the two lines, then allocate again"))


def _holder(section: str, text: str) -> str:
    host, slash, _endpoint = text.rpartition("/")
    if section == "addresses" and not (slash and host):
        raise Invalid(f"{text!r} is not HOST/ENDPOINT", "take the line from git as it was")
    if not text or (section == "slices" and "/" in text):
        raise Invalid(f"{text!r} is no host", "take the line from git as it was")
    return text


# --- what the fleet needs ------------------------------------------------------------------------


class Host(NamedTuple):
    """What the inventory says of a host."""

    groups: Sequence[str]
    endpoints: Sequence[Any]  # rows of vlan_endpoint, as they stand there


class Want(NamedTuple):
    """A slice or an address that somebody needs."""

    network: str
    holder: str  # a host, or host/endpoint
    version: int
    subnets: Tuple[str, ...]  # those that it may come from
    is_slice: bool = False

    @property
    def text(self) -> str:
        whose = f"host {self.holder}" if self.is_slice else f"endpoint {self.holder}"
        kind = "slice of " + ", ".join(self.subnets) if self.is_slice else f"IPv{self.version} address"
        return f"{whose} has no {kind} in network {self.network}"


class Fleet:
    """The map, the hosts and their endpoints: what each of them needs of the ledger, and what may not be."""

    def __init__(self, rows: Sequence[Row], hosts: Mapping[str, Host]) -> None:
        self.rows = {str(row["network"]["name"]): row for row in rows}
        self.hosts = hosts
        self.problems: List[Problem] = []
        self.specs: Dict[str, Dict[str, Any]] = {}
        self.slices: List[Want] = []
        self.addresses: List[Want] = []
        self.static: Dict[str, Dict[str, str]] = {}  # network -> address -> who asked for it by name
        for name, row in self.rows.items():
            declared = model.declare("network", row["network"], "present", False)
            self.specs[name] = next(item.spec for item in declared.items if item.spec is not None)
        for host in sorted(hosts):
            for name, row in self.rows.items():
                if row.get("per_host") and is_for(row, host, hosts[host].groups):
                    for subnet in self.specs[name]["subnets"]:
                        version = 6 if ":" in subnet["subnet"] else 4
                        self.slices.append(Want(name, host, version, (subnet["subnet"],), True))
            self._endpoints(host)

    def _endpoints(self, host: str) -> None:
        declared = model.declare_map({"name": "endpoints", "endpoints": list(self.hosts[host].endpoints)})
        self.problems += [
            Problem(f"{host}: {problem.path.replace('endpoints[', 'netops_endpoints[', 1)}", problem.what, problem.cure) for problem in declared.problems
        ]
        for item in declared.items:
            spec = item.spec
            if spec is None or spec["network"] not in self.rows:
                continue
            name, holder = str(spec["network"]), f"{host}/{spec['name']}"
            path = f"{host}: {item.path.replace('endpoints[', 'netops_endpoints[', 1)}"
            if not is_for(self.rows[name], host, self.hosts[host].groups):
                self.problems.append(Problem(f"{path}.network", f"network {name} is not for {host}", "widen site, group or hosts of its row in the map"))
                continue
            for version in (4, 6):
                static = spec[f"ipv{version}_address"]
                if static:
                    other = self.static.setdefault(name, {}).setdefault(static, holder)
                    if other != holder:
                        self.problems.append(Problem(f"{path}.ipv{version}_address", f"{static} is asked for by {other} too",
                                                     "give another address, or leave it to the ledger"))  # fmt: skip
                    continue
                there = [row["subnet"] for row in self.specs[name]["subnets"] if (":" in row["subnet"]) == (version == 6)]
                if spec["subnet"] in there:
                    there = [spec["subnet"]]
                if there:
                    self.addresses.append(Want(name, holder, version, tuple(there)))

    # -- against a ledger -------------------------------------------------------------------------

    def missing(self, ledger: Ledger) -> List[Want]:
        """What is needed and not given."""
        held = _held(ledger)
        return [want for want in (*self.slices, *self.addresses) if not any(self._fits(text, want) for text in held.get(_who(want), ()))]

    def stale(self, ledger: Ledger) -> List[str]:
        """What is given and no longer needed, in the words that release it."""
        needed: Dict[Tuple[bool, str, str], List[Want]] = {}
        for want in (*self.slices, *self.addresses):
            needed.setdefault(_who(want), []).append(want)
        found: Set[str] = set()
        for (is_slice, network, holder), texts in _held(ledger).items():
            wants = needed.get((is_slice, network, holder), [])
            if not all(any(self._fits(text, want) for want in wants) for text in texts):
                found.add(f"{network}/{holder}")
        return sorted(found)

    def conflicts(self, ledger: Ledger) -> List[Problem]:
        """What is given or asked for twice in the fleet, or is no longer to be had."""
        found: List[Problem] = []
        for network, asked in self.static.items():
            given = ledger.addresses.get(network, {})
            for address, holder in sorted(asked.items()):
                if given.get(address, holder) != holder:
                    found.append(Problem(f"{holder} in {network}", f"{address} is given to {given[address]} in the ledger",
                                         "ask for another address, or leave it to the ledger"))  # fmt: skip
        for network in sorted({*self.static, *ledger.addresses}):
            taken = {**self.static.get(network, {}), **ledger.addresses.get(network, {})}
            found += _in_others(network, taken, ledger.slices.get(network, {}))
        for network, given in ledger.addresses.items():
            for subnet in self.specs[network]["subnets"] if network in self.specs else ():
                reserved = self._reserved(network, subnet)
                for address, why in reserved.items():
                    if address in given:
                        found.append(Problem(f"{given[address]} in {network}", f"its address {address} is {why} by now",
                                             "take that back in the map, or release the endpoint"))  # fmt: skip
        return found

    def _fits(self, text: str, want: Want) -> bool:
        """Whether something given is what is wanted: in one of the subnets that it may come from."""
        return any(_inside(text, subnet) for subnet in want.subnets)

    def _reserved(self, network: str, subnet: Mapping[str, Any]) -> Dict[str, str]:
        """The addresses of a subnet that no endpoint may have, each with the reason."""
        found = {str(address): f"reserved as {name}" for name, address in subnet["aux_addresses"].items()}
        first = ipam.first_usable(subnet["subnet"]) if model.is_l3(self.specs[network]) else None
        for address in (subnet["gateway"], first):
            if address and _inside(address, subnet["subnet"]):
                found[address] = "the gateway"
        return found

    # -- giving -----------------------------------------------------------------------------------

    def complete(self, ledger: Ledger) -> Tuple[Ledger, List[Want], List[Problem]]:
        """The ledger with everything that was missing, what that was, and what could not be had. What was given stays."""
        new = Ledger({name: dict(given) for name, given in ledger.slices.items()}, {name: dict(given) for name, given in ledger.addresses.items()})
        missing = self.missing(ledger)
        problems: List[Problem] = []
        self._give_slices([want for want in missing if want.is_slice], new, problems)
        pools: Dict[Tuple[str, str], ipam.Pool] = {}
        for want in missing:
            if not want.is_slice:
                self._give_address(want, new, pools, problems)
        return new, missing, problems

    def _give_slices(self, wants: Iterable[Want], new: Ledger, problems: List[Problem]) -> None:
        together: Dict[Tuple[str, str], List[str]] = {}
        for want in wants:
            together.setdefault((want.network, want.subnets[0]), []).append(want.holder)
        for (network, text), hosts in together.items():
            subnet = next(row for row in self.specs[network]["subnets"] if row["subnet"] == text)
            given = new.slices.setdefault(network, {})
            near = {f"{entry} of {holder}": entry for entry, holder in given.items() if _inside(entry, text)}
            # An address that somebody has by name is in nobody's new slice.
            taken = {**self.static.get(network, {}), **new.addresses.get(network, {})}
            loose = netaddr.IPSet([address for address in taken if _inside(address, text)]) - netaddr.IPSet(list(near.values()))
            near.update((f"{block} in use", str(block)) for block in loose.iter_cidrs())
            try:
                slices = ipam.carve(pool(subnet), int(slice_length(self.rows[network]["per_host"], text) or 0), hosts, near)
            except ipam.AddressError as error:
                problems.append(Problem(f"network {network}", str(error), "release hosts that are gone, or enlarge the range in the map"))
                continue
            given.update((slices[host], host) for host in hosts)

    def _give_address(self, want: Want, new: Ledger, pools: Dict[Tuple[str, str], ipam.Pool], problems: List[Problem]) -> None:
        host = want.holder.rpartition("/")[0]
        given = new.addresses.setdefault(want.network, {})
        tried = []
        for text in want.subnets:
            subnet = next(row for row in self.specs[want.network]["subnets"] if row["subnet"] == text)
            within = pool(subnet)
            if self.rows[want.network].get("per_host"):
                own = [entry for entry in new.slices_of(want.network, host) if _inside(entry, text)]
                if not own:
                    continue  # said already, of the slice
                within = own[0]
            key = (want.network, within)
            if key not in pools:
                pools[key] = self._pool(want.network, subnet, within, given)
            tried.append(within)
            address = pools[key].free()
            if address is not None:
                pools[key].claim(address, want.holder)
                given[address] = want.holder
                return
        if tried:
            problems.append(Problem(f"{want.network}, endpoint {want.holder}", f"no address is free in {', '.join(tried)}",
                                    "release endpoints that are gone, or enlarge the pool in the map"))  # fmt: skip

    def _pool(self, network: str, subnet: Mapping[str, Any], within: str, given: Mapping[str, str]) -> ipam.Pool:
        taken = {address: holder for address, holder in {**given, **self.static.get(network, {})}.items() if _inside(address, subnet["subnet"])}
        reserved = {address: why for address, why in self._reserved(network, subnet).items() if _inside(address, subnet["subnet"])}
        if model.is_l3(self.specs[network]) and self.rows[network].get("per_host"):
            # The slice is the host's own subnet: its first address stays free, as that of every L3 network.
            first = ipam.first_usable(within)
            if first:
                reserved[first] = "the gateway"
            reserved = {address: why for address, why in reserved.items() if _inside(address, within)}
            return ipam.Pool(within, None, reserved, {address: holder for address, holder in taken.items() if _inside(address, within)})
        return ipam.Pool(subnet["subnet"], within, reserved, taken)

    # -- releasing --------------------------------------------------------------------------------

    def release(self, ledger: Ledger, words: Sequence[Any]) -> Tuple[Ledger, List[str], List[Problem]]:
        """The ledger without what the words name: NETWORK/HOST, NETWORK/HOST/ENDPOINT, or ``gone`` for all that is not needed."""
        stale = set(self.stale(ledger))
        held = {f"{network}/{holder}": (is_slice, network, holder) for is_slice, network, holder in _held(ledger)}
        wanted: List[str] = []
        problems: List[Problem] = []
        for position, word in enumerate(map(str, words)):
            if word == "gone":
                wanted += sorted(stale)
            elif word not in held:
                problems.append(Problem(f"release[{position}]", f"the ledger has no {word}", "name NETWORK/HOST or NETWORK/HOST/ENDPOINT, or gone"))
            elif word not in stale:
                problems.append(Problem(f"release[{position}]", f"{word} is still needed by the inventory", "remove it there first"))
            else:
                wanted.append(word)
        new = Ledger({name: dict(given) for name, given in ledger.slices.items()}, {name: dict(given) for name, given in ledger.addresses.items()})
        needed: Dict[Tuple[bool, str, str], List[Want]] = {}
        for want in (*self.slices, *self.addresses):
            needed.setdefault(_who(want), []).append(want)
        for word in wanted:
            is_slice, network, holder = held[word]
            given = (new.slices if is_slice else new.addresses)[network]
            for text in [text for text, who in given.items() if who == holder]:
                if not any(self._fits(text, want) for want in needed.get(held[word], ())):
                    del given[text]
        return new, sorted(set(wanted)), problems


def _who(want: Want) -> Tuple[bool, str, str]:
    return want.is_slice, want.network, want.holder


def _held(ledger: Ledger) -> Dict[Tuple[bool, str, str], List[str]]:
    found: Dict[Tuple[bool, str, str], List[str]] = {}
    for is_slice, content in ((True, ledger.slices), (False, ledger.addresses)):
        for network, given in content.items():
            for text, holder in given.items():
                found.setdefault((is_slice, network, holder), []).append(text)
    return found


def _inside(text: str, subnet: str) -> bool:
    part, whole = _network(text), _network(subnet)
    return part.version == whole.version and part.subnet_of(whole)  # type: ignore[arg-type]


def _in_others(network: str, taken: Mapping[str, str], slices: Mapping[str, str]) -> Iterator[Problem]:
    """Addresses of endpoints that lie in the slice of another host."""
    lengths: Dict[int, Dict[str, str]] = {}
    for text, host in slices.items():
        lengths.setdefault(_network(text).prefixlen, {})[text] = host
    for address, holder in taken.items():
        for length, hosts in lengths.items():
            if length > _network(address).max_prefixlen:
                continue
            block = str(_network(address).supernet(new_prefix=length))
            if hosts.get(block, holder.rpartition("/")[0]) != holder.rpartition("/")[0]:
                yield Problem(f"{holder} in {network}", f"{address} is in {block}, the slice of {hosts[block]}",
                              "ask for an address of its own host's slice, or leave it to the ledger")  # fmt: skip


# --- what one host gets of it --------------------------------------------------------------------


def rows_for(rows: Iterable[Row], host: str, groups: Sequence[str], ledger: Optional[Mapping[str, Any]]) -> Tuple[List[Dict[str, Any]], List[str]]:
    """The rows of vlan_network for one host, with its slices; and what the ledger lacks for them."""
    found: List[Dict[str, Any]] = []
    lacking: List[str] = []
    groups_of = set(groups)
    for row in rows:
        if not is_for(row, host, groups_of):
            continue
        network = row["network"]
        if row.get("per_host"):
            own = (ledger or {}).get("slices", {}).get(network["name"], {}).get(host, [])
            subnets = []
            for subnet in network["subnets"]:
                part = next((text for text in own if _inside(text, subnet["subnet"])), None)
                if part is None:
                    lacking.append(f"host {host} has no slice of {subnet['subnet']} in network {network['name']}")
                    continue
                subnets.append(_sliced(subnet, part, network.get("mode") in ("l3", "l3s")))
            network = {**network, "subnets": subnets}
        found.append(dict(network))
    return found, lacking


def _sliced(subnet: Mapping[str, Any], part: str, l3: bool) -> Dict[str, Any]:
    """A subnet as one host has it: in L3 modes its own prefix, else the whole with its own part to take addresses from."""
    if not l3:
        return {**subnet, "ip_range": part}
    inside = {name: address for name, address in subnet.get("aux_addresses", {}).items() if _inside(address, part)}
    return {"subnet": part, **({"aux_addresses": inside} if inside else {})}


def endpoints_for(
    rows: Iterable[Row], endpoints: Sequence[Any], host: str, groups: Sequence[str], ledger: Optional[Mapping[str, Any]]
) -> Tuple[List[Any], List[str]]:
    """The rows of vlan_endpoint for one host, with the addresses that the ledger gives; and what it lacks for them."""
    if ledger is None:
        return list(endpoints), []
    named = {str(row.get("network")) for row in endpoints if isinstance(row, Mapping)}
    fleet = Fleet([row for row in rows if row["network"]["name"] in named], {host: Host(groups, endpoints)})
    wanted: Dict[Tuple[str, str], List[Want]] = {}
    for want in fleet.addresses:
        wanted.setdefault((want.network, want.holder), []).append(want)
    found: List[Any] = []
    lacking: List[str] = []
    for row in endpoints:
        if isinstance(row, Mapping):
            network, name = str(row.get("network")), str(row.get("name"))
            own = ledger.get("addresses", {}).get(network, {}).get(host, {}).get(name, [])
            row = dict(row)
            for want in wanted.get((network, f"{host}/{name}"), ()):
                address = next((text for text in own if any(_inside(text, subnet) for subnet in want.subnets)), None)
                if address is None:
                    lacking.append(want.text)
                else:
                    row[f"ipv{want.version}_address"] = address
        found.append(row)
    return found, lacking
