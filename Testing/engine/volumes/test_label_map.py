"""Label maps are told apart from images by their voxels."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.volumes import Volume, write_volume
from multiorganseg.volumes.label_map import is_label_file, is_label_map

SHAPE = (12, 40, 44)


def blobs(count: int, dtype: type = np.uint8) -> np.ndarray:
    """Blocks of `count` labels on a background, at most three voxels thick."""
    labels = np.zeros(SHAPE, dtype)
    generator = np.random.default_rng(count)
    for value in range(1, count + 1):
        place = 4 * np.array(np.unravel_index(value - 1, (3, 8, 11)))
        k, j, i = place + generator.integers(0, 2, 3)
        labels[k : k + 3, j : j + 3, i : i + 3] = value
    return labels


def noisy(low: float, high: float, dtype: type) -> np.ndarray:
    _, j, i = np.mgrid[: SHAPE[0], -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    body = np.where(j**2 + i**2 < 0.7, 0.6 * high, low)
    return np.clip(body + np.random.default_rng(1).normal(0, high / 20, SHAPE), low, high).astype(dtype)


LABELS = {
    "mask": blobs(1),
    "mask of 0 and 255": blobs(1) * np.uint8(255),
    "organs": blobs(13),
    "a hundred organs": blobs(100),
    "as floats": blobs(5).astype(np.float32),
    "as 16 bits": blobs(9, np.int16) * 100,
    "one voxel": np.pad(np.ones((1, 1, 1), np.uint8), 5),
}
IMAGES = {
    "CT": noisy(-1000, 200, np.int16),
    "CT in bytes": noisy(0, 255, np.uint8),
    "CT of 16 bits": noisy(0, 2000, np.uint16),
    "dim MR": noisy(0, 30, np.uint8),
    "MR": noisy(0, 900, np.float32),
    "few bits": (noisy(0, 255, np.uint8) >> 4) << 4,
    "clipped": noisy(-1000, 200, np.int16).clip(-125, 275),
}


@pytest.mark.parametrize("name", LABELS)
@pytest.mark.parametrize("suffix", ["nii.gz", "nii", "nrrd", "mha"])
def test_label_maps_are_found(name: str, suffix: str, tmp_path: Path) -> None:
    assert is_label_map(LABELS[name])
    write_volume(Volume(LABELS[name], np.diag([2.0, 2.0, 3.0, 1.0])), tmp_path / f"any.{suffix}")
    assert is_label_file(tmp_path / f"any.{suffix}")


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_none(name: str, tmp_path: Path) -> None:
    assert not is_label_map(IMAGES[name])
    write_volume(Volume(IMAGES[name], np.eye(4)), tmp_path / "any.nii.gz")
    assert not is_label_file(tmp_path / "any.nii.gz")


@pytest.mark.parametrize(
    "content", [b"", b"short", gzip.compress(bytes(9000), mtime=0)], ids=["empty", "short", "zeros"]
)
def test_a_file_that_cannot_be_read_is_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "any.nii.gz").write_bytes(content)
    assert not is_label_file(tmp_path / "any.nii.gz")
