# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# What the scripts of all systems share. Each has a function for each feature, which tries it as a user would and ends with a
# command that shows, by the kernel, whether it holds: its status is the answer, the last line of its output what was seen.

set -e

fresh() { # a NIC, trunk, whose other end is the wire
    ip link add trunk type veth peer name far
    ip netns add wire
    ip link set far netns wire
    ip -n wire link set far up
    ip link set trunk up
}

gone() { ! ip link show "$@"; }

quiet() { # a sub-interface is there, and the host has no address on it, of either version
    ip link show "$1" > /dev/null
    wait_for 'ip link show '"$1"' | grep -q LOWER_UP'
    sleep 3
    ip -o addr show dev "$1"
    [ -z "$(ip -o addr show dev "$1")" ] && echo "no address on $1"
}

wait_for() { # a command within 15 s
    for _ in $(seq 150); do
        if eval "$1" > /dev/null 2>&1; then return 0; fi
        sleep 0.1
    done
    echo "not within 15 s: $1"
    return 1
}

router() { # advertises 2001:db8:50::/64 in VLAN 50
    ip -n wire link add link far name far.50 type vlan id 50
    ip -n wire link set far.50 up
    ip -n wire addr add fe80::1/64 dev far.50 nodad
    ip netns exec wire sysctl -qw net.ipv6.conf.all.forwarding=1
    ip netns exec wire python3 "$HERE/router.py" far.50 2001:db8:50:: > /dev/null 2>&1 &
    sleep 1
}

shown() { # a pattern in what a command prints
    eval "$2" 2>&1 | grep -E "$1" || { eval "$2" 2>&1 | tail -n 1; return 1; }
}
