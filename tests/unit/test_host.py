# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What ``vlan_host`` would do to hosts of every sort, each a directory with the files that matter."""

from __future__ import annotations

from pathlib import Path
from typing import Dict, List, Optional

import pytest
from ansible_collections.netops.underlay.plugins.module_utils import _host
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.change import (
    HOST_LINK_GROUP,
    LINK_GROUP,
    PROTOCOL,
)
from ansible_collections.netops.underlay.plugins.module_utils._host import Host, Survey, Wanted, survey

RELEASE = "6.12.48+deb13-amd64"
LIMITS = {f"net.{family}.neigh.default.gc_thresh{n}": 2 ** (6 + n) for family in ("ipv4", "ipv6") for n in (1, 2, 3)}
DEBIAN_12 = {"etc/iproute2/group": "# device group names\n0\tdefault\n"}
DEBIAN_13 = {"usr/share/iproute2/group": "# device group names\n0\tdefault\n"}


class Paper(Host):
    """A host in a directory: by default one with every driver available and none loaded."""

    def __init__(self, root: Path, release: str = RELEASE, files: Optional[Dict[str, str]] = None) -> None:
        super().__init__(release, str(root))
        modules = "".join(f"kernel/net/{name}.ko.xz:\n" for name in _host.DRIVERS)
        self.lay(f"lib/modules/{release}/modules.dep", modules)
        for name, value in LIMITS.items():
            self.lay("proc/sys/" + name.replace(".", "/"), f"{value}\n")
        for name, text in (files or {}).items():
            self.lay(name, text)

    def lay(self, name: str, text: str) -> None:
        path = Path(self.path(name))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def load(self, driver: str) -> None:
        Path(self.path(f"sys/module/{driver}")).mkdir(parents=True)

    def carry_out(self, found: Survey) -> None:
        """As the module does, on paper."""
        for step in found.steps:
            if step.kind == "driver":
                self.load(step.name)
            elif step.kind == "limit":
                self.lay("proc/sys/" + step.name.replace(".", "/"), f"{step.after}\n")
            elif step.after is None:
                Path(self.path(step.name)).unlink()
            else:
                self.lay(step.name, step.after)

    def tree(self) -> Dict[str, str]:
        root = Path(self.root)
        return {
            str(path.relative_to(root)): path.read_text() for path in sorted(root.glob("etc/**/*")) if path.is_file()
        }


WANTED = Wanted(neighbours=16384)
ABSENT = Wanted(neighbours=16384, present=False)


@pytest.mark.parametrize("files", [DEBIAN_12, DEBIAN_13, {}], ids=["debian12", "debian13", "bare"])
def test_everything_is_done_once_and_can_be_taken_back(tmp_path: Path, files: Dict[str, str]) -> None:
    host = Paper(tmp_path, files=files)
    before = host.tree()
    found = survey(host, WANTED)
    assert not found.problems
    assert not found.warnings
    assert [step.name for step in found.steps if step.kind == "driver"] == list(_host.DRIVERS)
    host.carry_out(found)
    assert survey(host, WANTED).steps == []
    assert host.tree()["etc/modules-load.d/netops-underlay.conf"].splitlines()[1:] == list(_host.DRIVERS)

    host.carry_out(survey(host, ABSENT))
    assert host.tree() == before
    assert survey(host, ABSENT).steps == []


@pytest.mark.parametrize("files", [DEBIAN_12, DEBIAN_13, {}], ids=["debian12", "debian13", "bare"])
def test_the_numbers_of_the_engine_get_their_names(tmp_path: Path, files: Dict[str, str]) -> None:
    host = Paper(tmp_path, files=files)
    host.carry_out(survey(host, WANTED))
    tree = host.tree()
    assert _rows(tree["etc/iproute2/group"]) == {
        "0": "default", str(LINK_GROUP): "netops-underlay", str(HOST_LINK_GROUP): "netops-underlay-host",
    }  # fmt: skip
    for table in ("rt_protos", "rt_addrprotos"):
        assert _rows(tree[f"etc/iproute2/{table}.d/netops-underlay.conf"]) == {str(PROTOCOL): "netops-underlay"}


def _rows(text: str) -> Dict[str, str]:
    rows = (line.split("#")[0].split() for line in text.splitlines())
    return {row[0]: row[1] for row in rows if row}


def test_lines_of_others_in_the_group_table_stay(tmp_path: Path) -> None:
    theirs = "0\tdefault\n7\tstorage"  # no newline at its end
    host = Paper(tmp_path, files={"etc/iproute2/group": theirs})
    host.carry_out(survey(host, WANTED))
    assert _rows(host.tree()["etc/iproute2/group"]) == {
        "0": "default", "7": "storage", "8021": "netops-underlay", "8022": "netops-underlay-host",
    }  # fmt: skip
    host.carry_out(survey(host, ABSENT))
    assert host.tree()["etc/iproute2/group"] == theirs + "\n"


def test_a_copied_group_table_follows_its_original(tmp_path: Path) -> None:
    host = Paper(tmp_path, files=DEBIAN_13)
    host.carry_out(survey(host, WANTED))
    host.lay("usr/share/iproute2/group", "0\tdefault\n5\tnew\n")
    host.carry_out(survey(host, WANTED))
    assert _rows(host.tree()["etc/iproute2/group"])["5"] == "new"
    assert survey(host, WANTED).steps == []


