# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The host's own engine below a root of its own: what is written, in which order, and that it runs alone."""

from __future__ import annotations

import fnmatch
import os
import random
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Dict

import pytest
import yaml
from ansible_collections.netops.underlay.plugins.module_utils import _service, _service_files
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    LINK_GROUPS,
    PRIVATE_GROUPS,
)
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.version import VERSION
from ansible_collections.netops.underlay.plugins.module_utils._engine.store.registry import Registry
from ansible_collections.netops.underlay.plugins.module_utils._service import Host, Wanted

from tests.support.checkout import CHECKOUT
from tests.support.planning import declare, mapped
from tests.support.registry_runs import link, run
from tests.support.simulated_kernel import SimulatedKernel

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
    script = f"import sys; sys.path.insert(0, {host.path(CURRENT)!r}); from _engine.service.cli import main; main(['--help'])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True, env={"COLUMNS": "80"}
    )
    assert "exit status:" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    launcher = Path(host.path("usr/local/sbin/underlay")).read_text(encoding="utf-8")
    assert launcher.splitlines()[0] == f"#!{sys.executable} -I"


def test_udev_matches_our_groups_and_no_others() -> None:
    patterns = _service_files.UDEV_GROUPS.split("|")

    def matches(group: int) -> bool:
        return any(fnmatch.fnmatchcase(str(group), pattern) for pattern in patterns)

    draw = random.Random(8021)
    ours = [*LINK_GROUPS, *draw.sample(PRIVATE_GROUPS, 500), PRIVATE_GROUPS[0], PRIVATE_GROUPS[-1]]
    assert all(map(matches, ours))
    foreign = [
        0,
        1,
        802,
        8020,
        8023,
        80210,
        80211,
        802100,
        8021000,
        80210000,
        80211111,
        PRIVATE_GROUPS[0] - 1,
        PRIVATE_GROUPS[-1] + 1,
    ]
    foreign += [number for number in (draw.randrange(1 << 31) for _ in range(500)) if number not in PRIVATE_GROUPS]
    assert not any(map(matches, foreign))


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
    assert sorted(os.listdir(host.path("usr/local/lib/netops-underlay"))) == sorted(
        ["current", "directories", str(old), str(host.target(CURRENT))]
    )
    files["more.py"] = "# still more\n"
    _service.carry_out(host, _service.survey(host, WANTED), WANTED)
    assert len(os.listdir(host.path("usr/local/lib/netops-underlay"))) == 4, "the last but one is forgotten"


def test_healing_on_and_off(host: Host) -> None:
    unit = "etc/systemd/system/netops-underlay.service"
    assert "watch --sandboxed\n" in str(host.read(unit))
    off = WANTED._replace(heal=False)
    _service.carry_out(host, _service.survey(host, off), off)
    assert "watch --sandboxed --no-heal\nRemainAfterExit=yes\n" in str(host.read(unit))


@pytest.mark.parametrize(
    ("option", "recorded", "may"), [(None, False, False), (None, True, True), (True, False, True), (False, True, False)]
)
def test_the_service_may_make_the_nodes_of_taps_only_where_there_are_any(
    host: Host, option: bool | None, recorded: bool, may: bool
) -> None:
    if recorded:
        kernel = SimulatedKernel("eth0")
        network = {"name": "red", "driver": "macvlan", "parent": "eth0", "subnets": [{"subnet": "10.1.0.0/24"}]}
        vm = {"network": "red", "name": "vm", "netns": "vm", "kind": "tap"}
        tap = declare(kernel, mapped(networks=[network], endpoints=[vm]))
        os.makedirs(host.path("var/lib"))
        run(Registry(host.path(_service.DEFAULT_STATE_DIR)), *tap.changes)
    wanted = WANTED._replace(taps=option)
    _service.carry_out(host, _service.survey(host, wanted), wanted)
    unit = str(host.read("etc/systemd/system/netops-underlay.service"))
    assert ("CAP_MKNOD CAP_CHOWN" in unit, "DeviceAllow=char-* m" in unit, "PrivateDevices=yes" in unit) == (
        may,
        may,
        not may,
    )
    assert _service.survey(host, wanted) == []


def package(tmp_path: Path) -> str:
    """A package as the action plugin sends it."""
    with zipfile.ZipFile(tmp_path / "sent.zip", "w") as file:
        file.writestr("__init__.py", "")
        file.writestr("dhcp/client.py", "VERSION = 1\n")
    return str(tmp_path / "sent.zip")


