# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every message that a user can meet, found in the code, with its cause and its cure.

A message is a string that is given to one of the words of :data:`SAYS`. What depends on the host is shown as ``<name>``, in
words of :data:`WORDS`. The fix stands beside the message, or behind a semicolon in it, or in docs/messages.yml. A cause is a sentence
written for readers, in docs/messages.yml; a message that explains itself has none.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import yaml

from . import HEAD

CHECKOUT = Path(__file__).resolve().parents[2]
NOTES = CHECKOUT / "docs" / "messages.yml"
SYMPTOMS = Path(__file__).with_name("symptoms.txt")

#: What says something to a user -> the positions of the message and of the cure among its arguments.
SAYS: Dict[str, Tuple[int, Optional[int]]] = {
    "Problem": (1, 2), "refuse": (-2, -1), "refuse_at": (-2, -1), "warn": (-1, None), "InvalidValue": (0, 1), "AddressError": (0, 1), "fault": (1, 2),
    **dict.fromkeys(("RegistryError", "RegistryBusy", "NamespaceError", "NamespaceMissing", "WorkloadGone", "KernelError", "RolledBack", "RollbackFailed",
                     "GuardError", "OtherRegistry", "EngineSilent",
                     "WorkloadFileError", "WorkloadFileSlow", "MeshError", "ProbeFailed", "AnsibleActionFail", "AnsibleParserError", "AnsibleLookupError",
                     "AnsibleFilterError"), (0, None)),
    "KernelRefused": (2, None),
}  # fmt: skip
#: A variable of the code -> what a reader calls it: a name of the code tells a reader nothing.
WORDS = {
    **dict.fromkeys(("name", "network", "owner", "link", "dev", "device", "interface", "parent", "base", "trunk", "workload", "endpoint", "kind", "driver",
                     "mode", "flag", "option", "path", "prefix", "subnet", "address", "gateway", "mac", "mtu", "metric", "table", "vrf", "host", "group",
                     "engine", "container", "status", "release", "version", "number", "length", "error", "file", "protocol", "package", "value"), ""),
    "shown": "value", "given": "value", "text": "value", "found": "value", "term": "value", "static": "address", "ip": "address", "own": "address",
    "peer": "address", "via": "next hop", "join": "names", "names": "names", "holders": "names", "others": "names", "sitting": "names", "links_there": "NICs",
    "there": "names", "near": "name", "key": "name", "first": "number", "len": "number", "used": "number", "kept": "number", "low": "number", "high": "number",
    "NAME_MAX": "number", "SPAN_MAX": "number", "LONGEST": "number", "TIMEOUT": "number", "TIME_LIMIT": "number", "timeout": "number",
    "position": "number", "start": "number",
    "prefixlen": "length", "max_prefixlen": "length", "before": "value", "now": "value", "taken": "value",
    "strerror": "error", "why": "reason", "refusal": "reason",
    "reason": "reason", "said": "error", "strip": "error", "how": "reason", "vlan_id": "VLAN ID", "range": "range", "mine": "subnet", "theirs": "subnet",
    "texts": "subnet", "one": "name", "other": "name", "origin": "name", "state": "state", "where": "path", "directory": "path", "executable": "path",
    "direction": "direction", "size_text": "size", "rate_text": "rate", "most": "number", "least_rate": "rate", "packet": "number", "limit": "number",
    "lines": "number", "int": "number", "height": "number", "owned": "number", "purge_limit": "number", "NAMED": "number", "size": "number", "str": "number",
    "scope": "scope", "rest": "range", "parts": "range", "blocks": "range", "mask": "mask", "partition": "program", "foreign": "name", "LIMITED": "kind",
    "unfiltered": "reason", "why_no_parent": "reason", "unseen": "reason", "was": "value", "below": "name", "place": "clsact or root", "netns": "namespace",
    "which": "number", "who": "program", "holder": "program", "pattern": "pattern", "schema": "version", "SCHEMA": "version", "neighbours": "number",
    "of": "name", "title": "name of the file", "whose": "names", "known": "names", "MOST_CHARACTERS": "number",
    "hosts": "names", "subnets": "subnet", "block": "range", "replace": "name", "get": "number", "what": "name", "word": "name", "st_uid": "user",
    "geteuid": "user", "DRIVERS": "driver", "COMMAND": "path", "DOCKER_SOCKET": "path", "expire": "program", "part": "range", "unit": "unit",
}  # fmt: skip
#: Constants of the code that are words of a message themselves.
CONSTANTS = {
    "<BECOME>": "become: true",
    "<GROUP>": "etc/iproute2/group",
    "<LINK_GROUP>": "8021",
    "<IPV6_MIN_MTU>": "1280",
    "<HIGHEST>": "8",
    "<MOST_SOURCE_MACS>": "1000",
    "<MOST_NEIGHBOURS>": "16777216",
    "<FILTERS>": "Linux 5.16 or newer with CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_EGRESS",
    "<vlan>": ".<VLAN ID>",
    "<unit>": "",
    "<OWN>": "give a path of root's own",
}
UNKNOWN = "<...>"
#: Between the forms that a string of the code can have.
OR = "\0"
#: Lists whose new items are shown to the user.
LISTS = ("warnings", "notes")

