# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests of several directories share. It is imported as ``tests.support``, from the repository's root."""
