# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in Debian's Chromium, without a screen and without a network."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, Callable

from ansible_collections.netops.underlay.plugins.filter.report import report
from ansible_collections.netops.underlay.plugins.filter.report_html import report_html
from selenium import webdriver
from selenium.webdriver.remote.webelement import WebElement

#: Generous, for a machine that does other things; nothing waits longer than it must.
PATIENCE = 60


class Page:
    """A report in the browser, and what a reader does with it."""

    def __init__(self, driver: webdriver.Chrome, path: Path) -> None:
        self.driver = driver
        self.path = path

    def open(self, hash_: str = "", width: int = 1440, theme: str = "light") -> Page:
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
        )
        self.driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        )
        self.driver.get("about:blank")
        self.driver.get(f"{self.path.as_uri()}#{hash_}")
        return self

    def js(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(script, *values)

    def all(self, css: str) -> list[WebElement]:
        return [found for found in self.driver.find_elements("css selector", css) if found.is_displayed()]

    def one(self, css: str) -> WebElement:
        (found,) = self.all(css)
        return found

    def texts(self, css: str) -> list[str]:
        return [found.text for found in self.all(css)]

    def column(self, view: str, number: int) -> list[str]:
        """What stands in a column of a table, as far as it is on the screen."""
        return self.texts(f"#{view} tbody tr[aria-rowindex] td:nth-child({number})")

    def tab(self, name: str) -> None:
        self.one(f"#tab-{name}").click()

    def count(self, view: str) -> int:
        """How many rows a view says it has."""
        return int(
            self.js("return document.querySelector(arguments[0]).textContent", f"#tab-{view} small").replace(",", "")
        )

    def find(self, words: str) -> None:
        box = self.one("#find")
        box.clear()
        box.send_keys(words)

    def keys(self, *keys: str) -> None:
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def boxes(self) -> list[str]:
        """The boxes of the topology, as they are read out."""
        return self.js(
            "return [...document.querySelectorAll('.topology [role=button]')].map((box) => box.getAttribute('aria-label'))"
        )

    def until(self, seen: Callable[[], Any]) -> Any:
        end = time.monotonic() + PATIENCE
        while not (value := seen()):
            assert time.monotonic() < end, "it did not come to that"
            time.sleep(0.05)
        return value

    def complaints(self) -> list[str]:
        """What the browser had to say: errors, and whatever the page's policy kept from running or loading."""
        return [row["message"] for row in self.driver.get_log("browser")]


def written(path: Path, found: dict[str, Any], *more: Any) -> Path:
    path.write_text(report_html(report(found, *more)), encoding="utf-8")
    return path
