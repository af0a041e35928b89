# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
network() { docker network create -d macvlan -o parent=trunk.50 --subnet 10.50.0.0/24 "$@" b > /dev/null; }
start() { docker run -d --name web --network b "$@" busybox sleep 600 > /dev/null; }
inside() { nsenter -n -t "$(docker inspect -f '{{.State.Pid}}' web)" "$@"; }

clean() { docker rm -f web > /dev/null 2>&1 || true; docker network rm b c > /dev/null 2>&1 || true; for l in mine trunk; do ip link del $l 2> /dev/null || true; done; ip netns del wire 2> /dev/null || true; }

version() { docker version -f '{{.Server.Version}}'; }
check() { docker network create --dry-run -d macvlan -o parent=trunk.50 --subnet 10.50.0.0/24 b; gone trunk.50; }
undo() { network; docker undo; gone trunk.50; }
quiet_parent() { network; start; quiet trunk.50; }
heal() { network; start; pid=$(docker inspect -f '{{.State.Pid}}' web); inside ip link del eth0; wait_for "nsenter -n -t $pid ip link show eth0"; }
others() { network; ip link add mine link trunk.50 type macvlan mode bridge; docker network rm b > /dev/null; ip -br link show mine; }
several() { network; start --ip 10.50.0.7 --ip 10.50.0.8; inside ip -o -4 addr show dev eth0; [ "$(inside ip -o -4 addr show dev eth0 | wc -l)" -ge 2 ]; }
mac_list() { network -o macvlan_mode=source; }
rate() { network; start --network-rate 8mbit; }
vlan_list() { docker network create -d macvlan -o parent=trunk.50,trunk.51,trunk.52 --subnet 10.50.0.0/24 b; }
slaac() { router; network --ipv6 --subnet 2001:db8:50::/64; start; sleep 5; inside ip -o -6 addr show dev eth0 scope global; inside ip -o -6 addr show dev eth0 | grep dynamic; }
source_routing() { network; docker network create -d macvlan -o parent=trunk.60 --subnet 10.60.0.0/24 c > /dev/null; start; docker network connect c web; inside ip rule; inside ip rule | grep 'from 10'; }
tap() { docker network create -d macvtap -o parent=trunk.50 --subnet 10.50.0.0/24 b; }
dns() { network; start --dns 192.0.2.53; docker exec web cat /etc/resolv.conf; docker exec web cat /etc/resolv.conf | grep 192.0.2.53; }
