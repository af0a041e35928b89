# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The NICs that a declaration names, by the names that the registry has for them.

A NIC keeps the name by which it was first used, whatever the kernel calls it later; so a record stays with its NIC.
"""

from __future__ import annotations

from typing import Dict, Iterator, List, Optional, Set, Tuple

from ..core import identity
from ..core.change import LINK_GROUPS, Record, Records
from ..core.errors import Problem
from ..core.link_specs import TrunkSpec
from ..core.specs import Spec
from ..core.state import HostState
from ..declare.declaration import Declaration, Item


def links_there(observed: HostState) -> str:
    """The links that can be a base, for the message about a mistyped one."""
    names = [link.name for link in observed.host.links.values() if link.kind != "vlan" and not link.is_loopback]
    return ", ".join(sorted(names)[:8]) + (", ..." if len(names) > 8 else "") or "no link but lo"


class Nics:
    """Finds the NICs of a declaration, and puts the registry's names in the place of the declared ones."""

    def __init__(self, declared: Declaration, records: Records, observed: HostState) -> None:
        self.declared = declared
        self.records = records
        self.observed = observed
        self.problems: List[Problem] = []
        self.broken: Set[Tuple[str, str]] = set()  # the trunks that fit no NIC, or several
        self.asked: Dict[str, List[List[str]]] = {}  # the registry's name of a NIC -> what this run asks for it by
        self._found: Dict[Tuple[str, Optional[str]], str] = {}
        self._trunks = {name: nic for name, row in declared.trunks.items() if (nic := self._trunk(name, row))}

    def named(self) -> List[Item]:
        """The declared items with the registry's names of NICs."""
        return [self._item(item) for item in self.declared.items]

    def _trunk(self, name: str, row: TrunkSpec) -> Optional[str]:
        """The NIC of a logical trunk, by the registry's name; None where none fits, or several do."""
        path, source = f"trunks.{name}", f"{self.declared.owner} {name}"
        ((by, value),) = row["match"].items() if "match" in row else (("name", row["name"]),)
        found = identity.matching(self.observed, by, value)
        asked = {tuple(pair[1:]): handle for handle, pair in self._asked_before() if pair[0] == source}
        handle = asked.get((by, value)) or (None if asked else self._owner(by, value))
        if len(found) > 1 or not (found or handle):
            fits = f"fits {len(found)} links: " + ", ".join(link.name for link in found)
            fix = f"this host has {links_there(self.observed)}"
            self.problems.append(Problem(path, fits if found else "fits no link of this host", fix))
            self.broken.add(("trunk", name))
            return None
        return self._nic(source, by, value, handle, path)

    def _asked_before(self) -> Iterator[Tuple[str, List[str]]]:
        """What the recorded NICs were asked for by: the registry's name, and source, kind and value."""
        for handle, record in self.records.get("nic", {}).items():
            for asked in record.spec["asked"]:
                yield handle, asked

    def _owner(self, by: str, value: str) -> Optional[str]:
        """The registry's name of the NIC that was asked for by a name or a match."""
        found = next((handle for handle, asked in self._asked_before() if asked[1:] == [by, value]), None)
        return found or (value if by == "name" and value in self.records.get("nic", {}) else None)

    def _nic(self, source: str, by: str, value: str, handle: Optional[str], path: str) -> str:
        """The registry's name of the NIC that a name or a match fits, which was ``handle`` where it was used before.

        Refused is a link that is another than that one, unless it is to be adopted.
        """
        observed = self.observed
        link = next(iter(identity.matching(observed, by, value)), None)
        if link is None:
            return handle or value
        handle = handle or (value if by == "name" and link.index not in observed.handles else observed.called(link))
        was = observed.nics.get(handle)
        if handle in observed.nics and was is not link:
            if self.declared.adopt or (by in ("mac", "pci") and was is None):
                identity.take(observed, self.records, handle, link)
            else:
                here = f" (here {was.name})" if was is not None else ""
                what = identity.dispute(observed, value, self.records["nic"][handle].spec, link)
                fix = f"give the name of the intended NIC{here}, or set adopt: true to use the one with this name now"
                self.problems.append(Problem(path, what, fix))
                return handle
        asked = self.asked.setdefault(observed.called(link), [])
        if [source, by, value] not in asked:
            asked.append([source, by, value])
        return handle

    def _name(self, name: str, before: Optional[str], path: str) -> str:
        """A parent's name as the registry has it, which begins with the first name of its NIC.

        ``before`` is the recorded parent of the same item: a name that is given anew means what has it now.
        """
        if name in self._trunks:
            return self._trunks[name]
        base, dot, tail = name.rpartition(".")
        if base in self._trunks:
            return f"{self._trunks[base]}.{tail}"
        record = self._record("link", name)
        there = next(iter(identity.matching(self.observed, "name", name)), None)
        foreign = there is not None and there.group not in LINK_GROUPS  # else ours, whose record was lost
        if record is None and (not dot or not tail.isdecimal() or foreign):
            return self._by_name(name, before, path)
        if name == before and record is not None:
            if tail == str(record.spec.get("vlan_id")):
                self._by_name(base, record.spec["parent"], path)
            return name
        if record is None or tail == str(record.spec.get("vlan_id")):
            return f"{self._name(base, before and before.rpartition('.')[0], path)}.{tail}"
        return name

    def _by_name(self, name: str, before: Optional[str], path: str) -> str:
        key = (name, before)
        if key not in self._found:
            handle = self._owner("name", name) if before is None else before
            if before is not None and not (before in self.observed.nics and self._is_called(name, before)):
                handle = None
            self._found[key] = self._nic("", "name", name, handle, path)
        return self._found[key]

    def _is_called(self, name: str, handle: str) -> bool:
        """Whether a name is one by which a NIC was asked for."""
        return name == handle or ["", "name", name] in self.records["nic"][handle].spec["asked"]

    def _item(self, item: Item) -> Item:
        """An item with the registry's names of NICs, also in the name of a sub-interface that was given none."""
        if item.spec is None:
            if item.kind == "vlan" and self._record("vlan", item.key) is None:
                known = self._vlan_of_nic(*item.key.rpartition(".")[::2])
                return item._replace(key=known or self._name(item.key, None, item.path))
            return item
        before, asked = self._before(item), item.spec.get("parent")
        path = f"{item.path}.parent" if item.path else "parent"
        parent = self._name(asked, before.get("parent"), path) if asked else asked
        spec: Spec = {}
        if parent != asked:
            spec["parent"] = parent
            if _has_default_name(item):
                spec["name"] = f"{parent}.{item.spec['vlan_id']}"
        if item.kind == "routes":
            devices = {row["prefix"]: row["dev"] for row in before.get("routes", ())}
            spec["routes"] = [
                {**row, "dev": self._name(row["dev"], devices.get(row["prefix"]), item.path)} if row.get("dev") else row
                for row in item.spec["routes"]
            ]
        return item._replace(key=spec.get("name", item.key), spec={**item.spec, **spec}) if spec else item

    def _before(self, item: Item) -> Spec:
        """What is recorded of an item, also under the name that a sub-interface got from an earlier one of its NIC."""
        record = self._record(item.kind, item.key)
        if record is None and item.spec and _has_default_name(item):
            record = self._record("vlan", self._vlan_of_nic(item.spec["parent"], item.spec["vlan_id"]) or "")
        return record.spec if record else {}

    def _vlan_of_nic(self, name: str, vlan_id: object) -> Optional[str]:
        """The declared sub-interface of the NIC that has a name now, where it had another when that was declared."""
        for link in identity.matching(self.observed, "name", name):
            key = f"{self.observed.called(link)}.{vlan_id}"
            if self._record("vlan", key) is not None:
                return key
        return None

    def _record(self, kind: str, key: str) -> Optional[Record]:
        return self.records.get(kind, {}).get(key)


def _has_default_name(item: Item) -> bool:
    """Whether a sub-interface is called by its parent and its VLAN, as one that was given no name."""
    spec = item.spec
    return item.kind == "vlan" and spec is not None and item.key == f"{spec['parent']}.{spec['vlan_id']}"
