# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The forms of the report: the page and the chart. What a browser makes of the page is in tests/report."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible_collections.netops.underlay.plugins.filter.report import report
from ansible_collections.netops.underlay.plugins.filter.report_html import report_html
from ansible_collections.netops.underlay.plugins.filter.report_mermaid import report_mermaid

from tests.support import reports

#: What a name would be made of by somebody who wants to get out of it.
HOSTILE = (
    "<script>alert(1)</script>", "</script><script>alert(1)</script>", "<!--<script>", "]]>", "\"';`${alert(1)}", "<img src=x onerror=alert(1)>",
    "\u2028\u2029", "漢字 é \U0001f980", "\ud800", "%%script%%", "{{ 1 + 1 }}", "&lt;b&gt;", "a\nb\tc", "#quot;", "end", "x" * 300,
)  # fmt: skip


class Parsed(HTMLParser):
    """A page's elements and the text of its scripts, as a browser's tokenizer sees them."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.inside: dict[str, list[str]] = {}
        self._in = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._in = tag
        self.inside.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._in = ""

    def handle_data(self, data: str) -> None:
        if self._in:
            self.inside[self._in][-1] += data


def hostile() -> dict[str, Any]:
    """A report whose every name is hostile: hosts, networks, endpoints, labels, messages, checks, plans."""
    found: dict[str, Any] = {}
    for at, name in enumerate(HOSTILE):
        net = reports.network(
            name, 10 + at, [f"192.0.{at}.0/24"], labels={name: name}, owner=name, parent=name, trunk=name
        )
        ends = [reports.endpoint(net, name, f"192.0.{at}.2/24", workload=name, interface=name)]
        found[name] = reports.host([net], ends, adoptable=[{"namespace": name, "interface": name, "kind": name}])
    found["gone " + HOSTILE[0]] = {"unreachable": True, "msg": HOSTILE[0]}
    plans = {name: [{"plan": {"first": [f"create link {name}"], "total": 1, "plan_file": name}}] for name in HOSTILE}
    wrong = {name: [{"kind": name, "network": name, "vlan": None, "text": name}] for name in HOSTILE}
    verified = {name: {"findings": rows, "proved": 1, "unproved": [name]} for name, rows in wrong.items()}
    return report(found, HOSTILE[1], HOSTILE[0], plans, verified)


def test_the_page_is_whole_and_its_policy_lets_nothing_else_run() -> None:
    page = report_html(report(reports.rack(), "Rack 1"))
    parsed = Parsed(page)
    for tag, attrs in parsed.tags:
        assert tag not in ("link", "img", "iframe", "object", "base", "form"), tag
        assert not {name for name in attrs if name.startswith("on") or name in ("src", "style", "srcset")}, attrs
        assert attrs.get("href", "#").startswith("#")
    assert "url(" not in parsed.inside["style"][0] and "@import" not in parsed.inside["style"][0]
    policy = next(
        attrs["content"] for tag, attrs in parsed.tags if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for name, text in (("script-src", parsed.inside["script"][1]), ("style-src", parsed.inside["style"][0])):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[name] == f"'sha256-{digest}'", f"{name} names exactly what stands in the page"


def test_no_name_gets_out_of_its_place() -> None:
    plain, evil = Parsed(report_html(report(reports.rack(), "Rack 1"))), Parsed(report_html(hostile()))
    assert [tag for tag, _ in evil.tags] == [tag for tag, _ in plain.tags]
    assert evil.inside["script"][1] == plain.inside["script"][1] and evil.inside["style"] == plain.inside["style"]
    data = json.loads(evil.inside["script"][0])
    assert {row["name"] for row in data["networks"]} == {"?" if name == "\ud800" else name for name in HOSTILE}
    assert evil.inside["title"] == evil.inside["h1"] == [HOSTILE[1]]


def test_the_data_in_the_page_is_the_json_form() -> None:
    doc = report(reports.rack(), "Rack 1", "now", reports.plans(), reports.verified())
    assert json.loads(Parsed(report_html(doc)).inside["script"][0]) == json.loads(json.dumps(doc)) == doc


def test_five_hundred_hosts_that_are_alike_are_as_small_as_what_differs() -> None:
    one = len(report_html(report(reports.fleet(1, 100, 0), "One")))
    many = len(report_html(report(reports.fleet(500, 100, 0), "Many")))
    assert many - one < 500 * 250, "a host more is a row in the table of hosts, whatever it carries"
    leases = len(report_html(report(reports.fleet(500, 100, 10), "Busy")))
    assert leases - many < 5000 * 260, "an endpoint is one row"
    assert leases < 2_000_000


def boxes(chart: str) -> list[str]:
    return re.findall(r'^  \w+(?:\(\[|\[\[|\[|\()"(.*?)"', chart, re.MULTILINE)


def test_the_chart_has_every_box_once_and_marks_what_is_wrong() -> None:
    chart = report_mermaid(report(reports.rack(), "Rack 1"))
    assert chart.startswith("flowchart LR\n")
    labels = boxes(chart)
    assert labels.count("eth1.50<br>VLAN 50") == 2 and labels.count("eth1.60<br>VLAN 60<br>drift") == 1
    assert "web<br>172.16.50.0/24, 2001:db8:50::/64, macvlan bridge" in labels and "till-old<br>172.16.60.4" in labels
    assert (
        '"till-2<br>172.16.60.3<br>drift"]:::drift' in chart
        and "classDef drift " in chart
        and "classDef error" not in chart
    )
    ids = re.findall(r'^  (\w+)(?:\(\[|\[\[|\[|\()"', chart, re.MULTILINE)
    assert len(ids) == len(set(ids))
    assert {end for edge in re.findall(r"^  (\w+) (?:---|-\.-) (\w+)$", chart, re.MULTILINE) for end in edge} == set(
        ids
    )


def test_networks_that_share_a_parent_hang_on_one_sub_interface() -> None:
    nets = [reports.network("a", 5, ["192.0.2.0/25"]), reports.network("b", 5, ["192.0.2.128/25"])]
    assert boxes(report_mermaid(report({"h": reports.host(nets, [])}, "x"))).count("eth1.5<br>VLAN 5") == 1


def test_no_name_gets_out_of_the_chart() -> None:
    for line in report_mermaid(hostile()).splitlines()[1:]:
        assert re.fullmatch(
            r'  \w+(\(\["|\[\["|\["|\(")[^"<>`&{}\\]*(<br>[^"<>`&{}\\]*)*("\]\)|"\]\]|"\]|"\))(:::\w+)?|  \w+ (---|-\.-) \w+|  classDef .*',
            line,
        ), line


def test_the_chart_of_a_fleet_is_one_that_others_draw() -> None:
    found = reports.fleet(500, 60, 12)
    chart = report_mermaid(report(found, "Racks"))
    assert len(re.findall("---", chart)) < 500 and len(chart) < 50_000, "the limits of Mermaid itself"
    labels = boxes(chart)
    assert any(label.startswith("and ") and label.endswith(" more hosts") for label in labels)
    for name in list(found)[9:12]:
        assert f"{name}<br>eth1<br>drift" in labels, "what is wrong is not among the rest"
    assert labels.count("eth1.12<br>VLAN 12<br>drift") == 3


@pytest.mark.parametrize("form", [report_html, report_mermaid])
def test_other_data_is_refused(form: Any) -> None:
    for data in ("text", {}, {"format": 2}):
        with pytest.raises(AnsibleFilterError, match="give what the filter netops"):
            form(data)
