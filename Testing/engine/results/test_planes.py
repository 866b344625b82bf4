from __future__ import annotations

import itertools

import numpy as np
import pytest

from multiorganseg.results.planes import best_slices, make_planes
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes import Volume

WINDOW = (-160.0, 240.0)
TURNS = [
    (axes, signs)
    for axes in itertools.permutations(range(3))
    for signs in itertools.product((1, -1), repeat=3)
]


def center(plane, value):
    """Centre (row, column) of an organ as fractions of the plane."""
    rows, columns = np.nonzero(plane.organs[value] > 0.5)
    return rows.mean() / plane.image.shape[0], columns.mean() / plane.image.shape[1]


@pytest.mark.parametrize(("axes", "signs"), TURNS[::3])
def test_planes_look_the_same_however_the_volume_is_stored(phantom, axes, signs):
    steps = np.diag([6.0, 6.0, 8.0])[:, axes] * signs
    sizes = np.array([44, 40, 24])[list(axes)]
    turned = phantom.case(phantom.grid(tuple(int(size) for size in sizes[::-1]), steps))
    for plane, expected in zip(
        make_planes(*turned, WINDOW), make_planes(*phantom.case(), WINDOW), strict=True
    ):
        assert plane.marks == expected.marks
        assert plane.slice_index == expected.slice_index
        np.testing.assert_allclose(plane.image, expected.image)
        assert plane.organs.keys() == expected.organs.keys()
        for value, share in plane.organs.items():
            np.testing.assert_allclose(share, expected.organs[value], atol=1e-6)


def test_marks_say_where_things_lie(phantom):
    volume, segmentation = phantom.case()
    body = Volume(np.full_like(volume.voxels, 50), volume.affine)
    labels = np.zeros_like(segmentation.labels)
    right_front_top = segmentation.grid.to_index((-70.0, -60.0, 80.0)).round().astype(int)
    labels[tuple(slice(part - 1, part + 2) for part in right_front_top)] = 6
    marked = Segmentation(labels, segmentation.affine, segmentation.table)
    axial, coronal, sagittal = make_planes(body, marked, WINDOW)
    assert (axial.marks, coronal.marks, sagittal.marks) == ("RLAP", "RLSI", "APSI")
    for plane in (axial, coronal, sagittal):
        row, column = center(plane, 6)
        assert row < 0.45
        assert column < 0.45


def test_pixels_are_square_in_millimetres(phantom):
    volume, segmentation = phantom.case(phantom.grid((40, 40, 90), np.diag([2.0, 6.0, 5.0])))
    aorta = phantom.TABLE.value("aorta")
    alone = np.where(segmentation.labels == aorta, aorta, 0).astype(np.uint8)
    marked = Segmentation(alone, segmentation.affine, segmentation.table)
    for plane in make_planes(volume, marked, WINDOW)[1:]:
        rows, columns = np.nonzero(plane.organs[aorta] > 0.5)
        assert np.ptp(rows) * plane.pixel == pytest.approx(156, abs=8)
        assert 8 < np.ptp(columns) * plane.pixel < 24


def test_best_slices_show_the_most_organs():
    labels = np.zeros((10, 12, 14), dtype=np.uint8)
    labels[2, 3:9, 3:9] = 1
    labels[7, 3, 3] = 1
    labels[7, 5:8, 5:8] = 2
    labels[7, 9, 5] = 3
    assert best_slices(labels)[0] == 7


def test_large_arrays_are_thinned():
    labels = np.zeros((700, 20, 20), dtype=np.uint8)
    labels[500:540] = 4
    assert 500 <= best_slices(labels)[0] < 540


def test_without_labels_the_middle_is_shown(phantom):
    volume, segmentation = phantom.case()
    empty = Segmentation(np.zeros_like(segmentation.labels), segmentation.affine, segmentation.table)
    planes = make_planes(volume, empty, WINDOW)
    assert [plane.slice_index for plane in planes] == [12, 20, 22]
    assert not any(plane.organs for plane in planes)


def test_all_air_is_not_cropped_away(phantom):
    volume, segmentation = phantom.case()
    air = Volume(np.full_like(volume.voxels, -1000), volume.affine)
    empty = Segmentation(np.zeros_like(segmentation.labels), segmentation.affine, segmentation.table)
    assert make_planes(air, empty, WINDOW)[0].image.size > 0
