# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own engine below a root of its own: what is written, in which order, and that it runs alone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.module_utils import _service
from ansible_collections.netops.underlay.plugins.module_utils._engine.version import VERSION
from ansible_collections.netops.underlay.plugins.module_utils._service import Host, Wanted

CHECKOUT = Path(__file__).absolute().parents[2]
WANTED = Wanted(sys.executable)
CURRENT = "usr/local/lib/netops-underlay/current"


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A root without systemd, in which the link ``current`` is looked for too."""
    host = Host(str(tmp_path))
    _service.carry_out(host, _service.survey(host, WANTED), WANTED)
    return host


def test_a_second_time_there_is_nothing_to_do(host: Host) -> None:
    assert _service.survey(host, WANTED) == []
    os.chmod(host.path("usr/local/sbin/underlay"), 0o644)
    assert [step.path for step in _service.survey(host, WANTED)] == ["usr/local/sbin/underlay"]


def test_the_copy_runs_alone(host: Host, tmp_path: Path) -> None:
    script = f"import sys; sys.path.insert(0, {host.path(CURRENT)!r}); from _engine.cli import main; main(['--help'])"
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True, env={"COLUMNS": "80"})
    assert "exit status:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    launcher = Path(host.path("usr/local/sbin/underlay")).read_text(encoding="utf-8")
    assert launcher.splitlines()[0] == f"#!{sys.executable} -I"


def test_the_version_is_that_of_the_collection() -> None:
    galaxy = yaml.safe_load((CHECKOUT / "galaxy.yml").read_text(encoding="utf-8"))
    assert galaxy["version"] == VERSION


def test_a_newer_version_takes_the_place_of_the_old_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    old = host.target(CURRENT)
    files = {**_service.engine(), "more.py": "# more\n"}
    monkeypatch.setattr(_service, "engine", lambda: files)
    steps = _service.survey(host, WANTED)
    # The link turns to it when all of it is there: who is killed before that leaves the old one whole.
    assert [step.kind for step in steps].index("link") > max(
        position for position, step in enumerate(steps) if "_engine" in step.path or step.path.endswith("schema")
    )
    _service.carry_out(host, steps, WANTED)
    assert host.target(CURRENT) not in (None, old)
    assert sorted(os.listdir(host.path("usr/local/lib/netops-underlay"))) == sorted(["current", str(old), str(host.target(CURRENT))])
    files["more.py"] = "# still more\n"
    _service.carry_out(host, _service.survey(host, WANTED), WANTED)
    assert len(os.listdir(host.path("usr/local/lib/netops-underlay"))) == 3, "the last but one is forgotten"


def test_healing_on_and_off(host: Host) -> None:
    unit = "etc/systemd/system/netops-underlay.service"
    assert "watch --sandboxed\n" in str(host.read(unit))
    off = WANTED._replace(heal=False)
    _service.carry_out(host, _service.survey(host, off), off)
    assert "watch --sandboxed --no-heal\nRemainAfterExit=yes\n" in str(host.read(unit))


def test_absent_leaves_nothing(host: Host, tmp_path: Path) -> None:
    gone = WANTED._replace(present=False)
    _service.carry_out(host, _service.survey(host, gone), gone)
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
    assert _service.survey(host, gone) == []


def test_what_stands_in_the_way_is_replaced_not_followed(host: Host, tmp_path: Path) -> None:
    """A link that somebody put where a file of ours goes does not make us write elsewhere."""
    target = tmp_path / "precious"
    target.write_text("mine\n", encoding="utf-8")
    unit = Path(host.path("etc/systemd/system/netops-underlay.service"))
    unit.unlink()
    unit.symlink_to(target)
    _service.carry_out(host, _service.survey(host, WANTED), WANTED)
    assert target.read_text(encoding="utf-8") == "mine\n"
    assert not unit.is_symlink()
