#!/usr/bin/env python3
# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The result of the bench as a page of the documentation, with a plot of time over size.

tests/bench/page.py [--into DIRECTORY] RESULT.json
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

DOCS = Path(__file__).resolve().parents[2] / "docs" / "docsite" / "rst"
NAME = "benchmarks"
OURS, FLOOR, IP = "vlan_map", "the kernel's part of vlan_map", "ip -batch, bare links"

HEAD = """..
  Copyright: netops.underlay contributors
  SPDX-License-Identifier: GPL-3.0-or-later
  Made by tests/bench/page.py (make bench): do not edit.

.. _ansible_collections.netops.underlay.docsite.benchmarks:

What it costs, beside its peers
===============================

{quick}Measured in one run in the lab (``tests/lab/README.md``), a Linux {kernel} of its own with Python {python}, at commit ``{commit}``. Seconds
are those of a guest and of the machine below it; what carries over to another host are the ratios. Each figure is the median of its rounds.

"""
QUICK = "**A quick run, which shows that the bench works: sizes are small, and the figures mean little.**\n\n"

PLOT = """Time over size
--------------

.. image:: {name}.svg
   :width: 100%
   :alt: Seconds over the number of VLANs for vlan_map, the kernel's part of it and its peers, both axes logarithmic

All make VLAN sub-interfaces on one trunk and raise them. ``vlan_map`` and ``vlan_network`` also make a network on each, keep the host's presence off
it and remember whose it is; Docker makes a network, the others bare links. The time of ``vlan_map`` is that of the engine on the host; a whole playbook
has a line of its own, as the loops are playbooks too. systemd-networkd is timed from its start, with a unit for each link and its network, until all links
are up, on a host with udev. The limit is the kernel's part: the time between the messages of ``vlan_map`` and their answers, which no program that makes
the same links with the same messages gets below. A peer ends at the size where more of it would only take longer.

"""

GOALS = """What a task takes over the engine is Ansible's own for the most part: "the whole task" below has the same play with a ping in it.
A run that finds nothing to do has looked at the whole host, as any other does. Only what follows from the same rows, registry and host is remembered.

"""

BURDEN = """What links cost others
----------------------

Links are there for everybody on a host. udev looks at each one that comes, and runs ``systemd-sysctl`` for it, but for ours where the role ``prepare`` has
left its rule. Ansible's own fact gathering runs ``ip`` and ``ethtool`` for each one that there is, at every play that gathers facts. The playbooks of
this collection gather none of the network. Let yours leave them out too, by ``gather_subset: ['!network']`` at the play or in ``ansible.builtin.setup``.

"""

#: In the order of the tables: the peer, and its colour, which is readable on a light and on a dark ground.
PEERS = {
    OURS: "#1f8dd6",
    FLOOR: "#808080",
    IP: "#d9822b",
    "a playbook with one task of vlan_map": "#5b9bd5",
    "a loop of vlan_network": "#8e7cc3",
    "a loop of command: ip": "#c2528b",
    "docker network create": "#2aa198",
    "systemd-networkd, generated units": "#c94f4f",
    "IfState": "#7a9a2e",
}
NEUTRAL = "#808080"
BURDENS = ("udev without the collection's rule", "udev with the collection's rule", "Ansible's facts")

Series = Mapping[str, Mapping[str, float]]


# --- the plot ------------------------------------------------------------------------------------


