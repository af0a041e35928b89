# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether JSON values are of the types in ``records``: every check is made of the type itself.

Thousands of records have a handful of shapes (their keys, and the Python types of the values). what a shape says is
found out once; of each further record only those values are looked at whose type alone does not tell.
"""

from __future__ import annotations

from functools import cache
from typing import (
    Annotated,
    Any,
    Callable,
    Collection,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    Literal,
    Mapping,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Type,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from .change import HOST_KINDS, Change, Record, Records, address_key, link_key, rate_key, route_key, rule_key
from .formats import Format, Text
from .records import RECORDS, Of, complete
from .specs import LinkSpec, Spec
from .text import one_line

Check = Callable[[Any], None]
Key = Tuple[str, str]

#: Kind of record -> the key that its spec gives it.
_KEYS: Dict[str, Callable[[Spec], str]] = {
    "vlan": lambda spec: str(spec["name"]),
    "network": lambda spec: str(spec["name"]),
    "endpoint": lambda spec: f"{spec['network']}/{spec['name']}",
    "routes": lambda spec: str(spec["name"]),
    "netns": lambda spec: str(spec["netns"]),
    "link": lambda spec: link_key(spec["netns"], spec["name"]),
    "address": address_key,
    "route": route_key,
    "rule": rule_key,
    "rate": rate_key,
    "hosts": lambda spec: str(spec["netns"]),
    "resolver": lambda spec: str(spec["netns"]),
}


#: Kind of record -> what it always belongs to.
_OWNERS = {
    "vlan": "vlan:{}", "network": "network:{}", "endpoint": "endpoint:{}", "routes": "routes:{}",
    "netns": "netns", "nic": "nic", "process": "process", "hosts": "workload:{}", "resolver": "workload:{}",
}  # fmt: skip


class Mismatch(ValueError):
    """A value that is not of its type: where it is, and what is wrong."""

    def __init__(self, what: str, at: str = "") -> None:
        super().__init__(f"{at.lstrip('.')} {what}".strip())
        self.what = what
        self.at = at

    def within(self, at: str) -> Mismatch:
        """The same of the value around it, which has the first one ``at`` this path."""
        return Mismatch(self.what, at + self.at)


class Fault(NamedTuple):
    """A record that cannot be used, and why."""

    kind: str
    key: str
    why: str

    def __str__(self) -> str:
        return one_line(f"{self.kind} {self.key}: {self.why}")


def record(kind: Any, key: Any, found: Record) -> str:
    """What is wrong with a record; empty for nothing."""
    try:
        check_text, check_of = _columns()
        check_text(kind)
        check_text(key)
        check_of(found.of)
        _of_kind(kind)(found.spec)
    except Mismatch as error:
        return str(error)
    if kind in _OWNERS and found.of != _OWNERS[kind].format(key):
        return f"belongs to {found.of}"
    named = _KEYS[kind](found.spec) if kind in _KEYS else key
    return "" if named == key and key.isprintable() else f"is that of {named!r}"


@cache
def _columns() -> Tuple[Check, Check]:
    return checker(Text), checker(Of)


def faults(records: Records) -> List[Fault]:
    """The records that cannot be used: those with a fault of their own, and those that stand on one."""
    found = {
        (kind, key): why
        for kind, table in records.items()
        for key, each in table.items()
        if (why := record(kind, key, each))
    }
    while True:
        lacking = {where: why for where, why in _lacking(records, found) if where not in found}
        if not lacking:
            return [Fault(kind, key, why) for (kind, key), why in found.items()]
        found.update(lacking)


def _lacking(records: Records, without: Mapping[Key, str]) -> Iterator[Tuple[Key, str]]:
    """The records that refer to one that is not there or cannot be used, or to themselves."""
    networks = records.get("network", {})
    for key, endpoint in records.get("endpoint", {}).items():
        if ("endpoint", key) in without:
            continue
        name = endpoint.spec["network"]
        if name not in networks or ("network", name) in without:
            yield ("endpoint", key), f"network {name} is not there, or cannot be used"
    links = records.get("link", {})
    for key in links:
        if ("link", key) not in without and _stands_on_itself(key, records, without):
            yield ("link", key), "stands on itself"


def _stands_on_itself(key: str, records: Records, without: Mapping[Key, str]) -> bool:
    links, passed, name = records["link"], set(), key
    while name in links and ("link", name) not in without:
        if name in passed:
            return True
        passed.add(name)
        name = str(links[name].spec.get("parent"))
    return False


def change(values: Any) -> Change:
    """A change as JSON has it. Raises Mismatch."""
    found = row(Change, values)
    if found.kind not in RECORDS or found.before is found.after is None:
        raise Mismatch("changes nothing that is known", found.key)
    whole = found.before is None or found.after is None
    if whole and found.of:
        found = found._replace(before=complete(found.kind, found.before), after=complete(found.kind, found.after))
    for side, spec in (("before", found.before), ("after", found.after)):
        if spec is not None:
            try:
                (_of_kind if whole and found.of else _part_of_kind)(found.kind)(spec)
                if found.kind in HOST_KINDS:
                    _KEYS[found.kind](spec)
            except KeyError as error:
                raise Mismatch("is missing", f"{found.key}: {error.args[0]}") from None
            except Mismatch as error:
                raise error.within(f"{found.key}: {side}.") from None
    return found


Row = TypeVar("Row", bound=Tuple[Any, ...])


def row(expected: Type[Row], values: Any) -> Row:
    """A named tuple of values of its types. Raises Mismatch."""
    fields = _fields(expected)
    if type(values) not in (list, tuple) or len(values) != len(fields):
        raise Mismatch(f"is {_shown(values)}, not {', '.join(name for name, _check in fields)}")
    for (name, check), value in zip(fields, values):
        try:
            check(value)
        except Mismatch as error:
            raise error.within(name) from None
    return expected(*values)


@cache
def _fields(expected: Any) -> List[Tuple[str, Check]]:
    return [(name, checker(hint)) for name, hint in get_type_hints(expected, include_extras=True).items()]


@cache
def _of_kind(kind: str) -> Check:
    """The check of a record's spec."""
    if kind not in RECORDS:
        raise Mismatch("is of a kind that is not known")
    return checker(RECORDS[kind])