def test_who_asks_for_leases_comes_with_pyroute2_and_goes_again(host: Host, tmp_path: Path) -> None:
    unit, enabled = (
        "etc/systemd/system/netops-underlay-dhcp.service",
        "etc/systemd/system/multi-user.target.wants/netops-underlay-dhcp.service",
    )
    assert host.read(unit) is None and host.target(enabled) is None
    without = host.target(CURRENT)
    wanted = WANTED._replace(dhcp=True, pyroute2="0.9.7")
    steps = _service.survey(host, wanted)
    assert _service.lacks_pyroute2(steps)
    kinds = [step.kind for step in steps]
    assert kinds.index("package") < kinds.index("link"), "who is killed before has the old engine whole"
    _service.carry_out(host, steps, wanted, package(tmp_path))
    assert host.read(f"{CURRENT}/pyroute2/dhcp/client.py") == "VERSION = 1\n"
    assert "CAP_NET_RAW" in str(host.read(unit)) and host.target(enabled) == "../netops-underlay-dhcp.service"
    assert host.target(CURRENT) not in (None, without)
    assert _service.survey(host, wanted) == []
    assert _service.lacks_pyroute2(_service.survey(host, wanted._replace(pyroute2="0.9.8"))), "a newer one is sent"
    off = WANTED._replace(dhcp=False)
    assert not _service.lacks_pyroute2(_service.survey(host, off))
    _service.carry_out(host, _service.survey(host, off), off)
    assert host.read(unit) is None and host.target(enabled) is None
    assert host.target(CURRENT) == without and _service.survey(host, off) == []


def test_an_archive_that_did_not_arrive_whole_leaves_the_engine_as_it_was(host: Host, tmp_path: Path) -> None:
    before, wanted = host.target(CURRENT), WANTED._replace(dhcp=True, pyroute2="0.9.7")
    (tmp_path / "sent.zip").write_bytes(b"PK")
    with pytest.raises(zipfile.BadZipFile):
        _service.carry_out(host, _service.survey(host, wanted), wanted, str(tmp_path / "sent.zip"))
    assert host.target(CURRENT) == before
    _service.carry_out(host, _service.survey(host, wanted), wanted, package(tmp_path))
    assert _service.survey(host, wanted) == []


def test_a_host_that_records_a_lease_asks_for_it(host: Host) -> None:
    kernel = SimulatedKernel("eth0")
    network = {"name": "red", "driver": "macvlan", "parent": "eth0", "addressing": "dhcp"}
    asks = declare(kernel, mapped(networks=[network], endpoints=[{"network": "red", "name": "one", "netns": "one"}]))
    os.makedirs(host.path("var/lib"))
    run(Registry(host.path(_service.DEFAULT_STATE_DIR)), *asks.changes)
    assert _service.settled(host, WANTED).dhcp and not _service.settled(host, WANTED._replace(dhcp=False)).dhcp


def tree(root: Path) -> Dict[str, str]:
    """Every path below a root, with what is in it."""
    return {
        str(path.relative_to(root)): "directory" if path.is_dir() else path.read_text(encoding="utf-8")
        for path in sorted(root.rglob("*"))
    }


def test_uninstalled_the_file_system_is_as_before(tmp_path: Path) -> None:
    host, gone = Host(str(tmp_path)), WANTED._replace(present=False, forget=True)
    for path in ("etc/systemd/system/multi-user.target.wants", "var/lib", "run"):
        (tmp_path / path).mkdir(parents=True)
    (tmp_path / "etc/systemd/network").mkdir()
    (tmp_path / "etc/systemd/network/10-mine.network").write_text("[Match]\n", encoding="utf-8")
    before = tree(tmp_path)
    _service.carry_out(host, _service.survey(host, WANTED), WANTED)
    again = WANTED._replace(heal=False)  # a later run makes no directory, and forgets none
    _service.carry_out(host, _service.survey(host, again), again)
    asks = WANTED._replace(dhcp=True, pyroute2="0.9.7")
    with tempfile.TemporaryDirectory() as elsewhere:
        _service.carry_out(host, _service.survey(host, asks), asks, package(Path(elsewhere)))
    (tmp_path / "run/netops-underlay").mkdir()
    (tmp_path / "run/netops-underlay/netops_underlay.prom").write_text("x 1\n", encoding="utf-8")
    registry = Registry(host.path(_service.DEFAULT_STATE_DIR))
    (tmp_path / "etc/netns").mkdir()  # for the hosts files of namespaces that are gone by now
    number = run(registry, link("a"))
    assert {step.path for step in _service.survey(host, gone) if step.kind == "directory"} == {
        "usr/local/lib/netops-underlay",
        "run/netops-underlay",
    }
    assert _service.recorded(host) == ["link a"]
    run(registry, link("a").inverse())
    assert number and _service.recorded(host) == []
    _service.carry_out(host, _service.survey(host, gone), gone)
    assert tree(tmp_path) == before
    assert _service.survey(host, gone) == []


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
