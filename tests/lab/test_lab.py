# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""Does the lab keep what it promises? Runs on the machine itself: python3 -m pytest tests/lab"""

from __future__ import annotations

import math
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parents[1]
RUN = os.fspath(HERE / "run")
GUEST = ("--kernel", "7.2")
KERNELS_AND_ROOTS = [("7.2", "debian13"), ("7.2", "debian12"), ("6.12", "debian13"), ("6.12", "debian12")]
LINKS = """\
link add base type dummy
link add bond type bond
link add switch type bridge vlan_filtering 1
link add leg type veth peer name leg-peer
link add link base name base.5 type vlan id 5
link add link base name qinq type vlan id 5 protocol 802.1ad
link add link base.5 name endpoint type macvlan mode bridge
link add link base.5 name tap type macvtap mode bridge
link add link leg name shared type ipvlan mode l3s
link add own-table type vrf table 9
netns add space
"""
PROGRAMS = (
    "ansible ansible-playbook ansible-test ansible-doc ansible-galaxy ansible-lint molecule pytest python3 ip bridge "
    "tcpdump podman crun docker dockerd busybox vtysh sshd systemctl ping arping ethtool modprobe nft iperf3 git"
)


def lab(*words: str, status: int = 0, timeout: float = 600) -> str:
    """What a run writes to its standard output."""
    done = subprocess.run([RUN, *words], capture_output=True, timeout=timeout)
    assert done.returncode == status, done.stderr.decode()
    return done.stdout.decode()


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    """So that no test waits for what another one needs."""
    subprocess.run([HERE / "build", "--root", "debian13", "--kernel", "7.2"], check=True)


@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 143), ("exec /etc/passwd", 126)]
)
def test_the_exit_status_is_the_commands(script: str, status: int) -> None:
    lab(*GUEST, "--", "sh", "-c", script, status=status)


def test_a_command_that_is_not_there() -> None:
    done = subprocess.run([RUN, *GUEST, "--", "no-such-command"], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (127, "lab: no-such-command: No such file or directory\n")


def test_the_streams_are_the_commands_and_nothing_else() -> None:
    script = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 999); sys.stderr.write('a\\nb'); sys.stdin.read()"
    done = subprocess.run([RUN, *GUEST, "--", "python3", "-c", script], capture_output=True)
    assert done.stdout == bytes(range(256)) * 999
    assert done.stderr == b"a\nb"