#: The rooms of the code that talk to users, in the order of the page.
ROOMS = {
    "Options": ["declare/*.py"],
    "Networks, endpoints and routes beside each other": ["plan/*.py"],
    "Namespaces and containers": ["kernel/*namespaces.py", "kernel/containers.py", "kernel/*_file.py"],
    "The kernel": ["kernel/*.py", "netlink/*.py", "run/transact.py"],
    "The registry": ["store/*.py", "run/converge.py", "run/undo.py"],
    "The guard": ["run/guard.py", "run/guard_probes.py"],
    "Everything else of the engine": ["*/*.py"],
}


class Message(NamedTuple):
    text: str
    cure: str
    cause: str  # for readers; empty where the message explains itself
    kind: str  # error, warning or failure


def _placeholder(node: ast.expr) -> str:
    """What an expression stands for, as a reader may call it."""
    names = [
        part.attr if isinstance(part, ast.Attribute) else part.id
        for part in ast.walk(node)
        if isinstance(part, (ast.Attribute, ast.Name))
    ]
    constants = [
        part.value
        for part in ast.walk(node)
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.isidentifier()
    ]
    if isinstance(node, (ast.Subscript, ast.Call)) and constants:
        return f"<{constants[-1]}>"
    if isinstance(node, ast.Attribute):
        return f"<{node.attr.strip('_')}>"
    return f"<{names[0].strip('_')}>" if names else "<...>"


