# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Making, changing and removing links, thousands at once.

Many links of the host are made down in a link group that is private to the transaction, so that one
message does for all of them what would else take one each, and never touches a link outside the
plan.
"""

from __future__ import annotations

import errno
import itertools
import os
import random
from typing import Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from . import decode, encode, isolation
from .refused import Refused, refusal
from .rtnetlink import Lost, NetlinkError
from .space import NOTHING, Known, Space, Step
from .world import HOST, PRIVATE_GROUPS, Change, Spec, World

#: From here on a message for all is worth its extra ones.
_MANY = 8
#: The least MTU with which the kernel gives a link IPv6 (IPV6_MIN_MTU).
_IPV6_MIN_MTU = 1280
_GENMODE_NONE = 1  # IN6_ADDR_GEN_MODE_NONE
#: What a change may speak of whatever the kind of the link.
_ANY_KIND = frozenset(("mac", "mtu", "group", "up", "altnames", "presence", "sysctls"))
_GONE = frozenset((errno.ENODEV,))
_counter = itertools.count()


class _Settings:
    """What a spec says about sysctls: IPv4 and address generation by message, IPv6 through /proc.

    None stands for the namespace's default, which a ``new`` link has. Those of IPv6 are left out
    where the link has none.
    """

    def __init__(self, spec: Spec, space: Space, new: bool, ipv6: bool) -> None:
        self.ipv4: Dict[str, int] = {}
        self.ipv6: Dict[str, int] = {}
        wanted: Dict[str, Optional[int]] = {}
        if spec.get("presence"):
            wanted.update(isolation.settings(spec["presence"]))
        wanted.update(spec.get("sysctls") or {})
        for name, value in wanted.items():
            family, _rest, key = name.partition(".")
            if (value is None and new) or (family == "ipv6" and not ipv6):
                continue
            (self.ipv4 if family == "ipv4" else self.ipv6)[key] = (
                space.default(family, key) if value is None else value
            )
        # A message spares a write for each link, but gives one that is up no link-local address.
        self.genmode = self.ipv6.pop("addr_gen_mode", None) if new else None

    def message(self) -> bytes:
        return encode.interface_settings(self.ipv4, self.genmode)


def free_group(world: World, preferred: Optional[int], changes: Iterable[Change]) -> int:
    """A link group that holds nothing of the host but what ``changes`` remove."""
    gone = {change.key for change in changes if change.kind == "link" and change.after is None}
    used = {link.group for link in world.host.links.values() if link.name not in gone}
    if preferred is not None and preferred not in used:
        return preferred
    return random.choice([group for group in PRIVATE_GROUPS if group not in used])


_IDENTITY = ("netns", "name")
#: A link to be made: its change, its spec and its settings.
Made = Tuple[Change, Spec, _Settings]


# --- making --------------------------------------------------------------------------------------


def create(host: Space, space: Space, changes: Sequence[Change], group: int) -> None:
    """Make links in a namespace. Raises Refused."""
    for wave in _waves(changes):
        host.look_up(
            str(change.after["parent"])
            for change in wave
            if change.after and change.after.get("parent")
        )
        alike = [change for change in wave if space is host and _is_common(host, change)]
        if len(alike) < _MANY:
            alike = []
        chosen = {id(change) for change in alike}
        _make(host, space, alike, group, True)
        _make(host, space, [change for change in wave if id(change) not in chosen], group, False)


def _is_common(host: Space, change: Change) -> bool:
    """Whether a link takes the same messages as most."""
    spec = change.after or {}
    usual = spec.get("presence") == "none" and spec.get("up") and not spec.get("sysctls")
    return bool(usual) and _gets_ipv6(host, spec) == host.world.ipv6


def _gets_ipv6(host: Space, spec: Spec) -> bool:
    mtu = spec.get("mtu")
    if not mtu and spec.get("parent") and host.known:
        parent = host.known.names.get(spec["parent"])
        mtu = parent.mtu if parent else None
    return host.world.ipv6 and (mtu or _IPV6_MIN_MTU) >= _IPV6_MIN_MTU


def _waves(changes: Sequence[Change]) -> Iterator[List[Change]]:
    """Parts in which no link is the parent of another: it has to be there, and up, before."""
    wave: List[Change] = []
    names: Set[str] = set()
    for change in changes:
        spec = change.after or {}
        if spec.get("parent") in names:
            yield wave
            wave, names = [], set()
        wave.append(change)
        names.update((spec["name"], *spec.get("altnames", ())))
    yield wave


def _make(host: Space, space: Space, changes: Sequence[Change], group: int, together: bool) -> None:
    """Make links that do not depend on each other, ``together`` by messages to ``group``."""
    if not changes:
        return
    specs: List[Made] = []
    for change in changes:
        spec = change.after or {}
        settings = _Settings(spec, space, new=True, ipv6=_gets_ipv6(host, spec))
        specs.append((change, spec, settings))
    moves = _bring_forth(host, space, specs, group, together)
    if not (together and _for_all(space, changes[0], group, specs[0][2].message())):
        space.send(
            [
                (encode.change_link(spec["name"], wanted.message()), change, NOTHING)
                for change, spec, wanted in specs
                if wanted.message()
            ]
        )
    space.write_ipv6(
        ((change, spec["name"], wanted.ipv6) for change, spec, wanted in specs if wanted.ipv6),
        new=True,
    )
    raised = together and _for_all(space, changes[0], group, up=True)
    steps = moves
    for change, spec, _wanted in specs:
        name = spec["name"]
        if spec.get("altnames"):
            steps.append(
                (encode.alternative_names(name, spec["altnames"], add=True), change, NOTHING)
            )
        if spec.get("up") and not raised:
            steps.append((encode.change_link(name, up=True), change, NOTHING))
    space.send(steps)


def _bring_forth(
    host: Space, space: Space, specs: Sequence[Made], group: int, together: bool
) -> List[Step]:
    """Create the links, down.

    What is left to do: to move those in the private group to that of their spec.
    """
    steps: List[Step] = []
    moves: List[Step] = []
    renamed: List[Tuple[Change, str, str]] = []
    for change, spec, _wanted in specs:
        parent = host.link(str(spec["parent"]), change).ifindex if spec.get("parent") else 0
        name, permanent = spec["name"], spec.get("group", 0)
        if space is not host and name in host.links:
            # Before 6.15 the kernel wants the name to be free on the host too.
            name = f"nu{os.getpid():x}x{next(_counter):x}"
            renamed.append((change, name, spec["name"]))
        first = group if together or name != spec["name"] else permanent
        if first != permanent:
            mark = encode.link_attribute("group", permanent)
            moves.append((encode.change_link(spec["name"], mark), change, NOTHING))
        steps.append(
            (encode.create_link(spec, name, parent, first, space.descriptor), change, NOTHING)
        )
        for known in (spec["name"], *spec.get("altnames", ())):
            space.links[known] = Known(0, spec["kind"])
    host.send(steps)
    _rename(space, renamed)
    return moves


def _rename(space: Space, renamed: Sequence[Tuple[Change, str, str]]) -> None:
    """Give links of another name (change, that name, the wanted one) theirs, or remove them."""
    found = space.kernel.ask(
        [encode.get_link(name) for _change, name, _wanted in renamed], decode.index
    )
    there = [(change, index or 0, wanted) for (change, _name, wanted), index in zip(renamed, found)]
    try:
        space.send(
            [
                (encode.change_link(index, encode.link_attribute("name", wanted)), change, NOTHING)
                for change, index, wanted in there
            ]
        )
    except Refused:
        space.send(
            [
                (encode.remove_link(index), change, _GONE)
                for change, index, _wanted in there
                if index
            ]
        )
        raise


def _for_all(
    space: Space, change: Change, group: int, *attributes: bytes, up: Optional[bool] = None
) -> bool:
    """Change every link of a group; False where one of them refused, and nobody knows which."""
    try:
        space.kernel.request(encode.change_group(group, *attributes, up=up))
    except Lost as error:
        raise refusal(change, error.errno, error.text) from None
    except NetlinkError:
        return False
    return True


# --- changing ------------------------------------------------------------------------------------


def change(space: Space, wanted: Change) -> None:
    """Queue what changes a link in place.

    Raises Refused, also for what no kernel changes in place.
    """
    before, after = wanted.before or {}, wanted.after or {}
    name = str(before.get("name", after["name"]))
    known = space.link(name, wanted)
    new = [
        option
        for option, value in after.items()
        if value not in (None, before.get(option)) and option not in _IDENTITY
    ]
    kind_options = [option for option in new if option not in _ANY_KIND]
    fixed = [
        option for option in kind_options if option not in encode.CHANGEABLE.get(known.kind, ())
    ]
    if fixed:
        now = space.world.find("link", {**after, "name": name}) or {}
        kind_options = [option for option in kind_options if option not in fixed]
        fixed = [option for option in fixed if now.get(option) != after[option]]
    if fixed:
        raise Refused(
            wanted, errno.EOPNOTSUPP, f"{' and '.join(fixed)} of {name} cannot be changed in place"
        )
    if "up" in new and not after["up"]:
        space.queue(wanted, encode.change_link(known.ifindex, up=False))
    attributes = [
        encode.link_attribute(option, after[option])
        for option in ("mac", "mtu", "group")
        if option in new
    ]
    if after["name"] != name:
        attributes.append(encode.link_attribute("name", after["name"]))
    if kind_options:
        attributes.append(
            encode.kind_change(
                known.kind, {option: after[option] for option in kind_options}, before
            )
        )
    settings = _changed_settings(space, known, {option: after[option] for option in new})
    attributes.append(settings.message())
    if any(attributes):
        space.queue(wanted, encode.change_link(known.ifindex, *attributes))
    if after["name"] != name:
        space.links[after["name"]] = space.links.pop(name)
    if settings.ipv6:
        space.flush()
        space.write_ipv6([(wanted, after["name"], settings.ipv6)], new=False)
        enabled = not settings.ipv6.get("disable_ipv6")
        if enabled and settings.ipv6.get("addr_gen_mode") == _GENMODE_NONE:
            _remove_link_local(space, wanted, known.ifindex)
    _rename_alternatives(
        space,
        wanted,
        known,
        before.get("altnames") or (),
        after["altnames"] if "altnames" in new else None,
    )
    if "up" in new and after["up"]:
        space.queue(wanted, encode.change_link(known.ifindex, up=True))


def _changed_settings(space: Space, known: Known, new: Spec) -> _Settings:
    link = space.known.links.get(known.ifindex) if space.known else None
    had = space.world.ipv6 and (link is None or link.conf6 is not None)
    has = space.world.ipv6 and (had if new.get("mtu") is None else new["mtu"] >= _IPV6_MIN_MTU)
    if has and link is not None and not had and not new.get("presence"):
        # With the larger MTU the kernel gives it IPv6, with the defaults.
        new = {**new, "presence": isolation.presence(link)}
    return _Settings(new, space, new=False, ipv6=has)


def _remove_link_local(space: Space, change: Change, index: int) -> None:
    """Those that the kernel made while it was to make them; it keeps them otherwise."""
    for address in space.known.addresses.get(index, ()) if space.known else ():
        if address.address.startswith("fe80:"):
            space.queue(
                change,
                encode.remove_address(address.address, index),
                frozenset((errno.EADDRNOTAVAIL,)),
            )


def _rename_alternatives(
    space: Space,
    change: Change,
    known: Known,
    before: Sequence[str],
    after: Optional[Sequence[str]],
) -> None:
    if after is None:
        return
    gone = [name for name in before if name not in after]
    new = [name for name in after if name not in before]
    for name in gone:  # one by one: a name that is gone already stops the rest of a message
        space.queue(
            change,
            encode.alternative_names(known.ifindex, (name,), add=False),
            frozenset((errno.ENOENT,)),
        )
        space.links.pop(name, None)
    if new:
        space.queue(change, encode.alternative_names(known.ifindex, new, add=True))
        space.links.update(dict.fromkeys(new, known))


# --- removing ------------------------------------------------------------------------------------


def remove(space: Space, changes: Sequence[Change], group: int) -> None:
    """Remove links, many of the host's by way of a group; one that is gone already is fine.

    Raises Refused.
    """
    victims: List[Tuple[Change, int]] = []
    for change in changes:
        spec = change.before or {}
        known = space.links.get(spec["name"])
        if known is None or space.world.is_usurped("link", spec):
            continue
        if spec.get("kind") not in (None, known.kind):
            raise Refused(
                change,
                0,
                f"{spec['name']} is a {known.kind or 'NIC'} now, not our {spec['kind']}",
            )
        victims.append((change, space.link(spec["name"], change).ifindex))
        space.forget(spec["name"])
    if len(victims) >= _MANY and space.workload == HOST:
        mark = encode.link_attribute("group", group)
        space.send([(encode.change_link(index, mark), change, _GONE) for change, index in victims])
        try:
            space.kernel.request(encode.remove_group(group))
            return
        except Lost as error:
            raise refusal(victims[0][0], error.errno, error.text) from None
        except NetlinkError as error:
            if error.errno == errno.ENODEV:
                return
    space.send([(encode.remove_link(index), change, _GONE) for change, index in victims])