def plot(series: Series, path: Path) -> None:
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {"svg.fonttype": "none", "svg.hashsalt": NAME, "font.family": "sans-serif", "font.size": 10}
    )
    from matplotlib import pyplot
    from matplotlib.ticker import FuncFormatter, NullLocator

    figure, axes = pyplot.subplots(figsize=(10, 6))
    lines = {name: sorted((int(size), value) for size, value in series.get(name, {}).items()) for name in PEERS}
    lines = {name: points for name, points in lines.items() if points}
    for name, points in lines.items():
        sizes, times = zip(*points)
        style: Dict[str, Any] = (
            {"linestyle": "--", "linewidth": 1.5}
            if name == FLOOR
            else {"marker": "o", "markersize": 4, "linewidth": 1.8}
        )
        if name == OURS:
            style.update(linewidth=3.2, zorder=5)
        axes.plot(sizes, times, color=PEERS[name], label=name, **style)
    axes.set(xscale="log", yscale="log", xlabel="VLANs", ylabel="seconds")
    ticks = sorted({size for points in lines.values() for size, _time in points})
    axes.set_xticks(ticks, [f"{size:,}" for size in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _position: f"{value:g}"))
    axes.set_xlim(ticks[0] * 0.9, ticks[-1] * 1.1)
    figure.subplots_adjust(left=0.08, right=0.72, top=0.97, bottom=0.1)
    _label(axes, lines)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(NEUTRAL)
    axes.tick_params(which="both", colors=NEUTRAL)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set_color(NEUTRAL)
    axes.grid(True, which="major", color=NEUTRAL, alpha=0.25, linewidth=0.6)
    figure.savefig(path, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    pyplot.close(figure)
    text = path.read_text()
    head, _, rest = text.partition("?>\n")
    tag = "SPDX-License-Identifier"  # apart from its value, or it would be read as the licence of this file
    spdx = f"<!-- Copyright: netops.underlay contributors -->\n<!-- {tag}: GPL-3.0-or-later -->\n"
    path.write_text(f"{head}?>\n{spdx}{rest}")


def _label(axes: Any, lines: Mapping[str, Sequence[Tuple[int, float]]]) -> None:
    """A name at the end of each line that goes all the way; those that end early, close to each other, are in the corner above the others."""
    largest = max(points[-1][0] for points in lines.values())
    ends = sorted((math.log10(points[-1][1]), name) for name, points in lines.items() if points[-1][0] == largest)
    early = sorted((-points[-1][1], name) for name, points in lines.items() if points[-1][0] < largest)
    bottom, top = axes.get_ylim()
    axes.set_ylim(bottom, top * (10 if early else 1))
    gap = math.log10(axes.get_ylim()[1] / bottom) * 0.042
    places: List[float] = []
    for height, _name in ends:
        places.append(max(height, places[-1] + gap) if places else height)
    for place, (_height, name) in zip(places, ends):
        text = f"{name} (limit)" if name == FLOOR else name
        axes.annotate(text, (largest, 10**place), xytext=(8, 0), textcoords="offset points", va="center", color=PEERS[name],
                      fontweight="bold" if name == OURS else "normal", annotation_clip=False)  # fmt: skip
    if early:
        handles = {line.get_label(): line for line in axes.get_lines()}
        axes.legend(
            [handles[name] for _time, name in early],
            [name for _time, name in early],
            loc="upper right",
            frameon=False,
            labelcolor="linecolor",
        )


# --- the page ------------------------------------------------------------------------------------


def render(result: Mapping[str, Any]) -> str:
    parts = [
        HEAD.format(
            quick=QUICK if result["quick"] else "", **{key: result[key] for key in ("kernel", "python", "commit")}
        )
    ]
    if result["targets"]:
        parts += [_heading("Goals"), GOALS, _goals(result["targets"])]
    parts += [PLOT.format(name=NAME), *_series(result["series"])]
    burden = {name: result["cases"][name] for name in BURDENS if result["cases"].get(name)}
    if burden:
        parts += [BURDEN, _table(["Case", "Figure", "Seconds"], _figures(burden), (30, 55, 15))]
    parts += [_heading("Each case"), "Seconds, where nothing else is said.\n\n"]
    parts += [
        _table(
            ["Case", "Figure", "Median"],
            _figures({name: figures for name, figures in result["cases"].items() if name not in burden}),
            (30, 55, 15),
        )
    ]
    if result["failed"]:
        parts += [
            _heading("What could not be measured"),
            *(f"- {name}: {_one_line(why)}\n" for name, why in result["failed"].items()),
        ]
    return "".join(parts).rstrip() + "\n"


def _one_line(text: str) -> str:
    return "``" + " ".join(text.replace("`", "'").split()) + "``"


def _heading(text: str) -> str:
    return f"{text}\n{'-' * len(text)}\n\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int]) -> str:
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {' '.join(map(str, widths))}", ""]
    for row in [head, *rows]:
        lines += [f"   {'*' if not number else ' '} - {cell}".rstrip() for number, cell in enumerate(row)]
    return "\n".join(lines) + "\n\n"


def _goals(targets: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        [
            row["what"],
            "not measured" if row["is"] is None else f"{row['is']:g}",
            _spread(row.get("spread")),
            f"{row['goal']:g}",
            "met" if row["met"] else "**MISSED**",
        ]
        for row in targets
    ]
    return _table(["What", "Is", "From, to", "At most", ""], rows, (52, 12, 14, 11, 11))


def _spread(ends: Optional[Sequence[float]]) -> str:
    """Of the rounds: a single one has none."""
    return f"{ends[0]:g}, {ends[1]:g}" if ends and ends[0] != ends[1] else ""


def _series(series: Series) -> List[str]:
    """Seconds, and the same as multiples of ``ip -batch`` at that size."""
    sizes = sorted({int(size) for figures in series.values() for size in figures})
    drawn = [name for name in PEERS if series.get(name)]
    widths = (30, *([70 // len(sizes)] * len(sizes)))
    head = ["", *(f"{size:,}" for size in sizes)]

    def rows(value: Any) -> List[List[str]]:
        return [[name, *(value(name, str(size)) for size in sizes)] for name in drawn]

    def seconds(name: str, size: str) -> str:
        return _number(series[name].get(size))

    def ratio(name: str, size: str) -> str:
        time, base = series[name].get(size), series[IP].get(size)
        return _number(time / base if time is not None and base else None)

    parts = ["Seconds for so many VLANs:\n\n", _table(head, rows(seconds), widths)]
    if series.get(IP):
        parts += ["The same, as multiples of ``ip -batch`` for the bare links:\n\n", _table(head, rows(ratio), widths)]
    return parts


def _number(value: Optional[float]) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _figures(cases: Series) -> List[List[str]]:
    rows = []
    for case, figures in cases.items():
        for number, (name, value) in enumerate(figures.items()):
            rows.append([case if not number else "", name, _number(value)])
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--into", type=Path, default=DOCS, metavar="DIRECTORY", help="default: the documentation")
    parser.add_argument("result", type=Path)
    wish = parser.parse_args()
    result = json.loads(wish.result.read_text())
    wish.into.mkdir(parents=True, exist_ok=True)
    (wish.into / f"{NAME}.rst").write_text(render(result))
    plot(result["series"], wish.into / f"{NAME}.svg")
    print(wish.into / f"{NAME}.rst")
    return 0


if __name__ == "__main__":
    sys.exit(main())
