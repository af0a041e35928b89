# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the service may do is what it needs: with its capabilities all is repaired, and without any one of them something is not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Sequence, Tuple

import pytest
from ansible_collections.netops.underlay.plugins.module_utils import _service_files

from tests.support.engine import Engine
from tests.support.network_host import links, run

pytestmark = pytest.mark.slow

#: The file of the unit has them in one line, and in another one where there are taps.
CAPABILITIES = [
    name
    for part in (_service_files._SERVICE, _service_files._DEVICES_OF_TAPS)
    for name in re.findall(r"CAP_[A-Z_]+", part)
]
ENGINE = Path(_service_files.__file__).parent
UNPRIVILEGED = 65534
MAPPED = "--uidmap 0:100000:65536 --gidmap 0:100000:65536"  # a user namespace of its own

#: What the service does, but that it goes to the mounts of the first process.
REPAIR = """\
import sys
sys.path.insert(0, sys.argv[1])
from _engine.kernel import namespaces
from _engine.run import restore, transact
namespaces.use_mounts_of(int(sys.argv[3]))
for left in restore.restore(transact.RunOptions(sys.argv[2], who="a test")).left:
    print(left)
"""
LISTEN = (
    "import sys; sys.path.insert(0, sys.argv[1]); from _engine.kernel import events; events.Kernel(); print('hears')"
)


def with_only(capabilities: Sequence[str], program: str, *arguments: str) -> str:
    """What a program of root's says that may never have more than these, with mounts of its own as the service has."""
    bounds = ",".join(["-all", *(f"+{name[4:].lower()}" for name in capabilities)])
    words = ["unshare", "--mount", "--propagation=slave", "setpriv", f"--bounding-set={bounds}", "--inh-caps=-all"]
    words += [sys.executable, "-c", program, os.fspath(ENGINE), *arguments]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.fixture
def engine(tmp_path: Path, trunk: str) -> Iterator[Engine]:
    engine = Engine(str(tmp_path / "state"))
    engine.network()
    run("podman import -q /opt/images/busybox.tar busybox 2>/dev/null")
    yield engine
    run("podman rm -f -t 0 web >/dev/null 2>&1")


def test_the_page_about_it_names_each() -> None:
    page = (ENGINE.parents[1] / "docs/docsite/rst/security.rst").read_text(encoding="utf-8")
    assert sorted(re.findall(r"\* - ``(CAP_[A-Z_]+)``", page)) == sorted(CAPABILITIES)


@pytest.mark.parametrize("without", ["", *CAPABILITIES])
def test_each_is_needed_and_no_other(without: str, engine: Engine) -> None:
    engine.endpoint("one")
    engine.endpoint("vm", kind="tap", tap_owner=str(UNPRIVILEGED))
    node = Path("/dev/netops-underlay/blue/vm")
    run(f"podman run -d --name web --network none --user {UNPRIVILEGED} {MAPPED} busybox sleep 3600 >/dev/null")
    engine.endpoint("web", container={"engine": "podman", "name": "web"})
    pid = run("podman inspect -f '{{.State.Pid}}' web").strip()
    page = Path(run("podman inspect -f '{{.HostsPath}}' web").strip())
    assert "\tone\n" in page.read_text(encoding="utf-8")

    run(f"ip link del trunk.10; ip netns del one; rm {node}")
    page.write_text("127.0.0.1 localhost\n", encoding="utf-8")
    allowed = [name for name in CAPABILITIES if name != without]
    said = with_only(allowed, REPAIR, engine.state_dir, str(os.getpid()))
    repaired: Dict[str, Tuple[str, bool]] = {
        "CAP_NET_ADMIN": ("the sub-interface", "trunk.10" in links()),
        "CAP_SYS_ADMIN": ("the named namespace", Path("/run/netns/one").exists()),
        "CAP_SYS_CHROOT": ("the named namespace", Path("/run/netns/one").exists()),
        "CAP_SYS_PTRACE": (
            "the link in a container of another user",
            "eth0" in run(f"nsenter -t {pid} -n ip -brief link"),
        ),
        "CAP_MKNOD": ("the node of a tap", node.exists()),
        "CAP_CHOWN": ("the owner of that node", node.exists() and node.stat().st_uid == UNPRIVILEGED),
        "CAP_NET_BROADCAST": ("the events of other namespaces", with_only(allowed, LISTEN).strip() == "hears"),
    }
    for capability, (what, good) in repaired.items():
        if not without:
            assert good, (what, said)
            assert "\tone\n" in page.read_text(encoding="utf-8"), "the root of its namespace needs none of ours"
        elif capability == without:
            assert not good, (what, said)
    assert any(good for capability, (_what, good) in repaired.items() if capability != without), "nothing ran at all"
