# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What vlan_service refuses to make a service of root's out of."""

from __future__ import annotations

import os
from pathlib import Path

from tests.support.module_tasks import Tasks

USER = 1000


def test_a_python_that_another_user_can_replace_is_refused(tasks: Tasks, tmp_path: Path) -> None:
    real = Path("/usr/bin/python3")
    marker = tmp_path / "ran"
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    own = theirs / "python"
    own.write_text(f'#!/bin/sh\ntouch {marker}\nexec {real} "$@"\n', encoding="utf-8")
    own.chmod(0o755)
    os.chown(theirs, USER, USER)
    (theirs / "link").symlink_to(real)
    (tmp_path / "through").symlink_to(theirs / "link")
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o777)
    (tmp_path / "shared" / "python").symlink_to(real)
    for path, place in (
        (own, theirs), (theirs / "link", theirs), (tmp_path / "through", theirs), (tmp_path / "shared/python", tmp_path / "shared"),
    ):  # fmt: skip
        fix = "give interpreter a Python that only root can replace, such as /usr/bin/python3"
        for check in (True, False):
            msg = tasks.run("vlan_service", {"interpreter": str(path)}, check).data["msg"]
            assert msg == f"interpreter: {path} is run by root, and others than root can change {place}; {fix}"
    assert not marker.exists(), "it is not even run to see what it is"
