# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What users ask for: parsers, the items and their options, address pools."""
