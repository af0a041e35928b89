# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a thing is, whatever it is called now: NICs by their hardware, links of ours by what nothing else has.

The registry keeps the name that a NIC had when it was first used, and beside it what the NIC is (:class:`NicSpec`).
:func:`identify` lets that name lead to the same NIC in every observation, so that everything else may go by names.
Where the name belongs to another link now and nothing that people asked for says which is meant, it is disputed.
"""

from __future__ import annotations

from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, cast

from .change import HOST, LINK_GROUPS, Change, Record, Records, address_key, link_key, route_key, rule_key
from .endpoint_specs import ProcessSpec
from .link_specs import NicSpec
from .specs import Spec
from .state import HostState, Link, Namespace


def describe(observed: HostState, link: Link, asked: List[List[str]]) -> NicSpec:
    """What a link of the host is, and what it was asked for by."""
    return {
        "kind": link.kind, "index": link.index, "era": observed.era, "mac": link.perm_mac, "device": link.device,
        "port": link.port, "driver": link.driver, "vlan_id": link.data.get("vlan_id", 0),
        "below": _below(observed, link) if link.kind else [], "asked": asked,
    }  # fmt: skip


def words(nic: Mapping[str, object]) -> str:
    """A NIC as its hardware, for people: ``52:54:00:00:00:01 (pci 0000:05:00.0, virtio_net)``."""
    kind = str(nic["kind"] or "NIC")
    first = str(nic["mac"]) if nic["mac"] else f"a {kind}"
    rest = [str(nic[key]) for key in ("device", "driver") if nic[key]]
    below = nic["below"]
    if isinstance(below, list) and below:
        rest.append("of " + " and ".join(below[:4]))
    return first + (f" ({', '.join(rest)})" if rest else "")


def matching(observed: HostState, by: str, value: str) -> List[Link]:
    """The links of the host that a name or a match fits in the kernel, as it calls them now."""
    if by == "name":
        link = observed.host.names.get(value)
        if value in observed.nics:
            link = observed.shadowed.get(value, observed.nics[value])
        return [link] if link is not None and value in (link.name, *link.altnames) else []
    return [link for link in observed.host.links.values() if _fits(link, by, value)]


def _fits(link: Link, by: str, value: str) -> bool:
    if by == "mac":
        return link.perm_mac == value
    return link.device == value if by == "pci" else value in link.altnames


def take(observed: HostState, records: Records, handle: str, link: Link) -> None:
    """From now on the registry's name means another link: the one that has the name."""
    before = observed.nics.get(handle)
    if before is not None:
        observed.handles.pop(before.index, None)
    _lead(observed, handle, link)
    observed.shadowed.pop(handle, None)
    observed.disputes.pop(handle, None)
    record = records["nic"][handle]
    records["nic"][handle] = record._replace(spec=cast(Spec, describe(observed, link, record.spec["asked"])))


def nics(
    records: Records, changes: Iterable[Change], observed: HostState, asked: Mapping[str, List[List[str]]]
) -> Dict[str, NicSpec]:
    """The NICs that the registry's objects are on after changes, as they are now."""
    before = records.get("nic", {})
    now = [row for rows in asked.values() for row in rows]
    sources = {row[0] for row in now}
    found: Dict[str, NicSpec] = {}
    for name in _used(records, changes):
        link = observed.host.names.get(name)
        handle = observed.called(link) if link is not None else name
        old: Any = before[handle].spec if handle in before else None
        if link is not None:
            new = asked.get(handle, [])
            kept = [
                row for row in (old["asked"] if old else ()) if row not in now and not (row[0] and row[0] in sources)
            ]
            found[handle] = describe(observed, link, kept + new)
        elif old:
            found[handle] = old
    return found


