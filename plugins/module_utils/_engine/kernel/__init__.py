# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""Observe and apply: links, sessions in namespaces, containers, files of workloads."""
