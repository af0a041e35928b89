# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""The host's own engine: which files make it, and what of them is not there yet.

The engine is copied from where this module runs, a directory for each version, and one link says which is in use: a
run that is killed in between leaves the old one whole. What is to be done is data; check mode is the same, not done.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pkgutil
import shutil
import stat
from typing import Callable, Dict, List, NamedTuple, Optional

from . import _engine
from ._engine import cli, installed, programs
from ._engine.converge import SERVICE
from ._engine.registry import SCHEMA
from ._engine.transact import DEFAULT_STATE_DIR
from ._engine.version import VERSION
from ._engine.world import LINK_GROUP

__all__ = ["cli"]  # what the command needs has to be here, so that it can be copied

#: The first Python that the engine runs on.
PYTHON = (3, 9)
_UNIT = f"etc/systemd/system/{SERVICE}"
_WANTED = f"etc/systemd/system/multi-user.target.wants/{SERVICE}"
_UDEV = "etc/udev/rules.d/70-netops-underlay.rules"
_LINK = "etc/systemd/network/05-netops-underlay.link"
_NETWORKD = "etc/systemd/network/05-netops-underlay.network"
_NETWORKD_ROUTES = "etc/systemd/networkd.conf.d/netops-underlay.conf"
_HEAD = "# Written by netops.underlay, module vlan_service.\n"

_LAUNCHER = """\
#!{interpreter} -I
# Written by netops.underlay, module vlan_service.
import os
import sys

# Resolved once: a newer version that is installed meanwhile is for the next one.
sys.path.insert(0, os.path.realpath("{current}"))
from _engine.cli import main

sys.exit(main())
"""

_SERVICE = _HEAD + """\
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
{more}TimeoutStartSec=300
# A look that is under way ends by itself.
KillMode=mixed
StateDirectory={state}
StateDirectoryMode=0700
UMask=0077

# NET_ADMIN makes links, addresses and routes. SYS_ADMIN enters the namespaces of endpoints and mounts named ones.
# SYS_PTRACE looks at the namespaces of other users' processes. SYS_CHROOT goes to the mounts of the first process, in
# which a named namespace has to appear. NET_BROADCAST hears the events of other namespaces. DAC_OVERRIDE writes the
# hosts file of a container whose root is another user.
CapabilityBoundingSet=CAP_NET_ADMIN CAP_SYS_ADMIN CAP_SYS_PTRACE CAP_SYS_CHROOT CAP_NET_BROADCAST CAP_DAC_OVERRIDE
AmbientCapabilities=
NoNewPrivileges=yes
ProtectSystem=strict
ReadWritePaths={writable}
ProtectHome=yes
PrivateTmp=yes
PrivateMounts=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
# What it needs of other processes it sees by SYS_PTRACE.
ProtectProc=invisible
# Netlink for the kernel, Unix for systemd and container engines: it talks to nobody else.
RestrictAddressFamilies=AF_NETLINK AF_UNIX
IPAddressDeny=any
RestrictNamespaces=net mnt
RestrictRealtime=yes
# Not RestrictSUIDSGID, which takes openat2 away: by that a container's hosts file is opened without leaving the container.
LockPersonality=yes
MemoryDenyWriteExecute=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service @mount
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""

# While they are made, many links stand in a group of their own, which begins with the same digits.
_UDEV_RULE = _HEAD + """\
# What is ours is nobody else's: NetworkManager, and systemd-networkd since 255 (ID_NET_MANAGED_BY) and before (by the file
# 05-netops-underlay.network). And udev runs no program for it: systemd-sysctl would set what the patterns of sysctl.d say, such
# as a laxer rp_filter, and is most of what a link costs. RUN may not be empty; this builtin only looks at names.
SUBSYSTEM=="net", ACTION!="remove", ATTR{{netdev_group}}=="{group}|80210*|80211*", \\
  ENV{{NETOPS_UNDERLAY}}="1", ENV{{NM_UNMANAGED}}="1", ENV{{ID_NET_MANAGED_BY}}="netops.underlay", RUN{{builtin}}:="net_id"
"""

# An ipvlan link has the MAC of its parent, and a file that names NICs by theirs would be about it too.
_LINK_FILE = _HEAD + """\
# See 70-netops-underlay.rules: they keep the name and the MAC that they were made with.
[Match]
Property=NETOPS_UNDERLAY=1

[Link]
NamePolicy=keep
MACAddressPolicy=none
"""

_NETWORKD_FILE = _HEAD + """\
# See 70-netops-underlay.rules.
[Match]
Property=NETOPS_UNDERLAY=1

