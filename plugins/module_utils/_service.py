# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The engine installed on the host: its files, and the steps to install them.

The engine is copied from where this module runs, a directory for each version, and one link says which is in use: a
run that is killed in between leaves the old one whole. The steps are data; check mode does not carry them out.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import pkgutil
import shutil
import stat
from typing import Callable, Dict, List, NamedTuple, Optional

# The engine is imported whole, so that the host gets all of it.
from . import _engine, _manual
from ._engine.core.change import HOST_KINDS, LINK_GROUPS
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

__all__ = ["cli"]  # what the command needs has to be here, so that it can be copied

#: The first Python that the engine runs on.
PYTHON = (3, 9)
_UNIT = f"etc/systemd/system/{SERVICE}"
_WANTED = f"etc/systemd/system/multi-user.target.wants/{SERVICE}"
_UDEV = "etc/udev/rules.d/70-netops-underlay.rules"
_LINK = "etc/systemd/network/05-netops-underlay.link"
_NETWORKD = "etc/systemd/network/05-netops-underlay.network"
_NETWORKD_ROUTES = "etc/systemd/networkd.conf.d/netops-underlay.conf"
_MAN = "usr/local/share/man/man8/underlay.8"
_COMPLETION = "usr/local/share/bash-completion/completions/underlay"
_METRICS = "run/netops-underlay"  # RuntimeDirectory= of the unit
_HEAD = "# Written by netops.underlay, module vlan_service.\n"
#: The directories that this module had to make, to be removed with it if they are empty then.
_MADE = f"{installed.ROOT.lstrip('/')}/directories"

_LAUNCHER = """\
#!{interpreter} -I
# Written by netops.underlay, module vlan_service.
import os
import sys

# Resolved once: a newer version that is installed meanwhile is for the next one.
sys.path.insert(0, os.path.realpath("{current}"))
from _engine.service.cli import main

sys.exit(main())
"""

