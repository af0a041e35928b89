# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Sphinx on the pages that docs/build gathered. Nothing here asks the network."""

from __future__ import annotations

from typing import Any

project = "netops.underlay"
copyright = "netops.underlay contributors"
version = release = "1.0.0"
extensions = ["sphinx_antsibull_ext"]
exclude_patterns = ["examples", "landing.rst"]
html_theme = "furo"
html_title = "netops.underlay"
html_short_title = "netops.underlay"
html_static_path = ["static"]
html_css_files = ["underlay.css"]
html_copy_source = False
html_show_sphinx = False
html_last_updated_fmt = None
antsibull_ext_color_scheme = "none"  # underlay.css has the colours, by the reader's choice of light or dark
pygments_style = "default"
pygments_dark_style = "github-dark"
highlight_language = "console"
nitpicky = True


def _name_of_core(_app: Any, _environment: Any, node: Any, text: Any) -> Any:
    """What belongs to ansible-core is a link only where that is published, on docs.ansible.com: here its name is shown."""
    return text if not node["reftarget"].startswith("ansible_collections.netops.underlay.") else None


def setup(app: Any) -> None:
    app.connect("missing-reference", _name_of_core)
