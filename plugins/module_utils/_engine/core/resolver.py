# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a resolv.conf can hold, by what the C libraries of workloads read of it (resolv.conf(5))."""

from __future__ import annotations

from typing import Mapping, Optional, Sequence

from .errors import InvalidValue

#: The options of an endpoint and of a network that are for the resolver, each with its keyword in resolv.conf.
KEYWORDS: Mapping[str, str] = {"dns": "nameserver", "dns_search": "search", "dns_options": "options"}
#: Nameservers that are asked: MAXNS of glibc and musl.
MOST_NAMESERVERS = 3
#: Domains that are searched: MAXDNSRCH of glibc before 2.26, which also takes no more than 256 characters.
MOST_DOMAINS = 6
#: Characters of all of them with the spaces between: musl skips a line of more than 255 bytes, its end included.
MOST_CHARACTERS = 255 - len("search \n")
#: Options that glibc knows -> the largest number of those that have one, beyond which it takes that; None without one.
OPTIONS: Mapping[str, Optional[int]] = {
    "ndots": 15, "timeout": 30, "attempts": 5, "debug": None, "rotate": None, "edns0": None, "single-request": None,
    "single-request-reopen": None, "no-tld-query": None, "use-vc": None, "no-reload": None, "trust-ad": None,
    "no-aaaa": None, "strict-error": None,
}  # fmt: skip


def check(option: str, values: Sequence[str]) -> None:
    """Raises InvalidValue where the resolver would not use all of a list."""
    most = {"dns": MOST_NAMESERVERS, "dns_search": MOST_DOMAINS}.get(option, len(values))
    if len(values) > most:
        what = f"{len(values)} are more than the {most} that every resolver uses"
        raise InvalidValue(what, f"list {most} at most")
    length = len(" ".join(values))
    if option == "dns_search" and length > MOST_CHARACTERS:
        what = f"{length} characters, spaces included, are more than the {MOST_CHARACTERS} that every resolver reads"
        raise InvalidValue(what, "list fewer domains")
