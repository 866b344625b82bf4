"""The phantom is a CT that could be one, the same each time, and one that the bundled network understands."""

from __future__ import annotations

import time

import numpy as np
import pytest

from multiorganseg.bundles import find_bundle
from multiorganseg.folders import resources_dir
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import evaluate
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.phantom import ORGANS, SHAPE, SPACING, phantom_ct, phantom_labels
from multiorganseg.quality.components import keep_components
from multiorganseg.quality.flags import CUT_BY_FIELD_OF_VIEW
from multiorganseg.quality.measure import measure
from multiorganseg.volumes.check import check_affine

LONGEST_SECONDS = 2.0
DICE_FLOORS = {"liver": 0.85, "spleen": 0.8, "kidney_right": 0.8, "aorta": 0.8}
LEAVE_THE_FIELD = {"aorta", "inferior_vena_cava", "esophagus"}


@pytest.fixture(scope="module")
def ct():
    return phantom_ct()


@pytest.fixture(scope="module")
def drawn():
    return phantom_labels()


def test_it_is_a_ct_around_the_middle_of_space(ct) -> None:
    assert ct.voxels.shape == SHAPE
    assert ct.voxels.dtype == np.int16
    assert ct.grid.spacing == pytest.approx(SPACING)
    check_affine(ct.affine, ct.source)
    corners = ct.grid.to_patient(np.array([(0, 0, 0), [size - 1 for size in SHAPE]], float))
    assert corners[0] == pytest.approx(-corners[1])


def test_it_is_the_same_each_time_and_differs_with_the_seed(ct) -> None:
    assert np.array_equal(phantom_ct().voxels, ct.voxels)
    other = phantom_ct(seed=1).voxels.astype(np.int32)
    assert not np.array_equal(other, ct.voxels)
    assert abs(float((other - ct.voxels).mean())) < 1


def test_it_is_built_fast(slowness) -> None:
    started = time.process_time()
    phantom_ct()
    assert time.process_time() - started < LONGEST_SECONDS * slowness


def test_tissues_have_their_hounsfield_units(ct, drawn) -> None:
    labels, table = drawn
    means = {key: float(ct.voxels[labels == value].mean()) for value, key in table.organs.items()}
    assert 90 < means["liver"] < 130
    assert 105 < means["spleen"] < 145
    assert means["kidney_left"] > means["spleen"]
    assert means["aorta"] > means["liver"]
    assert means["gallbladder"] < 40
    assert float(ct.voxels[:, 0].mean()) < -950
    assert np.percentile(ct.voxels, 99.9) > 300
    assert ((ct.voxels > -950) & (ct.voxels < -700)).mean() > 0.01


def test_organs_lie_where_they_belong(ct, drawn) -> None:
    labels, table = drawn
    middle = {
        key: ct.grid.to_patient(np.argwhere(labels == value).mean(axis=0))
        for value, key in table.organs.items()
    }
    x = {key: point[0] for key, point in middle.items()}
    y = {key: point[1] for key, point in middle.items()}
    z = {key: point[2] for key, point in middle.items()}
    assert x["liver"] < 0 < x["spleen"]
    assert x["kidney_right"] < x["inferior_vena_cava"] < x["aorta"] < x["kidney_left"]
    assert x["adrenal_gland_right"] < 0 < x["adrenal_gland_left"]
    assert y["stomach"] < y["pancreas"] < y["kidney_left"]
    assert z["kidney_right"] < z["kidney_left"] < z["adrenal_gland_left"]


def test_organs_are_whole_and_of_plausible_size(ct, drawn) -> None:
    labels, table = drawn
    catalogue = load_catalogue()
    cleaned = keep_components(labels, table, catalogue, voxel_volume=ct.grid.voxel_volume)
    confidence = dict.fromkeys(table.keys, 1.0)
    statistics = measure(labels, ct, table, confidence, catalogue, cleaned.fragmentation)
    assert {row.key for row in statistics} == set(ORGANS.keys)
    flagged = {row.key: row.flags for row in statistics if row.flags}
    assert set(flagged) <= LEAVE_THE_FIELD, flagged
    assert all(flags == (CUT_BY_FIELD_OF_VIEW,) for flags in flagged.values())


@pytest.mark.slow
def test_the_bundled_network_finds_its_organs(ct, drawn) -> None:
    labels, table = drawn
    bundle = find_bundle(str(resources_dir() / "Models" / "abdomen-ct"))
    result = Segmenter(bundle, Options(quality="balanced", device="cpu")).segment(ct)
    scores = evaluate(result.labels, result.table, labels, table, ct.grid)
    dice = {score.key: score.dice for score in scores}
    assert {key: dice[key] for key, floor in DICE_FLOORS.items() if dice[key] < floor} == {}, dice