@cache
def _part_of_kind(kind: str) -> Check:
    """The check of one side of an update: any key may be missing, and what was not there before is None."""
    hint = LinkSpec if kind == "link" else RECORDS[kind]
    hint = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    options = get_type_hints(hint, include_extras=True)
    return _typed_dict({option: Optional[of] for option, of in options.items()}, frozenset())


# --- types ---------------------------------------------------------------------------------------


@cache
def checker(hint: Any) -> Check:
    """What raises Mismatch where a value is not of a type."""
    origin, parts = get_origin(hint), get_args(hint)
    if hint is Any:
        return lambda value: None
    if origin is Annotated:
        return _formatted(checker(parts[0]), hint.__metadata__)
    if origin is Union:
        return _union(parts)
    if origin is Literal:
        return _one_of(parts)
    if origin is list:
        return _list(checker(parts[0]))
    if origin is dict and parts == (str, Any):
        return _plain(dict)  # every key in JSON is a text
    if origin is dict:
        return _dict(checker(parts[0]), checker(parts[1]))
    if hasattr(hint, "__required_keys__"):
        return _typed_dict(get_type_hints(hint, include_extras=True), hint.__required_keys__)
    return _plain(hint)


#: Python types in words.
_WORDS: Dict[Any, str] = {
    str: "a text", int: "a number", bool: "true or false", dict: "a mapping", list: "a list", type(None): "nothing",
    bytes: "bytes", float: "a number with a point",
}  # fmt: skip


def _plain(expected: Any) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, expected) or (isinstance(value, bool) and expected is not bool):  # bool is an int
            raise Mismatch(f"is {_shown(value)}, not {_WORDS[expected]}")

    return check


def _formatted(check: Check, formats: Iterable[Format]) -> Check:
    good: Set[Any] = set()

    def look(value: Any) -> None:
        check(value)
        if value.__class__ in _SCALARS and value in good:
            return
        for what, parse in formats:
            try:
                parse(value)
            except ValueError:
                raise Mismatch(f"is {_shown(value)}, not {what}") from None
        if value.__class__ in _SCALARS and len(good) < _MOST:
            good.add(value)

    look.good = good  # type: ignore[attr-defined]
    return look


#: So many values of a format are known to be good, and need not be parsed again.
_MOST = 20000
_SCALARS = (str, int)


def _one_of(words: Tuple[Any, ...]) -> Check:
    def check(value: Any) -> None:
        if not isinstance(value, str) or value not in words:
            raise Mismatch(f"is {_shown(value)}, not one of {', '.join(words)}")

    check.good = frozenset(words)  # type: ignore[attr-defined]
    return check


