# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The manual page of ``underlay`` and its completion in bash, both made from the command's own parser."""

from __future__ import annotations

import argparse
from typing import Iterable, List, NamedTuple, Tuple

from ._engine.core.version import VERSION
from ._engine.run.transact import DEFAULT_STATE_DIR
from ._engine.service import cli
from ._engine.store import installed

_HEAD = "Written by netops.underlay, module vlan_service."


class Argument(NamedTuple):
    """An option or a positional argument, as a person types it."""

    words: str  # such as "--state-dir DIR", "NAME" or "[N]"
    text: str
    names: Tuple[str, ...]  # of an option
    takes: str  # the word for its value; empty where an option has none
    choices: Tuple[str, ...]
    repeated: bool


class Command(NamedTuple):
    name: str
    text: str
    arguments: List[Argument]  # without the options that all commands take

    @property
    def usage(self) -> str:
        shown = [it.words if not it.names else f"[{it.words}]" for it in self.arguments]
        return " ".join([self.name, *shown])


def options() -> List[Argument]:
    """The options that stand before a command; all but ``--version`` may as well stand after it."""
    return _arguments(cli.parser())


def commands() -> List[Command]:
    """Every command that the help lists, in its order."""
    found = []
    for action in cli.parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for it in action._choices_actions:
                found.append(Command(str(it.dest), it.help or "", _arguments(action.choices[it.dest])))
    common = {it.words for it in options()}.intersection(*({it.words for it in each.arguments} for each in found))
    return [each._replace(arguments=[it for it in each.arguments if it.words not in common]) for each in found]


def statuses() -> List[Tuple[str, str]]:
    """Each exit status, and what it means."""
    rows: List[List[str]] = []
    for line in cli.EPILOG.splitlines()[1:]:
        number, _gap, text = line.strip().partition("  ")
        if number.isdigit():
            rows.append([number, text.strip()])
        else:
            rows[-1][1] += " " + line.strip()
    return [(number, sentence(text)) for number, text in rows]


def sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _arguments(parser: argparse.ArgumentParser) -> List[Argument]:
    """What a parser takes but its subcommands, in its order."""
    found = []
    for action in parser._actions:
        if isinstance(action, (argparse._HelpAction, argparse._SubParsersAction)) or action.help == argparse.SUPPRESS:
            continue
        value = str(action.metavar or action.dest.upper()) if action.nargs != 0 else ""
        names = tuple(action.option_strings)
        words = " ".join(filter(None, [", ".join(names), value]))
        if not names:
            words = {"?": f"[{value}]", "*": f"[{value}...]"}.get(str(action.nargs), value)
        text = (action.help or "") % {**vars(action), "prog": parser.prog}
        choices = tuple(map(str, action.choices or ()))
        found.append(Argument(words, text, names, value, choices, action.nargs == "*"))
    return found


# --- the manual page -----------------------------------------------------------------------------


def man() -> str:
    """The page ``underlay(8)``, in the macros of man(7)."""
    about = cli.parser().description or ""
    lines = [
        rf".\" {_HEAD}",
        f'.TH UNDERLAY 8 "" "netops.underlay {VERSION}" "System Administration"',
        ".SH NAME", rf"underlay \- {_roff(about[:1].lower() + about[1:].rstrip('.'))}",
        ".SH SYNOPSIS", ".B underlay", r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
        ".SH DESCRIPTION", f"{_roff(about)} It runs as root.",
        ".SH COMMANDS", *_entries((it.usage, _about(it)) for it in commands()),
        ".SH OPTIONS", "All but \\-\\-version may as well stand after the command.", *_entries((it.words, [it.text]) for it in options()),
        ".SH EXIT STATUS", *_entries((number, [text]) for number, text in statuses()),
        ".SH FILES", *_entries(((DEFAULT_STATE_DIR, ["The registry."]), (installed.ROOT, ["The code of this command and of the service."]))),
        ".SH SEE ALSO", ".BR ip\\-link (8),", ".BR journalctl (1)",
    ]  # fmt: skip
    return "\n".join([*lines, ""])


