import time

import numpy as np
import pytest

from multiorganseg.errors import OrganError
from multiorganseg.organs.catalogue import Catalogue, Organ
from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.components import keep_components

SHAPE = (20, 30, 40)


def organ(key, components, within=None):
    return Organ(
        key=key,
        name=key.capitalize(),
        category=None,
        type=None,
        modifier=None,
        color=(1, 2, 3),
        side=None,
        components=components,
        volume_ml=None,
        within=within,
    )


def catalogue(*organs):
    return Catalogue({each.key: each for each in organs})


KNOWN = catalogue(
    organ("liver", 1),
    organ("kidneys", 2),
    organ("colon", None),
    organ("tumor", None, within="liver"),
    organ("cyst", 1, within="tumor"),
)


def put(labels, value, k, j, i):
    labels[slice(*k), slice(*j), slice(*i)] = value


def clean(labels, keys, **options):
    options = {"voxel_volume": 1.0, "speck_ml": 0.002, **options}
    return keep_components(labels, LabelTable.numbered(keys), KNOWN, **options)


def test_every_organ_keeps_as_many_as_the_catalogue_says():
    labels = np.zeros(SHAPE, np.uint8)
    for value, row in ((1, 0), (2, 10), (3, 20)):
        for column, size in ((0, 6), (10, 5), (20, 4)):
            put(labels, value, (0, size), (row, row + 5), (column, column + 5))
    cleaned = clean(labels, ["liver", "kidneys", "colon"])
    sizes = {value: np.count_nonzero(cleaned.labels == value) for value in (1, 2, 3)}
    assert sizes == {1: 150, 2: 275, 3: 375}
    assert cleaned.fragmentation["liver"].kept_share == pytest.approx(150 / 375)
    assert cleaned.fragmentation["liver"].surplus_pieces == 2
    assert cleaned.fragmentation["kidneys"].kept_share == pytest.approx(275 / 375)
    assert cleaned.fragmentation["colon"].kept_share == 1.0


def test_removed_voxels_become_background_and_the_input_stays():
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 2, (0, 10), (0, 10), (0, 10))
    put(labels, 1, (12, 18), (12, 18), (12, 18))
    put(labels, 1, (4, 6), (4, 6), (4, 6))
    before = labels.copy()
    cleaned = clean(labels, ["liver", "kidneys"]).labels
    assert np.array_equal(labels, before)
    assert (cleaned[4:6, 4:6, 4:6] == 0).all()
    assert np.count_nonzero(cleaned != labels) == 8


def test_specks_go_but_an_organ_that_is_only_a_speck_stays():
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 3, (0, 3), (0, 3), (0, 3))
    put(labels, 3, (10, 11), (10, 11), (10, 11))
    put(labels, 1, (15, 16), (20, 21), (30, 31))
    cleaned = clean(labels, ["liver", "kidneys", "colon"])
    assert np.count_nonzero(cleaned.labels == 3) == 27
    assert np.count_nonzero(cleaned.labels == 1) == 1
    assert cleaned.fragmentation["colon"].surplus_pieces == 0
    assert "kidneys" not in cleaned.fragmentation


def test_specks_are_judged_by_physical_volume():
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 3, (0, 3), (0, 3), (0, 3))
    put(labels, 3, (10, 12), (10, 12), (10, 12))
    kept = {
        volume: np.count_nonzero(
            clean(labels, ["liver", "kidneys", "colon"], voxel_volume=volume, speck_ml=0.05).labels
        )
        for volume in (6.0, 7.0)
    }
    assert kept == {6.0: 27, 7.0: 35}


def test_a_piece_of_exactly_the_speck_volume_is_no_speck():
    labels = np.zeros(SHAPE, np.uint8)
    for value, row in ((1, 0), (3, 20)):
        put(labels, value, (0, 3), (row, row + 3), (0, 3))
        put(labels, value, (10, 12), (row, row + 1), (0, 1))
        put(labels, value, (15, 16), (row, row + 1), (0, 1))
    cleaned = clean(labels, ["liver", "kidneys", "colon"])
    assert cleaned.fragmentation["liver"].surplus_pieces == 1
    assert np.count_nonzero(cleaned.labels == 3) == 27 + 2


