# Copyright: netops.underlay contributors
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one task declares: its items, and what is wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Set, Tuple

from ..core.errors import Problem
from ..core.link_specs import TrunkSpec
from ..core.specs import Spec


class Item(NamedTuple):
    """One declared object: its place in the input, and its spec (None: absent)."""

    kind: str  # vlan, network, endpoint or routes
    key: str
    path: str
    spec: Optional[Spec]
    released: bool = False  # an endpoint whose workload must be gone already

    @property
    def label(self) -> str:
        """Kind and key in one, as records have them in ``of``."""
        return f"{self.kind}:{self.key}"


@dataclass
class Declaration:
    """Everything that one task declares."""

    owner: str
    items: List[Item] = field(default_factory=list)
    trunks: Dict[str, TrunkSpec] = field(default_factory=dict)
    purge: bool = False
    purge_limit: Optional[str] = None  # a number, or a percentage such as 20%
    given: FrozenSet[str] = frozenset()  # the kinds of which rows were given, be it none
    adopt: bool = False
    problems: List[Problem] = field(default_factory=list)
    warnings: List[str] = field(default_factory=list)
    #: Kind and key of items that could not be read, as far as their rows name them.
    broken: Set[Tuple[str, str]] = field(default_factory=set)

    def refuse(self, path: str, option: str, message: str, fix: str) -> None:
        """Note a problem with an option of the item at ``path``."""
        self.problems.append(Problem(join(path, option), message, fix))


def join(path: str, option: str) -> str:
    """The path of an option of the item at ``path``; a single item has the empty path."""
    return f"{path}.{option}" if path and option else path or option


def specs(items: Iterable[Item], kind: str) -> List[Item]:
    """The items of a kind that should be present."""
    return [item for item in items if item.kind == kind and item.spec is not None]
