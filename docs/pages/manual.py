# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands of ``underlay`` and their options, from its own parser."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
from module_utils._engine.service import cli

#: Commands that the guard and the service call; people never need them.
INTERNAL = frozenset(("confirm", "expire", "watch"))


class Argument(NamedTuple):
    """An option or a positional argument, as a person types it."""

    words: str  # such as "--state-dir DIR", "NAME" or "[N]"
    text: str


class Command(NamedTuple):
    name: str
    text: str
    arguments: List[Argument]

    @property
    def usage(self) -> str:
        shown = [it.words if it.words[0] != "-" else f"[{it.words}]" for it in self.arguments]
        return " ".join([self.name, *shown])


def options(parser: argparse.ArgumentParser) -> List[Argument]:
    """What a parser takes but its subcommands, in its order."""
    found = []
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) or action.help == argparse.SUPPRESS:
            continue
        value = str(action.metavar or action.dest.upper())
        words = ", ".join(action.option_strings)
        if words:
            words += f" {value}" if action.nargs != 0 else ""
        else:
            words = {"?": f"[{value}]", "*": f"[{value}...]"}.get(str(action.nargs), value)
        found.append(Argument(words, (action.help or "") % {**vars(action), "prog": "underlay"}))
    return found


def commands() -> List[Command]:
    """Every command that is for people, without the options that all commands take."""
    common = {it.words for it in options(cli._parser())}
    for action in cli._parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            texts: Dict[str, str] = {str(it.dest): it.help or "" for it in action._choices_actions}
            return [
                Command(name, texts[name], [own for own in options(it) if own.words not in common])
                for name, it in action.choices.items()
                if name not in INTERNAL
            ]
    return []
