# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Creates, changes and removes links, thousands at once.

Many links of the host are made down in a link group that is private to the transaction, so that one
message does for all of them what would else take one each, and never touches a link outside the
plan.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple, cast

from ..core import isolation
from ..core.change import HOST, PRIVATE_GROUPS, Change
from ..core.errors import AnswersLost, KernelRefused, NetlinkError
from ..core.specs import Generic, LinkSpec, Spec
from ..core.state import HostState
from ..netlink import decode, encode
from . import routers, senders, taps
from .errno_text import refusal
from .session import NOTHING, KnownLink, Session, Step

#: From here on a message for all is worth its extra ones.
_MANY = 8
_GENMODE_NONE = 1  # IN6_ADDR_GEN_MODE_NONE
#: What a change may speak of whatever the kind of the link.
_ANY_KIND = frozenset(("mac", "mtu", "group", "up", "altnames", "isolation", "sysctls", "node", "senders"))
_GONE = frozenset((errno.ENODEV,))
_NUMBERED = frozenset((errno.EEXIST,))
_counter = itertools.count()


class _Settings:
    """What a spec says about sysctls: IPv4 and address generation by message, IPv6 through /proc.

    None stands for the namespace's default, which a ``new`` link has. Those of IPv6 are left out
    where the link has none.
    """

    def __init__(self, spec: LinkSpec, session: Session, new: bool, ipv6: bool) -> None:
        self.ipv4: Dict[str, int] = {}
        self.ipv6: Dict[str, int] = {}
        wanted: Dict[str, Optional[int]] = {}
        profile = spec.get("isolation")
        if profile:
            wanted.update(isolation.settings(profile))
        wanted.update(spec.get("sysctls") or {})
        for name, value in wanted.items():
            family, _rest, key = name.partition(".")
            if (value is None and new) or (family == "ipv6" and not ipv6):
                continue
            (self.ipv4 if family == "ipv4" else self.ipv6)[key] = (
                session.default(family, key) if value is None else value
            )
        # A message spares a write for each link, but gives one that is up no link-local address.
        self.genmode = self.ipv6.pop("addr_gen_mode", None) if new else None

    def message(self) -> bytes:
        return encode.interface_settings(self.ipv4, self.genmode)


def free_group(observed: HostState, preferred: Optional[int], changes: Iterable[Change]) -> int:
    """A link group that holds nothing of the host but what ``changes`` remove."""
    gone = {change.key for change in changes if change.kind == "link" and change.after is None}
    used = {link.group for link in observed.host.links.values() if link.name not in gone}
    if preferred is not None and preferred not in used:
        return preferred
    return random.choice([group for group in PRIVATE_GROUPS if group not in used])


_IDENTITY = ("netns", "name")
#: A link to be made: its change, its spec and its settings.
Made = Tuple[Change, LinkSpec, _Settings]


# --- making --------------------------------------------------------------------------------------


def create(host: Session, session: Session, changes: Sequence[Change], group: int) -> None:
    """Make links in a namespace. Raises KernelRefused."""
    if session.descriptor is not None:  # so that what outlives its workload in there is still found: see ``observe``
        host.send([(encode.number_namespace(session.descriptor), changes[0], _NUMBERED)])
    for wave in _waves(changes):
        host.look_up(str(change.after["parent"]) for change in wave if change.after and change.after.get("parent"))
        alike = [change for change in wave if session is host and _is_common(host, change)]
        if len(alike) < _MANY:
            alike = []
        chosen = {id(change) for change in alike}
        _make(host, session, alike, group, True)
        _make(host, session, [change for change in wave if id(change) not in chosen], group, False)


def _is_common(host: Session, change: Change) -> bool:
    """Whether a link takes the same messages as most."""
    spec = cast(LinkSpec, change.after or {})
    usual = spec.get("isolation") == "none" and spec.get("up") and not spec.get("sysctls")
    return bool(usual) and _gets_ipv6(host, spec) == host.observed.ipv6


def _gets_ipv6(host: Session, spec: LinkSpec) -> bool:
    mtu, parent = spec.get("mtu"), host.links.get(spec.get("parent") or "")
    if not mtu and parent is not None:
        mtu = parent.mtu
    return host.observed.ipv6 and (mtu or isolation.IPV6_MIN_MTU) >= isolation.IPV6_MIN_MTU


def _waves(changes: Sequence[Change]) -> Iterator[List[Change]]:
    """Parts in which no link is the parent of another: it has to be there, and up, before."""
    wave: List[Change] = []
    names: Set[str] = set()
    for change in changes:
        spec = cast(LinkSpec, change.after or {})
        if spec.get("parent") in names:
            yield wave
            wave, names = [], set()
        wave.append(change)
        names.update((spec["name"], *spec.get("altnames", ())))
    yield wave


