from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.losses.known import full_targets, tri_state, within_matrix

LINE = torch.tensor([[[0, 1, 2, 3]]])


def test_exclusive_organs():
    known = known_matrix([{1, 2}], 3)
    assert tri_state(LINE, known)[0, :, 0].tolist() == [
        [0, 1, 0, 0],
        [0, 0, 1, 0],
        [-1, 0, 0, -1],
    ], "label 3 is not known: its voxel tells nothing"


def test_without_exclusion_an_unknown_channel_is_ignored_as_a_whole():
    known = known_matrix([{1}], 3)
    target = tri_state(LINE, known, exclusive=False, within=within_matrix({1: 2}, 3))
    assert target[0, :, 0].tolist() == [[0, 1, 0, 0], [-1] * 4, [-1] * 4]


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ({1, 2, 3}, [[0, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 1]]),
        ({1}, [[0, 1, 0, 0], [-1, 1, -1, -1], [-1, 0, -1, -1]]),
        ({2}, [[0, -1, -1, -1], [0, 1, 1, 0], [-1, -1, 0, -1]]),
        ({3}, [[-1, -1, -1, 0], [-1, -1, -1, 0], [0, 0, 0, 1]]),
    ],
)
def test_a_tumour_inside_an_organ(sets, expected):
    """1 tumour inside 2 liver; 3 another organ."""
    target = tri_state(LINE, known_matrix([sets], 3), within=within_matrix({1: 2}, 3))
    assert target[0, :, 0].tolist() == expected


def test_nothing_known_is_nothing_judged():
    assert (tri_state(LINE, known_matrix([set()], 3)) == -1).all()


def test_full_targets_are_one_hot():
    labels = torch.tensor([[[[0, 2], [1, 0]]]])
    target = full_targets(labels, 2)
    assert target.dtype == torch.int8
    assert target.shape == (1, 2, 1, 2, 2)
    assert torch.equal(target[:, 0] == 1, labels == 1)
    assert torch.equal(target[:, 1] == 1, labels == 2)


@settings(deadline=None, max_examples=50)
@given(data=st.data(), classes=st.integers(1, 4), space=st.lists(st.integers(1, 3), min_size=2, max_size=3))
def test_against_the_rule_voxel_by_voxel(data, classes, space):
    batch = data.draw(st.integers(1, 3))
    seed = data.draw(st.integers(0, 1000))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, classes + 1, (batch, *space), generator=generator)
    known = torch.rand((batch, classes), generator=generator) < 0.5
    target = tri_state(labels, known)
    for sample in range(batch):
        for channel in range(classes):
            for place in torch.cartesian_prod(*[torch.arange(n) for n in space]).tolist():
                label = int(labels[(sample, *place)])
                if known[sample, channel]:
                    expected = int(label == channel + 1)
                else:
                    expected = 0 if label and known[sample, label - 1] else -1
                assert int(target[(sample, channel, *place)]) == expected
