# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# Podman and its netavark.
network() { podman network create -d macvlan -o parent=trunk.50 --subnet 10.50.0.0/24 "$@" b > /dev/null; }
start() { run --network b "$@"; }
run() { podman image exists busybox || podman import -q /opt/images/busybox.tar busybox > /dev/null 2>&1; podman run -d --replace --pull never --name web "$@" localhost/busybox sleep 600 > /dev/null; }
inside() { nsenter -n -t "$(podman inspect -f '{{.State.Pid}}' web)" "$@"; }
by_hand() { ip link add link trunk name trunk.50 type vlan id 50; ip link set trunk.50 up; }

version() { echo "podman $(podman version -f '{{.Client.Version}}'), $(/usr/lib/podman/netavark --version)"; }
check() { podman network create --dry-run -d macvlan -o parent=trunk.50 --subnet 10.50.0.0/24 b; gone trunk.50; }
undo() { by_hand; network; podman undo 2>&1 | head -n 1; ! podman network exists b; }
quiet_parent() { network; start; quiet trunk.50; }
heal() { by_hand; network; start; pid=$(podman inspect -f '{{.State.Pid}}' web); inside ip link del eth0; wait_for "nsenter -n -t $pid ip link show eth0"; }
others() { by_hand; network; start; podman rm -f -t 0 web > /dev/null; podman network rm b > /dev/null; ip -br link show trunk.50; }
several() { by_hand; network; run --network b:ip=10.50.0.7,ip=10.50.0.8; inside ip -o -4 addr show dev eth0; [ "$(inside ip -o -4 addr show dev eth0 | wc -l)" -ge 2 ]; }
mac_list() { by_hand; network -o mode=source; start; inside ip -d link show eth0 | grep 'mode source'; }
rate() { by_hand; network; start --network-rate 8mbit; }
vlan_list() { podman network create -d macvlan -o parent=trunk -o vlan=50,51,52 --subnet 10.50.0.0/24 b; }
slaac() { by_hand; router; network --ipv6 --subnet 2001:db8:50::/64; start; sleep 5; inside ip -o -6 addr show dev eth0 scope global; inside ip -o -6 addr show dev eth0 | grep dynamic; }
source_routing() { by_hand; network; ip link add link trunk name trunk.60 type vlan id 60; podman network create -d macvlan -o parent=trunk.60 --subnet 10.60.0.0/24 c > /dev/null; start --network c; inside ip rule; inside ip rule | grep 'from 10'; }
tap() { podman network create -d macvtap -o parent=trunk.50 --subnet 10.50.0.0/24 b; }
dns() { by_hand; network; start --dns 192.0.2.53; podman exec web cat /etc/resolv.conf; podman exec web cat /etc/resolv.conf | grep 192.0.2.53; }