def _union(parts: Tuple[Any, ...]) -> Check:
    """Mappings of several types are distinguished by the first key that has one word in each."""
    plain = frozenset(part for part in parts if part in _WORDS)
    checks = [checker(part) for part in parts if part not in _WORDS]
    tables = {part: get_type_hints(part) for part in parts if hasattr(part, "__required_keys__")}
    tell = next(
        (key for key in next(iter(tables.values()), {}) if all(_word(hints.get(key)) for hints in tables.values())), ""
    )
    of_word = {_word(hints[tell]): checker(part) for part, hints in tables.items()} if tell else {}

    def check(value: Any) -> None:
        if type(value) in plain:
            return
        if of_word and isinstance(value, dict):
            word = value.get(tell)
            if tell not in value:
                raise Mismatch("is missing", f".{tell}")
            if not isinstance(word, str) or word not in of_word:
                raise Mismatch(f"is {_shown(word)}, not one of {', '.join(map(str, of_word))}", f".{tell}")
            of_word[word](value)
            return
        first: Optional[Mismatch] = None
        for one in checks:
            try:
                one(value)
                return
            except Mismatch as error:
                first = first or error
        raise first or Mismatch(f"is {_shown(value)}, not {' or '.join(_WORDS[part] for part in plain)}")

    return check


def _word(hint: Any) -> str:
    words = get_args(hint) if get_origin(hint) is Literal else ()
    return str(words[0]) if len(words) == 1 else ""


def _list(check: Check) -> Check:
    def look(value: Any) -> None:
        if not isinstance(value, list):
            raise Mismatch(f"is {_shown(value)}, not a list")
        for position, item in enumerate(value):
            try:
                check(item)
            except Mismatch as error:
                raise error.within(f"[{position}]") from None

    return look


def _dict(of_key: Check, of_value: Check) -> Check:
    def look(value: Any) -> None:
        if not isinstance(value, dict):
            raise Mismatch(f"is {_shown(value)}, not a mapping")
        for key, item in value.items():
            try:
                of_key(key)
                of_value(item)
            except Mismatch as error:
                raise error.within(f".{key}") from None

    return look


#: The keys of a TypedDict and their annotations.
Hints = Mapping[str, Any]
#: A key whose value has to be looked at, what is known to be good there, and what looks.
Look = Tuple[str, Collection[Any], Check]


def _typed_dict(hints: Hints, required: FrozenSet[str]) -> Check:
    shapes: Dict[Any, List[Look]] = {}

    def look(value: Any) -> None:
        if not isinstance(value, dict):
            raise Mismatch(f"is {_shown(value)}, not a mapping")
        shape = (*value, *map(type, value.values()))
        looks = shapes.get(shape)
        key = ""
        try:
            if looks is None:
                looks = _shape(value, hints, required)
                for key, _good, check in looks:
                    check(value[key])
                shapes[shape] = looks
                return
            for key, good, check in looks:
                item = value[key]
                if not good or item not in good:
                    check(item)
        except Mismatch as error:
            raise error.within(f".{key}" if key else "") from None

    return look


def _shape(value: Mapping[Any, Any], hints: Hints, required: FrozenSet[str]) -> List[Look]:
    """What is to be looked at in mappings of the same keys and Python types as one. Raises Mismatch."""
    for key in required:
        if key not in value:
            raise Mismatch("is missing", f".{key}")
    found: List[Look] = []
    for key, item in value.items():
        if key not in hints:
            raise Mismatch("is not known", f".{key}")
        narrowed = _narrowed(hints[key], type(item))
        check = checker(narrowed)
        if narrowed is not type(item):
            found.append((key, getattr(check, "good", ()), check))
    return found


def _narrowed(hint: Any, found: type) -> Any:
    """Of a type what is left of it for values of a Python type: of an optional text the text."""
    if get_origin(hint) is not Union:
        return hint
    fitting = [part for part in get_args(hint) if _python_type(part) is found]
    return fitting[0] if len(fitting) == 1 else hint


def _python_type(hint: Any) -> Any:
    origin = get_origin(hint)
    if origin is Annotated:
        return _python_type(get_args(hint)[0])
    if origin is Literal:
        return str
    return origin or (dict if hasattr(hint, "__required_keys__") else hint)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
