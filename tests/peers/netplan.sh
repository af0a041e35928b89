# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# netplan over systemd-networkd, on a host of its own. It has no macvlan, so what a workload has is tried on the sub-interface.
conf() { printf 'network:\n  version: 2\n  ethernets:\n    trunk: {link-local: []}\n%b' "$1" > /etc/netplan/50.yaml; chmod 600 /etc/netplan/50.yaml; }
vlan() { conf "  vlans:\n    trunk.50: {id: 50, link: trunk, link-local: []${1:+, $1}}\n"; }
apply() { netplan apply 2>&1; wait_for 'ip link show trunk.50'; }

setup() { apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install netplan.io > /dev/null 2>&1; }
clean() { systemctl stop systemd-networkd.socket systemd-networkd; rm -f /etc/netplan/* /run/systemd/network/*; for l in w mine trunk.50 trunk; do ip link del $l 2> /dev/null || true; done; ip netns del wire 2> /dev/null || true; ip rule flush table 50 2> /dev/null || true; }

version() { dpkg-query -W -f '${Version}' netplan.io; }
check() { vlan; netplan apply --dry-run; gone trunk.50; }
undo() { vlan; apply; netplan undo; gone trunk.50; }
quiet_parent() { vlan 'accept-ra: false'; apply; quiet trunk.50; }
heal() { vlan; apply; ip link del trunk.50; wait_for 'ip link show trunk.50'; }
others() { vlan; apply; ip link add mine link trunk.50 type macvlan mode bridge; conf ''; netplan apply 2>&1; sleep 3; ip -br link show mine; }
several() { vlan 'addresses: [10.50.0.2/24, 10.50.0.7/24, 10.50.0.8/24]'; apply; wait_for '[ $(ip -o -4 addr show dev trunk.50 | wc -l) = 3 ]'; ip -o -4 addr show dev trunk.50; }
mac_list() { conf "  macvlans:\n    w: {link: trunk, mode: source}\n"; netplan apply; }
rate() { vlan 'egress-rate: 8mbit'; apply; }
vlan_list() { conf "  vlans:\n    trunk.50: {id: [50, 51, 52], link: trunk}\n"; netplan apply; }
slaac() { router; conf '  vlans:\n    trunk.50: {id: 50, link: trunk, link-local: [ipv6], accept-ra: true}\n'; apply; wait_for 'ip -6 addr show dev trunk.50 | grep 2001:db8:50:'; shown 'inet6 2001:db8:50:' 'ip -o -6 addr show dev trunk.50 scope global'; }
source_routing() { vlan 'addresses: [10.50.0.2/24], routing-policy: [{from: 10.50.0.2, table: 50}]'; apply; wait_for 'ip rule | grep "from 10.50.0.2"'; shown 'from 10.50.0.2' 'ip rule'; }
tap() { conf "  macvtaps:\n    w: {link: trunk, mode: bridge}\n"; netplan apply; }
