# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Isolation profiles: where the kernel keeps each setting, and that a profile is recognised by every one of them."""

from __future__ import annotations

from typing import Any, Optional

import pytest
from ansible_collections.netops.underlay.plugins.module_utils._engine.core import isolation
from ansible_collections.netops.underlay.plugins.module_utils._engine.core.state import Link
from pyroute2.netlink.rtnl.ifinfmsg import ifinfbase

#: The defaults that ``None`` in a profile stands for.
ANY = 7


def link(profile: str, **otherwise: int) -> Link:
    """One with exactly a profile's settings, but for those given as ``ipv4_arp_ignore=2``."""
    wanted = isolation.PROFILES[profile]
    conf4, conf6 = [ANY] * 60, [ANY] * 60
    for name, value in wanted.ipv4.items():
        conf4[isolation.IPV4[name] - 1] = ANY if value is None else value
    for name, value in wanted.ipv6.items():
        conf6[isolation.IPV6[name]] = ANY if value is None else value
    genmode = otherwise.pop("genmode", wanted.genmode)
    for name, value in otherwise.items():
        family, _, key = name.partition("_")
        if family == "ipv4":
            conf4[isolation.IPV4[key] - 1] = value
        else:
            conf6[isolation.IPV6[key]] = value
    return made(tuple(conf4), tuple(conf6), genmode)


def made(conf4: Any, conf6: Any, genmode: Optional[int]) -> Link:
    found = Link()
    found.conf4, found.conf6, found.genmode = conf4, conf6, genmode
    return found


def test_the_indices_are_those_of_the_kernel() -> None:
    """As another implementation has them, as far as it knows them."""
    names4 = [name for name, _ in ifinfbase.af_spec_inet.inet.fields]
    spelt = {"arp_filter": "arpfilter", "src_valid_mark": "src_vmark"}
    assert {name: names4.index(spelt.get(name, name)) for name in isolation.IPV4} == isolation.IPV4
    names6 = [name for name, _ in ifinfbase.af_spec_inet.inet6.ipv6_devconf.fields]
    newer = {"addr_gen_mode": 47}  # DEVCONF_ADDR_GEN_MODE
    assert {name: newer.get(name) or names6.index(name) for name in isolation.IPV6} == isolation.IPV6


@pytest.mark.parametrize("name", sorted(isolation.PROFILES))
def test_a_profile_is_known_by_every_setting(name: str) -> None:
    wanted = isolation.PROFILES[name]
    assert isolation.profile(link(name)) == isolation.profile(link(name), name) == name
    for family in ("ipv4", "ipv6"):
        for key, value in getattr(wanted, family).items():
            if value is None:
                assert isolation.profile(link(name, **{f"{family}_{key}": 3})) == name
            else:
                assert isolation.profile(link(name, **{f"{family}_{key}": value + 1}), name) != name
    assert isolation.profile(link(name, genmode=3), name) is None


def test_what_the_profiles_say() -> None:
    """What the module's page promises of each, in the kernel's own terms."""
    values = {name: isolation.settings(name) for name in isolation.PROFILES}
    for name in ("none", "routed", "access"):
        assert (values[name]["ipv4.forwarding"], values[name]["ipv4.rp_filter"]) == (0, 1)
        assert values[name]["ipv6.addr_gen_mode"] == 1  # no link-local address
    assert {name: found["ipv4.arp_ignore"] for name, found in values.items()} == {
        "none": 8, "routed": 8, "access": 1, "host": 1,
    }  # fmt: skip
    assert {name: found["ipv6.disable_ipv6"] for name, found in values.items()} == {
        "none": 1, "routed": 0, "access": 0, "host": 0,
    }  # fmt: skip
    assert all(found["ipv6.accept_ra"] == 0 for found in values.values())
    for name in ("routed", "access", "host"):
        assert values[name]["ipv6.accept_redirects"] == 0
    for name in ("access", "host"):
        assert values[name]["ipv4.accept_redirects"] == 0
    assert values["host"]["ipv6.addr_gen_mode"] == 0
    assert [values["host"][f"{family}.forwarding"] for family in ("ipv4", "ipv6")] == [None, None]


def test_without_ipv6_several_may_fit() -> None:
    quiet = link("none")
    bare = made(quiet.conf4, None, None)
    assert isolation.profile(bare) == "none"
    assert isolation.profile(bare, "routed") == "routed"
    assert isolation.profile(bare, "access") == isolation.profile(bare, "host") == "none"
    assert isolation.profile(bare, "unheard-of") == "none"
    assert isolation.profile(made(None, None, None)) is None


def test_sysctls_by_their_names() -> None:
    found = link("access", ipv4_arp_notify=1, ipv6_ndisc_notify=1)
    view = isolation.Sysctls(found)
    assert (view.get("ipv4.arp_notify"), view.get("ipv6.ndisc_notify"), view.get("ipv6.addr_gen_mode")) == (1, 1, 1)
    assert view.get("ipv4.unheard_of") is view.get("ipv6.unheard_of") is view.get("net.arp_notify") is None
    assert view == {"ipv4.arp_notify": 1, "ipv6.ndisc_notify": 1}
    assert view != {"ipv4.arp_notify": 2} and view != {"ipv4.arp_notify": 1, "ipv6.ndisc_notify": 0}
    bare = isolation.Sysctls(made(found.conf4, None, None))
    assert bare == {"ipv4.arp_notify": 1, "ipv6.ndisc_notify": 0} and bare != {"ipv4.arp_notify": 0}
    assert isolation.Sysctls(made(None, None, None)).get("ipv4.arp_notify") is None
