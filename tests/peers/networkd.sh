# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# systemd-networkd on a host of its own.
D=/etc/systemd/network
unit() { printf '%b' "$2" > "$D/$1"; }
base() { # more of trunk.50.network
    unit 20-trunk.network "[Match]\nName=trunk\n[Network]\nLinkLocalAddressing=no\nVLAN=trunk.50\n"
    unit 10-50.netdev "[NetDev]\nName=trunk.50\nKind=vlan\n[VLAN]\nId=50\n"
    unit 30-50.network "[Match]\nName=trunk.50\n[Network]\nLinkLocalAddressing=no\nIPv6AcceptRA=no\nMACVLAN=w\n"
}
macvlan() { base; unit 11-w.netdev "[NetDev]\nName=w\nKind=macvlan\n[MACVLAN]\nMode=${2:-bridge}\n"; unit 31-w.network "[Match]\nName=w\n$1"; }
apply() { systemctl restart systemd-networkd; wait_for "networkctl status ${1:-w} | grep -E 'State: (routable|degraded|carrier)'"; }

setup() { :; }
clean() { systemctl stop systemd-networkd.socket systemd-networkd; rm -f $D/*; mkdir -p $D; for l in w mine trunk.50 trunk.51 trunk.52 trunk; do ip link del $l 2> /dev/null || true; done; ip netns del wire 2> /dev/null || true; ip rule flush table 50 2> /dev/null || true; }

version() { networkctl --version | head -n 1; }
check() { base; networkctl --dry-run reload; gone trunk.50; }
undo() { base; apply trunk.50; networkctl undo; gone trunk.50; }
quiet_parent() { base; sed -i /MACVLAN/d $D/30-50.network; apply trunk.50; quiet trunk.50; }
heal() { macvlan "[Network]\nAddress=10.50.0.2/24\n"; apply; ip link del w; wait_for 'ip link show w'; }
others() { macvlan ""; apply; ip link add mine link trunk.50 type macvlan mode bridge; rm $D/*; networkctl reload; systemctl restart systemd-networkd; sleep 3; ip -br link show mine; }
several() { macvlan "[Network]\nAddress=10.50.0.2/24\nAddress=10.50.0.7/24\nAddress=10.50.0.8/24\n"; apply; wait_for '[ $(ip -o -4 addr show dev w | wc -l) = 3 ]'; ip -o -4 addr show dev w; }
mac_list() { macvlan "" "source\nSourceMACAddress=02:00:00:00:00:01"; apply; shown '02:00:00:00:00:01' 'ip -d link show w'; }
rate() { macvlan "[Network]\nAddress=10.50.0.2/24\n[TokenBucketFilter]\nRate=8M\nBurstBytes=64K\nLimitBytes=128K\n"; apply; wait_for 'tc qdisc show dev w | grep tbf'; shown tbf 'tc qdisc show dev w'; }
vlan_list() { base; unit 20-trunk.network "[Match]\nName=trunk\n[Network]\nVLAN=trunk.50 trunk.51 trunk.52\n"; unit 10-50.netdev "[NetDev]\nName=trunk.50\nKind=vlan\n[VLAN]\nId=50-52\n"; apply trunk; journalctl -u systemd-networkd -b | grep -i 'invalid\|failed\|parse' | tail -n 1; ip link show trunk.52; }
slaac() { router; macvlan "[Network]\nIPv6AcceptRA=yes\n"; apply; wait_for 'ip -6 addr show dev w | grep 2001:db8:50:'; shown 'inet6 2001:db8:50:' 'ip -o -6 addr show dev w scope global'; }
source_routing() { macvlan "[Network]\nAddress=10.50.0.2/24\n[RoutingPolicyRule]\nFrom=10.50.0.2\nTable=50\n[Route]\nGateway=10.50.0.1\nTable=50\n"; apply; wait_for 'ip rule | grep "from 10.50.0.2"'; shown 'from 10.50.0.2' 'ip rule'; }
tap() { base; sed -i 's/MACVLAN=w/MACVTAP=w/' $D/30-50.network; unit 11-w.netdev "[NetDev]\nName=w\nKind=macvtap\n[MACVTAP]\nMode=bridge\n"; systemctl restart systemd-networkd; wait_for 'ip link show w'; shown macvtap 'ip -d link show w'; }
