# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation says what the code does: pages written from the code, examples that exist, a map that gives that ledger."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
import yaml

from tests.support.checkout import CHECKOUT
from tests.support.example_hosts import examples

DOCS = CHECKOUT / "docs"
GUIDES = sorted((DOCS / "docsite" / "rst").glob("*.rst"))

sys.path.insert(0, str(DOCS))
from pages import house, messages


def test_the_pages_that_follow_from_the_code_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, DOCS / "generate", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_message_is_found() -> None:
    """Those that tests of the engine know are on the page, each with a cure."""
    texts = {message.text: message for part in messages.rooms().values() for message in part}
    assert len(texts) > 200
    for known in ("lo is the loopback", "unknown option"):
        assert known in texts
    page = (DOCS / "docsite" / "rst" / "troubleshooting.rst").read_text()
    assert page.count("**Fix:**") == len(texts)
    assert "**Fix:** \n" not in page


def test_troubleshooting_is_written_for_readers() -> None:
    """No cause is a docstring, and no variable of the code is shown: only words that a reader knows."""
    known = messages.notes()
    found = [messages.complete(message, known) for part in messages.rooms().values() for message in part]
    causes = {str(row["cause"]) for row in known.values() if "cause" in row}
    assert {message.cause for message in found if message.cause} <= causes
    words = {word or name for name, word in messages.WORDS.items()} | {"..."}
    for message in found:
        shown = set(re.findall(r"<([^<>]*)>", messages.for_readers(f"{message.text} {message.cure}")))
        assert shown <= words, message
    page = (DOCS / "docsite" / "rst" / "troubleshooting.rst").read_text()
    assert not re.search(r"<(shown|join|key|text|len|[A-Z_]+)>|Raises \w+Error|:func:|:data:", page)


def test_every_kernel_fact_names_a_test_that_exists_and_the_code_cites_what_there_is() -> None:
    page = (DOCS / "docsite" / "rst" / "kernel_facts.rst").read_text()
    numbers = set(re.findall(r"^   \* - (S?\d+(?:\.\d+)?)$", page, re.MULTILINE))
    named = re.findall(r"``(?:(tests/\S+\.py)::)?(test_\w+)``", page)
    assert len(named) == len(numbers) > 30
    for path, name in named:
        text = (CHECKOUT / (path or "tests/kernel/test_kernel_facts.py")).read_text()
        assert f"def {name}(" in text, f"{path}::{name}"
    sections = numbers | {number.partition(".")[0] for number in numbers}
    for source in (CHECKOUT / "plugins").rglob("*.py"):
        for cited in re.findall(r"kernel facts, (S?\d+)", source.read_text()):
            assert cited in sections, f"{source}: kernel facts, {cited}"


def test_a_message_without_a_cure_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    without = {key: row for key, row in messages.notes().items() if "CAP_NET_ADMIN" not in key}
    monkeypatch.setattr(messages, "notes", lambda: {**without, "a message of yesterday": {"cure": "none"}})
    lacking = messages.lacking()
    assert any("CAP_NET_ADMIN" in line and "has no cure" in line for line in lacking)
    assert any("a message of yesterday" in line for line in lacking)


def test_the_house_shows_every_file_of_the_engine() -> None:
    drawn = "\n".join(house.drawing(house.packages()))
    for path in house.ENGINE.glob("*/*.py"):
        assert path.stem == "__init__" or f"</title>{path.stem}</text>" in drawn, path


def test_guides_include_their_examples_and_write_none() -> None:
    """A task in a guide is a file that the tests run; every file is in a guide."""
    included = set()
    for guide in GUIDES:
        text = guide.read_text()
        included |= set(re.findall(r"literalinclude:: /examples/(\S+)", text))
        blocks = re.findall(r"code-block:: yaml\n(.*?)\n(?=\S|\Z)", text, re.DOTALL)
        assert not [
            block for block in blocks if re.search(r"netops\.underlay\.vlan_|netops\.underlay\.ipvlan_", block)
        ], guide.name
    files = {str(path.relative_to(DOCS / "examples")) for path in (DOCS / "examples").rglob("*") if path.is_file()}
    files |= {f"prometheus/{path.name}" for path in (CHECKOUT / "examples" / "prometheus").iterdir()}
    assert included <= files
    assert files - included == {"inventory.yml"}


def test_every_section_of_an_example_that_a_guide_names_exists() -> None:
    """Sphinx would include the whole file, or up to its end, without a word."""
    for guide in GUIDES:
        for name, options in re.findall(r"literalinclude:: /examples/(\S+\.yml)\n((?: +:.*\n)*)", guide.read_text()):
            text = next(
                path for path in (DOCS / "examples" / name, CHECKOUT / "examples" / name) if path.is_file()
            ).read_text()
            for marker in re.findall(r":start-(?:after|at): (.*)", options):
                assert sum(marker == line.strip() for line in text.splitlines()) == 1, f"{guide.name}: {marker}"


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the map and the inventory of the guide, without a ledger."""
    place = tmp_path_factory.mktemp("fleet")
    for name in ("map", "fleet"):
        shutil.copytree(DOCS / "examples" / name, place / name)
    (place / "map" / "ledger.yml").unlink()
    return place


def ansible(fleet: Path, *arguments: str) -> None:
    environment: Dict[str, str] = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(CHECKOUT / ".cache" / "collections"),
        "ANSIBLE_NOCOLOR": "1",
    }
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", str(fleet / "fleet"), *arguments]
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


def _entries(path: Path) -> object:
    return yaml.safe_load(path.read_text())


def test_the_map_of_the_guide_gives_the_ledger_of_the_guide(fleet: Path) -> None:
    ansible(fleet, "netops.underlay.allocate")
    assert _entries(fleet / "map" / "ledger.yml") == _entries(DOCS / "examples" / "map" / "ledger.yml")


def test_the_examples_of_the_ledger(fleet: Path) -> None:
    """On a fleet that had a host node7 once."""
    ledger = fleet / "map" / "ledger.yml"
    text = (DOCS / "examples" / "map" / "ledger.yml").read_text()
    ledger.write_text(text.replace("  web:\n", "  web:\n    172.16.80.128/26: node7\n", 1))
    playbook = fleet / "examples.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "all", "gather_facts": False, "tasks": examples("map_ledger")}]))
    ansible(fleet, str(playbook))
    assert _entries(ledger) == yaml.safe_load(text)


def test_every_guide_is_in_the_contents() -> None:
    sections = yaml.safe_load((DOCS / "docsite" / "extra-docs.yml").read_text())["sections"]
    assert sorted(entry for section in sections for entry in section["toctree"]) == [guide.stem for guide in GUIDES]


def test_no_page_shows_the_themes_error_about_a_table_of_contents() -> None:
    pages = sorted((CHECKOUT / ".cache" / "docs" / "html").rglob("*.html"))
    if not pages:
        pytest.skip("make docs first, as make test-docs does")
    marked = re.compile(r'<(nav|div|aside)[^>]*class="[^"]*\bcontents\b')
    assert [page.name for page in pages if marked.search(page.read_text(encoding="utf-8"))] == []
