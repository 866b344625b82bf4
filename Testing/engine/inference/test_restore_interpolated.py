"""Scores are interpolated only between differing labels, and yet everywhere as if they were."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multiorganseg.geometry.zoom import (
    axis_map,
    border_positions,
    interpolate_linear,
    spaced_positions,
)
from multiorganseg.inference.restore_interpolated import InterpolatedLabels, winners

SHAPE, FINE = (6, 9, 7), (13, 17, 20)


def _smooth(channels: int) -> torch.Tensor:
    coarse = torch.randn((1, channels, 3, 4, 3), generator=torch.Generator().manual_seed(7))
    fine = torch.nn.functional.interpolate(coarse, SHAPE, mode="trilinear")
    return fine[0].movedim(0, -1).contiguous()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "regions"])
@pytest.mark.parametrize("kind", ["border", "spaced", "slices"])
def test_labels_are_those_of_scores_interpolated_everywhere(activation, kind):
    scores = _smooth(5)
    if kind == "spaced":
        steps = (0.4, 0.5, 0.33)
        maps = [axis_map(spaced_positions(n, s), m) for n, m, s in zip(FINE, SHAPE, steps, strict=True)]
    else:
        nearest = (kind == "slices", False, False)
        maps = [
            axis_map(border_positions(n, m), m, nearest=near)
            for n, m, near in zip(FINE, SHAPE, nearest, strict=True)
        ]
    restored = InterpolatedLabels(maps, activation, np.uint8)
    for number, plane in enumerate(scores):
        restored.add(number, plane, winners(plane, activation).numpy())
    dense = np.stack([interpolate_linear(channel.numpy(), maps) for channel in scores.unbind(-1)], axis=-1)
    wanted = winners(torch.from_numpy(dense), activation).numpy()
    assert len(np.unique(wanted)) > 2
    np.testing.assert_array_equal(restored.labels, wanted)
    assert len(restored._planes) <= 2


def test_planes_are_forgotten_when_they_are_not_needed():
    maps = [axis_map(border_positions(3, 30), 30), *[axis_map(border_positions(4, 4), 4)] * 2]
    restored = InterpolatedLabels(maps, "softmax", np.uint8)
    for number in range(30):
        restored.add(number, torch.zeros((4, 4, 2)), np.zeros((4, 4), np.int64))
        assert len(restored._planes) <= 2
    assert restored._done == 3


def test_of_overlapping_organs_the_last_one_wins():
    scores = torch.tensor([[-1.0, -1.0], [2.0, -1.0], [2.0, 0.5], [-1.0, 3.0]])
    assert winners(scores, "regions").tolist() == [0, 1, 2, 2]
    assert winners(scores, "sigmoid").tolist() == [0, 1, 1, 2]
    assert winners(scores.sigmoid(), "regions", 0.5).tolist() == [0, 1, 2, 2]
