# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the page about security says that a test proves is the name of a test."""

from __future__ import annotations

import re

from tests.support.checkout import CHECKOUT

PAGE = (CHECKOUT / "docs/docsite/rst/security.rst").read_text(encoding="utf-8")


def test_each_proof_is_a_test_that_there_is() -> None:
    proofs = re.findall(r"``([a-z/_]+\.py)``:\s+``(test_\w+)``", PAGE)
    assert len(proofs) > 20
    missing = [
        f"{path}: {name}"
        for path, name in proofs
        if f"def {name}(" not in (CHECKOUT / "tests" / path).read_text(encoding="utf-8")
    ]
    assert missing == []
