# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""From the desired and the observed state to changes with inverses: the only package that makes decisions."""
