# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The engine installed on the host: its files, and the steps to install them.

The engine is copied from where this module runs, a directory for each version, and one link says which is in use: a
run that is killed in between leaves the old one whole. The steps are data; check mode does not carry them out.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib.util
import os
import pkgutil
import shutil
import stat
import zipfile
from typing import Any, Callable, List, Mapping, NamedTuple, Optional

# The engine is imported whole, so that the host gets all of it.
from . import _engine, _service_files
from ._engine.core.change import HOST_KINDS
from ._engine.core.endpoint_specs import is_tap, wants_lease
from ._engine.core.errors import RegistryError
from ._engine.core.version import VERSION
from ._engine.declare import model  # noqa: F401  pylint: disable=unused-import
from ._engine.kernel import programs
from ._engine.plan.desired import ITEM_KINDS
from ._engine.run.converge import SERVICE
from ._engine.run.transact import DEFAULT_STATE_DIR
from ._engine.service import cli
from ._engine.store import installed
from ._engine.store.registry import SCHEMA, Registry
from ._service_files import DHCP_SERVICE

__all__ = ["cli"]  # what the command needs has to be here, so that it can be copied

#: The first Python that the engine runs on.
PYTHON = (3, 9)
_WANTS = "etc/systemd/system/multi-user.target.wants"
#: What asks for leases stands on it, and is beside the engine.
PYROUTE2 = "pyroute2"
#: The directories that this module had to make, to be removed with it if they are empty then.
_MADE = f"{installed.ROOT.lstrip('/')}/directories"


class Step(NamedTuple):
    """One thing to do: a ``file`` (text), a ``link`` (its target), a ``directory``, a ``package`` (its version) or a ``service`` (its state)."""

    kind: str
    path: str
    before: Optional[str]
    after: Optional[str]
    mode: int = 0o644


class Wanted(NamedTuple):
    """What is to be installed, or removed."""

    interpreter: str
    heal: bool = True
    taps: Optional[bool] = None  # None: if the registry records one
    dhcp: Optional[bool] = None  # None: if the registry records an endpoint that wants a lease
    pyroute2: str = ""  # the version that the controller has
    present: bool = True
    forget: bool = False  # with the service, the registry too, if nothing is recorded in it


@functools.cache
def engine() -> Mapping[str, str]:
    """The engine's files, from wherever this runs: a checkout, a collection, or the archive that Ansible sends."""
    root = _engine.__name__
    found = {"__init__.py": _source(root)}
    for module in pkgutil.walk_packages(_engine.__path__, f"{root}."):
        path = module.name[len(root) + 1 :].replace(".", "/")
        found[f"{path}/__init__.py" if module.ispkg else f"{path}.py"] = _source(module.name)
    return dict(sorted(found.items()))


def _source(name: str) -> str:
    spec = importlib.util.find_spec(name)
    source = getattr(spec.loader, "get_source")(name) if spec else None  # noqa: B009  (every loader here has it)
    if source is None:
        raise ImportError(f"{name} has no source here")
    return str(source)


def version(wanted: Wanted) -> str:
    """The name of a version's directory: no two engines that differ have the same."""
    files = {**engine(), PYROUTE2: wanted.pyroute2} if wanted.dhcp else engine()
    digest = hashlib.sha256("".join(f"{name}\0{text}\0" for name, text in files.items()).encode())
    return f"{VERSION}-{digest.hexdigest()[:12]}"


class Host:
    """The files of a host below a root that tests may choose, and its systemd where it is the real one."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, name: str) -> str:
        """A file of the host, below the root."""
        return os.path.join(self.root, name.lstrip("/"))

    @property
    def has_systemd(self) -> bool:
        """Whether systemd is the first process here (sd_booted(3))."""
        return os.path.isdir(self.path("run/systemd/system"))

    def read(self, name: str) -> Optional[str]:
        """A plain file's text; None where there is none."""
        path = self.path(name)
        try:
            if stat.S_ISREG(os.lstat(path).st_mode):
                with open(path, encoding="utf-8", errors="surrogateescape") as file:
                    return file.read()
        except (FileNotFoundError, NotADirectoryError):
            pass
        return None

    def target(self, name: str) -> Optional[str]:
        """Where a symbolic link leads; None where there is none."""
        try:
            return os.readlink(self.path(name))
        except OSError:
            return None

    def mode(self, name: str) -> int:
        """The permissions of a file. Raises OSError."""
        return stat.S_IMODE(os.lstat(self.path(name)).st_mode)

    def service_state(self, service: str = SERVICE) -> str:
        """``active``, also while it starts, or ``inactive``."""
        done = programs.run(["systemctl", "is-active", service])
        return "active" if done.stdout.strip() in ("active", "activating", "reloading") else "inactive"


