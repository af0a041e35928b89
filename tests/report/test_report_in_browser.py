# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page as a reader uses it: with a mouse, by keyboard, on a phone, in the dark, on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver

from tests.support import reports
from tests.support.browser import Page, written

WIDTHS = (390, 820, 1440)


# --- what is there --------------------------------------------------------------------------------


def test_the_page_says_first_what_is_wrong(rack: Page) -> None:
    assert rack.one(".verdict").text == "2 errors, 2 drifted objects on 1 of 2 hosts"
    assert rack.one("#facts").text == "2 hosts · 3 VLANs · 5 networks · 11 leases · 2026-11-24 23:50 UTC"
    assert any(
        text.startswith("cannot be changed as declared: networks[3].parent") for text in rack.texts(".findings .what")
    )
    assert rack.complaints() == []


def test_the_topology_goes_from_the_switch_to_the_endpoints(rack: Page) -> None:
    assert rack.texts(".topology .head") == ["Switch", "Trunk", "Sub-interface", "Network", "Endpoint"]
    boxes = rack.boxes()
    for box in (
        "Trunk, rack1-h1, eth1, 3 VLANs", "Trunk, rack1-h2, eth1, 3 VLANs, error", "Sub-interface, eth1.60, VLAN 60, drift",
        "Network, web, 172.16.50.0/24 +1, macvlan bridge", "Endpoint, till-2, 172.16.60.3, drift", "Endpoint, till-old, 172.16.60.4, away",
        "Trunk, rack1-h1, no trunk, host only", "Endpoint, probe-1, 172.17.0.2",
    ):  # fmt: skip
        assert box in boxes
    assert len(boxes) == 29
    colours = rack.js(
        "return [...document.querySelectorAll('.topology [data-key]')].filter((box) => / (web|till)-\\d/.test(box.textContent))"
        ".map((box) => [box.getAttribute('aria-label').split(', ')[1], getComputedStyle(box.querySelector('.stripe')).fill])"
    )
    colour = dict(colours)
    assert colour["web-1"] == colour["web-2"] != colour["till-1"] == colour["till-2"]


