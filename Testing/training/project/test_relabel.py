from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from multiorganseg.errors import TrainingError
from multiorganseg_training.project.labels import count_values, relabel

label_maps = st.sampled_from([np.uint8, np.uint16]).flatmap(
    lambda dtype: arrays(dtype, array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.integers(0, 9))
)


@given(label_maps, st.permutations(range(1, 10)))
def test_a_permutation_has_an_inverse(labels, permutation):
    there = dict(enumerate(permutation, start=1))
    back = {new: old for old, new in there.items()}
    changed = relabel(labels, there, Path("x"))
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(relabel(changed, back, Path("x")), labels)
    assert sum(count_values(labels).values()) == labels.size
    assert {there.get(value, 0): count for value, count in count_values(labels).items()} == count_values(
        changed
    )


def test_large_values():
    labels = np.array([[[0, 65535, 2]]], np.uint16)
    changed = relabel(labels, {65535: 300, 2: 0}, Path("x"))
    assert changed.dtype == np.uint16
    assert changed.tolist() == [[[0, 300, 0]]]
    with pytest.raises(TrainingError, match=r"65535 \(1 voxels\)"):
        relabel(labels, {2: 1}, Path("x"))