[Link]
Unmanaged=yes
"""

_NETWORKD_CONF = _HEAD + """\
# Else systemd-networkd removes the routes of others from the links that it manages whenever it starts.
[Network]
ManageForeignRoutes=no
"""


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
    present: bool = True


def engine() -> Dict[str, str]:
    """The engine's files, from wherever this runs: a checkout, a collection, or the archive that Ansible sends."""
    found = {}
    for module in pkgutil.iter_modules(_engine.__path__):
        found[f"{module.name}.py"] = _source(f"{_engine.__name__}.{module.name}")
    found["__init__.py"] = _source(_engine.__name__)
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
    """What is to be done, in its order; nothing is touched."""
    return _install(host, wanted) if wanted.present else _remove(host)


def _install(host: Host, wanted: Wanted) -> List[Step]:
    files = engine()
    directory = f"{installed.ROOT.lstrip('/')}/{version(files)}"
    steps = []
    for name, text in {f"{directory}/_engine/{name}": text for name, text in files.items()}.items():
        steps.append(Step("file", name, host.read(name), text))
    steps.append(Step("file", f"{directory}/{installed.SCHEMA_FILE}", host.read(f"{directory}/{installed.SCHEMA_FILE}"), f"{SCHEMA}\n"))
    steps.append(Step("link", installed.CURRENT.lstrip("/"), host.target(installed.CURRENT), os.path.basename(directory)))
    for name, (text, mode) in _texts(wanted).items():
        steps.append(Step("file", name, host.read(name), text, mode))
    steps.append(Step("link", _WANTED, host.target(_WANTED), f"../{SERVICE}"))
    changed = [step for step in steps if step.before != step.after or (step.kind == "file" and host.mode(step.path) != step.mode)]
    if host.has_systemd:
        # A version that was copied but is not in use changes nothing for the service.
        stale = any(step.kind == "link" or not step.path.startswith(directory) for step in changed)
        state = host.service_state()
        if stale or state != "active":
            changed.append(Step("service", SERVICE, f"{state}, as it was" if stale and state == "active" else state, "active"))
    return changed


def _texts(wanted: Wanted) -> Dict[str, tuple[str, int]]:
    if wanted.heal:
        what, options, more = "restored at boot, healed when something is lost", "", "Restart=on-failure\nRestartSec=2\n"
    else:
        what, options, more = "restored at boot", " --no-heal", "RemainAfterExit=yes\nRestart=on-failure\nRestartSec=2\n"
    writable = "-/var/lib/prometheus/node-exporter -/var/lib/node_exporter/textfile_collector"
    unit = _SERVICE.format(
        what=what, options=options, more=more, command=installed.COMMAND, root=installed.ROOT, state_dir=DEFAULT_STATE_DIR,
        state=os.path.basename(DEFAULT_STATE_DIR), writable=writable,
    )  # fmt: skip
    return {
        installed.COMMAND.lstrip("/"): (_LAUNCHER.format(interpreter=wanted.interpreter, current=installed.CURRENT), 0o755),
        _UNIT: (unit, 0o644),
        _UDEV: (_UDEV_RULE.format(group=LINK_GROUP), 0o644),
        _LINK: (_LINK_FILE, 0o644),
        _NETWORKD: (_NETWORKD_FILE, 0o644),
        _NETWORKD_ROUTES: (_NETWORKD_CONF, 0o644),
    }


def _remove(host: Host) -> List[Step]:
    steps = []
    if host.target(_WANTED) is not None:
        steps.append(Step("link", _WANTED, host.target(_WANTED), None))
    for name in _texts(Wanted("")):
        before = host.read(name)
        if before is not None:
            steps.append(Step("file", name, before, None))
    if os.path.isdir(host.path(installed.ROOT)):
        steps.append(Step("directory", installed.ROOT.lstrip("/"), "present", None))
    if host.has_systemd and host.service_state() == "active":
        steps.insert(0, Step("service", SERVICE, "active", None))
    return steps


def carry_out(host: Host, steps: List[Step], wanted: Wanted) -> None:
    """Raises OSError, and subprocess.CalledProcessError of systemctl."""
    before = host.target(installed.CURRENT)
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
            _put(host.path(step.path), lambda new, target=step.after: os.symlink(target, new))  # type: ignore[misc]
        else:
            _put(host.path(step.path), lambda new, step=step: _write(new, step))  # type: ignore[misc]
    if host.has_systemd and any(step.path.startswith("etc/systemd") for step in steps):
        _systemctl("daemon-reload")
    if host.has_systemd and any(step.path in (_UDEV, _LINK) for step in steps) and shutil.which("udevadm"):
        programs.run(["udevadm", "control", "--reload"])
    if any(step.kind == "service" and step.after for step in steps):
        _systemctl("restart", SERVICE)
    if wanted.present:
        _forget_old(host, before)


def _put(path: str, make: Callable[[str], None]) -> None:
    """Make something beside its place, then put it there at once: there is never half of it."""
    os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
    new = f"{path}.netops-new"
    if os.path.lexists(new):
        os.unlink(new)
    make(new)
    os.replace(new, path)


def _write(path: str, step: Step) -> None:
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as file:
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