def _about(command: Command) -> List[str]:
    return [command.text, *(f"{it.words}: {it.text}" for it in command.arguments if it.text)]


def _entries(rows: Iterable[Tuple[str, List[str]]]) -> List[str]:
    lines = []
    for words, texts in rows:
        lines += [
            ".TP",
            rf"\fB{_roff(words)}\fR",
            *(_roff(text if text.endswith(".") else sentence(text)) for text in texts),
        ]
    return lines


def _roff(text: str) -> str:
    """Text as it stands in the source: no macro, and minus signs that can be copied."""
    text = text.replace("\\", r"\e").replace("-", r"\-")
    return rf"\&{text}" if text[:1] in (".", "'") else text


# --- completion ----------------------------------------------------------------------------------

_BASH = """\
# bash completion for underlay. {head}
_underlay() {{
    local -a words=()
    local at glue= verb= given=0 value= word one offer= cut=
    for ((at = 1; at <= COMP_CWORD; at++)); do # bash takes "network:web" for three words
        if [[ ${{#words[@]}} -gt 0 && ( -n $glue || ${{COMP_WORDS[at]}} == : ) ]]; then
            words[${{#words[@]}}-1]+=${{COMP_WORDS[at]}}
        else
            words+=("${{COMP_WORDS[at]}}")
        fi
        glue=
        [[ ${{COMP_WORDS[at]}} == : ]] && glue=1
    done
    word=${{words[${{#words[@]}}-1]}}
    for one in "${{words[@]:0:${{#words[@]}}-1}}"; do
        if [[ -n $value ]]; then
            value=
        elif [[ $one == -* ]]; then
            case $one in
                {valued}) value=$one ;;
            esac
        elif [[ -z $verb ]]; then
            verb=$one
        else
            ((given += 1))
        fi
    done
    COMPREPLY=()
    if [[ -n $value ]]; then
        case $value in
            {directories}) while read -r one; do COMPREPLY+=("$one"); done < <(compgen -d -- "$word") ;;
        esac
        return
    fi
    if [[ $word == -* ]]; then
        offer="{options}"
        case $verb in
            "") offer+=" --version" ;;
{own}
        esac
    else
        case $verb/$given in
            /0) offer="{verbs}" ;;
{positional}
        esac
    fi
    [[ $word == *:* ]] && cut=${{word%"${{word##*:}}"}}
    while read -r one; do
        [[ -n $one && $one == "$word"* ]] && COMPREPLY+=("${{one#"$cut"}}")
    done <<< "${{offer// /$'\\n'}}"
}}
complete -F _underlay underlay
"""


def bash() -> str:
    """A script that bash sources: the words come from the parser, the names and numbers from ``underlay complete``."""
    found, common = commands(), options()
    everywhere = [*common, *(it for command in found for it in command.arguments)]
    own, positional = [], []
    for command in found:
        names = " ".join(name for it in command.arguments for name in it.names)
        if names:
            own.append(f'            {command.name}) offer+=" {names}" ;;')
        for position, it in enumerate(it for it in command.arguments if not it.names):
            offer = f'"{" ".join(it.choices)}"' if it.choices else f"$(underlay complete {command.name} 2> /dev/null)"
            if it.choices or (position == 0 and command.name in cli.CANDIDATES):
                positional.append(f"            {command.name}/{'*' if it.repeated else position}) offer={offer} ;;")
    return _BASH.format(
        head=_HEAD,
        valued=" | ".join(name for it in everywhere if it.takes for name in it.names),
        directories=" | ".join(name for it in everywhere if it.takes == "DIR" for name in it.names),
        options=" ".join(["--help", *(name for it in common for name in it.names if name != "--version")]),
        verbs=" ".join(command.name for command in found),
        own="\n".join(own),
        positional="\n".join(positional),
    )
