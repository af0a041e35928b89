# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays against hosts that are whole machines: tests/lab/run --rack -- python -m pytest tests/machines"""

from __future__ import annotations

from rack import KERNEL

collect_ignore = [] if KERNEL.is_dir() else ["test_reboot.py", "test_guard.py", "test_rollout.py"]
