"""Parts of a split: by stratum, or whole groups at a time; the same digests and seed give the same split."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Mapping

from volvox.data.options import PARTS
from volvox.records import Split

# What it costs that a class is missing from a part; a class that is not learned is worse than one that is not tested.
_MISSING: dict[Split, float] = {"train": 1e9, "test": 1e7, "val": 1e5}
_ROUNDS = 20
_MOST_PAIRS = 50_000


def by_stratum(labels: Mapping[str, str], shares: Mapping[Split, float], seed: int) -> dict[str, Split]:
    """Split images so that each class has its share in each part, and at least one image where it has enough.

    Args:
        labels: sha256 of an image -> name of its class.
        shares: Fraction of each part; 1 in all.
        seed: Another seed, another split.
    """
    classes: dict[str, list[str]] = defaultdict(list)
    for digest, label in labels.items():
        classes[label].append(digest)
    split: dict[str, Split] = {}
    for digests in classes.values():
        ranked = iter(sorted(digests, key=lambda digest: _rank(digest, seed)))
        for part, count in _allotted(len(digests), shares).items():
            split.update((next(ranked), part) for _ in range(count))
    return split


def by_group(
    labels: Mapping[str, str], groups: Mapping[str, str], shares: Mapping[Split, float], seed: int
) -> dict[str, Split]:
    """Split images so that no group is parted and each class comes as near to its shares as whole groups allow.

    Groups are placed one after the other, the largest first, each where it costs least; then moved, and exchanged
    between parts, as long as that lowers the cost: the squared distance of each class and part from its share,
    relative to that share, and much more for a class that a part lacks altogether.

    Args:
        labels: sha256 of an image -> name of its class.
        groups: sha256 of an image -> name of its group.
        shares: Fraction of each part; 1 in all.
        seed: Another seed, another split among equals.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for digest in sorted(labels):  # so that sums are added in one order everywhere
        members[groups[digest]].append(digest)
    counts = {group: Counter(labels[digest] for digest in digests) for group, digests in members.items()}
    ranks = {group: min(_rank(digest, seed) for digest in digests) for group, digests in members.items()}
    order = sorted(members, key=lambda group: (-len(members[group]), ranks[group]))
    placement = _Placement(counts, Counter(labels.values()), shares)
    for group in order:
        placement.put(group, min(shares, key=lambda part: placement.cost_of_putting(group, part)))
    for _ in range(_ROUNDS):
        if not placement.improve(order):
            break
    return {digest: placement.part[group] for group, digests in members.items() for digest in digests}


class _Placement:
    """Groups in parts, and what that costs."""

    def __init__(
        self, counts: Mapping[str, Counter[str]], totals: Mapping[str, int], shares: Mapping[Split, float]
    ) -> None:
        self.counts, self.shares = counts, shares
        self.wanted = {
            (part, label): share * total for part, share in shares.items() for label, total in totals.items()
        }
        self.has: Counter[tuple[Split, str]] = Counter()
        self.part: dict[str, Split] = {}

    def put(self, group: str, part: Split) -> None:
        """Place `group`, taking it from where it is."""
        before = self.part.get(group)
        for label, count in self.counts[group].items():
            if before is not None:
                self.has[before, label] -= count
            self.has[part, label] += count
        self.part[group] = part

    def cost_of_putting(self, group: str, part: Split) -> float:
        """By how much the cost rises if `group`, which is nowhere, comes to `part`."""
        return sum(
            self._cost(part, label, self.has[part, label] + count) - self._cost(part, label, self.has[part, label])
            for label, count in self.counts[group].items()
        )

    def improve(self, order: list[str]) -> bool:
        """Move each group to where it costs least, then exchange pairs of one class; whether anything changed."""
        moved = [self._move(group) for group in order]
        return any(moved) or self._exchange(order)

    def _exchange(self, order: list[str]) -> bool:
        of_class: dict[str, list[str]] = defaultdict(list)
        for group in order:
            for label in self.counts[group]:
                of_class[label].append(group)
        exchanged, pairs = False, 0
        for groups in of_class.values():
            for one, other in itertools.combinations(groups, 2):
                pairs += 1
                if pairs > _MOST_PAIRS:  # with so many groups, single moves come near enough
                    return exchanged
                here, there = self.part[one], self.part[other]
                if here != there and self._change({one: there, other: here}) < -1e-9:
                    self.put(one, there)
                    self.put(other, here)
                    exchanged = True
        return exchanged

    def _move(self, group: str) -> bool:
        here = self.part[group]
        best = min(self.shares, key=lambda part: (self._change({group: part}), part != here))
        if best == here or self._change({group: best}) > -1e-9:
            return False
        self.put(group, best)
        return True

    def _change(self, moves: Mapping[str, Split]) -> float:
        """By how much the cost rises if the groups go where `moves` says."""
        shift: Counter[tuple[Split, str]] = Counter()
        for group, part in moves.items():
            for label, count in self.counts[group].items():
                shift[self.part[group], label] -= count
                shift[part, label] += count
        return sum(
            self._cost(part, label, self.has[part, label] + by) - self._cost(part, label, self.has[part, label])
            for (part, label), by in shift.items()
            if by
        )

    def _cost(self, part: Split, label: str, count: int) -> float:
        wanted = self.wanted[part, label]
        return (count - wanted) ** 2 / wanted + (0 if count else _MISSING[part])


def _allotted(total: int, shares: Mapping[Split, float]) -> dict[Split, int]:
    """`total` by largest remainder; then each part has at least one, as far as `total` goes, taken from the largest."""
    exact: dict[Split, float] = {part: total * shares[part] for part in PARTS if part in shares}
    counts: dict[Split, int] = {part: math.floor(value + 1e-9) for part, value in exact.items()}
    by_remainder = sorted(shares, key=lambda part: (counts[part] - exact[part], PARTS.index(part)))
    for part in by_remainder[: total - sum(counts.values())]:
        counts[part] += 1
    for part in sorted(shares, key=PARTS.index):
        largest = max(counts, key=lambda other: counts[other])
        if not counts[part] and counts[largest] > 1:
            counts[part] += 1
            counts[largest] -= 1
    return counts


def _rank(digest: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()