def test_specks_are_smaller_than_a_twentieth_of_a_millilitre():
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 1, (0, 5), (0, 5), (0, 5))
    put(labels, 1, (10, 15), (10, 12), (10, 15))
    put(labels, 1, (17, 18), (10, 17), (10, 17))
    cleaned = keep_components(labels, LabelTable.numbered(["liver"]), KNOWN, voxel_volume=1.0)
    assert cleaned.fragmentation["liver"].surplus_pieces == 1


def test_diagonal_neighbours_hold_together():
    labels = np.zeros(SHAPE, np.uint8)
    for step in range(10):
        labels[step, step, step] = 1
    assert np.array_equal(clean(labels, ["liver"]).labels, labels)


def test_touching_organs_are_not_one_component():
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 1, (0, 5), (0, 5), (0, 5))
    put(labels, 2, (0, 5), (0, 5), (5, 10))
    put(labels, 1, (0, 2), (0, 5), (10, 12))
    cleaned = clean(labels, ["liver", "kidneys"]).labels
    assert not cleaned[:, :, 10:].any()
    assert (cleaned[:5, :5, 5:10] == 2).all()


@pytest.mark.parametrize("inner", [4, 5])
def test_what_lies_within_an_organ_does_not_cut_it(inner):
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 1, (0, 10), (0, 10), (0, 30))
    put(labels, inner, (0, 10), (0, 10), (12, 15))
    put(labels, 1, (15, 18), (20, 25), (0, 5))
    cleaned = clean(labels, ["liver", "kidneys", "colon", "tumor", "cyst"])
    assert np.array_equal(cleaned.labels[:10], labels[:10])
    assert not cleaned.labels[15:].any()
    assert cleaned.fragmentation["liver"].kept_share == pytest.approx(3000 / 3075)


def test_what_lies_within_a_removed_piece_stays():
    labels = np.zeros(SHAPE, np.uint8)
    put(labels, 1, (0, 10), (0, 10), (0, 30))
    put(labels, 1, (14, 18), (14, 18), (0, 10))
    put(labels, 4, (14, 18), (14, 18), (4, 6))
    cleaned = clean(labels, ["liver", "kidneys", "colon", "tumor"])
    assert np.array_equal(cleaned.labels[10:] == 4, labels[10:] == 4)
    assert not (cleaned.labels[10:] == 1).any()


def test_values_without_an_organ_are_left_alone():
    labels = np.zeros(SHAPE, np.uint8)
    labels[0, 0, 0] = labels[5, 5, 5] = 200
    assert np.array_equal(clean(labels, ["liver"]).labels, labels)


def test_nothing_to_clean():
    cleaned = clean(np.zeros(SHAPE, np.uint8), ["liver", "tumor"])
    assert not cleaned.labels.any()
    assert cleaned.fragmentation == {}


def test_an_unknown_organ_is_named():
    with pytest.raises(OrganError, match="pancreas"):
        clean(np.ones(SHAPE, np.uint8), ["pancreas"])


def test_thirteen_organs_on_a_working_grid_take_under_a_second(slowness):
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 14, size=(10, 16, 16), dtype=np.uint8)
    labels = coarse.repeat(15, 0).repeat(16, 1).repeat(16, 2)
    labels[rng.random(labels.shape) < 0.002] = 0
    known = catalogue(*(organ(f"organ{n}", 1) for n in range(1, 14)))
    table = LabelTable.numbered(known.organs)
    seconds = []
    for _ in range(3):
        start = time.process_time()
        keep_components(labels, table, known, voxel_volume=8.0)
        seconds.append(time.process_time() - start)
    assert min(seconds) < slowness
