from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.organs.labels import LabelTable
from research.features.pixels import FOLD, GROUPS, LABELLED, UNLABELLED, Pixels
from research.features.study import ALL, Spread, measure_spread

TABLE = LabelTable({1: "liver", 2: "spleen"})
EAST, NORTH, WEST = (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0)


def _measure(*entries: tuple[tuple[float, float], int, str], table: LabelTable = TABLE) -> Spread:
    features = np.array([entry[0] for entry in entries], np.float32)
    count = len(entries)
    pixels = Pixels(
        np.zeros(count, np.int64),
        np.zeros((count, 3), np.int64),
        np.array([entry[1] for entry in entries]),
        np.array([GROUPS.index(entry[2]) for entry in entries]),
    )
    return measure_spread(features, pixels, table)


def test_by_hand():
    found = _measure(
        (EAST, 1, LABELLED),
        (NORTH, 1, LABELLED),
        (EAST, 1, UNLABELLED),
        (WEST, 2, LABELLED),
        (WEST, 2, UNLABELLED),
        (NORTH, 2, UNLABELLED),
    )
    liver = found.organs["liver"]
    assert dict(liver.pixels) == {LABELLED: 2, UNLABELLED: 1, ALL: 3, FOLD: 0}
    assert liver.intra[LABELLED] == pytest.approx(0.5)
    assert liver.intra[UNLABELLED] == pytest.approx(0)
    assert liver.intra[ALL] == pytest.approx(1 - 5 / 9)
    assert liver.gap == pytest.approx(1 - math.sqrt(0.5))
    assert found.intra[LABELLED] == pytest.approx(0.25)
    assert found.inter[LABELLED] == pytest.approx(1.5**2 + 0.5**2)
    assert found.inter[ALL] == pytest.approx((2 / 3 + 2 / 3) ** 2)
    assert found.gap == pytest.approx(1 - math.sqrt(0.5))
    assert found.relative_gap == pytest.approx(0.5 / (16 / 9))


def test_the_fold_is_a_part_of_its_own():
    found = _measure((EAST, 1, LABELLED), (EAST, 1, UNLABELLED), (NORTH, 1, FOLD), (WEST, 1, FOLD))
    assert found.organs["liver"].pixels[ALL] == 2
    assert found.intra[ALL] == pytest.approx(0)
    assert found.intra[FOLD] == pytest.approx(0.5)


def test_what_is_missing_is_not_a_number():
    found = _measure((EAST, 1, LABELLED), (EAST, 2, LABELLED), (NORTH, 1, UNLABELLED))
    assert found.organs["liver"].gap == pytest.approx(1)
    assert math.isnan(found.organs["spleen"].gap)
    assert math.isnan(found.inter[UNLABELLED])
    assert math.isnan(found.intra[FOLD])
    assert found.gap == pytest.approx(1)


def test_organs_that_coincide_have_no_relative_gap():
    found = _measure(*((EAST, organ, group) for organ in (1, 2) for group in (LABELLED, UNLABELLED)))
    assert found.inter[ALL] == pytest.approx(0)
    assert math.isnan(found.relative_gap)


@given(
    st.lists(st.floats(-math.pi, math.pi), min_size=1, max_size=20),
    st.lists(st.floats(-math.pi, math.pi), min_size=1, max_size=20),
    st.floats(-math.pi, math.pi),
)
def test_turning_the_space_changes_nothing_and_variances_are_bounded(labelled, unlabelled, turn):
    def of(extra: float) -> Spread:
        entries = [
            ((math.cos(angle + extra), math.sin(angle + extra)), 1, group)
            for group, angles in ((LABELLED, labelled), (UNLABELLED, unlabelled))
            for angle in angles
        ]
        return _measure(*entries)

    first, second = of(0.0), of(turn)
    for part in (LABELLED, UNLABELLED, ALL):
        assert first.intra[part] == pytest.approx(second.intra[part], abs=1e-5)
        assert -1e-6 <= first.intra[part] <= 1 + 1e-6
    weights = np.array([len(labelled), len(unlabelled)]) / (len(labelled) + len(unlabelled))
    within = weights @ [first.intra[LABELLED], first.intra[UNLABELLED]]
    assert first.intra[ALL] >= within - 1e-6
