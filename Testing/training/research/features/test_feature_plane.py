from __future__ import annotations

import sys

import numpy as np
import pytest

from multiorganseg.errors import DependencyError
from research.features.study import to_plane

NO_MARKS = np.empty((0, 8), np.float32)


def _flat(generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Points of a plane that lies askew in eight dimensions, and their places in it."""
    basis, _ = np.linalg.qr(generator.normal(size=(8, 2)))
    places = generator.normal(size=(60, 2)) * (3, 1)
    return (places @ basis.T + 0.3).astype(np.float32), places


def _distances(points: np.ndarray) -> np.ndarray:
    return np.linalg.norm(points[:, None] - points[None], axis=-1)


def test_principal_components_keep_the_distances_of_a_plane():
    points, places = _flat(np.random.default_rng(0))
    plane = to_plane(points, points[:3], "pca", 0)
    np.testing.assert_allclose(_distances(plane.pixels), _distances(places), atol=1e-5)
    np.testing.assert_allclose(plane.marks, plane.pixels[:3], atol=1e-6)
    assert plane.axes[0] == "1st component, 88% of variance"


def test_marks_do_not_move_the_components():
    points, _ = _flat(np.random.default_rng(1))
    far = 50 * np.random.default_rng(2).normal(size=(5, 8)).astype(np.float32)
    alone, together = (to_plane(points, marks, "pca", 0).pixels for marks in (NO_MARKS, far))
    np.testing.assert_array_equal(alone, together)


def test_neighbours_stay_together_and_the_seed_repeats():
    generator = np.random.default_rng(3)
    centres = np.eye(3, 8, dtype=np.float32)
    points = np.repeat(centres, 30, axis=0) + 0.05 * generator.normal(size=(90, 8)).astype(np.float32)
    plane = to_plane(points, centres, "tsne", 1)
    apart = _distances(np.concatenate([plane.marks, plane.pixels]))[3:, :3]
    np.testing.assert_array_equal(apart.argmin(axis=1), np.repeat(np.arange(3), 30))
    np.testing.assert_array_equal(to_plane(points, centres, "tsne", 1).pixels, plane.pixels)


def test_few_points_are_embedded_too():
    points = np.random.default_rng(4).normal(size=(6, 8)).astype(np.float32)
    assert to_plane(points, NO_MARKS, "tsne", 0).pixels.shape == (6, 2)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(DependencyError, match="pip install scikit-learn"):
        to_plane(NO_MARKS, NO_MARKS, "pca", 0)
