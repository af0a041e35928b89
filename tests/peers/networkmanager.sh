# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# NetworkManager on a host of its own.
vlan() { nmcli device set trunk managed yes; nmcli connection add type vlan con-name v ifname trunk.50 dev trunk id 50 ipv4.method disabled ipv6.method disabled "$@" > /dev/null; nmcli connection up v > /dev/null; }
macvlan() { vlan; nmcli connection add type macvlan con-name w ifname w dev trunk.50 mode bridge "$@"; nmcli connection up w; }

setup() { apt-get -qq update; DEBIAN_FRONTEND=noninteractive apt-get -qq --yes --no-install-recommends install network-manager > /dev/null 2>&1; systemctl start NetworkManager; }
clean() { for c in w v; do nmcli connection delete $c > /dev/null 2>&1 || true; done; for l in w mine trunk.50 trunk; do ip link del $l 2> /dev/null || true; done; ip netns del wire 2> /dev/null || true; ip rule flush table 50 2> /dev/null || true; }

version() { nmcli --version | sed 's/.*version //'; }
check() { nmcli --dry-run connection add type vlan con-name v ifname trunk.50 dev trunk id 50; gone trunk.50; }
undo() { vlan; nmcli connection undo v; gone trunk.50; }
quiet_parent() { vlan; quiet trunk.50; }
heal() { macvlan ipv4.method manual ipv4.addresses 10.50.0.2/24 ipv6.method disabled > /dev/null; ip link del w; wait_for 'ip link show w'; }
others() { vlan; ip link add mine link trunk.50 type macvlan mode bridge; nmcli connection delete v > /dev/null; sleep 3; ip -br link show mine; }
several() { macvlan ipv4.method manual ipv4.addresses 10.50.0.2/24,10.50.0.7/24,10.50.0.8/24 ipv6.method disabled > /dev/null; ip -o -4 addr show dev w; [ "$(ip -o -4 addr show dev w | wc -l)" = 3 ]; }
mac_list() { vlan; nmcli connection add type macvlan con-name w ifname w dev trunk.50 mode source macvlan.source-mac 02:00:00:00:00:01; }
rate() { macvlan ipv4.method manual ipv4.addresses 10.50.0.2/24 ipv6.method disabled tc.qdiscs 'root tbf rate 1000000 burst 65536 limit 131072' > /dev/null; shown tbf 'tc qdisc show dev w'; }
vlan_list() { nmcli connection add type vlan con-name v ifname trunk.50 dev trunk id 50,51,52; }
slaac() { router; macvlan ipv4.method disabled ipv6.method auto > /dev/null; wait_for 'ip -6 addr show dev w | grep 2001:db8:50:'; shown 'inet6 2001:db8:50:' 'ip -o -6 addr show dev w scope global'; }
source_routing() { macvlan ipv4.method manual ipv4.addresses 10.50.0.2/24 ipv4.routing-rules 'priority 50 from 10.50.0.2 table 50' ipv6.method disabled > /dev/null; shown 'from 10.50.0.2' 'ip rule'; }
tap() { macvlan tap yes ipv4.method disabled ipv6.method disabled > /dev/null; shown macvtap 'ip -d link show w'; }
dns() { macvlan ipv4.method manual ipv4.addresses 10.50.0.2/24 ipv4.dns 192.0.2.53 ipv6.method disabled > /dev/null; wait_for 'grep 192.0.2.53 /etc/resolv.conf'; shown 192.0.2.53 'cat /etc/resolv.conf'; }
