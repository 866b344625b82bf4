import math

import numpy as np
import pytest

from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.metrics import evaluate
from multiorganseg.metrics.report import mean_by_organ, mean_over_organs, mean_scores
from multiorganseg.metrics.scores import ABSENT, BOTH, ONLY_PREDICTION, ONLY_REFERENCE
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes import Grid

SHAPE = (10, 12, 14)
GRID = Grid(SHAPE, np.diag([1.0, 2.0, 5.0, 1.0]))


def labels(**boxes):
    result = np.zeros(SHAPE, dtype=np.uint8)
    for name, (start, stop) in boxes.items():
        result[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))] = int(name[1:])
    return result


SPLEEN = ((2, 2, 2), (5, 6, 6))
LEFT, RIGHT = ((1, 8, 9), (4, 11, 13)), ((1, 8, 1), (4, 11, 5))


def by_key(scores):
    return {score.key: score for score in scores}


def test_organs_are_matched_by_key_and_not_by_number():
    prediction = labels(v7=SPLEEN, v1=LEFT)
    reference = labels(v1=SPLEEN, v2=LEFT)
    scores = by_key(
        evaluate(
            prediction,
            LabelTable({7: "spleen", 1: "kidney_left"}),
            reference,
            LabelTable({1: "spleen", 2: "kidney_left"}),
            GRID,
        )
    )
    assert {key: score.dice for key, score in scores.items()} == {"spleen": 1.0, "kidney_left": 1.0}
    assert scores["spleen"].reference_ml == pytest.approx(3 * 4 * 4 * 10 / 1000)
    assert scores["spleen"].hd95_mm == 0.0


def test_presence_is_said_and_undefined_values_stay_out_of_means():
    table = LabelTable.numbered(["spleen", "liver", "pancreas", "aorta"])
    prediction = labels(v1=SPLEEN, v2=LEFT)
    reference = labels(v1=SPLEEN, v3=RIGHT)
    scores = evaluate(prediction, table, reference, table, GRID)
    assert [score.presence for score in scores] == [BOTH, ONLY_PREDICTION, ONLY_REFERENCE, ABSENT]
    assert [score.dice for score in scores[:3]] == [1.0, 0.0, 0.0]
    assert [score.nsd for score in scores[:3]] == [1.0, 0.0, 0.0]
    assert math.isnan(scores[3].dice)
    assert all(math.isnan(score.hd95_mm) for score in scores[1:])
    means = mean_scores(scores)
    assert means["dice"].value == pytest.approx(1 / 3)
    assert (means["dice"].count, means["dice"].undefined) == (3, 1)
    assert (means["hd95_mm"].count, means["hd95_mm"].undefined) == (1, 3)
    assert means["absolute_volume_error_percent"].value == pytest.approx(50.0)


def test_a_mean_of_nothing_is_undefined():
    table = LabelTable.numbered(["aorta"])
    means = mean_scores(evaluate(labels(), table, labels(), table, GRID))
    assert math.isnan(means["dice"].value)
    assert means["dice"].count == 0


def test_every_organ_counts_the_same_in_the_overall_mean():
    table = LabelTable.numbered(["spleen", "liver"])
    first = evaluate(labels(v1=SPLEEN, v2=LEFT), table, labels(v1=SPLEEN, v2=LEFT), table, GRID)
    second = evaluate(labels(v2=RIGHT), table, labels(v2=LEFT), table, GRID)
    by_organ = mean_by_organ([*first, *second])
    assert by_organ["spleen"]["dice"].value == 1.0
    assert by_organ["liver"]["dice"].value == 0.5
    assert mean_over_organs(by_organ)["dice"].value == pytest.approx(0.75)


def test_a_tumour_that_one_side_alone_tells_apart_is_no_hole_in_its_organ():
    told, alone = labels(v1=LEFT), labels(v1=LEFT)
    told[2, 9, 10:12] = 2
    apart = told, LabelTable({1: "liver", 2: "liver_tumor"})
    for first, second in ((apart, (alone, LabelTable({1: "liver"}))), (apart, apart)):
        scores = by_key(evaluate(*first, *second, GRID))
        assert scores["liver"].dice == 1.0
        assert scores["liver"].prediction_ml == scores["liver"].reference_ml
    assert set(scores) == {"liver", "liver_tumor"}


@pytest.mark.parametrize("merged_side", ["prediction", "reference"])
def test_declared_unions_compare_across_tables(merged_side):
    parts = labels(v1=LEFT, v2=RIGHT), LabelTable({1: "kidney_left", 2: "kidney_right"})
    whole = labels(v5=LEFT), LabelTable({5: "kidneys"})
    first, second = (whole, parts) if merged_side == "prediction" else (parts, whole)
    merge = {"kidneys": ("kidney_left", "kidney_right")}
    (score,) = evaluate(*first, *second, GRID, merge=merge)
    assert score.key == "kidneys"
    assert score.dice == pytest.approx(2 / 3)
    with pytest.raises(OrganError, match="no organ in common"):
        evaluate(*first, *second, GRID)


def test_a_union_needs_all_its_parts():
    one_part = labels(v1=LEFT), LabelTable({1: "kidney_left"})
    whole = labels(v5=LEFT), LabelTable({5: "kidneys"})
    with pytest.raises(OrganError):
        evaluate(*one_part, *whole, GRID, merge={"kidneys": ("kidney_left", "kidney_right")})


def test_chosen_organs_only():
    table = LabelTable.numbered(["spleen", "liver"])
    scene = labels(v1=SPLEEN, v2=LEFT)
    assert [s.key for s in evaluate(scene, table, scene, table, GRID, organs=["liver"])] == ["liver"]
    with pytest.raises(OrganError, match="pancreas"):
        evaluate(scene, table, scene, table, GRID, organs=["pancreas"])


def test_shapes_must_be_the_grids():
    table = LabelTable.numbered(["spleen"])
    with pytest.raises(VolumeError, match="prediction"):
        evaluate(labels()[:-1], table, labels(), table, GRID)
