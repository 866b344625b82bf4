from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from multiorganseg.metrics import dice
from multiorganseg_training.data.augmentation import (
    IN_PLANE,
    _random_matrix,
    change_intensity,
    random_patch,
)
from multiorganseg_training.recipe.recipe import AugmentationSpec

CPU = torch.device("cpu")
STILL = AugmentationSpec(0.0, (1.0, 1.0), 0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0)
MOVING = AugmentationSpec(30.0, (0.7, 1.4), 0.1, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0)
WILD = AugmentationSpec(brightness=3.0, contrast=(0.1, 5.0), noise=2.0, blur_probability=0.5)
PATCH = (8, 12, 10)

Spacing = tuple[float, float, float]


def _patch(
    image: NDArray,
    labels: NDArray[np.uint8],
    centre: tuple[float, ...],
    spec: AugmentationSpec,
    *,
    seed: int = 0,
    shape: tuple[int, int, int] = PATCH,
    spacing: Spacing = (3.0, 1.5, 1.5),
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    generator = np.random.default_rng(seed)
    patch, patch_labels = random_patch(
        torch.from_numpy(image),
        torch.from_numpy(labels),
        np.array(centre, float),
        shape,
        spacing,
        spec,
        generator,
        CPU,
    )
    assert patch.shape == (1, *shape)
    assert patch_labels.shape == shape
    assert (patch.dtype, patch_labels.dtype) == (torch.float32, torch.int64)
    return patch[0].numpy(), patch_labels.numpy()


def _noise(shape: tuple[int, int, int]) -> tuple[NDArray[np.float16], NDArray[np.uint8]]:
    generator = np.random.default_rng(1)
    return generator.uniform(-1, 1, shape).astype(np.float16), generator.integers(0, 14, shape).astype(
        np.uint8
    )


@pytest.mark.parametrize("start", [(0, 0, 0), (3, 7, 5), (12, 18, 15)])
def test_without_change_a_patch_is_a_crop(start):
    image, labels = _noise((20, 30, 25))
    centre = tuple(first + (size - 1) / 2 for first, size in zip(start, PATCH, strict=True))
    box = tuple(slice(first, first + size) for first, size in zip(start, PATCH, strict=True))
    patch, patch_labels = _patch(image, labels, centre, STILL)
    assert np.allclose(patch, image[box].astype(np.float32), atol=1e-5)
    assert np.array_equal(patch_labels, labels[box])


def _corners(volume: tuple[int, ...], centre: tuple[float, ...] | None, patch: tuple[int, ...]) -> NDArray:
    """Return the low corners (500, 3) of patches of a still volume, read off their first voxel."""
    places = torch.arange(math.prod(volume), dtype=torch.float32).reshape(volume) / math.prod(volume)
    generator = np.random.default_rng(0)
    place = None if centre is None else np.array(centre, float)
    shown = [
        random_patch(places, torch.zeros(volume), place, patch, (1.0, 1.0, 1.0), STILL, generator, CPU)[0]
        for _ in range(500)
    ]
    first = np.array([float(patch[0, 0, 0, 0]) for patch in shown]) * math.prod(volume)
    assert np.allclose(first, first.round(), atol=0.02)
    return np.stack(np.unravel_index(first.round().astype(int), volume), axis=1)


@pytest.mark.parametrize("patch", [(4, 6, 5), (1, 6, 5)])
def test_a_patch_anywhere_has_every_low_corner_equally_often(patch):
    volume = (6, 8, 10)
    corners = _corners(volume, None, patch)
    for axis in range(3):
        counts = np.bincount(corners[:, axis], minlength=volume[axis] - patch[axis] + 1)
        assert len(counts) == volume[axis] - patch[axis] + 1
        assert counts.min() > 0.7 * counts.mean(), "no border is favoured"


def test_where_a_patch_cannot_be_centred_it_lies_anywhere_around_the_centre():
    corners = _corners((6, 20, 30), (5, 10, 2), (4, 7, 8))
    assert set(corners[:, 0]) == {2}, "only there it holds the last slice"
    assert set(corners[:, 1]) == {7}, "centred"
    assert np.bincount(corners[:, 2]).min() > 120
    assert set(corners[:, 2]) == {0, 1, 2}
    for axis in _corners((12, 12, 12), (3, 4, 9), (10, 10, 10)).T:
        counts = np.bincount(axis)
        assert len(counts) == 3, "a volume hardly larger than the patch does not pin it to a border"
        assert counts.min() > 120


def test_a_patch_of_the_volumes_size_is_the_volume():
    image, labels = _noise(PATCH)
    patch, patch_labels = _patch(image, labels, (2, 2, 2), STILL)
    assert np.allclose(patch, image.astype(np.float32), atol=1e-5)
    assert np.array_equal(patch_labels, labels)


def test_around_a_small_volume_lies_air():
    image, labels = np.ones((4, 4, 4), np.float16), np.ones((4, 4, 4), np.uint8)
    patch, patch_labels = _patch(image, labels, (0, 0, 0), STILL)
    assert patch_labels.sum() == 64
    assert np.array_equal(patch > 0, patch_labels == 1)
    assert np.all(patch[patch_labels == 0] == -1)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.5, 5)] * 3),
    centre=st.tuples(st.floats(4, 19), st.floats(6, 23), st.floats(5, 22)),
)
def test_voxels_come_from_where_the_matrix_says(seed, spacing, centre):
    shape = (24, 30, 28)
    index = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"))
    slope = np.array([0.02, -0.015, 0.03])
    image = (np.tensordot(slope, index, 1) - 0.4).astype(np.float32)
    assert np.abs(image).max() <= 1
    patch, _ = _patch(image, np.zeros(shape, np.uint8), centre, MOVING, seed=seed, spacing=spacing)

    matrix = _random_matrix(spacing, MOVING, np.random.default_rng(seed))
    target = np.stack(np.meshgrid(*[np.arange(n) - (n - 1) / 2 for n in PATCH], indexing="ij"))
    source = np.array(centre)[:, None, None, None] + np.tensordot(matrix, target, 1)
    covered = np.all(
        [(axis >= 0.01) & (axis <= n - 1.01) for axis, n in zip(source, shape, strict=True)], axis=0
    )
    expected = np.tensordot(slope, source, 1) - 0.4
    assert covered.any()
    assert np.allclose(patch[covered], expected[covered], atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), spacing=st.tuples(*[st.floats(0.5, 5)] * 3))
