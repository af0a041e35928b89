# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This collection, as its modules have the engine carry out a task.
a() { PYTHONPATH=/opt/collections python3 "$HERE/task.py" "$@"; }
NET='{"name": "b", "driver": "macvlan", "parent": "trunk.50", "subnets": [{"subnet": "10.50.0.0/24"}]}'
network() { a network "${1:-$NET}" > /dev/null; }
endpoint() { a endpoint "{\"network\": \"b\", \"name\": \"w\", \"netns\": \"w\"${1:+, $1}}" > /dev/null; }
underlay() { PYTHONPATH=/opt/collections python3 -c 'import sys; from ansible_collections.netops.underlay.plugins.module_utils._engine.service.cli import main; sys.exit(main())' "$@"; }

version() { sed -n 's/^version: //p' galaxy.yml; }
check() { a network "$NET" --check | grep 'create link trunk.50'; gone trunk.50 > /dev/null 2>&1; }
undo() { network; ip link show trunk.50 > /dev/null; underlay undo 1; gone trunk.50; }
quiet_parent() { network; quiet trunk.50; }
heal() { network; endpoint; (underlay watch > /dev/null 2>&1 &); sleep 4; ip -n w link del eth0; wait_for 'ip -n w addr show dev eth0 | grep 10.50.0.2'; shown 'inet 10.50.0.2/24' 'ip -n w -o addr show dev eth0'; }
others() { network; ip link add mine link trunk.50 type macvlan mode bridge; a network '{"name": "b", "state": "absent"}'; ip -br link show mine; }
several() { network; endpoint '"ipv4_addresses": ["10.50.0.7", "10.50.0.8"]'; ip -n w -o -4 addr show dev eth0; [ "$(ip -n w -o -4 addr show dev eth0 | wc -l)" = 3 ]; }
mac_list() { network '{"name": "b", "driver": "macvlan", "mode": "source", "parent": "trunk.50", "subnets": [{"subnet": "10.50.0.0/24"}]}'; endpoint '"source_macs": ["02:00:00:00:00:01"]'; shown '02:00:00:00:00:01' 'ip -n w -d link show eth0'; }
rate() { network; endpoint '"egress_rate": "8mbit"'; shown 'tbf .*rate 8Mbit' 'tc -n w qdisc show dev eth0'; }
vlan_list() { network '{"name": "b", "driver": "macvlan", "parent": "trunk"}'; endpoint '"vlans": ["50-52"]'; ip -n w -br link; [ "$(ip -n w -br link | grep -c '^eth0\.5[012]@')" = 3 ]; }
slaac() { router; network '{"name": "b", "driver": "macvlan", "parent": "trunk.50", "subnets": [{"subnet": "10.50.0.0/24"}, {"subnet": "2001:db8:50::/64"}]}'; endpoint '"ipv6_address": "slaac"'; wait_for 'ip -n w -6 addr show dev eth0 | grep 2001:db8:50:'; shown 'inet6 2001:db8:50:' 'ip -n w -o -6 addr show dev eth0 scope global'; }
source_routing() { network; endpoint '"source_routing": true'; shown 'from 10.50.0.2' 'ip -n w rule'; }
tap() { network; endpoint '"kind": "tap", "tap_owner": "daemon"'; shown 'daemon' 'ls -l /dev/netops-underlay/b/w'; }
dns() { network; endpoint '"dns": ["192.0.2.53"]'; shown 'nameserver 192.0.2.53' 'ip netns exec w cat /etc/resolv.conf'; }
