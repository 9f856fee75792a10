"""The split."""

import hashlib
import random
from collections import Counter, defaultdict

import pytest

from volvox.data.options import PARTS, Options
from volvox.data.split import by_group, by_stratum

SHARES = Options().shares


def digests(label: str, count: int) -> dict[str, str]:
    return {hashlib.sha256(f"{label}{number}".encode()).hexdigest(): label for number in range(count)}


def shuffled(mapping: dict[str, str]) -> dict[str, str]:
    items = list(mapping.items())
    random.Random(1).shuffle(items)
    return dict(items)


@pytest.mark.parametrize(
    ("count", "parts"), [(3, (1, 1, 1)), (4, (2, 1, 1)), (10, (7, 2, 1)), (20, (14, 3, 3)), (100, (70, 15, 15))]
)
def test_each_class_has_its_share_in_each_part_and_at_least_one_image(count, parts) -> None:
    split = by_stratum(digests("a", count) | digests("b", 50), SHARES, 0)
    labels = digests("a", count)
    has = Counter(part for digest, part in split.items() if digest in labels)
    assert tuple(has[part] for part in PARTS) == parts


def test_the_split_depends_on_content_and_seed_only() -> None:
    labels = digests("a", 40) | digests("b", 30)
    assert by_stratum(labels, SHARES, 0) == by_stratum(shuffled(labels), SHARES, 0)
    assert by_stratum(labels, SHARES, 0) != by_stratum(labels, SHARES, 1)


def test_most_images_stay_where_they_are_when_others_are_added() -> None:
    before, after = (by_stratum(digests("a", count), SHARES, 0) for count in (1000, 1010))
    assert sum(after[digest] != part for digest, part in before.items()) < 20


def in_groups(labels: dict[str, str], size: int) -> dict[str, str]:
    return {digest: f"group {number // size}" for number, digest in enumerate(labels)}


def parts_of(split: dict[str, str], labels: dict[str, str]) -> dict[str, Counter[str]]:
    has: dict[str, Counter[str]] = defaultdict(Counter)
    for digest, part in split.items():
        has[labels[digest]][part] += 1
    return has


def test_groups_are_never_parted_and_shares_are_met_nearly() -> None:
    labels = digests("a", 200) | digests("b", 100) | digests("c", 40)
    groups = in_groups(labels, 7)  # some groups hold two classes
    split = by_group(labels, groups, SHARES, 0)
    together = defaultdict(set)
    for digest, part in split.items():
        together[groups[digest]].add(part)
    assert all(len(parts) == 1 for parts in together.values())
    for label, has in parts_of(split, labels).items():
        total = sum(has.values())
        assert all(abs(has[part] - SHARES[part] * total) <= 4 for part in PARTS), (label, has)


def test_the_grouped_split_depends_on_content_and_seed_only() -> None:
    labels = digests("a", 60) | digests("b", 60)
    groups = in_groups(labels, 5)
    assert by_group(labels, groups, SHARES, 0) == by_group(shuffled(labels), shuffled(groups), SHARES, 0)
    renamed = {digest: f"z{group[::-1]}" for digest, group in groups.items()}
    assert by_group(labels, groups, SHARES, 0) == by_group(labels, renamed, SHARES, 0)


def test_three_groups_go_to_three_parts_however_unequal_they_are() -> None:
    labels = digests("a", 30) | digests("b", 30)
    sizes = {"a": (28, 1, 1), "b": (10, 10, 10)}
    groups = {}
    for label, counts in sizes.items():
        names = [f"{label}{number}" for number, count in enumerate(counts) for _ in range(count)]
        groups |= dict(zip((d for d in labels if labels[d] == label), names, strict=True))
    has = parts_of(by_group(labels, groups, SHARES, 0), labels)
    assert has["a"] == {"train": 28, "val": 1, "test": 1}
    assert has["b"] == {"train": 10, "val": 10, "test": 10}


def test_with_two_groups_a_class_is_learned_and_tested_and_with_one_it_is_learned() -> None:
    labels = digests("a", 10) | digests("b", 10)
    groups = {
        digest: "b" if label == "b" else f"a{number % 2}" for number, (digest, label) in enumerate(labels.items())
    }
    has = parts_of(by_group(labels, groups, SHARES, 0), labels)
    assert has["a"] == {"train": 5, "test": 5}
    assert has["b"] == {"train": 10}