def test_output_comes_as_it_is_written() -> None:
    command = [RUN, *GUEST, "--", "sh", "-c", "echo first; sleep 5; echo last"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == "first\n"
        arrived = time.monotonic()
        assert runner.stdout.readline() == "last\n"
        assert time.monotonic() - arrived > 3


def test_the_checkout_is_the_real_one_and_all_else_is_thrown_away() -> None:
    name = f"written-{uuid.uuid4()}"
    try:
        script = f"echo here > {name} && echo gone > /etc/{name} && cat tests/lab/run && ls -A .cache/lab 2>&1"
        assert lab(*GUEST, "--", "sh", "-c", script) == (HERE / "run").read_text()
        assert (CHECKOUT / name).read_text() == "here\n"
        lab(*GUEST, "--", "test", "-e", f"/etc/{name}", status=1)
    finally:
        (CHECKOUT / name).unlink()


@pytest.mark.parametrize(("kernel", "root"), KERNELS_AND_ROOTS)
def test_drivers_and_programs(kernel: str, root: str) -> None:
    script = f"set -e\nuname -r\ncommand -v {PROGRAMS} | wc -l\nip -batch - <<END\n{LINKS}END\n"
    script += "ip netns exec space ip link show lo; ip link show qinq"
    version, programs, *links = lab("--kernel", kernel, "--root", root, "--", "bash", "-c", script).splitlines()
    assert version.startswith(kernel)
    assert int(programs) == len(PROGRAMS.split())
    assert "lo:" in links[0]
    assert "qinq@base" in links[2]


@pytest.mark.parametrize(("root", "version"), [("debian13", "2.21"), ("debian12", "2.19")])
def test_the_collection_and_its_controller(root: str, version: str) -> None:
    script = """
        ansible --version | head -n 1
        ansible-galaxy collection list netops.underlay --format json
        ansible localhost -m ansible.builtin.ping
        python3 -c 'import netaddr, pyroute2, hypothesis, xdist, pytest_timeout; print(pyroute2.__version__)'
        PYTHONPATH=/opt/pyroute2-0.7 python3 -c 'import pyroute2; print(pyroute2.__version__, pyroute2.__file__)'
        /usr/bin/python3 -c 'import pyroute2'
        """
    done = subprocess.run([RUN, *GUEST, "--root", root, "--", "bash", "-c", script], capture_output=True, text=True)
    assert f"core {version}." in done.stdout
    assert "/opt/collections" in done.stdout
    assert "pong" in done.stdout
    assert "\n0.9." in done.stdout
    assert "\n0.7." in done.stdout
    assert "/opt/pyroute2-0.7/" in done.stdout
    assert "No module named 'pyroute2'" in done.stderr


def test_nothing_reaches_the_outside() -> None:
    script = "ip -o link; ip route show table all default; ip -6 route show table all default; ping -c 1 -W 1 192.0.2.1"
    done = subprocess.run([RUN, *GUEST, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    assert done.returncode == 2
    assert [line.split(": ")[1] for line in done.stdout.splitlines()] == ["lo"]


def test_the_machine_is_one() -> None:
    script = (
        "hostname; date +%s; ip -br address show lo; echo through | cat /dev/stdin; echo $K; "
        "stat -f -c %T /sys/fs/cgroup /tmp; python3 -c 'import pty; pty.spawn([\"tty\"])'"
    )
    words = lab(*GUEST, "--env", "K=V", "--mem", "1G", "--", "bash", "-c", script).split()
    assert words[0] == "lab"
    assert abs(int(words[1]) - time.time()) < 30
    assert {"127.0.0.1/8", "::1/128"} <= set(words)
    assert words[-5:] == ["through", "V", "cgroup2fs", "tmpfs", "/dev/pts/0"]


def test_without_ipv6() -> None:
    lab(*GUEST, "--kernel-arg", "ipv6.disable=1", "--", "sh", "-c", "! ip -6 address add fd00::1/64 dev lo 2>/dev/null")


def test_two_at_once() -> None:
    command = [RUN, *GUEST, "--", "sh", "-c", "echo $$ > /tmp/mine; sleep 2; ls /tmp"]
    runners = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [runner.communicate()[0] for runner in runners] == ["mine\n"] * 2


@pytest.fixture
def marker() -> str:
    """A word that every process of a run has in its command line."""
    return f"lab.test={uuid.uuid4()}"


def processes(word: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in command:
            found.append(command)
    return found


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_an_end_leaves_nothing_behind(number: int, status: int, marker: str, tmp_path: Path) -> None:
    def surroundings() -> tuple[list[str], list[str]]:
        # Others use the machine too: of its mounts, those that a run makes.
        mounts = Path("/proc/self/mounts").read_text().splitlines()
        return [line for line in mounts if "lab" in line or "hostfs" in line], sorted(os.listdir("/sys/class/net"))

    before = surroundings()
    command = [RUN, *GUEST, "--kernel-arg", marker, "--", "sh", "-c", "ip link add d0 type dummy; echo up; sleep 999"]
    environment = {**os.environ, "TMPDIR": os.fspath(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as runner:
        assert runner.stdout
        assert runner.stdout.readline() == "up\n"
        assert len(processes(marker)) > 1
        runner.send_signal(number)
        assert runner.wait(20) == status
    deadline = time.monotonic() + (5 if number == signal.SIGKILL else 0)
    while processes(marker) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes(marker) == []
    assert surroundings() == before
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_goes_away_ends_the_run(marker: str) -> None:
    with subprocess.Popen([RUN, *GUEST, "--kernel-arg", marker, "--", "yes"], stdout=subprocess.PIPE) as runner:
        assert runner.stdout
        assert runner.stdout.read(2) == b"y\n"
        runner.stdout.close()
        assert runner.wait(20) != 0
    assert processes(marker) == []


def test_a_guest_that_breaks_says_so() -> None:
    command = [RUN, *GUEST, "--", "sh", "-c", "echo c > /proc/sysrq-trigger; sleep 60"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 125
    assert "the guest ended by itself" in done.stderr
    assert "sysrq triggered crash" in done.stderr


@pytest.mark.parametrize("kernel", ["7.2", "6.12"])
def test_a_processor_with_amx(kernel: str) -> None:
    """Several programs at once compute, each with registers of its own."""
    script = "for n in 1 2 3 4; do python3 -c 'import math; print(math.fsum(math.sin(i) for i in range(100000)))' & done; wait"
    expected = math.fsum(math.sin(i) for i in range(100000))
    for libraries in ("xstate", "xstate,amx"):
        said = lab("--kernel", kernel, "--preload", libraries, "--", "sh", "-c", script).split()
        assert [float(word) for word in said] == pytest.approx([expected] * 4, abs=1e-9)


def test_a_guest_that_cannot_boot_says_why() -> None:
    command = [RUN, "--kernel", "6.12", "--preload", "amx", "--", "true"]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 125
    assert "ptrace set fp regs failed, errno = 14" in done.stderr


ANSIBLE = (
    "--",
    "sh",
    "-c",
    "ansible localhost -m ansible.builtin.setup >/dev/null 2>&1 && find /usr/lib -type f -exec cat {} + | wc -c",
)


def test_the_soft_limit_of_open_files_is_raised() -> None:
    limit = ["sh", "-c", 'ulimit -Sn 1024; exec "$@"', "limit"]
    done = subprocess.run([*limit, RUN, *GUEST, *ANSIBLE], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_low_hard_limit_is_lived_with_and_named() -> None:
    limit = [
        "setpriv",
        "--bounding-set=-sys_resource",
        "--inh-caps=-sys_resource",
        "sh",
        "-c",
        'ulimit -n 1024; exec "$@"',
        "limit",
    ]
    done = subprocess.run([*limit, RUN, *GUEST, *ANSIBLE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("lab: only 1024 files may be open at once, and a guest may want 8192")


def test_other_processors_are_refused() -> None:
    for command in ("run", "build"):
        done = subprocess.run(["setarch", "i686", HERE / command, "--", "true"], capture_output=True, text=True)
        assert done.returncode == 125
        assert (
            done.stderr
            == "lab: the lab runs on x86-64 only: User-Mode Linux, its kernel, does not exist for this machine's i686\n"
        )


HOSTS = """
    set -e
    ip link add tor type bridge vlan_filtering 1
    ip link set tor up
    for n in 1 2; do
        podman run --name h$n --detach --privileged --systemd=always --network none --rootfs "$1:O" /sbin/init >&2
        ip link add port$n type veth peer name eth1 netns $(podman inspect -f '{{.State.Pid}}' h$n)
        ip link set port$n master tor up
        bridge vlan add vid 20 dev port$n
    done
    for n in 1 2; do
        until podman exec h$n systemctl is-system-running 2>/dev/null | grep -E 'running|degraded'; do sleep 1; done
        podman exec h$n ip link set eth1 up
        for vlan in 20 30; do
            podman exec h$n ip link add link eth1 name eth1.$vlan up type vlan id $vlan
            podman exec h$n ip address add 10.0.$vlan.$n/24 dev eth1.$vlan
        done
    done
    podman exec h1 ping -q -c 2 10.0.20.2 >&2 && echo carried
    podman exec h1 ping -q -c 2 -W 1 10.0.30.2 >&2 || echo not carried
    podman exec h1 python3 -c 'import pyroute2' 2>/dev/null || echo not installed
    podman exec h1 apt-get --quiet update >&2
    podman exec h1 apt-get --quiet --yes install python3-pyroute2 python3-netaddr frr kmod iproute2 >&2
    podman exec h1 python3 -c 'import netaddr, pyroute2; print(*pyroute2.IPRoute().link_lookup(ifname="eth1.20"))' >&2
    podman exec h1 systemctl is-active frr ssh
"""


@pytest.mark.parametrize("root", ["debian13", "debian12"])
def test_two_hosts_behind_a_switch(root: str) -> None:
    said = lab(*GUEST, "--host", root, "--", "bash", "-c", HOSTS, "hosts", f"/opt/hosts/{root}").splitlines()
    assert said == ["running", "running", "carried", "not carried", "not installed", "active", "active"]


DOCKER = """
    set -e
    tests/lab/dockerd start
    ip link add trunk type dummy
    ip link set trunk up
    docker network create -d macvlan --subnet 10.9.0.0/24 -o parent=trunk.7 seven >&2
    docker network create -d ipvlan --subnet 10.8.0.0/24 -o parent=trunk.8 eight >&2
    docker run --rm --network seven busybox ip -4 -o address show eth0
    docker run --rm --network eight busybox ip -4 -o address show eth0
    tests/lab/dockerd stop
    ! pidof dockerd
"""


@pytest.mark.parametrize("root", ["debian13", "debian12"])
def test_docker_works_without_a_registry(root: str) -> None:
    first, second = lab(*GUEST, "--root", root, "--", "bash", "-c", DOCKER).splitlines()
    assert "10.9.0.2/24" in first
    assert "10.8.0.2/24" in second


@pytest.mark.parametrize("kernel", ["7.2", "6.12"])
def test_the_fleet(kernel: str) -> None:
    """Its tests run in it."""
    rack = ("--rack", "--kernel", kernel, "--host", "debian13", "--host", "debian12")
    lab(*rack, "--", "pytest", "-q", "-p", "no:cacheprovider", "tests/lab/test_rack.py")


def test_cleaning_and_half_made_trees(tmp_path: Path) -> None:
    """A tree that was never finished does not count, and --clean leaves nothing."""
    cache = tmp_path / "cache"
    environment = {**os.environ, "UNDERLAY_LAB_CACHE": os.fspath(cache)}
    half_made = cache / "kernel-7.2.half-made"
    half_made.mkdir(parents=True)
    (half_made / "linux").write_text("not a kernel")
    script = "import trees; trees.build([trees.kernel('7.2')]); print(trees.kernel('7.2').path)"
    command = ["python3", "-c", script]
    pipe = subprocess.PIPE
    made = [subprocess.Popen(command, cwd=HERE, env=environment, stdout=pipe, stderr=pipe, text=True) for _ in range(2)]
    (path, said), (same_path, also_said) = [maker.communicate() for maker in made]
    assert path == same_path
    assert (said + also_said).count("kernel 7.2") == 1
    assert (Path(path.strip()) / "linux").stat().st_size > 1 << 20
    assert not half_made.exists()
    subprocess.run([HERE / "build", "--clean"], env=environment, check=True)
    assert not cache.exists()
