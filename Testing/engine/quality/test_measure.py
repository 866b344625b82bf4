import math

import numpy as np
import pytest

from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, Organ
from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality import flags
from multiorganseg.quality.components import Fragmentation
from multiorganseg.quality.measure import measure
from multiorganseg.volumes import Volume

SHAPE = (30, 40, 50)
AFFINE = np.diag([2.0, 2.0, 2.0, 1.0])
KEYS = ["spleen", "kidney_left", "kidney_right", "rib_left_1", "rib_right_1"]
TABLE = LabelTable.numbered(KEYS)


def organ(key, volume_ml=None):
    side = next((word for word in key.split("_") if word in ("left", "right")), None)
    return Organ(
        key=key,
        name=key,
        category=None,
        type=None,
        modifier=None,
        color=(1, 2, 3),
        side=side,
        components=1,
        volume_ml=volume_ml,
        within=None,
    )


CATALOGUE = Catalogue({key: organ(key, (0.5, 5.0) if key == "spleen" else None) for key in KEYS})


def scene(**boxes):
    labels = np.zeros(SHAPE, np.uint8)
    for key, box in boxes.items():
        labels[tuple(slice(*pair) for pair in box)] = TABLE.value(key)
    return labels


def run(labels, voxels=None, affine=AFFINE, confidence=None, fragmentation=None):
    voxels = np.zeros(SHAPE, np.int16) if voxels is None else voxels
    statistics = measure(labels, Volume(voxels, affine), TABLE, confidence or {}, CATALOGUE, fragmentation)
    assert [each.key for each in statistics] == KEYS
    return {each.key: each for each in statistics}


SPLEEN = ((5, 10), (5, 10), (5, 10))


def test_volume_and_mean_intensity():
    rng = np.random.default_rng(3)
    voxels = rng.integers(-100, 300, size=SHAPE).astype(np.int16)
    labels = scene(spleen=SPLEEN, kidney_left=((12, 20), (3, 9), (30, 44)))
    found = run(labels, voxels, confidence={"spleen": 0.93})
    assert found["spleen"].voxels == 125
    assert found["spleen"].volume_ml == pytest.approx(1.0)
    assert found["spleen"].mean_intensity == pytest.approx(voxels[labels == 1].mean())
    assert found["kidney_left"].mean_intensity == pytest.approx(voxels[labels == 2].mean())
    assert found["spleen"].confidence == 0.93
    assert found["spleen"].flags == ()
    assert math.isnan(found["kidney_left"].confidence)


def test_slabs_do_not_change_the_result(monkeypatch):
    voxels = np.random.default_rng(4).normal(size=SHAPE).astype(np.float32)
    labels = scene(spleen=((3, 28), (5, 30), (2, 50)), kidney_left=((0, 2), (0, 9), (0, 9)))
    whole = run(labels, voxels)
    monkeypatch.setattr("multiorganseg.quality.measure.SLAB_VOXELS", 4000)
    in_slabs = run(labels, voxels)
    for key in ("spleen", "kidney_left"):
        assert in_slabs[key].voxels == whole[key].voxels
        assert in_slabs[key].mean_intensity == pytest.approx(whole[key].mean_intensity)
        assert in_slabs[key].flags == whole[key].flags


def test_sheared_grids_count_the_true_volume():
    affine = AFFINE.copy()
    affine[1, 2] = 1.5
    assert run(scene(spleen=SPLEEN), affine=affine)["spleen"].volume_ml == pytest.approx(1.0)


def test_an_organ_without_voxels():
    spleen = run(scene(), confidence={"spleen": 0.1})["spleen"]
    assert (spleen.voxels, spleen.volume_ml) == (0, 0.0)
    assert math.isnan(spleen.mean_intensity)
    assert math.isnan(spleen.confidence)
    assert spleen.flags == (flags.NOT_FOUND,)


@pytest.mark.parametrize(
    "box",
    [
        ((0, 5), (5, 10), (5, 10)),
        ((25, 30), (5, 10), (5, 10)),
        ((5, 10), (0, 5), (5, 10)),
        ((5, 10), (35, 40), (5, 10)),
        ((5, 10), (5, 10), (0, 5)),
        ((5, 10), (5, 10), (45, 50)),
    ],
)
def test_every_face_of_the_image_cuts(box):
    assert run(scene(spleen=box))["spleen"].flags == (flags.CUT_BY_FIELD_OF_VIEW,)


def test_a_tip_at_the_border_is_no_cut():
    labels = scene(spleen=((1, 6), (5, 10), (5, 10)))
    labels[0, 7, 5:10] = 1
    assert run(labels)["spleen"].flags == ()
    labels[0, 8, 5] = 1
    assert run(labels)["spleen"].flags == (flags.CUT_BY_FIELD_OF_VIEW,)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize(("axis", "small"), [(0, 3), (1, 2), (2, 1)])
def test_the_area_of_a_cut_is_that_of_the_voxels_faces(axis, small, padded):
    """Of voxels of 5 × 3 × 2 mm (k, j, i), three faces along k are 18 mm², two along j 20, one along i 15."""
    affine = np.diag([2.0, 3.0, 5.0, 1.0])
    labels = scene(spleen=((8, 13), (8, 13), (8, 13)))
    voxels = np.full(SHAPE, 40, np.int16)
    at = [10, 10, 10]
    if padded and axis > 0:
        voxels.swapaxes(0, axis)[:5] = -2000
        labels.swapaxes(0, axis)[5:8, 9, 9] = 1
        at[axis] = 5
    else:
        labels.swapaxes(0, axis)[:8, 9, 9] = 1
        at[axis] = 0
    along = 2 if axis != 2 else 1
    for faces in (small, small + 1):
        at[along] = slice(10, 10 + faces)
        labels.swapaxes(0, axis)[at[axis], 9, 9] = 0
        labels[tuple(at)] = 1
        expected = (flags.CUT_BY_FIELD_OF_VIEW,) if faces > small else ()
        assert run(labels, voxels, affine)["spleen"].flags == expected


