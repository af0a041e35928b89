# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whole modules, as Ansible runs them: what it would send, under the distribution's Python, with JSON arguments.

``tasks.run`` is one task; ``tasks.becomes`` one that check mode predicts, that is carried out, and that a second
run finds done; ``tasks.refuses`` one that says all that is wrong and leaves everything as it is.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Tuple

import ansible.release
import ansible_collections

from tests.support import host_picture
from tests.support.checkout import CHECKOUT

PYTHON = "/usr/bin/python3"
BUILDER = Path(__file__).with_name("module_payloads.py")
COLLECTIONS = Path(next(iter(ansible_collections.__path__))).parent
MODULES = sorted(
    path.stem
    for path in (COLLECTIONS / "ansible_collections/netops/underlay/plugins/modules").glob("[!_]*.py")
    if "def main(" in path.read_text(encoding="utf-8")  # others are documentation of what runs on the controller
)
#: Those that change the wire, and from where, for no SSH leads to them here.
WIRE = ("vlan_link", "vlan_network", "vlan_endpoint", "ipvlan_l3_routes", "vlan_map")
MANAGED_FROM = ["198.18.0.1"]
#: As after a login by sudo; no variable of the tests reaches a module.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LANG": "C.UTF-8", "USER": "alice"}


@dataclass
class Result:
    """What a module answered."""

    status: int
    data: Dict[str, Any]
    text: str

    @property
    def message(self) -> List[str]:
        return str(self.data.get("msg", "")).split("\n")


class Server:
    """Processes that become modules, see ``module_server.py``."""

    def __init__(self, payloads: Path) -> None:
        self.payloads = payloads
        self.process = subprocess.Popen(
            [PYTHON, str(Path(__file__).with_name("module_server.py")), str(payloads / "debug_dir")],
            env=ENVIRONMENT, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def run(self, module: str, arguments: Dict[str, Any], user: int) -> Result:
        assert self.process.stdin is not None and self.process.stdout is not None
        output = self.payloads / "output"
        order = {"module": module, "arguments": arguments, "user": user, "output": str(output), "parent": os.getpid()}
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return answer(int(self.process.stdout.readline()), output.read_text(encoding="utf-8"))

    def end(self) -> None:
        self.process.communicate()


@contextlib.contextmanager
def served() -> Iterator[Server]:
    """What Ansible sends to a host, of every module, and one process that starts them."""
    directory = Path(tempfile.mkdtemp(prefix="payloads-"))
    directory.chmod(0o755)  # other users run modules too
    shutil.copytree(payloads(), directory, dirs_exist_ok=True)
    found = Server(directory)
    yield found
    found.end()
    shutil.rmtree(directory)


def payloads() -> Path:
    """A directory with them, made once for what they are made of: that takes a controller in the lab 20 s."""
    made_of = hashlib.sha256(f"{ansible.release.__version__} {sys.version}".encode())
    for source in (BUILDER, *sorted((COLLECTIONS / "ansible_collections/netops/underlay/plugins").rglob("*.py"))):
        made_of.update(str(source).encode() + b"\0" + source.read_bytes())
    cache = CHECKOUT / ".cache" / "payloads"
    found = cache / made_of.hexdigest()[:16]
    if not found.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(dir=cache, prefix="half-made-"))
        made.chmod(0o755)
        subprocess.run([sys.executable, str(BUILDER), str(COLLECTIONS), str(made), *MODULES], check=True)
        for module in MODULES:
            subprocess.run([PYTHON, str(made / module), "explode"], check=True, stdout=subprocess.DEVNULL)
        with contextlib.suppress(OSError):  # somebody else was faster
            made.rename(found)
        shutil.rmtree(made, ignore_errors=True)
    return found


