# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright: netops.underlay contributors
"""A line of JSON for each result, so that tests can read what a play did."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: rows
type: stdout
short_description: a line of JSON for each result
description: For the tests of netops.underlay.
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "rows"

    def _row(self, result: Any, failed: bool) -> None:
        found = dict(result._result)
        row = {"host": result._host.get_name(), "task": result._task.get_name(), "failed": failed, "result": found}
        print("ROW " + json.dumps(row, default=str), flush=True)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._row(result, False)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._row(result, True)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._row(result, True)
