# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""``make peers``: tries every feature of every system, and writes what was seen, and the page; ``--only SYSTEM --feature NAME`` for one."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from typing import Any, Dict, Tuple

from tests.peers import page
from tests.peers.features import FEATURES, HERE, RESULTS, SYSTEMS, recorded, scripts

LIMIT = 180  # seconds for one feature
ROOM = """
mount -t tmpfs -o mode=755 run /run; mkdir -p /run/netns /run/lock /var/lib/netops-underlay /etc/netns /etc/containers/networks
mount -t tmpfs -o mode=755 state /var/lib/netops-underlay; mount -t tmpfs -o mode=755 netns /etc/netns
mount -t tmpfs -o mode=755 networks /etc/containers/networks
mount -t sysfs sys /sys; mount -t cgroup2 cgroup /sys/fs/cgroup
ip link set lo up
"""
HOST = "peers-host"


class Place:
    """Where a system is tried, each feature on a host that is as new."""

    def __init__(self, system: str) -> None:
        self.system, self.kind = system, SYSTEMS[system].place

    def __enter__(self) -> Place:
        if self.kind == "guest":
            sh("tests/lab/dockerd start")
        elif self.kind == "host":
            sh(f"podman rm --force --time 0 --ignore {HOST}")
            volumes = f"--volume /usr/lib/modules:/usr/lib/modules:ro --volume {HERE.parents[1]}:/checkout:ro"
            sh(
                f"podman run --quiet --detach --name {HOST} --privileged --systemd=always --network none {volumes}"
                " --rootfs /opt/hosts/debian13:O /sbin/init"
            )
            sh(
                f"podman exec {HOST} sh -c 'until systemctl is-system-running | grep -Eq \"running|degraded\"; do sleep 0.3; done'"
            )
            self.run("setup", 600)
        return self

    def __exit__(self, *_error: object) -> None:
        sh("tests/lab/dockerd stop" if self.kind == "guest" else f"podman rm --force --time 0 --ignore {HOST}")

    def attempt(self, feature: str) -> Tuple[int, str]:
        """The status of a feature's script, and the last that it said."""
        clean = "" if self.kind == "namespaces" else "clean; "
        return self.run(f"{clean}fresh; {feature}")

    def run(self, what: str, limit: int = LIMIT) -> Tuple[int, str]:
        here = "/checkout/tests/peers" if self.kind == "host" else str(HERE)
        script = f"HERE={here}; . {here}/lib.sh; . {here}/{self.system}.sh; {what}"
        if self.kind == "host":
            command = ["podman", "exec", HOST, "bash", "-c", script]
        elif self.kind == "guest":
            command = ["bash", "-c", script]
        else:
            command = [
                "unshare",
                "--net",
                "--mount",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
                "--propagation",
                "private",
            ]
            command += ["bash", "-c", f"set -e; {ROOM.strip()}\n{script}"]
        with open(
            "/tmp/peers.out", "w+", encoding="utf-8", errors="replace"
        ) as out:  # a pipe would wait for what stays behind
            try:
                status = subprocess.run(
                    ["timeout", "-k", "5", str(limit), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=out,
                    check=False,
                ).returncode
            finally:
                out.seek(0)
            said = out.read().replace(f"{here}/../../", "").replace(f"{here}/", "")
            lines = [" ".join(line.split()) for line in said.splitlines() if line.strip()]
        if os.environ.get("PEERS_SHOW"):
            print("   ", "\n    ".join(lines), flush=True)
        lines = [line for line in lines if not line.startswith(("See '", "Try '", "Usage"))]
        errors = [line for line in lines if status and "rror" in line]
        return status, (errors or lines or [""])[-1][:200]


def sh(command: str) -> None:
    subprocess.run(["sh", "-ec", command], check=True, stdout=subprocess.DEVNULL)


def tried(system: str, feature: str) -> Dict[str, Any]:
    """What a system was seen to do; with a feature only that anew."""
    found: Dict[str, Any] = recorded()[system]["features"] if feature else {}
    with Place(system) as place:
        status, version = place.run("version")
        if status:
            raise SystemExit(f"{system}: its version is not known: {version}")
        for name, script in scripts(system).items():
            if feature not in ("", name):
                continue
            status, seen = place.attempt(name)
            print(f"{system} {name}: {'yes' if not status else 'no'}: {seen}", flush=True)
            found[name] = {"holds": not status, "seen": seen, "ran": script}
    return {"version": version, "features": {name: found[name] for name in FEATURES if name in found}}


def main() -> int:
    parser = argparse.ArgumentParser(description="What other systems can do, and what this one.")
    parser.add_argument("--only", choices=SYSTEMS, action="append")
    parser.add_argument("--feature", choices=("", *FEATURES), default="")
    options = parser.parse_args()
    for system in options.only or SYSTEMS:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{system}.json").write_text(
            json.dumps(tried(system, options.feature), indent=1) + "\n", encoding="utf-8"
        )
    results = recorded()
    if len(results) == len(SYSTEMS):
        page.PATH.write_text(page.render(results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