def _make(host: Session, session: Session, changes: Sequence[Change], group: int, together: bool) -> None:
    """Create links that do not depend on each other, ``together`` by messages to ``group``."""
    if not changes:
        return
    specs: List[Made] = []
    settings: Optional[_Settings] = None
    for change in changes:
        spec = cast(LinkSpec, change.after or {})
        if settings is None or not together:  # those of links that go together are alike
            settings = _Settings(spec, session, new=True, ipv6=_gets_ipv6(host, spec))
        specs.append((change, spec, settings))
    moves = _create_links(host, session, specs, group, together)
    _configure(session, specs, group, together)
    _raise(session, specs, group, together, moves)
    for change, spec, _wanted in specs:
        _make_node(session, change, spec)
    for change, spec, _wanted in specs if session.ipv6_mtus else ():
        if spec.get("up"):
            _keep_ipv6_mtu(session, change, spec["name"], 0)


def _configure(session: Session, specs: Sequence[Made], group: int, together: bool) -> None:
    """Set the sysctls of links that are down, and from which addresses they may send."""
    if not (together and _for_all(session, specs[0][0], group, specs[0][2].message())):
        session.send(
            [
                (encode.change_link(spec["name"], wanted.message()), change, NOTHING)
                for change, spec, wanted in specs
                if wanted.message()
            ]
        )
    session.write_ipv6(
        ((change, spec["name"], wanted.ipv6) for change, spec, wanted in specs if wanted.ipv6),
        new=True,
    )
    for change, spec, _wanted in specs:
        if spec.get("senders") is not None:
            _hold(session, change, spec["name"], spec["mac"], spec["senders"])


def _raise(session: Session, specs: Sequence[Made], group: int, together: bool, moves: Sequence[Step]) -> None:
    """Set links up that are to be, with all of their names, after what is left to do to them: ``moves``."""
    raised = together and _for_all(session, specs[0][0], group, up=True)
    steps = list(moves)
    for change, spec, _wanted in specs:
        name = spec["name"]
        if spec.get("altnames"):
            steps.append((encode.alternative_names(name, spec["altnames"], add=True), change, NOTHING))
        if spec.get("up") and not raised:
            steps.append((encode.change_link(name, up=True), change, NOTHING))
    session.send(steps)


def _hold(session: Session, change: Change, name: str, mac: str, addresses: Optional[Sequence[str]]) -> None:
    """Hold a link to its own addresses; to none where these are None. Raises KernelRefused."""
    try:
        with session.inside():
            if addresses is None:
                senders.remove(name)
            else:
                senders.install(name, mac, addresses)
    except NetlinkError as error:
        raise refusal(change, error.errno, f"spoof_check of {name}: {error.text}") from None
    except OSError as error:
        raise refusal(change, error.errno or 0, f"spoof_check of {name}: {error.strerror}") from None


def _keep_held(session: Session, wanted: Change, name: str, known: KnownLink) -> None:
    """The table of a link follows its addresses, its MAC and its name."""
    before, after = cast(LinkSpec, wanted.before or {}), cast(LinkSpec, wanted.after or {})
    link = session.known.links.get(known.ifindex) if session.known else None
    had = session.known.senders.get(known.ifindex) if session.known else None
    has = after.get("senders", had)
    if has == [senders.BROKEN]:
        return  # to take back the repair of a table would be to break it again
    if has == had and (has is None or ("mac" not in after and after["name"] == name)):
        return
    session.flush()
    if has is None or after["name"] != name:
        _hold(session, wanted, name, "", None)
    if has is not None:
        _hold(session, wanted, after["name"], after.get("mac") or (link.mac if link else before.get("mac", "")), has)


def _make_node(session: Session, change: Change, spec: LinkSpec) -> None:
    """Give a tap its device node. Raises KernelRefused."""
    node = spec.get("node")
    if node and session.descriptor is not None:
        try:
            taps.make(session.descriptor, spec["name"], node)
        except OSError as error:
            text = f"device node {node['path']}: {error.strerror}"
            raise KernelRefused(change, error.errno or 0, text) from None


def _create_links(host: Session, session: Session, specs: Sequence[Made], group: int, together: bool) -> List[Step]:
    """Create the links, down.

    What is left to do: to move those in the private group to that of their spec.
    """
    steps: List[Step] = []
    moves: List[Step] = []
    renamed: List[Tuple[Change, str, str]] = []
    for change, spec, _wanted in specs:
        parent = host.link(str(spec["parent"]), change).ifindex if spec.get("parent") else 0
        name, permanent = spec["name"], spec.get("group", 0)
        if session is not host and name in host.links:
            # Before 6.15 the kernel wants the name to be free on the host too.
            name = f"nu{os.getpid():x}x{next(_counter):x}"
            renamed.append((change, name, spec["name"]))
        first = group if together or name != spec["name"] else permanent
        if first != permanent:
            mark = encode.link_attribute("group", permanent)
            moves.append((encode.change_link(spec["name"], mark), change, NOTHING))
        steps.append((encode.create_link(spec, name, parent, first, session.descriptor), change, NOTHING))
        for known in (spec["name"], *spec.get("altnames", ())):
            session.links[known] = KnownLink(0, spec["kind"])
    host.send(steps)
    _rename(session, renamed)
    return moves


