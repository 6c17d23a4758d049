"""Divisions: by the fractions, seeded, groups whole, and every class shared out."""

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rcnnkit.data.division import divide
from rcnnkit.errors import UserError


def test_fractions_without_classes():
    parts = divide([frozenset()] * 10, [0.7, 0.2, 0.1], 0)
    assert [len(part) for part in parts] == [7, 2, 1]
    assert sorted(chain(*parts)) == list(range(10))


def test_the_seed_decides():
    labels = [frozenset()] * 30
    assert divide(labels, [0.5, 0.5], 3) == divide(labels, [0.5, 0.5], 3) != divide(labels, [0.5, 0.5], 4)


def test_a_rare_class_is_in_both_parts():
    # 4 of 100 images have class 1; a plain draw of 25 misses it in three of ten cases.
    labels = [frozenset({0, 1} if i < 4 else {0}) for i in range(100)]
    for seed in range(20):
        rest, held = divide(labels, [0.75, 0.25], seed, stratify=True)
        assert sum(1 in labels[i] for i in held) == 1
        assert (len(rest), len(held)) == (75, 25)


def test_every_class_of_many_is_shared_out():
    rng = np.random.default_rng(0)
    labels = [frozenset(np.flatnonzero(rng.random(8) < 0.3).tolist()) for _ in range(400)]
    parts = divide(labels, [0.8, 0.2], 0, stratify=True)
    for name in range(8):
        counts = [sum(name in labels[i] for i in part) for part in parts]
        assert abs(counts[1] / sum(counts) - 0.2) < 0.02, (name, counts)


def test_groups_stay_whole_and_classes_are_shared_out_between_them():
    labels = [frozenset({i // 4 % 2}) for i in range(80)]
    groups = [str(i // 4) for i in range(80)]  # 20 groups of 4 images, of one class each
    parts = divide(labels, [0.5, 0.5], 1, groups=groups, stratify=True)
    assert not {groups[i] for i in parts[0]} & {groups[i] for i in parts[1]}
    for part in parts:
        assert (sum(0 in labels[i] for i in part), sum(1 in labels[i] for i in part)) == (20, 20)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.frozensets(st.integers(0, 3), max_size=3), st.integers(0, 5)), min_size=8, max_size=40),
    st.booleans(),
    st.booleans(),
)
def test_every_image_is_in_one_part(images, grouped, stratify):
    labels, groups = [entry[0] for entry in images], [str(entry[1]) for entry in images]
    if grouped and len(set(groups)) < 2:
        return
    parts = divide(labels, [0.6, 0.4], 0, groups=groups if grouped else None, stratify=stratify)
    assert sorted(chain(*parts)) == list(range(len(images)))
    if grouped:
        assert not {groups[i] for i in parts[0]} & {groups[i] for i in parts[1]}


@pytest.mark.parametrize("fractions", [[0.5, 0.6], [1.0, 0.0], [-0.5, 1.5], [float("nan"), 0.5]])
def test_fractions_that_are_none(fractions):
    with pytest.raises(UserError, match="add up to 1"):
        divide([frozenset()] * 9, fractions, 0)


def test_too_few():
    with pytest.raises(UserError, match="would have none"):
        divide([frozenset()] * 4, [0.95, 0.05], 0)
    with pytest.raises(UserError, match="1 groups cannot"):
        divide([frozenset()] * 9, [0.5, 0.5], 0, groups=["a"] * 9)