def settled(host: Host, wanted: Wanted) -> Wanted:
    """The wish, with what is left to the registry as that has it. One that cannot be read asks for nothing: what needs it will say so."""
    endpoints: List[Any] = []
    if wanted.taps is None or wanted.dhcp is None:
        with contextlib.suppress(RegistryError):
            records = Registry(host.path(DEFAULT_STATE_DIR)).load()
            endpoints = [record.spec for record in records.get("endpoint", {}).values()]
    return wanted._replace(
        taps=any(map(is_tap, endpoints)) if wanted.taps is None else wanted.taps,
        dhcp=any(map(wants_lease, endpoints)) if wanted.dhcp is None else wanted.dhcp,
    )


def survey(host: Host, wanted: Wanted) -> List[Step]:
    """The steps, in order; nothing is changed. Raises RegistryError with ``forget``."""
    return _install(host, settled(host, wanted)) if wanted.present else _remove(host, wanted)


def recorded(host: Host) -> List[str]:
    """What stands in the registry, as ``kind name``. Raises RegistryError."""
    records = Registry(host.path(DEFAULT_STATE_DIR)).load()
    return [f"{kind} {key}" for kind in (*ITEM_KINDS, *HOST_KINDS) for key in records.get(kind, {})]


def lacks_pyroute2(steps: List[Step]) -> bool:
    """Whether the steps need a copy of pyroute2, which only the controller has."""
    return any(step.kind == "package" for step in steps)


def _install(host: Host, wanted: Wanted) -> List[Step]:
    directory = f"{installed.ROOT.lstrip('/')}/{version(wanted)}"
    services = (SERVICE, DHCP_SERVICE) if wanted.dhcp else (SERVICE,)
    steps = []
    for name, text in {f"{directory}/_engine/{name}": text for name, text in engine().items()}.items():
        steps.append(Step("file", name, host.read(name), text))
    if wanted.dhcp:
        package = f"{directory}/{PYROUTE2}"
        there = wanted.pyroute2 if os.path.isdir(host.path(package)) else None
        steps.append(Step("package", package, there, wanted.pyroute2))
    steps.append(
        Step(
            "file",
            f"{directory}/{installed.SCHEMA_FILE}",
            host.read(f"{directory}/{installed.SCHEMA_FILE}"),
            f"{SCHEMA}\n",
        )
    )
    steps.append(
        Step("link", installed.CURRENT.lstrip("/"), host.target(installed.CURRENT), os.path.basename(directory))
    )
    files = _service_files.texts(wanted.interpreter, wanted.heal, bool(wanted.taps), bool(wanted.dhcp))
    for name, (text, mode) in files.items():
        steps.append(Step("file", name, host.read(name), text, mode))
    steps += [_enabled(host, service) for service in services]
    changed = [
        step
        for step in steps
        if step.before != step.after or (step.kind == "file" and host.mode(step.path) != step.mode)
    ]
    # A version that was copied but is not in use changes nothing for the services.
    stale = any(step.kind == "link" or not step.path.startswith(directory) for step in changed)
    changed += [] if wanted.dhcp else _without_leases(host)
    if host.has_systemd:
        for service in services:
            state = host.service_state(service)
            if stale or state != "active":
                before = f"{state}, as it was" if stale and state == "active" else state
                changed.append(Step("service", service, before, "active"))
    return changed


def _enabled(host: Host, service: str) -> Step:
    return Step("link", f"{_WANTS}/{service}", host.target(f"{_WANTS}/{service}"), f"../{service}")


def _without_leases(host: Host) -> List[Step]:
    """What takes away the service that asks for leases."""
    steps = [Step("service", DHCP_SERVICE, "active", None)] if _runs(host, DHCP_SERVICE) else []
    enabled, unit = _enabled(host, DHCP_SERVICE), host.read(_service_files.DHCP_UNIT)
    steps += [enabled._replace(after=None)] if enabled.before is not None else []
    return steps + ([Step("file", _service_files.DHCP_UNIT, unit, None)] if unit is not None else [])


def _runs(host: Host, service: str) -> bool:
    return host.has_systemd and host.service_state(service) == "active"