def _rename(session: Session, renamed: Sequence[Tuple[Change, str, str]]) -> None:
    """Give links of another name (change, that name, the wanted one) theirs, or remove them."""
    found = session.kernel.ask([encode.get_link(name) for _change, name, _wanted in renamed], decode.index)
    there = [(change, index or 0, wanted) for (change, _name, wanted), index in zip(renamed, found)]
    try:
        session.send(
            [
                (encode.change_link(index, encode.link_attribute("name", wanted)), change, NOTHING)
                for change, index, wanted in there
            ]
        )
    except KernelRefused:
        session.send([(encode.remove_link(index), change, _GONE) for change, index, _wanted in there if index])
        raise


def _for_all(session: Session, change: Change, group: int, *attributes: bytes, up: Optional[bool] = None) -> bool:
    """Change every link of a group; False if any of them was refused, and it is unknown which."""
    try:
        session.kernel.request(encode.change_group(group, *attributes, up=up))
    except AnswersLost as error:
        raise refusal(change, error.errno, error.text) from None
    except NetlinkError:
        return False
    return True


# --- changing ------------------------------------------------------------------------------------


def change(session: Session, wanted: Change) -> None:
    """Queue what changes a link in place.

    Raises KernelRefused, also for what no kernel changes in place.
    """
    before, after = cast(Generic, wanted.before or {}), cast(Generic, wanted.after or {})
    name = str(before.get("name", after["name"]))
    known = session.link(name, wanted)
    new = [
        option for option, value in after.items() if value not in (None, before.get(option)) and option not in _IDENTITY
    ]
    kind_options = _changeable(session, wanted, known.kind, [option for option in new if option not in _ANY_KIND])
    if "up" in new and not after["up"]:
        session.queue(wanted, encode.change_link(known.ifindex, up=False))
    attributes = _attributes(session, name, after, new)
    if kind_options:
        options = cast(LinkSpec, {option: after[option] for option in kind_options})
        attributes.append(encode.kind_change(known.kind, options, cast(LinkSpec, before)))
    settings = _changed_settings(session, known, cast(LinkSpec, {option: after[option] for option in new}))
    attributes.append(settings.message())
    if any(attributes):
        session.queue(wanted, encode.change_link(known.ifindex, *attributes))
    if after["name"] != name:
        session.links[after["name"]] = session.links.pop(name)
    _keep_held(session, wanted, name, known)
    if settings.ipv6:
        _write_ipv6(session, wanted, known.ifindex, settings.ipv6)
    _rename_alternatives(
        session,
        wanted,
        known,
        before.get("altnames") or (),
        after["altnames"] if "altnames" in new else None,
    )
    if "up" in new and after["up"]:
        session.queue(wanted, encode.change_link(known.ifindex, up=True))
    if "node" in new:
        session.flush()
        _make_node(session, wanted, cast(LinkSpec, after))
    if ("up" in new and after["up"]) or "mtu" in new or settings.ipv6.get("disable_ipv6") == 0:
        _keep_ipv6_mtu(session, wanted, after["name"], known.ifindex)


def _attributes(session: Session, name: str, after: Generic, new: Sequence[str]) -> List[bytes]:
    """The new attributes of a link that every kind has; what is made on it later in the run knows its MTU."""
    if "mtu" in new:
        session.links[name] = session.links[name]._replace(mtu=after["mtu"])
    found = [encode.link_attribute(option, after[option]) for option in ("mac", "mtu", "group") if option in new]
    return [*found, encode.link_attribute("name", after["name"])] if after["name"] != name else found


def _changeable(session: Session, wanted: Change, kind: str, options: Sequence[str]) -> List[str]:
    """Those of a link's options by kind that a request can change.

    Raises KernelRefused where another has to be, and is not so already.
    """
    fixed = [option for option in options if option not in encode.CHANGEABLE.get(kind, ())]
    if fixed:
        after = cast(Generic, wanted.after or {})
        name = str((wanted.before or {}).get("name", after["name"]))
        now = cast(Generic, session.observed.find("link", cast(Spec, {**after, "name": name})) or {})
        other = [option for option in fixed if now.get(option) != after[option]]
        if other:
            raise KernelRefused(wanted, errno.EOPNOTSUPP, f"{' and '.join(other)} of {name} cannot be changed in place")
    return [option for option in options if option not in fixed]


