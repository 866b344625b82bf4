from __future__ import annotations

import json

import numpy as np
import pytest

from multiorganseg.errors import OptionError, VolumeError
from multiorganseg.refine import Prompt


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_lasso_means_what_it_encloses_in_any_plane(axis) -> None:
    corners = [(2, 2), (2, 9), (7, 9), (7, 2)]
    points = [np.insert(corner, axis, 5).tolist() for corner in corners]
    voxels = Prompt.lasso(points).voxels()
    assert (voxels[:, axis] == 5).all()
    flat = np.delete(voxels, axis, axis=1)
    assert {tuple(point) for point in flat} == {(a, b) for a in range(2, 8) for b in range(2, 10)}


def test_a_lasso_with_a_dent_leaves_the_dent_out() -> None:
    points = [(0, 0, 0), (0, 0, 10), (0, 10, 10), (0, 2, 5), (0, 10, 0)]
    voxels = {tuple(voxel) for voxel in Prompt.lasso(points).voxels()}
    assert (0, 1, 5) in voxels
    assert (0, 8, 5) not in voxels
    assert (0, 4, 1) in voxels


@pytest.mark.parametrize("ends", [((0, 0, 0), (9, 0, 0)), ((3, 9, 1), (0, 0, 20)), ((4, 4, 4), (4, 4, 4))])
def test_a_scribble_has_no_gaps(ends) -> None:
    voxels = Prompt.scribble(ends).voxels()
    assert tuple(ends[0]) in map(tuple, voxels.tolist())
    assert tuple(ends[1]) in map(tuple, voxels.tolist())
    for voxel in voxels:
        near = np.abs(voxels - voxel).max(axis=1)
        assert len(voxels) == 1 or np.sort(near)[1] == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: Prompt("box", ((0, 0, 0),), True),
        lambda: Prompt("click", (), True),
        lambda: Prompt("click", ((0, 0, 0), (1, 1, 1)), True),
        lambda: Prompt("click", ((0.5, 0, 0),), True),  # type: ignore[arg-type]
        lambda: Prompt("scribble", ((0, 0),), True),  # type: ignore[arg-type]
        lambda: Prompt.lasso([(0, 0, 0), (1, 1, 1), (2, 0, 2)]),
        lambda: Prompt.lasso([(0, 0, 0), (0, 1, 1)]),
        lambda: Prompt.from_json({"kind": "click", "points": [[0, 0, 0]]}),
        lambda: Prompt.from_json({"kind": "click", "points": [[0, 0]], "positive": True}),
        lambda: Prompt.from_json({"kind": "click", "points": [[0, 0, 0]], "positive": 1}),
    ],
)
def test_what_is_no_prompt_is_refused(make) -> None:
    with pytest.raises(OptionError):
        make()


def test_prompts_survive_json_and_know_their_volume() -> None:
    for prompt in (
        Prompt.click(np.array([1, 2, 3]), positive=False),
        Prompt.scribble([(0, 0, 0), (4, 4, 4)]),
        Prompt.lasso([(1, 0, 0), (1, 0, 5), (1, 5, 5)]),
    ):
        assert Prompt.from_json(json.loads(json.dumps(prompt.to_json()))) == prompt
        prompt.check((6, 6, 6))
        with pytest.raises(VolumeError, match="outside"):
            prompt.check((1, 3, 3))