def test_the_matrix_is_a_rotation_and_a_scale_in_millimetres(seed, spacing):
    spec = AugmentationSpec(rotation_degrees=20.0, scale=(0.8, 1.25), anisotropy=0.0)
    to_mm = np.diag(spacing)
    in_mm = to_mm @ _random_matrix(spacing, spec, np.random.default_rng(seed)) @ np.linalg.inv(to_mm)
    sizes = np.linalg.svd(in_mm, compute_uv=False)
    assert np.allclose(sizes, sizes[0])
    assert 0.8 - 1e-9 <= 1 / sizes[0] <= 1.25 + 1e-9
    rotation = in_mm / sizes[0]
    assert np.linalg.det(rotation) == pytest.approx(1)
    angle = math.degrees(math.acos(np.clip((np.trace(rotation) - 1) / 2, -1, 1)))
    assert angle <= 20 + 10 + 10


@pytest.mark.parametrize("seed", range(5))
def test_a_block_stays_a_block_in_image_and_labels(seed):
    image, labels = np.full((32, 48, 48), -1, np.float16), np.zeros((32, 48, 48), np.uint8)
    block = (slice(10, 22), slice(16, 36), slice(14, 30))
    image[block], labels[block] = 1, 5
    patch, patch_labels = _patch(image, labels, (16, 26, 22), MOVING, seed=seed, shape=(24, 40, 40))
    assert set(np.unique(patch_labels)) == {0, 5}
    assert dice(patch > 0, patch_labels == 5) > 0.98
    matrix = _random_matrix((3.0, 1.5, 1.5), MOVING, np.random.default_rng(seed))
    inside = (24 - 1) / 2, (40 - 1) / 2, (40 - 1) / 2
    middle = np.array([15.5, 25.5, 21.5]) - np.array([16, 26, 22])
    expected = np.array(inside) + np.linalg.inv(matrix) @ middle
    assert np.allclose(np.argwhere(patch_labels == 5).mean(axis=0), expected, atol=0.75)
    assert np.count_nonzero(patch_labels) == pytest.approx(
        labels[block].size / np.linalg.det(matrix), rel=0.1
    )