def _write_ipv6(session: Session, change: Change, ifindex: int, values: Dict[str, int]) -> None:
    """Write sysctls of IPv6; without a mode of addresses the link loses the address that it made itself."""
    session.flush()
    session.write_ipv6([(change, (change.after or {})["name"], values)], new=False)
    routers.follow(session, change, ifindex)
    if not values.get("disable_ipv6") and values.get("addr_gen_mode") == _GENMODE_NONE:
        _remove_link_local(session, change, ifindex)


def _keep_ipv6_mtu(session: Session, change: Change, name: str, ifindex: int) -> None:
    """The kernel makes the MTU of IPv6 that of the link where link or IPv6 comes up, or the link gets another (addrconf_notify)."""
    link = session.known.links.get(ifindex) if session.known else None
    number = session.ipv6_mtus.get(name)
    if number is None and link is not None and link.conf6 and link.conf6[isolation.IPV6["mtu"]] != link.mtu:
        number = link.conf6[isolation.IPV6["mtu"]]
    if number is not None and number <= ((change.after or {}).get("mtu") or number):
        session.flush()
        session.write_ipv6([(change, name, {"mtu": number})], new=False)


def _changed_settings(session: Session, known: KnownLink, new: LinkSpec) -> _Settings:
    link = session.known.links.get(known.ifindex) if session.known else None
    had = session.observed.ipv6 and (link is None or link.conf6 is not None)
    has = session.observed.ipv6 and (had if (mtu := new.get("mtu")) is None else mtu >= isolation.IPV6_MIN_MTU)
    sysctls = new.get("sysctls") or {}
    if sysctls.get("ipv6.mtu", 0) is None and link is not None:  # by default that of the link
        new = {**new, "sysctls": {**sysctls, "ipv6.mtu": new.get("mtu") or link.mtu}}
    return _Settings(new, session, new=False, ipv6=has)


def _remove_link_local(session: Session, change: Change, index: int) -> None:
    """Those that the kernel made while it was to make them; it keeps them otherwise."""
    for address in session.known.addresses.get(index, ()) if session.known else ():
        if address.address.startswith("fe80:"):
            session.queue(
                change,
                encode.remove_address(address.address, index),
                frozenset((errno.EADDRNOTAVAIL,)),
            )


def _rename_alternatives(
    session: Session,
    change: Change,
    known: KnownLink,
    before: Sequence[str],
    after: Optional[Sequence[str]],
) -> None:
    if after is None:
        return
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    for name in gone:  # one by one: a name that is gone already stops the rest of a message
        session.queue(
            change,
            encode.alternative_names(known.ifindex, (name,), add=False),
            frozenset((errno.ENOENT,)),
        )
        session.links.pop(name, None)
    if new:
        session.queue(change, encode.alternative_names(known.ifindex, new, add=True))
        session.links.update(dict.fromkeys(new, known))


# --- removing ------------------------------------------------------------------------------------


def remove_nodes(changes: Iterable[Change]) -> None:
    """Remove the device nodes of taps that go, or went with their namespace."""
    for change in changes:
        node = (change.before or {}).get("node") if change.kind == "link" and change.after is None else None
        if node:
            taps.remove(node["path"])


def remove(session: Session, changes: Sequence[Change], group: int) -> None:
    """Remove links, many of the host's by group; missing ones are ignored.

    Raises KernelRefused.
    """
    remove_nodes(changes)
    victims: List[Tuple[Change, int]] = []
    for change in changes:
        spec = change.before or {}
        known = session.links.get(spec["name"])
        if known is None or session.observed.is_replaced("link", spec):
            continue
        if spec.get("kind") not in (None, known.kind):
            raise KernelRefused(
                change,
                0,
                f"{spec['name']} is a {known.kind or 'NIC'} now, not our {spec['kind']}",
            )
        if session.nsid is None or session.is_still_there(known.ifindex):
            victims.append((change, session.link(spec["name"], change).ifindex))
        session.forget(spec["name"])
    if len(victims) >= _MANY and session.workload == HOST and _remove_together(session, victims, group):
        return
    session.send([(encode.remove_link(index, session.nsid), change, _GONE) for change, index in victims])
    for change in changes:
        spec = change.before or {}
        if spec.get("senders") is not None and session.nsid is None:
            _hold(session, change, spec["name"], "", None)


def _remove_together(session: Session, victims: Sequence[Tuple[Change, int]], group: int) -> bool:
    """Remove links by one message to ``group``; False where the kernel refuses one of them, and it is unknown which."""
    mark = encode.link_attribute("group", group)
    session.send([(encode.change_link(index, mark), change, _GONE) for change, index in victims])
    try:
        session.kernel.request(encode.remove_group(group))
    except AnswersLost as error:
        raise refusal(victims[0][0], error.errno, error.text) from None
    except NetlinkError as error:
        return error.errno == errno.ENODEV
    return True