@pytest.mark.parametrize("row", ["8021\ttheirs", "7\tnetops-underlay"])
def test_a_name_that_is_taken_is_left_and_said(tmp_path: Path, row: str) -> None:
    host = Paper(tmp_path, files={"etc/iproute2/group": f"{row}\n"})
    found = survey(host, WANTED)
    after = next(step.after for step in found.steps if step.name == "etc/iproute2/group")
    assert after == f"{row}\n8022\tnetops-underlay-host  # netops.underlay\n"
    assert found.warnings == [
        f"/etc/iproute2/group has {row.replace(chr(9), ' ')} already, so group 8021 has no name of ours there"
    ]


def test_limits_are_raised_and_never_lowered(tmp_path: Path) -> None:
    host = Paper(tmp_path)
    high = "net.ipv4.neigh.default.gc_thresh3"
    host.lay("proc/sys/" + high.replace(".", "/"), "99999\n")
    found = survey(host, WANTED)
    raised = {step.name: step.after for step in found.steps if step.kind == "limit"}
    assert high not in raised
    assert raised["net.ipv6.neigh.default.gc_thresh3"] == "16384"
    assert raised["net.ipv4.neigh.default.gc_thresh1"] == "4096"
    host.carry_out(found)
    assert high not in host.tree()["etc/sysctl.d/10-netops-underlay.conf"]
    # What we raised keeps its line, whatever somebody makes of it meanwhile.
    host.lay("proc/sys/" + "net/ipv6/neigh/default/gc_thresh3", "50000\n")
    assert survey(host, WANTED).steps == []


def test_a_container_does_not_show_its_limits(tmp_path: Path) -> None:
    host = Paper(tmp_path)
    for name in LIMITS:
        Path(host.path("proc/sys/" + name.replace(".", "/"))).unlink()
    found = survey(host, WANTED)
    assert "on the machine that runs it" in found.warnings[0]
    assert found.limits == {}
    assert survey(host, Wanted(neighbours=0)).warnings == []


def test_a_dummy0_that_somebody_may_want_is_left(tmp_path: Path) -> None:
    host = Paper(tmp_path)
    host.load("dummy")
    host.carry_out(survey(host, WANTED))
    assert "etc/modprobe.d/netops-underlay.conf" not in host.tree()


@pytest.mark.parametrize(
    ("release", "least"),
    [
        ("3.8.13", {"macvlan": "3.9", "ipvlan": "4.2"}),
        ("3.10.0-1160.el7.x86_64", {"ipvlan": "4.2"}),
        ("4.2.0-16-generic", {}),
    ],
)
def test_old_kernels_are_refused_by_driver(tmp_path: Path, release: str, least: Dict[str, str]) -> None:
    problems = survey(Paper(tmp_path, release), WANTED).problems
    assert [problem.message for problem in problems] == [
        f"{driver} needs Linux {text} or newer, and this host runs {release}" for driver, text in least.items()
    ]


def test_missing_drivers_are_all_named_with_their_package(tmp_path: Path) -> None:
    host = Paper(tmp_path)
    host.lay(f"lib/modules/{RELEASE}/modules.dep", "kernel/net/8021q/8021q.ko:\n")
    host.lay(f"lib/modules/{RELEASE}/modules.builtin", "kernel/drivers/net/dummy.ko\n")
    host.lay("etc/os-release", 'NAME="Ubuntu"\nID=ubuntu\nID_LIKE=debian\n')
    found = survey(host, Wanted())
    assert [problem.message for problem in found.problems] == [
        f"kernel {RELEASE} has no driver {name}" for name in ("macvlan", "ipvlan")
    ]
    assert all(f"install linux-modules-extra-{RELEASE}" in problem.fix for problem in found.problems)
    assert [step.name for step in found.steps if step.kind == "driver"] == ["8021q"]


def test_where_modules_cannot_be_seen_the_kernel_is_asked(tmp_path: Path) -> None:
    """No refusal from the survey: loading is a step, and the module asks the kernel for the outcome."""
    host = Paper(tmp_path)
    Path(host.path(f"lib/modules/{RELEASE}/modules.dep")).unlink()
    found = survey(host, WANTED)
    assert not found.problems
    assert [step.name for step in found.steps if step.kind == "driver"] == list(_host.DRIVERS)


@pytest.mark.parametrize(
    ("release", "packages"),
    [
        ("ID=debian\n", ["iproute2", "kmod"]),
        ("ID=ubuntu\nID_LIKE=debian\n", ["iproute2", "kmod"]),
        ('ID="rocky"\nID_LIKE="rhel centos fedora"\n', ["iproute", "kmod"]),
        ("ID=fedora\n", ["iproute", "kmod"]),
        ("", ["iproute2", "kmod"]),
    ],
)
def test_missing_commands_are_packages_of_the_distribution(tmp_path: Path, release: str, packages: List[str]) -> None:
    host = Paper(tmp_path, files={"etc/os-release": release})
    assert host.packages_missing() == packages
    host.lay("usr/sbin/ip", "")
    assert host.packages_missing() == packages[1:]
