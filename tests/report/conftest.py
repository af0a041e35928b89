# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The report's page in Debian's Chromium, without a screen and without a network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

from tests.support import reports
from tests.support.browser import Page, written

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--host-resolver-rules=MAP * ~NOTFOUND",
)  # fmt: skip


@pytest.fixture(scope="session")
def chrome(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    assert all(programs), "apt-get install chromium chromium-driver"
    options = webdriver.ChromeOptions()
    options.binary_location = str(programs[0])
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    # Debian's chromium asks its wrapper for the home directory.
    service = Service(str(programs[1]), env={**os.environ, "HOME": str(tmp_path_factory.mktemp("home"))})
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="session")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("pages")
    return {
        "rack": written(
            home / "rack.html", reports.rack(), "Rack 1", "2026-11-24 23:50 UTC", reports.plans(), reports.verified()
        ),
        "fleet": written(home / "fleet.html", reports.fleet(500, 200, 12), "All racks"),
    }


@pytest.fixture
def rack(chrome: webdriver.Chrome, pages: dict[str, Path]) -> Page:
    """Two hosts with one of everything."""
    return Page(chrome, pages["rack"]).open()


@pytest.fixture
def fleet(chrome: webdriver.Chrome, pages: dict[str, Path]) -> Page:
    """Five hundred hosts with the same two hundred VLANs."""
    return Page(chrome, pages["fleet"]).open()


@pytest.fixture
def key() -> type[Keys]:
    return Keys