def _used(records: Records, changes: Iterable[Change]) -> Set[str]:
    """The names of the links of others that what is recorded sits on."""
    links = {key: record.spec.get("parent") for key, record in records.get("link", {}).items()}
    networks = {key: record.spec.get("parent") for key, record in records.get("network", {}).items()}
    for change in changes:
        table = links if change.kind == "link" and change.of else networks if change.kind == "network" else None
        if table is not None and change.after is None:
            table.pop(change.key, None)
        elif table is not None and change.after and "parent" in change.after:
            table[change.key] = change.after["parent"]
        elif table is links and change.before is None:
            table[change.key] = None
    return {name for name in (*links.values(), *networks.values()) if name and name not in links}


def moved(observed: HostState, records: Records, key: str) -> Optional[Tuple[Namespace, Link]]:
    """Where a recorded link lives on although its workload is gone or another, as after a container was renamed."""
    record = records["link"][key]
    there = observed.link(record.spec["netns"], record.spec["name"])
    parent = observed.host.names.get(record.spec.get("parent") or "")
    if parent is None or record.spec["netns"] == HOST or (there is not None and there.group in LINK_GROUPS):
        return None
    for where, link in observed.children.get(parent.index, ()):
        if (
            link.group in LINK_GROUPS
            and not is_recorded(observed, records, where, link)
            and _is_recorded_link(observed, records, record, link, where)
        ):
            return where, link
    return None


def left_behind(
    observed: HostState, records: Records, key: str, found: Tuple[Namespace, Link]
) -> Iterator[Tuple[str, str, Spec]]:
    """A recorded link where it lives on (see :func:`moved`), and its addresses and routes there: kind, key and spec."""
    old, name = records["link"][key].spec, found[1].name
    workload = observed.reach(found[0])
    yield "link", link_key(workload, name), {**old, "netns": workload, "name": name}
    if found[0].nsid is not None:
        return  # addresses and routes go with the link there
    for kind, device, key_of in (
        ("address", "link", address_key),
        ("route", "dev", route_key),
        ("rule", "link", rule_key),
    ):
        for record in records.get(kind, {}).values():
            if (record.spec["netns"], record.spec.get(device)) == (old["netns"], old["name"]):
                spec = cast(Spec, {**record.spec, "netns": workload, device: name})
                if observed.find(kind, spec) is not None:
                    yield kind, key_of(spec), spec


def is_renamed(observed: HostState, records: Records, workload: str, where: Namespace) -> bool:
    """Whether a workload may live on under another name in a namespace, so that what is in there stays its own.

    It does not where its owner ended or began anew, and only others that it shared the namespace with live on there.
    """
    kind = workload.partition(":")[0]
    if kind in ("docker", "podman"):
        known = workload in records.get("process", {})
        return not known or observed.elsewhere.get(workload) == where.identity
    return kind == "netns" and where.workload.startswith("netns:")


def processes(records: Records, changes: Iterable[Change], observed: HostState) -> Dict[str, ProcessSpec]:
    """The processes and containers that endpoints are in after changes, each with what its number or name does not tell."""
    workloads = {key: record.spec["workload"] for key, record in records.get("endpoint", {}).items()}
    for change in changes:
        if change.kind == "endpoint" and change.after is None:
            workloads.pop(change.key, None)
        elif change.kind == "endpoint" and change.after and "workload" in change.after:
            workloads[change.key] = change.after["workload"]
    found: Dict[str, ProcessSpec] = {}
    for workload in set(workloads.values()):
        namespace, before = observed.namespaces.get(workload), records.get("process", {}).get(workload)
        if namespace is not None and namespace.started:
            found[workload] = {"started": namespace.started}
        elif namespace is not None and namespace.container:
            found[workload] = {"container": namespace.container}
        elif before is not None:
            found[workload] = cast(ProcessSpec, before.spec)
    return found


def untouched(records: Records, changes: Iterable[Change]) -> Records:
    """The records for a look at what changes did: the links that they name go by their new names alone."""
    named = {change.key for change in changes if change.kind == "link"}
    links = {key: record for key, record in records.get("link", {}).items() if key not in named}
    return {**records, "link": links}