def _remove(host: Host, wanted: Wanted) -> List[Step]:
    steps = _without_leases(host)
    enabled = _enabled(host, SERVICE)
    if enabled.before is not None:
        steps.append(enabled._replace(after=None))
    for name in _service_files.texts("", heal=True, taps=False, dhcp=False):
        before = host.read(name)
        if before is not None:
            steps.append(Step("file", name, before, None))
    for name in (installed.ROOT.lstrip("/"), _service_files.METRICS):
        if os.path.isdir(host.path(name)):
            steps.append(Step("directory", name, "present", None))
    if wanted.forget and os.path.isdir(host.path(DEFAULT_STATE_DIR)) and not recorded(host):
        steps.append(Step("directory", DEFAULT_STATE_DIR.lstrip("/"), "present", None))
    if _runs(host, SERVICE):
        steps.insert(0, Step("service", SERVICE, "active", None))
    return steps


def carry_out(host: Host, steps: List[Step], wanted: Wanted, archive: str = "") -> None:
    """Install or remove what the steps say; ``archive`` has the files of a package.

    Raises OSError, zipfile.BadZipFile, and subprocess.CalledProcessError of systemctl.
    """
    before, made = host.target(installed.CURRENT), _made(host)
    for step in steps:
        if step.kind == "package":
            made += _put(host.path(step.path), lambda new: _unpack(archive, new))
        else:
            made += _carry_out(host, step, wanted.interpreter)
    _reload(host, steps)
    if wanted.present:
        _forget_old(host, before)
        made = [path for path in made if not path.startswith(host.path(installed.ROOT))]  # that goes as a whole
        if made != _made(host):
            text = "".join(f"{path}\n" for path in made)
            _put(host.path(_MADE), lambda new: _write(new, Step("file", _MADE, None, text)))
    else:
        # The hosts files of namespaces were in etc/netns, which ip itself does not make.
        for path in [*sorted(made, key=len, reverse=True), *([host.path("etc/netns")] if wanted.forget else [])]:
            with contextlib.suppress(OSError):  # somebody else has put something there
                os.rmdir(path)


def _carry_out(host: Host, step: Step, interpreter: str) -> List[str]:
    """One step, but for the start of the service, which comes last. The directories that it took."""
    path, after = host.path(step.path), step.after
    if step.kind == "service":
        if after is None:
            _systemctl("stop", step.path)
    elif step.kind == "directory":
        shutil.rmtree(path)
    elif after is None:
        os.unlink(path)
    elif step.kind == "link":
        if step.path == installed.CURRENT.lstrip("/"):
            _compile(host.path(os.path.join(installed.ROOT, after)), interpreter)
        return _put(path, lambda new: os.symlink(after, new))
    else:
        return _put(path, lambda new: _write(new, step))
    return []


def _reload(host: Host, steps: List[Step]) -> None:
    """Have systemd and udev read what was changed, and start the service if it is to run."""
    if host.has_systemd and any(step.path.startswith("etc/systemd") for step in steps):
        _systemctl("daemon-reload")
    rules = (_service_files.UDEV, _service_files.LINK)
    if host.has_systemd and any(step.path in rules for step in steps) and shutil.which("udevadm"):
        programs.run(["udevadm", "control", "--reload"])
    for step in steps:
        if step.kind == "service" and step.after:
            _systemctl("restart", step.path)


def _made(host: Host) -> List[str]:
    """The directories that were not there before us."""
    return (host.read(_MADE) or "").splitlines()


def _put(path: str, make: Callable[[str], None]) -> List[str]:
    """Make something beside its place, then put it there at once: there is never half of it. The directories that it took."""
    made, above = [], os.path.dirname(path)
    while not os.path.isdir(above):
        made.append(above)
        above = os.path.dirname(above)
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    new = f"{path}.netops-new"
    if os.path.isdir(new) and not os.path.islink(new):
        shutil.rmtree(new)
    elif os.path.lexists(new):
        os.unlink(new)
    make(new)
    os.replace(new, path)
    return made


def _write(path: str, step: Step) -> None:
    with open(
        os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8"
    ) as file:
        file.write(step.after or "")
        os.fchmod(file.fileno(), step.mode)
        file.flush()
        os.fsync(file.fileno())


def _unpack(archive: str, path: str) -> None:
    with zipfile.ZipFile(archive) as file:
        file.extractall(path)


def _compile(directory: str, interpreter: str) -> None:
    """For the boot, when every tenth of a second counts; without it, it works as well."""
    programs.run([interpreter, "-I", "-m", "compileall", "-q", directory])


def _forget_old(host: Host, before: Optional[str]) -> None:
    """Versions that are neither in use nor were until now: somebody may still be running that one."""
    keep = {host.target(installed.CURRENT), before}
    for name in os.listdir(host.path(installed.ROOT)):
        path = os.path.join(host.path(installed.ROOT), name)
        if name not in keep and os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path, ignore_errors=True)


def _systemctl(*words: str) -> None:
    programs.run(["systemctl", *words]).check_returncode()