@dataclass
class Tasks:
    """Tasks on one host; its state lies in ``state_dir``."""

    server: Server
    state_dir: str

    def arguments(self, module: str, options: Dict[str, Any], check: bool = False, diff: bool = True) -> Dict[str, Any]:
        """As Ansible gives them: those of the task, and how it is to be carried out."""
        where: Dict[str, Any] = {} if module in ("vlan_host", "vlan_service") else {"state_dir": self.state_dir}
        if module in WIRE:
            where["managed_from"] = MANAGED_FROM
        return {**where, "_ansible_check_mode": check, "_ansible_diff": diff, **options}

    def run(
        self, module: str, options: Dict[str, Any], check: bool = False, diff: bool = True, user: int = 0
    ) -> Result:
        """One task."""
        return self.server.run(module, self.arguments(module, options, check, diff), user)

    def send(self, module: str, options: Dict[str, Any], python: Tuple[str, ...] = (PYTHON,)) -> Result:
        """One task exactly as it goes over a connection with pipelining: all of the payload, by standard input."""
        empty = "params='{\"ANSIBLE_MODULE_ARGS\": {}}'"
        text = (self.server.payloads / module).read_text(encoding="utf-8")
        assert text.count(empty) == 1
        text = text.replace(empty, f"params={json.dumps({'ANSIBLE_MODULE_ARGS': self.arguments(module, options)})!r}")
        done = subprocess.run(
            [*python],
            input=text,
            env=ENVIRONMENT,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        return answer(done.returncode, done.stdout)

    def ok(self, module: str, check: bool = False, **options: Any) -> Dict[str, Any]:
        """A task that succeeds."""
        found = self.run(module, options, check)
        assert found.status == 0 and not found.data.get("failed"), found.text
        return found.data

    def becomes(self, module: str, **options: Any) -> Dict[str, Any]:
        """A task that changes something: predicted, carried out, and nothing left to do by a second run."""
        before = everything(self.state_dir)
        predicted = self.ok(module, check=True, **options)
        assert changes(before, everything(self.state_dir)) == [], "check mode changed the host"
        done = self.ok(module, **options)
        assert done["changed"] is True
        promised, seen = expected(predicted, done)
        assert promised == seen
        assert done["diff"]["before"] != done["diff"]["after"]
        assert done["plan"]["total"] == sum(sum(verbs.values()) for verbs in done["plan"]["counts"].values()) > 0
        assert json.loads(Path(done["plan"]["plan_file"]).read_text(encoding="utf-8"))
        self.same(module, **options)
        return done

    def same(self, module: str, check: bool = False, **options: Any) -> Dict[str, Any]:
        """A task that finds everything done."""
        before = everything(self.state_dir)
        again = self.ok(module, check=check, **options)
        assert again["changed"] is False and again["plan"]["total"] == 0, again["plan"]
        assert again["diff"]["before"] == again["diff"]["after"] == ""
        assert changes(before, everything(self.state_dir)) == []
        return again

    def refuses_all(self, cases: Iterable[Tuple[str, Dict[str, Any], Sequence[str]]]) -> None:
        """Of each (module, options, lines): as ``refuses``, one after the other on one host."""
        before = everything(self.state_dir)
        wrong = []
        for module, options, lines in cases:
            for check in (True, False):
                try:
                    refused(self.run(module, options, check), *lines)
                except AssertionError as error:
                    wrong.append(f"{module} {options}: {error}")
        assert not wrong, "\n".join(wrong)
        assert changes(before, everything(self.state_dir)) == [], "a refusal changed the host"

    def refuses(self, module: str, *lines: str, **options: Any) -> Result:
        """A task that says exactly these lines (regular expressions), for real and in check mode, and does nothing."""
        before = everything(self.state_dir)
        for check in (True, False):
            found = self.run(module, options, check)
            assert refused(found, *lines)
        assert changes(before, everything(self.state_dir)) == [], "a refusal changed the host"
        return found


def refused(found: Result, *lines: str) -> bool:
    """Whether a module failed with these lines, each for a person: where, what, and what to do."""
    assert found.data.get("failed") is True and found.status != 0, found.text
    assert "Traceback" not in found.text and "exception" not in found.data, found.text
    left = list(found.message)
    for line in lines:
        hits = [text for text in left if re.search(line, text)]
        assert hits, f"nothing says {line!r} in {found.message}"
        left.remove(hits[0])
    assert not left, f"not expected: {left}"
    for problem in found.data["problems"]:
        assert problem["what"] and problem["cure"]
    assert len(found.data["problems"]) == len(lines)
    return True


def expected(predicted: Dict[str, Any], done: Dict[str, Any]) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """What check mode said and what a run then did, without what only a run can know (None in check mode)."""
    return _known(predicted, predicted), _known(done, predicted)


_ONLY_OF_A_RUN = {"plan_file", "transaction", "warnings", "invocation", "ansible_facts"}


def _known(value: Any, predicted: Any) -> Any:
    if isinstance(predicted, dict) and isinstance(value, dict):
        return {
            key: _known(item, predicted[key])
            for key, item in value.items()
            if key not in _ONLY_OF_A_RUN and key in predicted and predicted[key] is not None
        }
    return value


def warnings(data: Dict[str, Any]) -> List[str]:
    """The texts of a result's warnings, whichever Ansible it was."""
    return [str(found if isinstance(found, str) else found["event"]["msg"]) for found in data.get("warnings", [])]


def answer(status: int, text: str) -> Result:
    try:
        data = json.loads(text[text.index("{") :])
    except ValueError:
        data = {}
    return Result(status, data, text)


# --- the host as a whole -------------------------------------------------------------------------

#: Those of a link are in what rtnetlink says of it, but for some.
_SETTINGS = ["ipv4/ip_forward", "ipv4/conf/all/*", "ipv4/conf/default/*", "ipv6/conf/all/*", "ipv6/conf/default/*"]
_SETTINGS += ["ipv6/conf/*/ra_honor_pio_*", "ipv6/conf/*/regen_min_advance"]


def everything(state_dir: str) -> Dict[str, Any]:
    """All that a task could change: links, addresses, routes, rules, settings, namespaces, files of ours."""
    found = host_picture.everything()
    paths = [path for pattern in _SETTINGS for path in glob.glob(f"/proc/sys/net/{pattern}")]
    found["settings"] = {path: _read(path) for path in paths}
    for directory in (state_dir, "/etc/netns"):
        found[directory] = {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(Path(directory).rglob("*"))
            if path.is_file()
            and path.name not in ("lock", "answer.json")  # the first stays, and is empty; the second is a memory
        }
    return found


def _read(path: str) -> Optional[bytes]:
    """What is in a file of /proc; None for a secret that is not set."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, 4096)
    except OSError:
        return None
    finally:
        os.close(descriptor)


def changes(before: Any, after: Any, where: str = "") -> List[str]:
    """Where two states of a host differ; empty for nowhere."""
    if isinstance(before, dict) and isinstance(after, dict):
        keys = sorted({*before, *after})
        return [text for key in keys for text in changes(before.get(key), after.get(key), f"{where}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [text for number, pair in enumerate(zip(before, after)) for text in changes(*pair, f"{where}[{number}]")]
    return [] if before == after else [f"{where}: {before!r} became {after!r}"]
