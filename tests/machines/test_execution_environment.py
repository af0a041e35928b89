# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What AWX's image is made of: ansible-builder takes the definition, and what it installs is enough for the playbooks."""

from __future__ import annotations

import os
import subprocess
import sysconfig
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from rack import Host, Rack

from tests.support.checkout import CHECKOUT
from tests.support.machines import events, links

PROJECT = CHECKOUT / "examples" / "awx"
DEFINITION = PROJECT / "execution-environment.yml"


def test_ansible_builder_takes_the_definition(tmp_path: Path) -> None:
    subprocess.run(
        ["ansible-builder", "create", "-f", os.fspath(DEFINITION), "-c", os.fspath(tmp_path)],
        check=True,
        capture_output=True,
    )
    wanted = yaml.safe_load((tmp_path / "_build" / "requirements.yml").read_text(encoding="utf-8"))
    assert [collection["name"] for collection in wanted["collections"]] == ["netops.underlay"]
    assert "fedora-minimal" in (tmp_path / "Containerfile").read_text(encoding="utf-8")


def of_the_collection(directory: Path) -> list[str]:
    """What ansible-builder finds that the collection needs on a controller."""
    place = directory / "ansible_collections" / "netops" / "underlay"
    place.parent.mkdir(parents=True)
    place.symlink_to(CHECKOUT, target_is_directory=True)
    done = subprocess.run(
        ["ansible-builder", "introspect", os.fspath(directory)], check=True, capture_output=True, text=True
    )
    found = yaml.safe_load(done.stdout.partition("---\n")[2])["python"]
    return [text.partition("  #")[0] for text in found]  # behind it stands whose wish it is


def test_the_collection_tells_what_the_controller_needs(tmp_path: Path) -> None:
    assert of_the_collection(tmp_path) == ["netaddr>=0.10", "pyroute2>=0.9"]


def image(directory: Path, wanted: list[str]) -> Path:
    """A virtual environment with what these requirements need, and nothing that is installed here besides."""
    subprocess.run(["python3", "-m", "venv", "--without-pip", os.fspath(directory)], check=True)
    there = Path(sysconfig.get_path("purelib", vars={"base": os.fspath(directory), "platbase": os.fspath(directory)}))
    todo, seen = [Requirement(text) for text in wanted], set()
    while todo:
        requirement = todo.pop()
        name = canonicalize_name(requirement.name)
        if name in seen or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        seen.add(name)
        found = metadata.distribution(requirement.name)
        assert requirement.specifier.contains(found.version), f"{requirement} is wanted, and {found.version} is here"
        todo += map(Requirement, found.requires or ())
        for part in {file.parts[0] for file in found.files or () if file.parts[0] not in ("..", "__pycache__")}:
            (there / part).symlink_to(Path(str(found.locate_file(part))))
        for entry in found.entry_points.select(group="console_scripts"):
            script = directory / "bin" / entry.name
            script.write_text(
                f"#!{directory}/bin/python\nimport sys\nfrom {entry.module} import {entry.attr} as main\nsys.exit(main())\n"
            )
            script.chmod(0o755)
    return directory / "bin"


def test_what_the_image_has_is_enough_for_allocate_plan_site_and_verify(tmp_path: Path) -> None:
    of_the_image = yaml.safe_load(DEFINITION.read_text(encoding="utf-8"))["dependencies"]
    core = [of_the_image[part]["package_pip"] for part in ("ansible_core", "ansible_runner")]
    programs = image(tmp_path / "image", [*core, *of_the_collection(tmp_path)])
    # What vlan_service sends to hosts that ask for leases.
    subprocess.run([programs / "python", "-c", "import pyroute2"], check=True)
    environment = {
        **{name: value for name, value in os.environ.items() if name.startswith("ANSIBLE_") or name in ("HOME", "LANG")},
        "PATH": f"{programs}:/usr/bin:/bin", "ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED": "1",
    }  # fmt: skip

    with Rack([Host("h1")]) as rack:
        inventory = tmp_path / "inventory"
        inventory.mkdir()
        (inventory / "10-hosts.ini").write_text(
            rack.inventory.read_text() + "[canary]\nh1\n[mapped]\nh1\n[mapped:vars]\ntrunk_nics={'fabric': 'eth1'}\n"
        )
        (inventory / "90-netops_map.yml").write_text(
            "plugin: netops.underlay.netops_map\nmaps: [vlans.csv]\nledger: ledger.yml\nhosts_of: mapped\n"
        )
        (inventory / "vlans.csv").write_text(
            "vlan,name,trunk,driver,subnets,gateways,per_host\n10,web,fabric,macvlan,10.0.10.0/24,10.0.10.1,27\n"
        )
        rack.switch.vlans("h1", "eth1", {10})
        rack.switch.add_tap("gw10", untagged=10)
        subprocess.run("ip link set gw10 up; ip address add 10.0.10.1/24 dev gw10", shell=True, check=True)

        def run(playbook: str) -> dict[str, Any]:
            """The statistics of a run."""
            private = tmp_path / f"{playbook}-{len(list(tmp_path.iterdir()))}"
            private.mkdir()
            words = [
                programs / "ansible-runner",
                "run",
                private,
                "--project-dir",
                PROJECT,
                "-p",
                f"{playbook}.yml",
                "--inventory",
                inventory,
            ]
            words += ["--cmdline", "-e underlay_hosts=mapped"]
            done = subprocess.run(words, env=environment, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
            stats: dict[str, Any] = next(
                event["event_data"] for event in events(private) if event["event"] == "playbook_on_stats"
            )
            return stats

        run("allocate")
        assert run("plan")["artifact_data"]["underlay_plan"]["changed"] == ["h1"]
        assert "eth1.10" not in links(rack["h1"])
        assert run("site")["changed"].get("h1")
        assert "eth1.10" in links(rack["h1"])
        assert run("plan")["artifact_data"]["underlay_plan"]["unchanged"] == ["h1"]
        run("verify")