def identify(observed: HostState, records: Records) -> None:
    """Let every recorded name lead to the thing that it was given to."""
    nics = records.get("nic", {})
    for handle, record in nics.items():
        nic: Any = record.spec
        observed.nics[handle] = _find(observed, handle, nic)
    for handle, link in observed.nics.items():
        holder = observed.host.names.get(handle)
        if holder is not None and holder is not link:
            observed.shadowed[handle] = holder
    for handle, link in observed.nics.items():
        if link is not None:
            _lead(observed, handle, link)
        elif handle in observed.shadowed:
            del observed.host.names[handle]
    for handle, holder in observed.shadowed.items():
        nic = nics[handle].spec
        link = observed.nics[handle]
        if link is None or not any(matching(observed, by, value) == [link] for _source, by, value in nic["asked"]):
            observed.disputes[handle] = dispute(observed, handle, nic, holder)
    _links_of_ours(observed, records)
    _links_of_one_namespace(observed, records)


def is_recorded(observed: HostState, records: Records, namespace: Namespace, link: Link) -> bool:
    """Whether a link is recorded, whatever its namespace was called then."""
    recorded = records.get("link", {})
    return any(key in recorded for key in observed.keys(namespace, link))


def dispute(observed: HostState, value: str, nic: Mapping[str, object], holder: Link) -> str:
    """What is to be said where a name, or a match, fits another link than the one it was given to."""
    link = next(
        (link for link in observed.nics.values() if link and link.perm_mac and link.perm_mac == nic["mac"]), None
    )
    link = link or observed.host.links.get(int(str(nic["index"]))) if nic["era"] == observed.era else link
    where = f"called {link.name} now" if link is not None else "not there"
    return f"{value} was {words(nic)}, which is {where}; {value} is {words(describe(observed, holder, []))} now"


def _lead(observed: HostState, handle: str, link: Link) -> None:
    observed.nics[handle] = observed.host.names[handle] = link
    if link.name != handle:
        observed.handles[link.index] = handle


# --- NICs ----------------------------------------------------------------------------------------


def _find(observed: HostState, handle: str, nic: NicSpec) -> Optional[Link]:
    """The link that a NIC is now: the same ifindex, else the same hardware, else, where there is none, the same sort."""
    links = observed.host.links
    link = links.get(nic["index"]) if nic["era"] == observed.era else None
    if link is not None and (link.kind, link.perm_mac) == (nic["kind"], nic["mac"]):
        return link
    alike = [link for link in links.values() if _is_alike(link, nic)]
    if nic["mac"] or nic["device"] or nic["port"]:
        return _narrowed(alike, nic)
    if nic["below"]:
        same = [link for link in alike if _below(observed, link) == nic["below"]]
        if len(same) == 1:
            return same[0]
    link = observed.host.names.get(handle)
    if link is None or link not in alike:
        return None
    below = _below(observed, link)
    return link if not (below and nic["below"]) or set(below).intersection(nic["below"]) else None


def _is_alike(link: Link, nic: NicSpec) -> bool:
    return (link.kind, link.data.get("vlan_id", 0)) == (nic["kind"], nic["vlan_id"])


def _narrowed(links: Sequence[Link], nic: NicSpec) -> Optional[Link]:
    """The one link with the hardware of a NIC: what the NIC has no value for counts only between several."""
    if nic["mac"]:
        links = [link for link in links if link.perm_mac == nic["mac"]]
    elif nic["device"]:
        links = [link for link in links if (link.device, link.perm_mac) == (nic["device"], "")]
    else:
        links = [link for link in links if link.port == nic["port"]]
    for key in ("device", "port", "driver"):
        if len(links) > 1:
            links = [link for link in links if getattr(link, key) == nic[key]]
    return links[0] if len(links) == 1 else None


def _below(observed: HostState, link: Link) -> List[str]:
    """The permanent MACs of the NICs that a virtual link is made of: its members, or what it sits on."""
    lower = list(observed.members.get(link.index, ()))
    if link.parent and link.parent_ns is None and link.parent in observed.host.links:
        lower.append(observed.host.links[link.parent])
    found: List[str] = []
    for one in lower:
        found += [one.perm_mac] if one.perm_mac else _below(observed, one)
    return sorted(found)