def _text(node: Optional[ast.expr], known: Dict[str, str]) -> Optional[str]:
    """The string that an expression makes, what is not fixed in it as ``<name>``; None where it is none."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value)
            if isinstance(part, ast.Constant)
            else known.get(getattr(part.value, "id", ""), "") or _placeholder(part.value)  # type: ignore[attr-defined]
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left, known), _text(node.right, known)
        if left is None and right is None:
            return None
        return (left if left is not None else _placeholder(node.left)) + (
            right if right is not None else _placeholder(node.right)
        )
    if isinstance(node, ast.IfExp):
        left, right = _text(node.body, known), _text(node.orelse, known)
        return OR.join(text or "..." for text in (left, right)) if left or right else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.BoolOp):
        found = [text for text in (_text(value, known) for value in node.values) if text]
        return found[0] if found else None
    return None


def _local_strings(function: ast.AST) -> Dict[str, str]:
    """The strings that a function gives a name before it says them."""
    known: Dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            text = _text(node.value, known)
            if text and " " in text:
                name = node.targets[0].id
                known[name] = (
                    f"{known[name]}{OR}{text}" if name in known and text not in known[name] else known.get(name, text)
                )
    return known


def _strings_at(function: ast.AST, call: ast.Call, known: Dict[str, str]) -> Dict[str, str]:
    """The strings that names stand for at a call: where the blocks around it give a name one, it is the last of those alone."""
    found = dict(known)
    for block in _blocks_around(function, call):
        for statement in block:
            if call in ast.walk(statement):
                break
            for node in ast.walk(statement):
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                    name, text = node.targets[0].id, _text(node.value, found)
                    if text and " " in text:
                        found[name] = text if node is statement else known.get(name, text)
    return found


def _blocks_around(function: ast.AST, call: ast.Call) -> Iterator[List[ast.stmt]]:
    """The lists of statements that a call is in, the outermost first."""
    for node in ast.walk(function):
        for _name, block in ast.iter_fields(node):
            if isinstance(block, list) and any(isinstance(it, ast.stmt) and call in ast.walk(it) for it in block):
                yield block


def _said(call: ast.Call) -> Optional[str]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in ("append", "extend"):
        owner = function.value
        return "warning" if getattr(owner, "attr", getattr(owner, "id", "")) in LISTS else None
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name if name in SAYS else None


def _in_file(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        known = _local_strings(function)
        inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef) and node is not function]
        mine = [node for node in ast.walk(function) if not any(node in ast.walk(other) for other in inner)]
        for node in mine:
            if isinstance(node, ast.Call) and (word := _said(node)):
                at, cure_at = (0, None) if word == "warning" else SAYS[word]
                word = "warning" if word == "warn" else word
                here = _strings_at(function, node, known)
                text = _text(node.args[at], here) if len(node.args) > max(at, 0) else None
                cure = _text(node.args[cure_at], here) if cure_at is not None and len(node.args) > cure_at else None
                kind = "warning" if word == "warning" else "error" if cure_at is not None else "failure"
                yield from _split(text, cure, kind)
            elif isinstance(node, ast.Return) and path.stem == "errno_text" and function.name.startswith("_why"):
                for part in ast.walk(node):
                    if isinstance(part, (ast.JoinedStr, ast.Constant)) and " " in (_text(part, known) or ""):
                        yield from _split(_text(part, known), None, "failure")
                        break


def _split(text: Optional[str], cure: Optional[str], kind: str) -> Iterator[Message]:
    """One message for each form that a string has; a cure may stand behind its semicolon."""
    if not text or not re.search(r"[a-z]{2,} ", text):
        return
    for form in text.split(OR):
        form = form.partition(":\n")[0] + (":" if ":\n" in form else "")
        what, _semicolon, rest = form.partition("; ")
        if not re.search(r"[a-z]{2,}", re.sub(r"<[^>]*>", "", what)):
            continue
        yield Message(what.strip(), cure or rest, "", kind)


def _key(text: str) -> str:
    """A message without the words for what changes: a variable of the code may get another name."""
    return re.sub(r"<[^>]*>", "<>", text)


def notes() -> Dict[str, Dict[str, str]]:
    found: Dict[str, Dict[str, str]] = yaml.safe_load(NOTES.read_text(encoding="utf-8"))
    return {_key(text): row for text, row in found.items()}


def rooms() -> Dict[str, List[Message]]:
    """Every message, by the part of the page that it belongs to."""
    engine = CHECKOUT / "plugins" / "module_utils" / "_engine"
    files = {
        title: [path for pattern in patterns for path in sorted(engine.glob(pattern))]
        for title, patterns in ROOMS.items()
    }
    plugins = CHECKOUT / "plugins"
    files["The map, the ledger and the filters, on the controller"] = [
        path
        for folder in ("plugin_utils", "inventory", "lookup", "filter", "action")
        for path in sorted((plugins / folder).rglob("*.py"))
    ]
    files["Preparing a host and verifying it"] = [plugins / "module_utils" / "_host.py", plugins / "module_utils" / "_service.py",
                                                  *sorted((plugins / "modules").glob("*.py"))]  # fmt: skip
    found: Dict[str, List[Message]] = {}
    seen = set()
    for title, paths in files.items():
        for path in paths:
            for message in _in_file(path) if path.is_file() else ():
                if _key(message.text) not in seen:
                    seen.add(_key(message.text))
                    found.setdefault(title, []).append(message)
    return found


def complete(message: Message, known: Dict[str, Dict[str, str]]) -> Message:
    more = known.get(_key(message.text), {})
    return message._replace(cause=more.get("cause", ""), cure=more.get("cure", message.cure))


def for_readers(text: str) -> str:
    """A message without the names of the code."""

    def word(found: re.Match[str]) -> str:
        name = found[0][1:-1]
        if found[0] in CONSTANTS:
            return CONSTANTS[found[0]]
        return f"<{WORDS[name] or name}>" if name in WORDS else UNKNOWN

    return re.sub(r"<[^<>]*>", word, text)


def lacking() -> List[str]:
    """Messages without a cause or a cure, and notes on messages that are no more."""
    known = notes()
    found = [complete(message, known) for part in rooms().values() for message in part]
    lines = [f'"{message.text}" has no cure' for message in found if not message.cure]
    lines += [
        f'"{text}" has a placeholder without a word for readers: WORDS or CONSTANTS in docs/pages/messages.py'
        for message in found
        for text in (message.text, message.cure)
        if UNKNOWN in for_readers(text)
    ]
    gone = known.keys() - {_key(message.text) for message in found}
    return lines + [f'"{text}" is said nowhere any more' for text in sorted(gone)]


def _rst(text: str) -> str:
    """A sentence of docs/messages.yml or of the code: double backticks stay as they are."""
    text = (
        text.replace(f"?{OR}", "? Or ")
        .replace(OR, "; or ")
        .replace("*", r"\*")
        .replace("|", r"\|")
        .replace("_ ", r"\_ ")
    )
    return f"{text[0].upper()}{text[1:]}" + ("" if text[-1] in ".!?:" else ".")


def page() -> str:
    known = notes()
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.troubleshooting:", "",
        "Troubleshooting", "===============", "",
        ".. contents::", "   :local:", "   :depth: 1", "",
        *SYMPTOMS.read_text(encoding="utf-8").splitlines(), "",
        "Messages", "--------", "",
        "Search this page for the words of the message that do not depend on your host; what does is shown as ``<name>``. An **error** names",
        "the option and nothing was touched. A **failure** comes from the host; the run was rolled back unless the message says otherwise. A",
        "**warning** lets the run go on.", "",
    ]  # fmt: skip
    for title, messages in rooms().items():
        lines += [title, "~" * len(title), ""]
        for message in (complete(message, known) for message in messages):
            said = for_readers(message.text).replace("`", "'")
            cause = f"{_rst(message.cause)} " if message.cause else ""
            lines += [
                f"``{said}``",
                f"  *{message.kind.capitalize()}.* {cause}**Fix:** {_rst(for_readers(message.cure))}",
                "",
            ]
    return "\n".join(lines)