@pytest.mark.parametrize("seed", range(5))
def test_intensities_stay_in_range(seed):
    image, _ = _noise((20, 30, 25))
    noise = torch.from_numpy(image.astype(np.float32))[None]
    patch = change_intensity(noise, WILD, np.random.default_rng(seed))
    assert torch.isfinite(patch).all()
    assert not torch.equal(patch, noise)
    assert patch.min() >= -1
    assert patch.max() <= 1
    free = change_intensity(noise, WILD, np.random.default_rng(seed), bounded=False)
    assert free.abs().max() > 1


def test_intensity_is_left_alone_where_nothing_is_asked_for():
    patch = torch.linspace(-1, 1, 4 * 5 * 6).reshape(1, 4, 5, 6)
    assert torch.allclose(change_intensity(patch, STILL, np.random.default_rng(0)), patch, atol=1e-6)


def test_intensities_without_bounds_are_not_clipped():
    image, labels = _noise((20, 30, 25))
    image, labels = torch.from_numpy(4 * image), torch.from_numpy(labels)
    centre = np.array([4.0, 6.0, 5.0])
    generator = np.random.default_rng(0)
    patch, _ = random_patch(image, labels, centre, PATCH, (1.0, 1.0, 1.0), STILL, generator, CPU, air=None)
    assert patch.min() < -1
    assert patch.max() > 1
    outside, _ = random_patch(
        image[:4], labels[:4], centre, PATCH, (1.0, 1.0, 1.0), STILL, generator, CPU, air=None
    )
    assert torch.allclose(outside[0, 0], torch.full(PATCH[1:], float(image[:4].min())), atol=0.5)
    assert outside.min() >= image[:4].min() - 1e-3


def test_quarter_turns_lay_the_plane_onto_itself():
    """An odd cube turned about its own centre holds the same voxels; each of the eight ways occurs."""
    image, labels = _noise((3, 5, 5))
    spec = replace(STILL, quarter_turns=True)
    ways = set()
    for seed in range(80):
        patch, patch_labels = _patch(
            image, labels, (1, 2, 2), spec, seed=seed, shape=(3, 5, 5), spacing=(3.0, 1.0, 1.0)
        )
        assert np.allclose(np.sort(patch, axis=None), np.sort(image.astype(np.float32), axis=None), atol=1e-5)
        for plane, source in zip(patch_labels, labels, strict=True):
            assert np.array_equal(np.sort(plane, axis=None), np.sort(source, axis=None))
        ways.add(patch_labels.tobytes())
    assert len(ways) == 8


def test_smoothing_runs_along_k_alone():
    spec = AugmentationSpec(brightness=0.0, contrast=(1.0, 1.0), noise=0.0, blur_probability=1.0)
    patch = torch.zeros((1, 5, 5, 5))
    patch[0, 2, 2, 2] = 0.9
    smooth = change_intensity(patch, spec, np.random.default_rng(0))[0]
    assert torch.allclose(smooth[1:4, 2, 2], torch.full((3,), 0.3), atol=1e-6)
    assert int((smooth > 0.01).sum()) == 3


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    spacing=st.tuples(*[st.floats(0.5, 5)] * 3),
    centre=st.tuples(st.floats(0, 11.99), st.floats(0, 20), st.floats(0, 20)),
)
def test_a_patch_of_one_slice_is_of_one_slice(seed, spacing, centre):
    planes = np.arange(12).reshape(12, 1, 1) * np.ones((1, 20, 20))
    image, labels = (planes / 12).astype(np.float32), planes.astype(np.uint8)
    patch, patch_labels = _patch(image, labels, centre, MOVING, seed=seed, shape=(1, 6, 6), spacing=spacing)
    inside = patch_labels > 0
    slice_of_centre = math.floor(centre[0])
    assert set(np.unique(patch_labels)) <= {0, slice_of_centre}
    deep = np.zeros_like(inside)
    deep[:, 1:-1, 1:-1] = True
    for step in (-1, 1):
        for axis in (1, 2):
            deep &= np.roll(inside, step, axis)
    assert np.allclose(patch[inside & deep], slice_of_centre / 12, atol=1e-4)


