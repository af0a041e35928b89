# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""The DHCP client: one process that keeps the leases of all endpoints that want one. Only it imports pyroute2."""
