# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# It wants the network namespace of process 1, so it gets a process namespace of its own.
ifstate() { PYTHONPATH=$HERE/../../.cache/peers/ifstate unshare --pid --fork --mount-proc /opt/venv/bin/python -m ifstate.ifstate "$@"; }
fresh() { :; } # it makes the NIC
conf() { printf 'interfaces:\n  trunk: {link: {kind: dummy, state: up}}\n%s\n' "$1" > /run/ifstate.yml; }
VLAN='  trunk.50: {link: {kind: vlan, link: trunk, vlan_id: 50, state: up}}'
macvlan() { printf '%s\n  w: {link: {kind: macvlan, link: trunk.50, macvlan_mode: %s, state: up}%s}\n' "$VLAN" "${2:-bridge}" "${1:+, $1}"; }
apply() { ifstate -c /run/ifstate.yml apply; }

version() { sed -n 's/^Version: //p' "$HERE"/../../.cache/peers/ifstate/ifstate-*.dist-info/METADATA | head -n 1; }
check() { conf "$VLAN"; ifstate -c /run/ifstate.yml check 2>&1 | grep trunk.50; gone trunk.50 > /dev/null; }
undo() { conf "$VLAN"; apply; ifstate -c /run/ifstate.yml undo; gone trunk.50; }
quiet_parent() { conf '  trunk.50: {link: {kind: vlan, link: trunk, vlan_id: 50, state: up}, sysctl: {ipv6: {addr_gen_mode: 1}}}'; apply; quiet trunk.50; }
heal() { conf "$(macvlan)"; apply; ip link del w; wait_for 'ip link show w'; }
others() { conf "$VLAN"; apply; ip link add mine link trunk.50 type macvlan mode bridge; conf ''; apply; ip -br link show mine; }
several() { conf "$(macvlan 'addresses: [10.50.0.2/24, 10.50.0.7/24, 10.50.0.8/24]')"; apply; ip -o -4 addr show dev w; [ "$(ip -o -4 addr show dev w | wc -l)" = 3 ]; }
mac_list() { conf "$(macvlan '' 'source, macvlan_macaddr: "02:00:00:00:00:01"')"; apply; shown '02:00:00:00:00:01' 'ip -d link show w'; }
rate() { conf "$(macvlan 'tc: {qdisc: {kind: tbf, handle: "1:", rate: 8mbit, burst: 65536, limit: 131072}}')"; apply; shown tbf 'tc qdisc show dev w'; }
vlan_list() { conf '  w: {link: {kind: vlan, link: trunk, vlan_id: [50, 51, 52], state: up}}'; apply; }
source_routing() { conf "$(macvlan 'addresses: [10.50.0.2/24]')
routing: {routes: [{to: 0.0.0.0/0, dev: w, via: 10.50.0.1, table: 50}], rules: [{from: 10.50.0.2/32, table: 50, priority: 100}]}"; apply; shown 'from 10.50.0.2' 'ip rule'; }
tap() { conf '  w: {link: {kind: macvtap, link: trunk, macvtap_mode: bridge, state: up}}'; apply; shown macvtap 'ip -d link show w'; }
dns() { conf "$(macvlan 'dns: {nameservers: [192.0.2.53]}')"; apply; }
