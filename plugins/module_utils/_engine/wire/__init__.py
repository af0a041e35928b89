# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What only the network knows: frames, address conflicts, ARP probes."""
