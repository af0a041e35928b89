# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Hosts that are whole machines: each a User-Mode Linux with systemd, sshd and a disk of its own, behind one switch.

They really boot, reboot and lose their power. The controller is where this runs, inside `tests/lab/run --rack`:

    with Rack([Host("h1"), Host("h2", root="debian12")]) as rack:
        rack.switch.vlans("h1", "eth1", {10, 20})
        rack.run("ansible-playbook", "site.yml")
        rack["h1"].power_cut()
        rack["h1"].boot()
        print(rack["h1"].ssh("ip -d link").stdout)

What a NIC is cabled to: "mgmt", the network that the controller is in, without tags; "trunk", tagged VLANs only, of
which the port carries none until the switch is configured; "mgmt+trunk", both.
"""

from __future__ import annotations

import ipaddress
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

import processors
from switch import NATIVE, TUN, Switch

KERNEL = Path("/opt/kernel")
LIBRARY = Path("/opt/libraries/xstate.so")
HOSTS = Path("/opt/hosts")
SELF = "../.."  # among the hosts' trees: that of the lab itself, which has Docker and Podman
BOOT = "/lab/boot-host"
BYTECODE = Path(__file__).with_name("guest") / "zipped_bytecode.py"
COMPILED = Path(tempfile.gettempdir(), "zipped-bytecode")  # by it, on any host of this run of the lab
PACKAGES = "usr/lib/python3/dist-packages"  # of a host's own Python
CONTROLLER_NIC = "mgmt"
NETWORK_4 = ipaddress.ip_network("198.51.100.0/24")
NETWORK_6 = ipaddress.ip_network("fd00:51::/64")
FIRST_HOST = 10
DISK = "4G"  # at most: it takes what is written to it
PORTS = {"mgmt": NATIVE, "trunk": None, "mgmt+trunk": NATIVE}
BOOT_TIMEOUT = 180.0
SSH_OPTIONS = (
    "-oBatchMode=yes",
    "-oConnectTimeout=5",
    "-oStrictHostKeyChecking=no",
    "-oUserKnownHostsFile=/dev/null",
    "-oLogLevel=ERROR",
)


class RackError(Exception):
    """A host or the rig does not do what it was asked to."""


@dataclass
class Host:
    name: str
    root: str = "debian13"
    nics: Mapping[str, str] = field(default_factory=lambda: {"eth0": "mgmt", "eth1": "trunk"})
    mem: str = "512M"
    mtu: int = 1500  # the largest that its NICs can be set to
    kernel_args: Sequence[str] = ()

    number: int = field(default=0, init=False)  # what its addresses end in
    position: int = field(default=0, init=False)  # in its rack
    directory: Path = field(default=Path(), init=False)
    key: Path = field(default=Path(), init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False, repr=False)
    _alive: int = field(default=-1, init=False, repr=False)  # a pipe without a writer: it ends with the last process

    @property
    def address(self) -> str:
        return str(NETWORK_4[FIRST_HOST + self.number])

    @property
    def address_6(self) -> str:
        return str(NETWORK_6[FIRST_HOST + self.number])

    def mac(self, nic: str) -> str:
        return f"52:54:00:00:{self.number:02x}:{list(self.nics).index(nic):02x}"

    # --- power ---

    def boot(self, wait: bool = True) -> None:
        if self.is_on:
            raise RackError(f"{self.name} is on already")
        self._gone()
        words = [
            os.fspath(KERNEL / "linux"),
            f"mem={self.mem}",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            f"init={BOOT}",
            f"umid={self.name}",
            f"uml_dir={self.directory}/",
            f"ubd0={self.directory}/disk",
            "con=null",
            "con0=null,fd:1",
            "seccomp=on",
            "pty.legacy_count=0",
            "loglevel=4",
            f"LAB_TREE={HOSTS / self.root}",
            f"LAB_MODULES={KERNEL / 'modules'}",
            f"LAB_SEED={self.directory}/seed",
            f"LAB_BYTECODE={COMPILED}",
            *self.kernel_args,
        ]
        for number, nic in enumerate(self.nics):
            wire = f"transport=bess,dst={self.directory}/{nic},depth=128"
            words.append(f"vec{number}:{wire},mac={self.mac(nic)},mtu={self.mtu}")
        # In a process namespace of its own, so that nothing of it is left when its first process is killed. That is a
        # shell: a first process cannot abort, as a kernel that panics does.
        self._alive, held = os.pipe()
        with open(self.console_file, "ab") as console:
            self._process = subprocess.Popen(
                ["unshare", "--pid", "--fork", "--kill-child", "sh", "-c", '"$@"; exit $?', self.name, *words],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env={"PATH": "/usr/sbin:/usr/bin", "TMPDIR": "/dev/shm", "LD_PRELOAD": os.fspath(LIBRARY)},
                pass_fds=(held,),
                start_new_session=True,
                preexec_fn=lambda: os.sched_setaffinity(0, processors.of_host(self.position)),
            )
        os.close(held)
        if wait:
            self.wait()

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def power_cut(self) -> None:
        """From one moment to the next: what was not on the disk is lost."""
        if self._process is not None:
            self._process.kill()
            self._gone()

    def power_off(self, timeout: float = 90) -> None:
        """As an administrator does it."""
        self.ssh("systemctl poweroff", check=False)
        if self._process is not None:
            self._process.wait(timeout)
            self._gone()

    def _gone(self) -> None:
        """Until the last process is: two kernels on one disk would be the end of it."""
        if self._process is not None:
            self._process.wait()
            self._process = None
            os.read(self._alive, 1)
            os.close(self._alive)

    def reboot(self) -> None:
        before = self.boot_id()
        self.ssh("systemctl reboot", check=False)
        self.wait(not_boot=before)

    def wait(self, timeout: float = BOOT_TIMEOUT, not_boot: str = "") -> None:
        """Until it is up, and, where that is given, in another boot than that one."""
        deadline = time.monotonic() + timeout
        command = "systemctl is-system-running --wait; cat /proc/sys/kernel/random/boot_id"
        while True:
            # A session that began in the boot before may hang, for a host that is cut off does not close it.
            said = self.ssh(command, check=False, timeout=min(timeout, 60)).stdout.split()
            if len(said) == 2 and said[1] != not_boot:
                return
            if not self.is_on:
                self._gone()
                raise RackError(f"{self.name} went off by itself; the last it said:\n{self.console()[-2000:]}")
            if time.monotonic() > deadline:
                raise RackError(f"{self.name} is not up after {timeout:.0f} s; the last:\n{self.console()[-2000:]}")
            time.sleep(0.2)

    # --- what is on it ---

    def ssh(
        self, command: str, *, check: bool = True, stdin: str = "", timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        words = [*self.ssh_words(), f"root@{self.address}", command]
        try:
            done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:  # as ssh itself ends where there is no connection
            done = subprocess.CompletedProcess(words, 255, "", f"no answer in {timeout:.0f} s")
        if check and done.returncode:
            raise RackError(f"{self.name}: {command}: ended with {done.returncode}: {done.stderr.strip()}")
        return done

    def ssh_words(self) -> list[str]:
        return ["ssh", *SSH_OPTIONS, f"-i{self.key}"]

    def boot_id(self) -> str:
        return self.ssh("cat /proc/sys/kernel/random/boot_id").stdout.strip()

    @property
    def console_file(self) -> Path:
        return self.directory / "console"

    def console(self) -> str:
        """What the kernel and systemd said, over all boots."""
        return self.console_file.read_text(errors="replace") if self.console_file.exists() else ""

    # --- what makes it this host ---

    def install(self, directory: Path, key: Path, number: int) -> None:
        """An empty disk, and what the first boot copies to it."""
        self.directory, self.key, self.number = directory, key, number
        seed = directory / "seed"
        files = {
            "etc/hostname": f"{self.name}\n",
            "etc/hosts": f"127.0.0.1 localhost\n::1 localhost\n127.0.1.1 {self.name}\n",
            "root/.ssh/authorized_keys": key.with_suffix(".pub").read_text(),
            f"{PACKAGES}/{BYTECODE.name}": BYTECODE.read_text(),
            f"{PACKAGES}/{BYTECODE.stem}.pth": f"import {BYTECODE.stem}\n",
        }
        for position, nic in enumerate(self.nics):
            match = f"[Match]\nPermanentMACAddress={self.mac(nic)}\n"
            files[f"etc/systemd/network/10-{nic}.link"] = f"{match}[Link]\nName={nic}\nMACAddressPolicy=none\n"
            if position == 0:
                files[f"etc/systemd/network/20-{nic}.network"] = (
                    f"[Match]\nName={nic}\n[Network]\nIPv6AcceptRA=no\n"
                    f"Address={self.address}/{NETWORK_4.prefixlen}\nAddress={self.address_6}/{NETWORK_6.prefixlen}\n"
                    f"Gateway={NETWORK_4[1]}\n"
                )
        for name, content in files.items():
            path = seed / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        (seed / "root/.ssh").chmod(0o700)
        wants = seed / "etc/systemd/system/multi-user.target.wants"
        wants.mkdir(parents=True)
        (wants / "systemd-networkd.service").symlink_to("/usr/lib/systemd/system/systemd-networkd.service")
        subprocess.run(["truncate", f"--size={DISK}", directory / "disk"], check=True)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", directory / "disk"], check=True)


class Rack:
    """The hosts from `with` to its end. They boot at the same time, and are up when its body begins."""

    def __init__(self, hosts: Sequence[Host], *, boot: bool = True, first: int = 1) -> None:
        """`first`: the number of the first host, which its addresses end in."""
        if not KERNEL.is_dir():
            raise RackError("no User-Mode Linux here: start this by tests/lab/run --rack -- COMMAND")
        if len({host.name for host in hosts}) < len(hosts):
            raise RackError("two hosts have the same name")
        for host in hosts:
            if next(iter(host.nics.values())) == "trunk":
                raise RackError(f"{host.name}: its first NIC is the way to it, so it is cabled to mgmt or mgmt+trunk")
        self.hosts = list(hosts)
        self.switch = Switch()
        self._boot = boot
        self._first = first

    def __enter__(self) -> Rack:
        if not os.access(TUN, os.R_OK | os.W_OK):
            raise RackError(f"{TUN} may not be used by this user: be root, or let all users (chmod 666 {TUN})")
        if Path("/sys/class/net", CONTROLLER_NIC).exists():
            raise RackError("another rack is up here: it has the controller's NIC and the addresses")
        # A short path: that of a socket has at most 108 characters.
        self.directory = Path(tempfile.mkdtemp(prefix="rack-"))
        self.key = self.directory / "key"
        COMPILED.mkdir(exist_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.key], check=True)
        self.switch.start()
        try:
            self._cable()
            self.inventory.write_text(self._inventory())
            if self._boot:
                for host in self.hosts:
                    host.boot(wait=False)
                for host in self.hosts:
                    host.wait()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for host in self.hosts:
            host.power_cut()
        self.switch.stop()
        shutil.rmtree(self.directory)

    def __getitem__(self, name: str) -> Host:
        return next(host for host in self.hosts if host.name == name)

    def __iter__(self) -> Iterator[Host]:
        return iter(self.hosts)

    def run(
        self, *command: str, check: bool = True, timeout: float | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """A command of the controller: ansible-playbook finds the hosts by itself."""
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode:
            raise RackError(f"{command[0]} ended with {done.returncode}:\n{done.stdout[-6000:]}\n{done.stderr[-3000:]}")
        return done

    @property
    def environment(self) -> dict[str, str]:
        return {"ANSIBLE_INVENTORY": os.fspath(self.inventory), "ANSIBLE_HOST_KEY_CHECKING": "False"}

    @property
    def inventory(self) -> Path:
        return self.directory / "inventory.ini"

    def _inventory(self) -> str:
        lines = ["[rack]"]
        lines += [f"{host.name} ansible_host={host.address}" for host in self.hosts]
        options = " ".join(SSH_OPTIONS)
        lines += [
            "[rack:vars]",
            "ansible_user=root",
            f"ansible_ssh_private_key_file={self.key}",
            f"ansible_ssh_common_args='{options}'",
            "ansible_python_interpreter=/usr/bin/python3",
        ]
        return "\n".join(lines) + "\n"

    def _cable(self) -> None:
        self.switch.add_tap(CONTROLLER_NIC)
        for words in (
            f"address add {NETWORK_4[1]}/{NETWORK_4.prefixlen} dev {CONTROLLER_NIC}",
            f"address add {NETWORK_6[1]}/{NETWORK_6.prefixlen} dev {CONTROLLER_NIC} nodad",
            f"link set {CONTROLLER_NIC} up",
        ):
            subprocess.run(["ip", *words.split()], check=True)
        for position, host in enumerate(self.hosts):
            host.position = position
            directory = self.directory / host.name
            directory.mkdir()
            for nic, cabled in host.nics.items():
                self.switch.add_host(host.name, nic, directory / nic, PORTS[cabled])
            host.install(directory, self.key, self._first + position)