_SERVICE = (
    _HEAD
    + """\
[Unit]
Description=Underlay networks: {what}
# NICs have their names when udev has settled; what comes later is heard of.
After=local-fs.target network-pre.target systemd-udev-trigger.service systemd-modules-load.service systemd-sysctl.service
Before=network-online.target
RequiresMountsFor={state_dir} {root}

[Service]
Type=notify
ExecStartPre=-/usr/bin/udevadm settle --timeout=30
ExecStart={command} watch --sandboxed{options}
{more}# It is ready once it has looked, after 20 s at most; the boot goes on whatever it found.
TimeoutStartSec=90
# A look that is under way ends by itself.
KillMode=mixed
StateDirectory={state}
StateDirectoryMode=0700
# The metrics, for all to read; they stay while the service is stopped, so that their age tells of it.
RuntimeDirectory={runtime}
RuntimeDirectoryPreserve=yes
UMask=0077

# NET_ADMIN makes links, addresses and routes. SYS_ADMIN enters the namespaces of endpoints and mounts named ones.
# SYS_PTRACE looks at the namespaces of other users' processes. SYS_CHROOT goes to the mounts of the first process, in
# which a named namespace has to appear. NET_BROADCAST hears the events of other namespaces.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_CHROOT CAP_NET_BROADCAST
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
{devices}ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# What it needs of other processes it sees by SYS_PTRACE.
ProtectProc=invisible
# Netlink for the kernel, Unix for systemd and container engines: nothing else.
RestrictAddressFamilies=AF_NETLINK AF_UNIX
IPAddressDeny=any
# In its user namespace the hosts file of a container is written, with the rights of its root and no others.
RestrictNamespaces=net mnt user
RestrictRealtime=yes
# Not RestrictSUIDSGID, which takes openat2 away: by that a container's hosts file is opened without leaving the container.
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallFilter=~@resources
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""
)

_NO_DEVICES = "PrivateDevices=yes\n"
_DEVICES_OF_TAPS = """\
# The nodes of taps are in the host's /dev: MKNOD makes them and CHOWN gives them to their owner. They are never opened here.
CapabilityBoundingSet=CAP_MKNOD CAP_CHOWN
DevicePolicy=closed
DeviceAllow=char-* m
"""

# While they are made, many links are in a group of PRIVATE_GROUPS, 802100000 to 802199999.
_UDEV_RULE = (
    _HEAD
    + """\
# Keep other managers off our links: NetworkManager, and systemd-networkd since 255 (ID_NET_MANAGED_BY) and before (by the file
# 05-netops-underlay.network). And udev runs no program for it: systemd-sysctl would set what the patterns of sysctl.d say, such
# as a laxer rp_filter, and is most of what a link costs. RUN may not be empty; this builtin only looks at names.
SUBSYSTEM=="net", ACTION!="remove", ATTR{{netdev_group}}=="{groups}", \\
  ENV{{NETOPS_UNDERLAY}}="1", ENV{{NM_UNMANAGED}}="1", ENV{{ID_NET_MANAGED_BY}}="netops.underlay", RUN{{builtin}}:="net_id"
"""
)

# An ipvlan link has the MAC of its parent, and a file that names NICs by theirs would be about it too.
_LINK_FILE = (
    _HEAD
    + """\
# See 70-netops-underlay.rules: they keep the name and the MAC that they were made with.
[Match]
Property=NETOPS_UNDERLAY=1

[Link]
NamePolicy=keep
MACAddressPolicy=none
"""
)

_NETWORKD_FILE = (
    _HEAD
    + """\
# See 70-netops-underlay.rules.
[Match]
Property=NETOPS_UNDERLAY=1

[Link]
Unmanaged=yes
"""
)

_NETWORKD_CONF = (
    _HEAD
    + """\
# Else systemd-networkd removes the routes of others from the links that it manages whenever it starts.
[Network]
ManageForeignRoutes=no
"""
)


#: What udev matches (udev(7)): every link that is ours, and PRIVATE_GROUPS, in which links are while they are made.
UDEV_GROUPS = "|".join([*map(str, LINK_GROUPS), "8021[0-9][0-9][0-9][0-9][0-9]"])


class Step(NamedTuple):
    """One thing to do: a ``file`` (text), a ``link`` (its target), a ``directory`` or the ``service`` (its state)."""

    kind: str
    path: str
    before: Optional[str]
    after: Optional[str]
    mode: int = 0o644


class Wanted(NamedTuple):
    interpreter: str
    heal: bool = True
    taps: Optional[bool] = None  # None: if the registry records one
    present: bool = True
    forget: bool = False  # with the service, the registry too, if nothing is recorded in it


def engine() -> Dict[str, str]:
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


def version(files: Dict[str, str]) -> str:
    """The name of a version's directory: no two engines that differ have the same."""
    digest = hashlib.sha256("".join(f"{name}\0{text}\0" for name, text in files.items()).encode())
    return f"{VERSION}-{digest.hexdigest()[:12]}"


class Host:
    """The files of a host below a root that tests may choose, and its systemd where it is the real one."""

    def __init__(self, root: str = "/") -> None:
        self.root = root

    def path(self, name: str) -> str:
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
        try:
            return os.readlink(self.path(name))
        except OSError:
            return None

    def mode(self, name: str) -> int:
        return stat.S_IMODE(os.lstat(self.path(name)).st_mode)

    def service_state(self) -> str:
        done = programs.run(["systemctl", "is-active", SERVICE])
        return "active" if done.stdout.strip() in ("active", "activating", "reloading") else "inactive"


def survey(host: Host, wanted: Wanted) -> List[Step]:
    """The steps, in order; nothing is changed. Raises RegistryError with ``forget``."""
    return _install(host, wanted) if wanted.present else _remove(host, wanted)


def recorded(host: Host) -> List[str]:
    """What stands in the registry, as ``kind name``. Raises RegistryError."""
    records = Registry(host.path(DEFAULT_STATE_DIR)).load()
    return [f"{kind} {key}" for kind in (*ITEM_KINDS, *HOST_KINDS) for key in records.get(kind, {})]


def _install(host: Host, wanted: Wanted) -> List[Step]:
    files = engine()
    directory = f"{installed.ROOT.lstrip('/')}/{version(files)}"
    steps = []
    for name, text in {f"{directory}/_engine/{name}": text for name, text in files.items()}.items():
        steps.append(Step("file", name, host.read(name), text))
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
    for name, (text, mode) in _texts(wanted, _keeps_taps(host) if wanted.taps is None else wanted.taps).items():
        steps.append(Step("file", name, host.read(name), text, mode))
    steps.append(Step("link", _WANTED, host.target(_WANTED), f"../{SERVICE}"))
    changed = [
        step
        for step in steps
        if step.before != step.after or (step.kind == "file" and host.mode(step.path) != step.mode)
    ]
    if host.has_systemd:
        # A version that was copied but is not in use changes nothing for the service.
        stale = any(step.kind == "link" or not step.path.startswith(directory) for step in changed)
        state = host.service_state()
        if stale or state != "active":
            changed.append(
                Step("service", SERVICE, f"{state}, as it was" if stale and state == "active" else state, "active")
            )
    return changed


def _keeps_taps(host: Host) -> bool:
    try:
        endpoints = Registry(host.path(DEFAULT_STATE_DIR)).load().get("endpoint", {})
    except RegistryError:  # what needs the registry will say so
        return False
    return any(record.spec["kind"] == "tap" for record in endpoints.values())


def _texts(wanted: Wanted, taps: bool) -> Dict[str, tuple[str, int]]:
    if wanted.heal:
        what, options, more = (
            "restored at boot, repaired when something is lost",
            "",
            "Restart=on-failure\nRestartSec=2\n",
        )
    else:
        what, options, more = (
            "restored at boot",
            " --no-heal",
            "RemainAfterExit=yes\nRestart=on-failure\nRestartSec=2\n",
        )
    unit = _SERVICE.format(
        what=what, options=options, more=more, command=installed.COMMAND, root=installed.ROOT, state_dir=DEFAULT_STATE_DIR,
        state=os.path.basename(DEFAULT_STATE_DIR), runtime=os.path.basename(_METRICS),
        devices=_DEVICES_OF_TAPS if taps else _NO_DEVICES,
    )  # fmt: skip
    return {
        installed.COMMAND.lstrip("/"): (
            _LAUNCHER.format(interpreter=wanted.interpreter, current=installed.CURRENT),
            0o755,
        ),
        _MAN: (_manual.man(), 0o644),
        _COMPLETION: (_manual.bash(), 0o644),
        _UNIT: (unit, 0o644),
        _UDEV: (_UDEV_RULE.format(groups=UDEV_GROUPS), 0o644),
        _LINK: (_LINK_FILE, 0o644),
        _NETWORKD: (_NETWORKD_FILE, 0o644),
        _NETWORKD_ROUTES: (_NETWORKD_CONF, 0o644),
    }


def _remove(host: Host, wanted: Wanted) -> List[Step]:
    steps = []
    if host.target(_WANTED) is not None:
        steps.append(Step("link", _WANTED, host.target(_WANTED), None))
    for name in _texts(Wanted(""), taps=False):
        before = host.read(name)
        if before is not None:
            steps.append(Step("file", name, before, None))
    for name in (installed.ROOT.lstrip("/"), _METRICS):
        if os.path.isdir(host.path(name)):
            steps.append(Step("directory", name, "present", None))
    if wanted.forget and os.path.isdir(host.path(DEFAULT_STATE_DIR)) and not recorded(host):
        steps.append(Step("directory", DEFAULT_STATE_DIR.lstrip("/"), "present", None))
    if host.has_systemd and host.service_state() == "active":
        steps.insert(0, Step("service", SERVICE, "active", None))
    return steps


def carry_out(host: Host, steps: List[Step], wanted: Wanted) -> None:
    """Raises OSError, and subprocess.CalledProcessError of systemctl."""
    before, made = host.target(installed.CURRENT), _made(host)
    for step in steps:
        if step.kind == "service":
            if step.after is None:
                _systemctl("stop", SERVICE)
        elif step.kind == "directory":
            shutil.rmtree(host.path(step.path))
        elif step.after is None:
            os.unlink(host.path(step.path))
        elif step.kind == "link":
            if step.path == installed.CURRENT.lstrip("/"):
                _compile(host.path(os.path.join(installed.ROOT, step.after)), wanted.interpreter)
            made += _put(host.path(step.path), lambda new, target=step.after: os.symlink(target, new))  # type: ignore[misc]
        else:
            made += _put(host.path(step.path), lambda new, step=step: _write(new, step))  # type: ignore[misc]
    if host.has_systemd and any(step.path.startswith("etc/systemd") for step in steps):
        _systemctl("daemon-reload")
    if host.has_systemd and any(step.path in (_UDEV, _LINK) for step in steps) and shutil.which("udevadm"):
        programs.run(["udevadm", "control", "--reload"])
    if any(step.kind == "service" and step.after for step in steps):
        _systemctl("restart", SERVICE)
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
    if os.path.lexists(new):
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
