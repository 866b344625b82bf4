from __future__ import annotations

import math

import numpy as np
import pytest

from multiorganseg.errors import OrganError
from multiorganseg.metrics.scores import ABSENT, BOTH, ONLY_PREDICTION, ONLY_REFERENCE
from multiorganseg.organs.labels import LabelTable
from research.evaluation.measure import measure_case

TABLE = LabelTable.numbered(["liver", "spleen", "pancreas", "kidneys"])
SHAPE = (6, 12, 14)
SPACING = (5.0, 2.0, 3.0)
LIVER, SPLEEN, PANCREAS, KIDNEYS = 1, 2, 3, 4


def labels(**boxes):
    result = np.zeros(SHAPE, np.uint8)
    for value, (start, stop) in boxes.items():
        result[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = int(value[1:])
    return result


@pytest.fixture
def results():
    prediction = labels(v1=((2, 2, 4), (4, 5, 8)), v2=((0, 8, 8), (2, 10, 10)))
    reference = labels(v1=((2, 2, 2), (4, 5, 6)), v3=((3, 8, 1), (6, 10, 3)))
    return {
        result.organ: result for result in measure_case(prediction, reference, TABLE, TABLE.keys, SPACING)
    }


def test_a_shifted_block_by_hand(results):
    liver = results["liver"]
    assert liver.presence == BOTH
    assert liver.dice == pytest.approx(2 * 12 / (24 + 24))
    assert liver.jaccard == pytest.approx(12 / 36)
    assert liver.hd_slice2d_ltuda == 2.0
    assert (liver.slices, liver.slices_skipped) == (2, 0)
    assert liver.hd95_voxels == pytest.approx(2.0)
    assert liver.hd95_mm == pytest.approx(2 * 3.0)
    assert 0 < liver.asd_voxels < 2
    assert 0 < liver.asd_mm < 6
    assert 0 < liver.nsd < 1


def test_what_is_missed_is_flagged_and_has_no_distance(results):
    for key, presence in (("pancreas", ONLY_REFERENCE), ("spleen", ONLY_PREDICTION)):
        result = results[key]
        assert result.presence == presence
        assert (result.dice, result.jaccard, result.nsd) == (0.0, 0.0, 0.0)
        distances = (result.hd95_mm, result.asd_mm, result.hd95_voxels, result.asd_voxels)
        assert all(map(math.isnan, (*distances, result.hd_slice2d_ltuda)))
    assert (results["pancreas"].slices, results["pancreas"].slices_skipped) == (3, 3)


def test_what_is_nowhere_has_no_value(results):
    kidneys = results["kidneys"]
    assert kidneys.presence == ABSENT
    assert all(map(math.isnan, (kidneys.dice, kidneys.jaccard, kidneys.nsd, kidneys.hd95_mm)))


def test_only_the_organs_that_were_asked_for():
    some = labels(v1=((0, 0, 0), (2, 2, 2)), v4=((3, 3, 3), (4, 4, 4)))
    measured = measure_case(some, some, TABLE, ["kidneys", "liver"], SPACING)
    assert [result.organ for result in measured] == ["liver", "kidneys"]
    assert [(result.dice, result.jaccard, result.asd_voxels) for result in measured] == [(1.0, 1.0, 0.0)] * 2
    assert measure_case(some, some, TABLE, [], SPACING) == ()
    with pytest.raises(OrganError, match="aorta"):
        measure_case(some, some, TABLE, ["aorta"], SPACING)


def test_the_tolerance_is_in_mm():
    prediction, reference = labels(v1=((1, 2, 4), (4, 8, 9))), labels(v1=((1, 2, 5), (4, 8, 10)))
    scores = [
        measure_case(prediction, reference, TABLE, ["liver"], SPACING, tolerance)[0].nsd
        for tolerance in (2.9, 3.0)
    ]
    assert scores[0] < 1.0
    assert scores[1] == 1.0


def test_what_lies_within_an_organ_belongs_to_it_in_every_figure():
    table = LabelTable.numbered(["liver", "liver_segment_1"])
    reference = labels(v1=((1, 2, 2), (5, 10, 12)))
    prediction = reference.copy()
    prediction[2:4, 4:8, 4:8] = 2
    (liver,) = measure_case(prediction, reference, table, ["liver"], SPACING)
    assert (liver.dice, liver.jaccard, liver.nsd) == (1, 1, 1)
    assert (liver.hd95_mm, liver.hd95_voxels, liver.asd_voxels, liver.hd_slice2d_ltuda) == (0, 0, 0, 0)
