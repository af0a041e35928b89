# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
# This file is private to netops.underlay: it may change at any time.
"""What every module needs of Ansible: numbers that are none are refused in words, and names command no terminal."""

from __future__ import annotations

import json
import math
from typing import Any, Dict, List, Mapping, NoReturn

from ansible.module_utils.basic import AnsibleModule

from ._engine.core.errors import Problem
from ._engine.core.text import printable

#: A day; waiting longer is a mistake in the unit.
LONGEST_WAIT = 86400
#: More digits than any number of ours has; Python itself refuses to convert some thousand.
_DIGITS = 400
#: What an action plugin adds to the arguments, and is no option: what earlier tasks of a check run have planned, and the job of AWX.
OF_THE_ACTION = ("_earlier", "_who")


class BaseModule(AnsibleModule):
    """A module of the collection; ``_given`` are its arguments as they came, in JSON, without who runs it and how."""

    def _load_params(self) -> None:
        super()._load_params()
        given = {
            name: value
            for name, value in self.params.items()
            if name not in OF_THE_ACTION and not name.startswith("_ansible_")
        }
        self._given = json.dumps(given, default=str)
        _tame(self.params, self.argument_spec)

    def warn(self, warning: str, **kwargs: Any) -> None:
        """Warn, without control characters that a name may have brought."""
        super().warn(printable(warning), **kwargs)

    def fail_json(self, msg: str, **kwargs: Any) -> NoReturn:
        """Fail, without control characters that a name may have brought."""
        super().fail_json(msg=printable(msg), **kwargs)

    def common_problems(self) -> List[Problem]:
        """What is wrong with the options that all modules have."""
        waits = {option: self.params[option] for option in ("lock_timeout", "dhcp_timeout") if option in self.params}
        return [
            Problem(
                option, f"{str(wait)[:20]} is not between 0 and {LONGEST_WAIT} seconds", "give 30, or 0 not to wait"
            )
            for option, wait in waits.items()
            if not 0 <= wait <= LONGEST_WAIT
        ]


def _tame(params: Dict[str, Any], options: Mapping[str, Mapping[str, Any]]) -> None:
    """Make texts of numbers at which Ansible's own conversion ends in a traceback, so that it refuses them in words."""
    for name, option in options.items():
        for called in (name, *option.get("aliases", ())):
            value = params.get(called)
            if option["type"] == "int" and _endless(value):
                params[called] = f"{str(value)[:20]} is too large"
            for row in value if isinstance(value, list) else (value,):
                if isinstance(row, dict) and "options" in option:
                    _tame(row, option["options"])


def _endless(value: object) -> bool:
    if isinstance(value, int):
        return value.bit_length() > 3 * _DIGITS
    if isinstance(value, str) and len(value) > _DIGITS:
        return True
    try:
        return isinstance(value, (float, str)) and math.isinf(float(value))
    except ValueError:
        return False
