# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# The reference plugins, called as a runtime calls them: each by itself, the first one's result handed to a chained one.
BIN=$HERE/../../.cache/peers/cni/usr/lib/cni
plugin() { # command, plugin, configuration
    local said status=0
    said=$(CNI_COMMAND=$1 CNI_CONTAINERID=w CNI_NETNS=/run/netns/w CNI_IFNAME=eth0 CNI_PATH=$BIN "$BIN/$2" <<< "$3") || status=$?
    echo $said # on one line
    return $status
}
by_hand() { ip netns add w; ip link add link trunk name trunk.50 type vlan id 50; ip link set trunk.50 up; }
conf() { echo "{\"cniVersion\": \"0.4.0\", \"name\": \"b\", \"type\": \"macvlan\", \"master\": \"trunk.50\", \"ipam\": {\"type\": \"static\", \"addresses\": [{\"address\": \"10.50.0.2/24\"}${1:+, $1}]${3:+, $3}}${2:+, $2}}"; }
chained() { # plugin, its own options
    found=$(plugin ADD macvlan "$(conf)")
    plugin ADD "$1" "{\"cniVersion\": \"0.4.0\", \"name\": \"b\", \"type\": \"$1\", $2, \"prevResult\": $found}"
}

version() { cat "$HERE/../../.cache/peers/cni/version"; }
check() { ip netns add w; plugin DRYRUN macvlan "$(conf)"; }
undo() { by_hand; plugin ADD macvlan "$(conf)" > /dev/null; plugin UNDO macvlan "$(conf)"; gone eth0; }
quiet_parent() { ip netns add w; plugin ADD macvlan "$(conf)"; quiet trunk.50; }
heal() { by_hand; plugin ADD macvlan "$(conf)" > /dev/null; ip -n w link del eth0; wait_for 'ip -n w link show eth0'; }
others() { by_hand; plugin ADD macvlan "$(conf)" > /dev/null; plugin DEL macvlan "$(conf)"; ip -br link show trunk.50; }
several() { by_hand; plugin ADD macvlan "$(conf '{"address": "10.50.0.7/24"}, {"address": "10.50.0.8/24"}')" > /dev/null; ip -n w -o -4 addr show dev eth0; [ "$(ip -n w -o -4 addr show dev eth0 | wc -l)" = 3 ]; }
mac_list() { by_hand; plugin ADD macvlan "$(conf '' '"mode": "source"')"; }
rate() { by_hand; chained bandwidth '"egressRate": 8000000, "egressBurst": 800000'; shown tbf 'tc -n w qdisc show dev eth0'; }
vlan_list() { by_hand; plugin ADD macvlan "$(conf '' '"vlan": [50, 51, 52]')" > /dev/null; ip -n w -br link; [ "$(ip -n w -br link | grep -c '\.5[012]@')" = 3 ]; }
slaac() { by_hand; router; plugin ADD macvlan "$(conf)" > /dev/null; sleep 5; shown 'inet6 2001:db8:50:' 'ip -n w -o -6 addr show dev eth0 scope global; echo no address by SLAAC'; }
source_routing() { by_hand; chained sbr '"x": 1' > /dev/null 2>&1; shown 'from 10.50.0.2' 'ip -n w rule'; }
tap() { ip netns add w; plugin ADD tap "{\"cniVersion\": \"0.4.0\", \"name\": \"b\", \"type\": \"tap\"}"; }
