# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every message that a user can meet, found in the code, with its cause and its cure.

A message is a string that is given to one of the words of :data:`SAYS`. What it tells of the moment is shown as ``<name>``.
The cause is the rule that the function stands for, in its docstring; the cure stands beside the message, or behind a semicolon
in it. docs/messages.yml has both where the code has not.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional

import yaml

from . import HEAD

CHECKOUT = Path(__file__).resolve().parents[2]
NOTES = CHECKOUT / "docs" / "messages.yml"

#: What says something to a user -> the positions of the message and of the cure among its arguments.
SAYS = {
    "Problem": (1, 2), "refuse": (1, 2), "Invalid": (0, 1), "AddressError": (0, 1), "fault": (1, 2),
    **dict.fromkeys(("RegistryError", "Busy", "NamespaceError", "Missing", "Gone", "KernelError", "Undone", "Stuck", "GuardError",
                     "Unwritable", "MeshError", "Failed", "AnsibleActionFail", "AnsibleParserError", "AnsibleLookupError",
                     "AnsibleFilterError"), (0, None)),
    "Refused": (2, None),
}  # fmt: skip
#: Lists whose new items are shown to the user.
LISTS = ("warnings", "notes")

#: The rooms of the code that talk to users, in the order of the page.
ROOMS = {
    "Options": ["fields", "model"],
    "Networks, endpoints and routes beside each other": ["rules", "target", "derive", "addressing", "ipam", "plan"],
    "The kernel": ["refused", "apply", "links", "space", "observe", "transact"],
    "Namespaces and containers": ["namespaces", "containers", "hosts"],
    "The registry": ["registry", "statedir", "converge", "undo", "holds", "installed"],
    "The guard": ["guard", "probes"],
}


class Message(NamedTuple):
    text: str
    cure: str
    cause: str
    kind: str  # refusal, warning or failure


def _placeholder(node: ast.expr) -> str:
    """What an expression stands for, as a reader may call it."""
    names = [part.attr if isinstance(part, ast.Attribute) else part.id for part in ast.walk(node) if isinstance(part, (ast.Attribute, ast.Name))]
    constants = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant) and isinstance(part.value, str) and part.value.isidentifier()]
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
            str(part.value) if isinstance(part, ast.Constant) else known.get(getattr(part.value, "id", ""), "") or _placeholder(part.value)  # type: ignore[attr-defined]
            for part in node.values
        )
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = _text(node.left, known), _text(node.right, known)
        if left is None and right is None:
            return None
        return (left if left is not None else _placeholder(node.left)) + (right if right is not None else _placeholder(node.right))
    if isinstance(node, ast.IfExp):
        left, right = _text(node.body, known), _text(node.orelse, known)
        return f"{left or '...'} | {right or '...'}" if left or right else None
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
                known[name] = f"{known[name]} | {text}" if name in known and text not in known[name] else known.get(name, text)
    return known


def _said(call: ast.Call) -> Optional[str]:
    function = call.func
    if isinstance(function, ast.Attribute) and function.attr in ("append", "extend"):
        owner = function.value
        return "warning" if getattr(owner, "attr", getattr(owner, "id", "")) in LISTS else None
    name = getattr(function, "attr", getattr(function, "id", ""))
    return name if name in SAYS else None


def _in_file(path: Path) -> Iterator[Message]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    about = (ast.get_docstring(tree) or " ").splitlines()[0]
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        known = _local_strings(function)
        cause = " ".join((ast.get_docstring(function) or about).split("\n\n")[0].split())
        inner = [node for node in ast.walk(function) if isinstance(node, ast.FunctionDef) and node is not function]
        mine = [node for node in ast.walk(function) if not any(node in ast.walk(other) for other in inner)]
        for node in mine:
            if isinstance(node, ast.Call) and (word := _said(node)):
                at, cure_at = (0, None) if word == "warning" else SAYS[word]
                text = _text(node.args[at], known) if len(node.args) > at else None
                cure = _text(node.args[cure_at], known) if cure_at is not None and len(node.args) > cure_at else None
                kind = "warning" if word == "warning" else "refusal" if cure_at else "failure"
                yield from _split(text, cure, cause, kind)
            elif isinstance(node, ast.Return) and path.stem == "refused" and function.name.startswith("_why"):
                for part in ast.walk(node):
                    if isinstance(part, (ast.JoinedStr, ast.Constant)) and " " in (_text(part, known) or ""):
                        yield from _split(_text(part, known), None, cause, "failure")
                        break


