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
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import yaml

from ...module_utils._engine.core.errors import InvalidValue
from ...module_utils._engine.declare import fields, ipam
from .cells import Fault, Place
from .packed import LedgerData
from .yaml_table import Document, unreadable

VERSION = 1
HEAD = """\
# The slice of each host in each pool, and the address of each endpoint (HOST/ENDPOINT).
# Written by the playbook netops.underlay.allocate; keep it in git beside the map. Existing entries never change.
"""
_MARKERS = re.compile(r"^(<<<<<<< |=======$|>>>>>>> )", re.MULTILINE)


#: Above the section of that name.
_FORMER = """\
# Who had an address before it was released or moved. While one of these hosts cannot be asked, site gives it to no other.
former:"""


class Holder(NamedTuple):
    """An endpoint, of a host, in a network; as text NETWORK/HOST/ENDPOINT."""

    network: str
    host: str
    endpoint: str

    @classmethod
    def of(cls, text: str) -> Holder:
        network, _slash, rest = text.partition("/")
        host, _slash, endpoint = rest.rpartition("/")
        return cls(network, host, endpoint)

    def __str__(self) -> str:
        return f"{self.network}/{self.host}/{self.endpoint}"


@dataclass
class Ledger:
    """network -> slice -> host, network -> address -> host/endpoint, and address -> its former holders."""

    slices: Dict[str, Dict[str, str]] = field(default_factory=dict)
    addresses: Dict[str, Dict[str, str]] = field(default_factory=dict)
    former: Dict[str, List[Holder]] = field(default_factory=dict)

    def text(self) -> str:
        """The file: the same for the same content, whatever led to it."""
        lines = [HEAD + f"version: {VERSION}"]
        for section, content in (("slices", self.slices), ("addresses", self.addresses)):
            given = {network: entries for network, entries in content.items() if entries}
            lines.append(f"{section}:" if given else f"{section}: {{}}")
            for network in sorted(given):
                lines.append(f"  {_quoted(network)}:")
                lines += [
                    f"    {_quoted(key)}: {_quoted(given[network][key])}"
                    for key in sorted(given[network], key=_numeric)
                ]
        if self.former:
            lines.append(_FORMER)
            lines += [
                f"  {_quoted(address)}: {_quoted(' '.join(map(str, self.former[address])))}"
                for address in sorted(self.former, key=_numeric)
            ]
        return "\n".join(lines) + "\n"

    def copy(self) -> Ledger:
        return Ledger(
            {name: dict(given) for name, given in self.slices.items()},
            {name: dict(given) for name, given in self.addresses.items()},
            {address: list(holders) for address, holders in self.former.items()},
        )

    def holders(self) -> Iterator[Tuple[str, Holder]]:
        """Each address with its holder."""
        for network, given in self.addresses.items():
            for address, holder in given.items():
                host, _slash, endpoint = holder.rpartition("/")
                yield address, Holder(network, host, endpoint)

    def entries(self) -> Set[str]:
        """Every line of it, as text for people."""
        return {
            f"{network}/{holder}: {text}"
            for content in (self.slices, self.addresses)
            for network, given in content.items()
            for text, holder in given.items()
        }

    @classmethod
    def of(cls, data: LedgerData) -> Ledger:
        """The ledger that :meth:`data` was made of."""
        new = cls()
        for network, hosts in data["slices"].items():
            new.slices[str(network)] = {str(text): str(host) for host, texts in hosts.items() for text in texts}
        for network, holders in data["addresses"].items():
            new.addresses[str(network)] = {
                str(text): f"{host}/{name}"
                for host, endpoints in holders.items()
                for name, texts in endpoints.items()
                for text in texts
            }
        new.former = {address: list(map(Holder.of, texts)) for address, texts in data["former"].items()}
        return new

    def data(self) -> LedgerData:
        """The same by holder, as hosts look it up: network -> host -> slices, network -> host -> endpoint -> addresses."""
        slices: Dict[str, Dict[str, List[str]]] = {}
        for network, given in self.slices.items():
            for text, host in given.items():
                slices.setdefault(network, {}).setdefault(host, []).append(text)
        addresses: Dict[str, Dict[str, Dict[str, List[str]]]] = {}
        for name, entries in self.addresses.items():
            for text, holder in entries.items():
                host, _rest, endpoint = holder.rpartition("/")
                addresses.setdefault(name, {}).setdefault(host, {}).setdefault(endpoint, []).append(text)
        former = {address: list(map(str, holders)) for address, holders in self.former.items()}
        return {"slices": slices, "addresses": addresses, "former": former}


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
        what = "an unfinished merge"
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
        faults.append(
            Fault(
                Place(file, 1, 1), "version", f"{version} is not {VERSION}", "use the collection that wrote this ledger"
            )
        )
        return ledger, faults
    for key, node in sections:
        if key.value in ("slices", "addresses"):
            _section(key.value, node, document, ledger, faults)
        elif key.value == "former":
            _former(node, document, ledger, faults)
        elif key.value != "version":
            fix = "known are slices, addresses and former"
            faults.append(Fault(document.place(key), key.value, "unknown section", fix))
    return ledger, faults


