from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.acceptance import Verdict
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Grid
from multiorganseg_training.acceptance.decide import bootstrap_interval, decide_new, decide_old
from multiorganseg_training.acceptance.score import CaseScore, LabelMap, score_case

NAN = float("nan")


def score(case: str, old: float, new: float, reference: float = 100.0, **changes: float) -> CaseScore:
    values = {
        "agreement": NAN,
        "agreement_nsd": NAN,
        "volume_ml_old": 100.0,
        "volume_ml_new": 100.0,
        **changes,
    }
    status = "unknown" if math.isnan(reference) else "annotated" if reference else "absent"
    return CaseScore(
        case=case,
        organ="liver",
        status=status,
        dice_old=old,
        dice_new=new,
        nsd_old=old,
        nsd_new=new,
        volume_ml_reference=reference,
        **values,
    )


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ([0.0, -0.01, -0.02], Verdict.PASS),
        ([0.0, -0.015, -0.018], Verdict.FAIL),
        ([0.1, -0.05, 0.0], Verdict.PASS),
        ([-0.011], Verdict.FAIL),
    ],
)
def test_the_mean_fall_decides(changes, verdict):
    scores = [score(str(n), 0.9, 0.9 + change) for n, change in enumerate(changes)]
    organ = decide_old(scores, margin=0.01)
    assert organ.verdict is verdict
    assert organ.difference == pytest.approx(np.mean(changes))
    assert organ.worst_case == str(int(np.argmin(changes)))
    assert (organ.confidence_interval is None) == (len(changes) < 3)


@pytest.mark.parametrize(
    ("agreement", "verdict"),
    [(0.95, Verdict.PASS), (0.9, Verdict.PASS), (0.8, Verdict.UNPROVEN), (0.69, Verdict.FAIL)],
)
def test_agreement_decides_without_annotations(agreement, verdict):
    organ = decide_old([score("a", NAN, NAN, NAN, agreement=agreement)], margin=0.01)
    assert (organ.verdict, organ.reference, organ.dice_old) == (verdict, "base", None)


def test_an_annotation_in_one_case_outweighs_agreement_in_others():
    scores = [score("a", 0.9, 0.9), score("b", NAN, NAN, NAN, agreement=0.1)]
    organ = decide_old(scores, margin=0.01)
    assert (organ.reference, organ.cases, organ.verdict) == ("annotated", 1, Verdict.PASS)


def test_an_organ_that_no_network_finds_is_unproven():
    organ = decide_old([score("a", NAN, NAN, NAN)], margin=0.01)
    assert organ.verdict is Verdict.UNPROVEN
    assert organ.worst_case is None


def test_an_old_organ_that_is_newly_drawn_where_it_is_absent_fails():
    present = score("a", 0.9, 0.9, 20.0)
    few = score("b", 0.0, 0.0, 0.0, volume_ml_old=0.0, volume_ml_new=0.9)
    many = score("b", 0.0, 0.0, 0.0, volume_ml_old=0.0, volume_ml_new=1.1)
    as_before = score("b", 0.0, 0.0, 0.0, volume_ml_old=5.0, volume_ml_new=5.5)
    assert decide_old([present, few], 0.01).verdict is Verdict.PASS
    assert decide_old([present, as_before], 0.01).verdict is Verdict.PASS
    assert decide_old([present, many], 0.01).verdict is Verdict.FAIL


def test_large_organs_may_spill_more_than_small_ones():
    spilled = score("b", 0.0, 0.0, 0.0, volume_ml_new=20.0)
    assert decide_new([score("a", NAN, 0.9, 1500.0), spilled], 0.5).verdict is Verdict.PASS
    assert decide_new([score("a", NAN, 0.9, 30.0), spilled], 0.5).verdict is Verdict.FAIL


def test_the_floor_itself_passes():
    assert decide_new([score("a", NAN, 0.5)], 0.5).verdict is Verdict.PASS
    assert decide_new([score("a", NAN, 0.499)], 0.5).verdict is Verdict.FAIL


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=12))
def test_the_interval_holds_the_mean_and_stays_within_the_values(values):
    low, high = bootstrap_interval(values)
    assert min(values) - 1e-9 <= low <= high <= max(values) + 1e-9
    assert low - 1e-9 <= np.mean(values) <= high + 1e-9 or len(set(values)) > 1
    assert bootstrap_interval(values) == (low, high)


def test_two_cases_give_no_interval():
    assert bootstrap_interval([0.1, 0.2]) is None


def test_a_tumour_that_is_not_annotated_is_no_hole_in_the_reference(case):
    plain = case()
    grid = read_volume(plain.image).grid
    told = replace(plain, organs={1: "liver", 6: "liver_tumor"}, annotated=frozenset({"liver"}))
    liver = LabelMap(told.reference(grid), told.table).mask("liver", load_catalogue())
    assert liver.sum() == np.isin(read_labels(plain.labels).voxels, (1, 6)).sum()


def test_a_tumour_that_is_told_apart_still_belongs_to_its_organ():
    catalogue = load_catalogue()
    assert catalogue.get("liver_tumor").within == "liver"
    grid = Grid((6, 6, 6), np.eye(4))
    whole = np.zeros(grid.shape, np.uint8)
    whole[1:5, 1:5, 1:5] = 1
    apart = whole.copy()
    apart[2:4, 2:4, 2:4] = 2
    both = LabelTable.numbered(["liver", "liver_tumor"])
    old, new = LabelMap(whole, LabelTable.numbered(["liver"])), LabelMap(apart, both)
    liver, tumour = score_case("a", old, new, new, frozenset(), grid, ["liver", "liver_tumor"], catalogue)
    assert liver.dice_old == liver.dice_new == 1.0
    assert tumour.dice_new == 1.0
    assert math.isnan(tumour.dice_old)
