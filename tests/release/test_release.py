# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users get: the archive, its licences and its changelog."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Dict, List

import pytest
import yaml

from tests.support.checkout import CHECKOUT

BIN = Path(sys.executable).parent
TOOLS = CHECKOUT / ".cache" / "venv-docs" / "bin"  # docs/build makes it
GALAXY = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text())


def run(*words: object, **variables: str) -> str:
    done = subprocess.run(
        [str(word) for word in words],
        cwd=CHECKOUT,
        env={**os.environ, **variables},
        text=True,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked() -> List[str]:
    return run("git", "ls-files", "--cached").splitlines()


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the files that git has, as from a fresh clone."""
    clone = tmp_path_factory.mktemp("clone")
    for name in tracked():
        if (CHECKOUT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, clone / name)
    run(BIN / "ansible-galaxy", "collection", "build", "--output-path", clone, clone)
    (found,) = clone.glob("*.tar.gz")
    return found


@pytest.fixture(scope="module")
def installed(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("empty")
    run(
        BIN / "ansible-galaxy",
        "collection",
        "install",
        "--offline",
        "-p",
        place,
        archive,
        ANSIBLE_HOME=str(place / "home"),
    )
    return place


def test_the_archive_is_named_by_the_version(archive: Path) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", GALAXY["version"])
    assert archive.name == f"netops-underlay-{GALAXY['version']}.tar.gz"


def test_the_archive_has_what_users_need_and_nothing_else(archive: Path) -> None:
    with tarfile.open(archive) as tar:
        names = tar.getnames()
    tops = {name.partition("/")[0] for name in names if not name.endswith("/")} - {"", "."}
    assert not tops & {"tests", "molecule", ".cache", ".github", ".git", ".gitignore", "Makefile"}
    assert not [name for name in names if "__pycache__" in name or name.endswith((".pyc", ".orig", ".rej"))]
    for needed in ("README.md", "CHANGELOG.rst", "LICENSES/GPL-3.0-or-later.txt", "meta/runtime.yml", "plugins/module_utils/_engine/declare/model.py",
                   "changelogs/changelog.yaml", "roles/prepare/tasks/main.yml", "playbooks/site.yml"):  # fmt: skip
        assert needed in names


def test_everything_is_found_by_its_name_where_it_is_installed(installed: Path) -> None:
    """Modules and plugins by ansible-doc, from the archive alone; an underscore stands for what is private."""
    where: Dict[str, str] = {
        "ANSIBLE_COLLECTIONS_PATH": str(installed),
        "ANSIBLE_COLLECTIONS_SCAN_SYS_PATH": "false",
        "ANSIBLE_HOME": str(installed / "home"),
    }
    for kind, folder in (("module", "modules"), ("inventory", "inventory"), ("lookup", "lookup"), ("filter", "filter")):
        listed = run(BIN / "ansible-doc", "-t", kind, "-l", "netops.underlay", **where)
        for path in (CHECKOUT / "plugins" / folder).glob("[a-z]*.py"):
            if str(path.relative_to(CHECKOUT)) in tracked():
                assert f"netops.underlay.{path.stem} " in listed
    text = run(BIN / "ansible-doc", "-t", "module", "netops.underlay.vlan_network", **where)
    assert str(installed) in text
    assert "EXAMPLES:" in text
    roles = run(BIN / "ansible-doc", "-t", "role", "-l", "netops.underlay", **where)
    for role in (CHECKOUT / "roles").iterdir():
        if f"roles/{role.name}/meta/argument_specs.yml" in tracked():
            assert f"netops.underlay.{role.name}" in roles


def test_galaxy_takes_it(archive: Path, tmp_path: Path) -> None:
    """What Ansible Galaxy itself looks at; its ansible-lint is make's own, and finds the archive's playbooks only where they are installed."""
    config = tmp_path / "importer.cfg"
    config.write_text(
        "[galaxy-importer]\nRUN_ANSIBLE_LINT = False\nRUN_ANSIBLE_TEST = False\nCHECK_REQUIRED_TAGS = True\nCHECK_CHANGELOG = True\n"
    )
    where = {"GALAXY_IMPORTER_CONFIG": str(config), "PATH": f"{TOOLS}:{os.environ['PATH']}"}
    said = run("env", "-C", tmp_path, TOOLS / "python", "-m", "galaxy_importer.main", archive, **where)
    assert "Importer processing completed successfully" in said
    assert "WARNING" not in said and "ERROR" not in said, said


def test_every_file_has_its_licence(tmp_path: Path) -> None:
    """REUSE, on the files that git has."""
    for name in tracked():
        if (CHECKOUT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, tmp_path / name)
    run(TOOLS / "reuse", "--root", tmp_path, "lint", "--quiet")


def test_the_changelog_is_made_of_its_fragments() -> None:
    run(
        TOOLS / "antsibull-changelog",
        "lint",
        PATH=f"{TOOLS}:{os.environ['PATH']}",
        ANSIBLE_COLLECTIONS_PATH=str(CHECKOUT / ".cache" / "collections"),
    )
    releases = yaml.safe_load((CHECKOUT / "changelogs" / "changelog.yaml").read_text())["releases"]
    assert GALAXY["version"] in releases
    assert f"v{GALAXY['version']}\n" in (CHECKOUT / "CHANGELOG.rst").read_text()


def test_ci_runs_what_make_has() -> None:
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "ci.yml").read_text())
    targets = workflow["jobs"]["make"]["strategy"]["matrix"]["target"]
    suites = re.search(r"^TESTS := ((?:.*\\\n)*.*)", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
    assert suites
    wanted = set(suites[1].replace("\\", " ").split()) - {"test-lint", "test-sanity"} | {
        "lint"
    }  # those two are that one
    assert sorted(targets) == sorted(wanted)


def test_the_addresses_are_the_projects_own_or_placeholders() -> None:
    """No organisation of somebody else: until the project has a home, only what is reserved for examples."""
    for name in ("galaxy.yml", "README.md", "docs/docsite/links.yml", ".github/ISSUE_TEMPLATE/config.yml"):
        hosts = set(re.findall(r"https?://([\w.-]+)", (CHECKOUT / name).read_text()))
        assert hosts <= {"example.org"}, name


def test_the_readme_holds_for_those_who_have_the_archive_alone(archive: Path) -> None:
    """Every link in it leads into the archive, and make is called only after a clone of the repository."""
    readme = (CHECKOUT / "README.md").read_text()
    with tarfile.open(archive) as tar:
        names = set(tar.getnames())
    assert [
        link for link in re.findall(r"\]\(([^)]+)\)", readme) if not link.startswith("https://") and link not in names
    ] == []
    assert readme.index("git clone") < readme.index("    make ")
    targets = set(re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert {target for target in re.findall(r"\bmake ([a-z-]+)\b", readme) if target not in targets} <= {"and"}


def test_the_map_of_the_readme_is_that_of_the_guide() -> None:
    assert (CHECKOUT / "docs" / "examples" / "map" / "vlans.csv").read_text() in (CHECKOUT / "README.md").read_text()
