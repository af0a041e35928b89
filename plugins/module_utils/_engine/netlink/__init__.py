# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""One lean codec and socket for rtnetlink: the messages, nothing else."""