def test_a_single_slice_is_not_smoothed():
    spec = AugmentationSpec(brightness=0.0, contrast=(1.0, 1.0), noise=0.0, blur_probability=1.0)
    patch = torch.linspace(-1, 1, 30).reshape(1, 1, 5, 6)
    assert torch.allclose(change_intensity(patch, spec, np.random.default_rng(0)), patch, atol=1e-6)


def test_all_slices_are_drawn_and_turned_in_their_plane():
    image, labels = _noise((6, 30, 25))
    spec = AugmentationSpec(30.0, (1.0, 1.0), 0.0, 0.0, (1.0, 1.0), 0.0, 0.0, 0.0)
    to_source = _random_matrix((3.0, 1.5, 1.5), spec, np.random.default_rng(4), IN_PLANE)
    assert np.array_equal(to_source[0], [1, 0, 0])
    assert np.array_equal(to_source[:, 0], [1, 0, 0])
    assert abs(math.degrees(math.asin(to_source[1, 2]))) > 1
    for k in (0.0, 0.9, 5.3, 5.99):
        patch, _ = _patch(image, labels, (k, 15, 12), STILL, shape=(1, 30, 25))
        assert np.allclose(patch[0], image[int(k)].astype(np.float32), atol=1e-5)


def test_the_generator_decides():
    image, labels = _noise((20, 30, 25))
    first, again, other = (
        _patch(image, labels, (10, 15, 12), AugmentationSpec(), seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(first[0], again[0])
    assert np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0])


def test_a_centre_within_an_organ_may_lie_off_the_middle_and_still_in_the_patch():
    volume, place = (40, 60, 60), (20.0, 30.0, 30.0)
    labels = np.zeros(volume, np.uint8)
    labels[20, 30, 30] = 1
    image = np.zeros(volume, np.float16)
    spots = set()
    for seed in range(40):
        _, patch = _patch(image, labels, place, replace(STILL, off_centre=0.8), seed=seed)
        (spot,) = np.argwhere(patch == 1)
        spots.add(tuple(spot.tolist()))
    assert len(spots) > 20


def test_overhanging_patches_show_air_around_the_volume():
    volume = (20, 30, 30)
    image, labels = np.full(volume, 0.5, np.float16), np.ones(volume, np.uint8)
    spec = replace(STILL, overhang=1.0)
    patches = [_patch(image, labels, (10, 15, 15), spec, seed=seed, shape=(20, 30, 30)) for seed in range(20)]
    for patch, patch_labels in patches:
        assert ((patch < -0.99) <= (patch_labels == 0)).all()
    shares = [float((patch < -0.99).mean()) for patch, _ in patches]
    assert min(shares) > 0
    assert 0.2 < np.mean(shares) < 0.7


def test_a_deformation_moves_voxels_by_some_millimetres_and_image_and_labels_alike():
    volume = (40, 80, 80)
    places = np.broadcast_to(np.arange(80.0), volume)
    image = (places / 100).astype(np.float16)
    labels = (places // 10).astype(np.uint8)
    spec = replace(STILL, elastic_mm=6.0)
    patch, patch_labels = _patch(
        image, labels, (20, 40, 40), spec, shape=(16, 40, 40), spacing=(3.0, 1.5, 1.5)
    )
    moved_mm = (patch * 100 - np.arange(20.0, 60.0)) * 1.5
    assert 1.5 < moved_mm.std() < 9
    assert np.abs(np.diff(moved_mm, axis=2)).max() < 1.5
    inner = (patch * 100 % 10 > 1) & (patch * 100 % 10 < 9)
    np.testing.assert_array_equal(patch_labels[inner], (patch[inner] * 10).astype(int))


def test_gamma_keeps_the_ends_and_moves_the_middle():
    patch = torch.linspace(-1, 1, 27).reshape(1, 3, 3, 3)
    middles = []
    for seed in range(20):
        changed = change_intensity(patch, replace(STILL, gamma=1.5), np.random.default_rng(seed))
        assert changed.flatten()[[0, -1]].tolist() == pytest.approx([-1, 1])
        middles.append(float(changed.flatten()[13]))
    assert min(middles) < -0.1
    assert max(middles) > 0.1