def test_the_round_field_of_view_cuts():
    voxels = np.full(SHAPE, 40, np.int16)
    voxels[:, :, :5] = -2000
    assert run(scene(spleen=SPLEEN), voxels)["spleen"].flags == (flags.CUT_BY_FIELD_OF_VIEW,)
    voxels[:, :, :5] = -1000
    assert run(scene(spleen=SPLEEN), voxels)["spleen"].flags == ()


def test_volume_is_judged_unless_the_organ_is_cut():
    large = ((5, 20), (5, 20), (5, 20))
    assert run(scene(spleen=large))["spleen"].flags == (flags.VOLUME_IMPLAUSIBLE,)
    assert run(scene(spleen=((5, 7), (5, 7), (5, 7))))["spleen"].flags == (flags.VOLUME_IMPLAUSIBLE,)
    assert run(scene(spleen=((0, 20), (5, 20), (5, 20))))["spleen"].flags == (flags.CUT_BY_FIELD_OF_VIEW,)
    assert run(scene(kidney_left=large))["kidney_left"].flags == ()


@pytest.mark.parametrize("flip", [1.0, -1.0])
@pytest.mark.parametrize("pair", [("kidney_left", "kidney_right"), ("rib_left_1", "rib_right_1")])
def test_left_must_lie_to_the_left_of_the_patient(pair, flip):
    left, right = pair
    affine = np.diag([flip * 2.0, 2.0, 2.0, 1.0])
    low_i, high_i = ((5, 10), (5, 10), (5, 10)), ((5, 10), (5, 10), (30, 35))
    correct = {left: high_i, right: low_i} if flip > 0 else {left: low_i, right: high_i}
    swapped = {left: correct[right], right: correct[left]}
    assert run(scene(**correct), affine=affine)[left].flags == ()
    found = run(scene(**swapped), affine=affine)
    assert found[left].flags == found[right].flags == (flags.LEFT_RIGHT_INCONSISTENT,)


def test_one_side_alone_is_not_judged():
    assert run(scene(kidney_left=SPLEEN))["kidney_left"].flags == ()


def test_sides_are_told_apart_on_axes_in_any_order():
    affine = np.array([[0, 0, 2.0, 0], [2.0, 0, 0, 0], [0, 2.0, 0, 0], [0, 0, 0, 1]])
    high_k, low_k = ((20, 25), (5, 10), (5, 10)), ((5, 10), (5, 10), (5, 10))
    assert run(scene(kidney_left=high_k, kidney_right=low_k), affine=affine)["kidney_left"].flags == ()
    assert run(scene(kidney_left=low_k, kidney_right=high_k), affine=affine)["kidney_left"].flags == (
        flags.LEFT_RIGHT_INCONSISTENT,
    )


@pytest.mark.parametrize(
    ("fragmentation", "raised"),
    [
        (Fragmentation(surplus_pieces=0, kept_share=0.99), False),
        (Fragmentation(surplus_pieces=1, kept_share=0.79), True),
        (Fragmentation(surplus_pieces=5, kept_share=0.95), True),
    ],
)
def test_fragments(fragmentation, raised):
    found = run(scene(spleen=SPLEEN), fragmentation={"spleen": fragmentation})["spleen"].flags
    assert found == ((flags.FRAGMENTED,) if raised else ())


def test_uncertainty_is_told_only_where_it_was_mapped():
    labels, volume = scene(spleen=SPLEEN), Volume(np.zeros(SHAPE, np.int16), AFFINE)
    plain = measure(labels, volume, TABLE, {}, CATALOGUE)
    assert {each.uncertainty for each in plain} == {None}
    spleen, empty, *_ = measure(labels, volume, TABLE, {}, CATALOGUE, uncertainty={"spleen": 0.25})
    assert spleen.uncertainty == 0.25
    assert math.isnan(empty.uncertainty)


def test_worst_first():
    spleen = run(
        scene(spleen=((0, 20), (5, 20), (5, 20))),
        confidence={"spleen": 0.59},
        fragmentation={"spleen": Fragmentation(3, 0.5)},
    )["spleen"]
    assert spleen.flags == (flags.LOW_CONFIDENCE, flags.FRAGMENTED, flags.CUT_BY_FIELD_OF_VIEW)
    assert all(flags.TEXTS[flag].endswith(".") for flag in spleen.flags)


def test_without_organs_nothing_is_measured():
    volume = Volume(np.zeros(SHAPE, np.int16), AFFINE)
    assert measure(np.zeros(SHAPE, np.uint8), volume, LabelTable({}), {}, CATALOGUE) == ()


def test_values_without_an_organ_are_ignored():
    labels = scene(spleen=SPLEEN)
    labels[20:, 20:, 20:] = 99
    assert run(labels)["spleen"].voxels == 125


def test_mistakes_are_explained():
    with pytest.raises(VolumeError, match="voxels"):
        measure(np.zeros((2, 2, 2), np.uint8), Volume(np.zeros(SHAPE), AFFINE), TABLE, {}, CATALOGUE)
    with pytest.raises(OrganError, match="pancreas"):
        measure(
            np.ones(SHAPE, np.uint8),
            Volume(np.zeros(SHAPE), AFFINE),
            LabelTable.numbered(["pancreas"]),
            {},
            CATALOGUE,
        )
