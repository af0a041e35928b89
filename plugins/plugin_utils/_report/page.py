# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report as one HTML page that needs nothing else: no server, no other file, no way out.

The page's own policy allows only the scripts and styles in it, by digest: a value that came
through as markup in spite of all could neither run nor load anything.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_ASSETS = Path(__file__).parent / "assets"
#: In this order they are one script. The first is a library, see its head.
_SCRIPTS = (
    "d3-hierarchy.min.js",
    "dom.js",
    "data.js",
    "table.js",
    "tables.js",
    "topology.js",
    "overview.js",
    "main.js",
)

#: Characters that would end a script element, or that JavaScript and JSON read differently.
_UNSAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def page(doc: Mapping[str, Any]) -> str:
    style = _asset("page.css")
    script = '"use strict";\n(() => {\n' + "\n".join(_asset(name) for name in _SCRIPTS) + "})();\n"
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src {_digest(script)}",
            f"style-src {_digest(style)}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
            "trusted-types 'none'",
        )
    )
    parts = {
        "policy": policy,
        "title": html.escape(doc["title"]),
        "style": style,
        "data": embedded(doc),
        "script": script,
    }
    text = _asset("page.html")
    pieces = text.split("%%")  # text, name, text, name, ..., text: what is put in is never looked at again
    return "".join(parts[piece] if at % 2 else piece for at, piece in enumerate(pieces))


def embedded(doc: Mapping[str, Any]) -> str:
    """JSON that is safe inside a script element, whatever it contains."""
    text = json.dumps(doc, ensure_ascii=False, separators=(",", ":"))
    return text.translate(_UNSAFE).encode("utf-8", "replace").decode()


def _digest(text: str) -> str:
    return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"


def _asset(name: str) -> str:
    return (_ASSETS / name).read_text(encoding="utf-8")
