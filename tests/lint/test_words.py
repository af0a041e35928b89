# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The words that were dropped stay dropped: docs/docsite/rst/vocabulary.rst has the ones to use instead."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support.checkout import CHECKOUT

#: What people read, and the code that says it.
ROOTS = ("README.md", "CHANGELOG.rst", "CONTRIBUTING.md", "SECURITY.md", "changelogs", "docs", "examples", "molecule", "playbooks", "plugins", "roles",
         "tests")  # fmt: skip
SUFFIXES = (".css", ".html", ".j2", ".js", ".json", ".md", ".py", ".rst", ".txt", ".yaml", ".yml")
#: A pattern -> what to write. A blank matches any white space, also that of a comment or a docstring that goes on.
DROPPED = {
    r"who(m)?ever": "anyone who, or name the program",
    r"nobody('?s)?": "no one is a person: say which host, program or run does not",
    r"shall": "must, or the imperative",
    r"other(wise)? than (it|they) w(as|ere)": "has drifted, differs",
    r"otherwise than": "differently from",
    r"turn(s|ed|ing)?( \w+){0,3} round": "undo",
    r"fore(tell\w*|told)": "predict, plan, simulate",
    r"told": "said, reported, named; planned for what was foretold",
    r"ask(s|ed|ing)? the wire|wire (is|was|to be) asked": "probe, verify connectivity",
    r"whither": "where",
    r"h(a|u)ngs? on": "depends on, is attached to",
    r"mend(s|ed|ing)?": "repair, correct",
    r"bears? (our|the) mark|bears our": "has our mark",
    r"made anew": "recreated",
    r"farewell": "a clean shutdown",
    r"goes? round": "loop",
    r"no ((\w+ )?)any more": "no longer",
    r"on the fly": "as needed",
    # phrases
    r"what has to (be reached|answer) besides": "additional checks that must pass",
    r"of ipvlan alone": "ipvlan only",
    r"everything shall go": "remove everything",
    r"is everything there is": "covers every address",
    r"stands? in no re(cord|gistry)": "is in no registry",
    r"stays and is forgotten": "left in place, dropped from the registry",
    r"a reboot (then )?forgets": "will not survive a reboot",
    r"for a result has": "results are limited to",
    r"only what is called": "only objects with this name",
    r"what is otherwise": "differences",
    r"those who carry on": "contributors",
    r"for a wish": "as a request",
}
#: The page that names them, and this file.
THEIRS = ("docs/docsite/rst/vocabulary.rst", "tests/lint/test_words.py")
#: The user of that name, whom every system has.
USER = re.compile(r"sudo -u nobody\b")


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?<![\w.-]){text.replace(' ', chr(92) + 's+(?:[#*!]+ )?')}(?![\w-])", re.IGNORECASE)


def _files() -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", *ROOTS], cwd=CHECKOUT, check=True, stdout=subprocess.PIPE, text=True
    ).stdout
    return [name for name in listed.split("\0") if name.endswith(SUFFIXES) and name not in THEIRS]


def dropped(text: str) -> list[tuple[int, str, str]]:
    """Each dropped word of a text: its line, itself, and what to write."""
    return sorted(
        (text.count("\n", 0, hit.start()) + 1, " ".join(hit[0].split()), instead)
        for pattern, instead in DROPPED.items()
        for hit in _pattern(pattern).finditer(text)
    )


def test_dropped_words_are_found() -> None:
    text = "Whoever asks is told:\n    # what hangs\n    # on eth0 is otherwise than it was made. Nobody's."
    assert [(line, word) for line, word, _ in dropped(text)] == [
        (1, "Whoever"), (1, "told"), (2, "hangs # on"), (3, "Nobody's"), (3, "otherwise than"), (3, "otherwise than it was"),
    ]  # fmt: skip


@pytest.mark.parametrize("root", ROOTS)
def test_no_dropped_word_returns(root: str) -> None:
    found = [
        f"{name}:{line}: {word!r}: {instead}"
        for name in _files()
        if name.startswith(root)
        for line, word, instead in dropped(USER.sub("", (CHECKOUT / name).read_text(encoding="utf-8")))
    ]
    assert not found, "\n".join(found)