def _mapping(node: yaml.Node, document: Document, what: str, faults: List[Fault]) -> List[Tuple[yaml.Node, yaml.Node]]:
    if isinstance(node, yaml.MappingNode):
        return list(node.value)
    faults.append(Fault(document.place(node), "", f"{what} is not a mapping", "restore it from git"))
    return []


def _section(section: str, node: yaml.Node, document: Document, ledger: Ledger, faults: List[Fault]) -> None:
    content: Dict[str, Dict[str, str]] = getattr(ledger, section)
    where: Dict[Tuple[str, str], Place] = {}
    for network, entries in _mapping(node, document, section, faults):
        name = str(network.value)
        given = content.setdefault(name, {})  # a merge by union leaves a network twice, and both are meant
        for key, holder in _mapping(entries, document, f"{section} of {name}", faults):
            place = document.place(key)
            try:
                text = str(fields.network(key.value)) if section == "slices" else fields.address()(key.value)
                owner = _holder(section, holder)
            except InvalidValue as error:
                faults.append(Fault(place, section, str(error), error.faults[0][2]))
                continue
            if given.get(text, owner) != owner:
                what = f"{text} of {name} is given to {given[text]} (line {where[name, text].line}) and to {owner}"
                faults.append(
                    Fault(
                        place,
                        section,
                        what,
                        "two branches allocated it: remove the later line, then allocate again",
                    )
                )
                continue
            given[text] = owner
            where.setdefault((name, text), place)
    for name, given in content.items() if section == "slices" else ():
        for one, two in ipam.overlaps((text, text) for text in given):
            what = f"{two} of {given[two]} overlaps {one} of {given[one]} (line {where[name, one].line})"
            faults.append(Fault(where[name, two], section, what, "remove one of the two lines, then allocate again"))


def _former(node: yaml.Node, document: Document, ledger: Ledger, faults: List[Fault]) -> None:
    """Who had each address before. A merge by union leaves an address twice, and all of them are meant."""
    for key, value in _mapping(node, document, "former", faults):
        try:
            address = fields.address()(key.value)
            ledger.former[address] = sorted({*ledger.former.get(address, ()), *_former_holders(value)})
        except InvalidValue as error:
            faults.append(Fault(document.place(key), "former", str(error), error.faults[0][2]))


def _former_holders(node: yaml.Node) -> Iterator[Holder]:
    texts = node.value.split() if isinstance(node, yaml.ScalarNode) else []
    for text in texts or [""]:
        holder = Holder.of(text)
        if not all(holder):
            raise InvalidValue(f"{text!r} is not NETWORK/HOST/ENDPOINT", "restore the line from git")
        yield holder


def _holder(section: str, node: yaml.Node) -> str:
    """A host, or HOST/ENDPOINT."""
    text = str(node.value)
    host, slash, endpoint = text.rpartition("/")
    fix = "restore the line from git"
    if not isinstance(node, yaml.ScalarNode):
        raise InvalidValue("the holder is not one name", fix)
    if section == "addresses" and not (slash and host and endpoint):
        raise InvalidValue(f"{text!r} is not HOST/ENDPOINT", fix)
    if not text or (section == "slices" and "/" in text):
        raise InvalidValue(f"{text!r} is no host", fix)
    return text


def inside(text: str, subnet: str) -> bool:
    """Whether an address or a slice lies in a subnet."""
    part, whole = _network(text), _network(subnet)
    return part.version == whole.version and part.subnet_of(whole)  # type: ignore[arg-type]