@pytest.mark.parametrize("name", ["rack", "fleet"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_overlaps_or_leaves_the_screen(
    chrome: webdriver.Chrome, pages: dict[str, Path], name: str, width: int
) -> None:
    page = Page(chrome, pages[name]).open(width=width)
    for view in page.js("return [...document.querySelectorAll('[role=tab]')].map((tab) => tab.id.slice(4))"):
        page.js("document.getElementById(arguments[0]).click()", f"tab-{view}")
        assert page.js("return document.documentElement.scrollWidth") <= width, view
    page.js("document.getElementById('tab-topology').click()")
    overlaps = page.js(
        """
        const boxes = [...document.querySelectorAll('.topology [data-key] > .box')].map((box) => box.getBoundingClientRect());
        const frame = document.querySelector('.topology').getBoundingClientRect();
        const touch = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
        const wide = [...document.querySelectorAll('.topology [data-key] > text')].filter((text) =>
          text.getBoundingClientRect().right > text.parentNode.querySelector('.box').getBoundingClientRect().right - 2);
        return [boxes.length, boxes.filter((a, i) => boxes.some((b, j) => i < j && touch(a, b))).length,
          boxes.filter((box) => box.left < frame.left || box.right > frame.right).length, wide.map((text) => text.textContent)];
        """
    )
    assert overlaps[0] > 10 and overlaps[1:] == [0, 0, []]


# --- looking closer -------------------------------------------------------------------------------


def test_a_click_on_a_vlan_tells_who_is_in_it(rack: Page) -> None:
    rack.tab("vlans")
    assert rack.column("vlans", 1) == ["50", "60", "99"]
    rack.all("#vlans button.vlan")[1].click()
    assert rack.one("#who h2").text == "Who is in VLAN 60"
    rack.tab("topology")
    assert rack.texts(".members li") == [
        "172.16.60.2\ntill-1 on rack1-h1",
        "172.16.60.4\ntill-old on rack1-h1, away",
        "172.16.60.3\ntill-2 on rack1-h2",
    ]
    boxes = rack.boxes()
    assert len(boxes) == 9 and not any("eth1.50" in box or "lab" in box for box in boxes)
    assert (rack.count("networks"), rack.count("leases"), rack.count("hosts")) == (1, 3, 2)
    rack.one(".chip").click()
    assert not rack.all("#who") and len(rack.boxes()) == 29


def test_a_click_in_the_topology_looks_closer_too(rack: Page) -> None:
    rack.js(
        "document.querySelector(\".topology [aria-label^='Endpoint, cache-1']\").dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert rack.one("#who h2").text == "Who is in VLAN 50"
    rack.js(
        "document.querySelector(\".topology [aria-label^='Trunk, rack1-h2']\").dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert rack.texts(".chip") == ["rack1-h2", "VLAN 50"]
    assert rack.texts(".members li") == [
        "172.16.50.20, 2001:db8:50::20\nweb-2 on rack1-h2",
        "172.16.50.21, 2001:db8:50::21\ncache-2 on rack1-h2",
    ]


def test_what_is_looked_at_stands_in_the_address(rack: Page) -> None:
    rack.tab("leases")
    rack.find("till")
    rack.until(lambda: "find=till" in rack.driver.current_url)
    there = rack.driver.current_url.partition("#")[2]
    rack.open()
    assert rack.count("leases") == 11
    rack.open(there)
    assert rack.one("#find").get_attribute("value") == "till"
    assert rack.column("leases", 2) == ["till-1", "till-old (away)", "till-2"]


# --- filter and sort ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("cache-2", ["cache-2"]),
        ("172.16.50.2", ["web-2", "cache-2"]),
        ("VLAN 60 rack1-h1", ["till-1", "till-old"]),
        ("podman", ["cache-1", "cache-2"]),
        ("db8:50::11", ["cache-1"]),
        ("probe nowhere", []),
    ],
)
def test_the_filter_takes_whatever_people_know(rack: Page, words: str, names: list[str]) -> None:
    rack.tab("leases")
    rack.find(words)
    rack.until(lambda: rack.count("leases") == len(names))
    assert [name.removesuffix(" (away)") for name in rack.column("leases", 2)] == names
    if not names:
        assert rack.one("#leases .empty").text.startswith("No matches")


def test_columns_sort_both_ways_and_addresses_as_numbers(rack: Page) -> None:
    rack.tab("leases")
    head = rack.all("#leases th button")[0]
    head.click()
    rising = [text.split(",")[0] for text in rack.column("leases", 1)]
    assert rising == [
        "10.30.1.2", "10.30.2.2", "172.16.50.10", "172.16.50.11", "172.16.50.20", "172.16.50.21",
        "172.16.60.2", "172.16.60.3", "172.16.60.4", "172.17.0.2", "172.17.0.2",
    ]  # fmt: skip
    assert rack.one("#leases th[aria-sort]").get_attribute("aria-sort") == "ascending"
    head.click()
    assert [text.split(",")[0] for text in rack.column("leases", 1)] == rising[::-1]
    assert rack.one("#leases th[aria-sort]").get_attribute("aria-sort") == "descending"


def test_the_use_of_each_pool(rack: Page) -> None:
    rack.tab("pools")
    rows = dict(
        zip(rack.column("pools", 1), zip(rack.column("pools", 5), rack.column("pools", 6), rack.column("pools", 7)))
    )
    assert rows["172.16.60.0/29"] == ("3", "5", "3") and rows["2001:db8:50::/64"] == ("4", "a /64", "3")
    width = rack.js(
        "const all = document.querySelectorAll('.use'); return all[2].firstChild.offsetWidth / all[2].clientWidth"
    )
    assert 0.58 < width < 0.62


# --- five hundred hosts ---------------------------------------------------------------------------


def test_a_fleet_is_folded_and_what_is_wrong_is_not(fleet: Page) -> None:
    assert fleet.one("#facts").text.startswith("500 hosts · 200 VLANs · 200 networks · 5,988 leases")
    boxes = fleet.boxes()
    assert len(boxes) < 60 and "Trunk, and 488 more" in boxes and "Sub-interface, 200 sub-interfaces" in boxes
    assert boxes.count("Sub-interface, eth1.12, VLAN 12, drift") == 3 and "Trunk, rack01-h08, not read, error" in boxes
    fleet.js(
        "document.querySelector(\".topology [aria-label='Trunk, and 488 more']\").dispatchEvent(new MouseEvent('click', {bubbles: true}))"
    )
    assert "Trunk, and 468 more" in fleet.boxes()


def test_of_a_long_table_only_what_is_on_the_screen_is_made(fleet: Page) -> None:
    fleet.tab("leases")
    rows = "return document.querySelectorAll('#leases tbody tr[aria-rowindex]').length"
    assert fleet.js(rows) < 80
    assert fleet.one("#leases table").get_attribute("aria-rowcount") == "5989"
    fleet.js("window.scrollTo(0, document.documentElement.scrollHeight)")
    last = (
        "return [...document.querySelectorAll('#leases tbody tr[aria-rowindex]')].pop().getAttribute('aria-rowindex')"
    )
    fleet.until(lambda: fleet.js(last) == "5989")
    assert fleet.js(rows) < 80
    fleet.find("app3-77")
    fleet.until(lambda: fleet.count("leases") == 1)
    fleet.until(lambda: fleet.column("leases", 2) == ["app3-77"])


def test_hosts_with_endpoints_in_a_vlan_come_before_those_that_only_carry_it(fleet: Page) -> None:
    fleet.open("vlan=50")
    trunks = [box for box in fleet.boxes() if box.startswith("Trunk, rack")]
    assert len(trunks) == 12
    members = fleet.texts(".members li .cut:last-child")
    assert len(members) == 24 and {box.split(", ")[1] for box in trunks[4:8]} <= {
        name.rpartition(" on ")[2] for name in members
    } | {"rack01-h08"}
    fleet.one("#who .link").click()
    assert fleet.one("[role=tab][aria-selected=true]").text.startswith("Leases")


# --- keyboard, phone, dark, paper -----------------------------------------------------------------


def test_all_of_it_by_keyboard(rack: Page, key: Any) -> None:
    focused = "return document.activeElement.getAttribute('aria-label') || document.activeElement.id"
    rack.keys("/")
    assert rack.js(focused) == "Search everything"
    rack.keys("till-2")
    rack.until(lambda: rack.count("leases") == 1)
    rack.keys(key.ESCAPE)
    rack.until(lambda: rack.count("leases") == 11)
    rack.keys(key.TAB)
    assert rack.js(focused) == "tab-topology"
    rack.keys(key.ARROW_LEFT)
    assert rack.js(focused) == "tab-checks" and rack.one("[role=tabpanel]").get_attribute("id") == "checks"
    rack.keys(key.HOME)
    rack.keys(key.TAB, key.TAB)
    assert rack.js(focused) == "Trunk, rack1-h1, eth1, 3 VLANs"
    rack.keys(key.ARROW_RIGHT)
    assert rack.js(focused).startswith("Sub-interface, eth1.50")
    rack.keys(key.ARROW_DOWN)
    assert rack.js(focused).startswith("Sub-interface, eth1.60")
    rack.keys(key.ENTER)
    assert rack.one("#who h2").text == "Who is in VLAN 60"
    assert rack.js(focused).startswith("Sub-interface, eth1.60"), "the reader stays where he was"
    rack.keys(key.ESCAPE)
    assert not rack.all("#who")


def test_a_phone_shows_the_topology_as_an_outline_and_rows_in_two_lines(
    chrome: webdriver.Chrome, pages: dict[str, Path]
) -> None:
    page = Page(chrome, pages["rack"]).open(width=390)
    assert page.texts(".topology .head") == []
    lefts = page.js(
        "const at = (name) => document.querySelector(`.topology [aria-label*='${name}']`).getBoundingClientRect();"
        "return ['rack1-h1', 'eth1.50', 'web,', 'web-1'].map((name) => [at(name).left, at(name).top])"
    )
    assert lefts == sorted(lefts) and len({left for left, _ in lefts}) == 4
    page.tab("leases")
    assert page.texts("#leases th") == ["Address", "Held by", "VLAN"]
    assert (
        page.column("leases", 1)[2] == "172.16.60.2\nrack1-h1"
        and page.column("leases", 2)[2] == "till-1\nshop, netns:till-1"
    )


def test_light_and_dark_by_the_system_and_by_the_switch(rack: Page) -> None:
    paper = "return getComputedStyle(document.body).backgroundColor"
    contrast = """
      const parts = (colour) => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
      const light = (colour) => parts(colour).map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
      const ratio = (one, other) => (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
      const ground = light(getComputedStyle(document.body).backgroundColor);
      return ['h1', '#facts', '.findings .link', '.findings .error', '.findings .drift', '#theme'].map((css) =>
        ratio(light(getComputedStyle(document.querySelector(css)).color), ground));
    """
    light = rack.js(paper)
    assert min(rack.js(contrast)) >= 4.5
    rack.open(theme="dark")
    dark = rack.js(paper)
    assert light != dark and min(rack.js(contrast)) >= 4.5
    switch = rack.one("#theme")
    seen = []
    for _ in range(3):
        switch.click()
        seen.append((switch.text, rack.js(paper)))
    assert seen == [("Theme: light", light), ("Theme: dark", dark), ("Theme: auto", dark)]


def test_paper_gets_every_view_and_the_screen_is_as_before(rack: Page) -> None:
    rack.open(theme="dark")
    rack.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    rack.js("dispatchEvent(new Event('beforeprint'))")
    views = rack.texts("[role=tabpanel] > h2")
    assert views == [
        "Topology",
        "Hosts",
        "VLANs",
        "Networks",
        "Pools",
        "Leases",
        "Sub-interfaces",
        "Routes",
        "Plan",
        "Checks",
    ]
    assert len(rack.column("leases", 7)) == 11, "what a small screen leaves out stands on paper"
    assert (
        not rack.all("#theme, #find, [role=tab]")
        and rack.js("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    )
    rack.js("dispatchEvent(new Event('afterprint'))")
    rack.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "screen"})
    assert len(rack.all("[role=tabpanel]")) == 1


# --- hostile names --------------------------------------------------------------------------------


def test_hostile_names_are_only_text(chrome: webdriver.Chrome, tmp_path: Path) -> None:
    name = '<img src=x onerror="window.hit=1"></script><script>window.hit=1</script>\'`${window.hit=1}'
    net = reports.network(name, 5, ["192.0.2.0/24"], owner=name, parent=name, trunk=name, labels={name: name})
    info = reports.host([net], [reports.endpoint(net, name, "192.0.2.2/24", workload=name, interface=name)])
    gone = {"unreachable": True, "msg": name}
    check = {
        name: {"findings": [{"kind": name, "network": name, "vlan": 5, "text": name}], "proved": 0, "unproved": [name]}
    }
    plan = {name: [{"plan": {"first": [f"create link {name}"], "total": 1}}]}
    page = Page(chrome, written(tmp_path / "hostile.html", {name: info, "gone": gone}, name, name, plan, check)).open()
    for view in ("hosts", "vlans", "networks", "pools", "leases", "plan", "checks", "topology"):
        page.tab(view)
    page.one("#tab-leases").click()
    assert page.column("leases", 2) == [name]
    page.all("#leases button.vlan")[0].click()
    page.tab("topology")
    assert page.one("h1").text == name and f"Endpoint, {name}, 192.0.2.2" in " | ".join(page.boxes())
    assert page.js("return window.hit") is None and page.js("return document.querySelectorAll('img').length") == 0
    assert page.complaints() == []
    page.js("location.hash = new URLSearchParams({find: arguments[0]}).toString()", name)
    page.until(lambda: page.one("#find").get_attribute("value") == name)
    assert page.count("leases") == 1 and page.js("return window.hit") is None


def test_the_policy_holds_should_markup_get_in_after_all(rack: Page) -> None:
    rack.js(
        "const script = document.createElement('script'); try { script.text = 'window.hit = 1'; document.body.append(script); } catch (refused) {}"
        "try { document.body.innerHTML += '<p onclick=1>'; window.parsed = 1; } catch (refused) {}"
    )
    assert rack.js("return [window.hit, window.parsed]") == [None, None]
    assert any(
        "Content Security Policy" in text or "TrustedScript" in text or "TrustedHTML" in text
        for text in rack.complaints()
    )
