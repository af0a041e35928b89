# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Converging a host, and the tools that share parts of it: transactions, undo, restore, guard, verify."""