def _split(text: Optional[str], cure: Optional[str], cause: str, kind: str) -> Iterator[Message]:
    """One message for each form that a string has; a cure may stand behind its semicolon."""
    if not text or not re.search(r"[a-z]{2,} ", text):
        return
    for form in text.split(" | "):
        form = form.partition(":\n")[0] + (":" if ":\n" in form else "")
        what, _semicolon, rest = form.partition("; ")
        if not re.search(r"[a-z]{2,}", re.sub(r"<[^>]*>", "", what)):
            continue
        yield Message(what.strip(), cure or rest, cause, kind)


def _key(text: str) -> str:
    """A message without the words for what changes: a variable of the code may get another name."""
    return re.sub(r"<[^>]*>", "<>", text)


def notes() -> Dict[str, Dict[str, str]]:
    found: Dict[str, Dict[str, str]] = yaml.safe_load(NOTES.read_text(encoding="utf-8"))
    return {_key(text): row for text, row in found.items()}


def rooms() -> Dict[str, List[Message]]:
    """Every message, by the part of the page that it belongs to."""
    engine = CHECKOUT / "plugins" / "module_utils" / "_engine"
    placed = {name for names in ROOMS.values() for name in names}
    files = {title: [engine / f"{name}.py" for name in names] for title, names in ROOMS.items()}
    files["Everything else of the engine"] = [path for path in sorted(engine.glob("*.py")) if path.stem not in placed]
    plugins = CHECKOUT / "plugins"
    files["The map, the ledger and the filters, on the controller"] = [
        path for folder in ("plugin_utils", "inventory", "lookup", "filter", "action") for path in sorted((plugins / folder).rglob("*.py"))
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
    return message._replace(cause=more.get("cause", message.cause), cure=more.get("cure", message.cure))


def lacking() -> List[str]:
    """Messages without a cause or a cure, and notes on messages that are no more."""
    known = notes()
    found = [complete(message, known) for part in rooms().values() for message in part]
    lines = [f'"{message.text}" has no {word}' for message in found for word in ("cause", "cure") if not getattr(message, word)]
    gone = known.keys() - {_key(message.text) for message in found}
    return lines + [f'"{text}" is said nowhere any more' for text in sorted(gone)]


def _rst(text: str) -> str:
    """Text of a docstring: double backticks stay as they are."""
    return re.sub(r":\w+:`~?([^`]*)`", r"``\1``", text).replace("*", r"\*").replace("|", r"\|").replace("_ ", r"\_ ")


def page() -> str:
    known = notes()
    lines = [
        *HEAD,
        ".. _ansible_collections.netops.underlay.docsite.troubleshooting:", "",
        "Troubleshooting by message", "==========================", "",
        "Search this page for the words of the message that do not depend on your host. What does is shown as ``<name>``.", "",
        "A **refusal** names the option (``networks[3].subnets[0].gateway: ...``) and nothing was touched. A **failure** comes from the",
        "host; everything of the run was undone unless the message says otherwise. A **warning** lets the run go on.", "",
        ".. contents::", "   :local:", "   :depth: 1", "",
    ]  # fmt: skip
    for title, messages in rooms().items():
        lines += [title, "-" * len(title), ""]
        for message in (complete(message, known) for message in messages):
            said = message.text.replace("`", "'")
            lines += [f"``{said}``", f"  *{message.kind}.* {_rst(message.cause)}", "", f"  **Cure:** {_rst(message.cure)}", ""]
    return "\n".join(lines)