# --- links of ours -------------------------------------------------------------------------------


def _links_of_ours(observed: HostState, records: Records) -> None:
    """A link that we made and that somebody renamed is found by its record, for it has our mark."""
    recorded = records.get("link", {})
    missing = [
        record
        for record in recorded.values()
        if (namespace := observed.namespace(record.spec["netns"])) and record.spec["name"] not in namespace.names
    ]
    strays = _strays(observed, records) if missing else {}
    while missing:  # what sits on a renamed link is found after it
        left = [record for record in missing if not _find_stray(observed, records, record, strays)]
        if len(left) == len(missing):
            break
        missing = left


def _find_stray(
    observed: HostState, records: Records, record: Record, strays: Mapping[str, List[Tuple[Namespace, Link]]]
) -> bool:
    """Whether the link of a record is there under another name, to which that of the record then leads."""
    spec = record.spec
    for namespace, link in strays.get(spec["netns"], ()):
        if namespace is observed.namespace(spec["netns"]) and _is_recorded_link(observed, records, record, link):
            namespace.names[spec["name"]] = link
            observed.renamed[namespace.workload, link.index] = spec["name"]
            return True
    return False


def _strays(observed: HostState, records: Records) -> Dict[str, List[Tuple[Namespace, Link]]]:
    """The links with our mark that no record names, by workload."""
    found: Dict[str, List[Tuple[Namespace, Link]]] = {}
    for workload, namespace in ((HOST, observed.host), *observed.namespaces.items()):
        for link in namespace.links.values():
            if link.group in LINK_GROUPS and not is_recorded(observed, records, namespace, link):
                found.setdefault(workload, []).append((namespace, link))
    return found


def _links_of_one_namespace(observed: HostState, records: Records) -> None:
    """Two workloads that came to share a namespace may have a link of one name recorded each: it is one of the two."""
    recorded = records.get("link", {})
    for workload, namespace in observed.namespaces.items():
        others = observed.shared(workload)[1:]
        for name, link in list(namespace.names.items()) if others else ():
            record = recorded.get(link_key(workload, name))
            if record is None or _is_recorded_link(observed, records, record, link):
                continue
            for key in (link_key(other, name) for other in others):
                if key in recorded and _is_recorded_link(observed, records, recorded[key], link):
                    observed.hidden[workload, name] = key
    for workload, name in observed.hidden:
        observed.hide(workload, name)


def _is_recorded_link(
    observed: HostState, records: Records, record: Record, link: Link, where: Optional[Namespace] = None
) -> bool:
    """Whether a link is the one of a record: on the same parent, and what only one link can be there."""
    spec = record.spec
    if not spec.get("parent"):  # a dummy
        return link.kind == spec["kind"] and bool(spec.get("mac")) and link.mac == spec["mac"]
    parent = observed.host.names.get(spec["parent"])
    if parent is None or (link.kind, link.parent) != (spec["kind"], parent.index):
        return False
    if link.parent_ns != (None if spec["netns"] == HOST else HOST):
        return False
    if link.kind == "vlan":
        return (link.data["vlan_id"], link.data["protocol"]) == (spec["vlan_id"], spec["protocol"])
    if spec.get("mac"):
        return bool(link.mac == spec["mac"])
    namespace = where or observed.namespace(spec["netns"])
    held = {address.address for address in namespace.addresses.get(link.index, ())} if namespace else set()
    return bool(held.intersection(_addresses(records, record.of)))


def _addresses(records: Records, of: str) -> Iterable[str]:
    """Those of the endpoint that a link belongs to, or of the host in the network."""
    kind, _colon, key = of.partition(":")
    item = records.get(kind, {}).get(key)
    if item is None:
        return ()
    return item.spec.get("host_addresses", ()) if kind == "network" else item.spec.get("addresses") or ()
