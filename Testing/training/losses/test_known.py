from __future__ import annotations

import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.losses.known import (
    among,
    annotated,
    expand_known,
    hide_unknown,
    known_map,
    may_be,
    nearest_known,
    on_grid,
    open_classes,
    within_matrix,
)


def test_known_sets_become_rows():
    known = known_matrix([{1}, set(), [2, 3]], 3)
    assert known.tolist() == [[True, False, False], [False] * 3, [False, True, True]]


@pytest.mark.parametrize("channel", [0, 4])
def test_a_channel_outside_of_the_network_is_refused(channel):
    with pytest.raises(TrainingError, match=str(channel)):
        known_matrix([{channel}], 3)


@pytest.mark.parametrize("spread", [False, True])
def test_labels_of_unknown_organs_count_as_not_annotated(spread):
    labels = torch.tensor([[[0, 1, 2]], [[0, 1, 2]]])
    known = known_matrix([{1}, {2}], 2)
    if spread:
        known = known_map(known, (1, 3))
    assert annotated(labels, known).tolist() == [[[False, True, False]], [[False, False, True]]]
    assert hide_unknown(labels, known).tolist() == [[[0, 1, 0]], [[0, 0, 2]]]


def test_a_map_has_no_memory_of_its_own():
    known = known_matrix([{1}], 2)
    spread = known_map(known, (4, 5, 6))
    assert spread.shape == (1, 2, 4, 5, 6)
    assert spread.data_ptr() == known.data_ptr()
    assert expand_known(spread, 3) is spread


def test_layers_are_closed():
    within = within_matrix({1: 2, 2: 3}, 4)
    assert within.nonzero().tolist() == [[0, 1], [0, 2], [1, 2]]


@pytest.mark.parametrize("parents", [{1: 1}, {1: 2, 2: 1}, {1: 9}, {0: 1}])
def test_impossible_layers_are_refused(parents):
    with pytest.raises(TrainingError, match="cannot lie inside"):
        within_matrix(parents, 3)


@pytest.mark.parametrize(
    ("shape", "known"),
    [
        ((2, 3), torch.zeros((1, 4), dtype=torch.bool)),
        ((2, 3), torch.zeros((2, 4))),
        ((2, 3), torch.zeros((2, 4, 5), dtype=torch.bool)),
    ],
)
def test_what_does_not_belong_together_is_refused(shape, known):
    with pytest.raises(TrainingError, match="do not belong together"):
        annotated(torch.zeros(shape, dtype=torch.int64), known)


LIVER, TUMOUR, SPLEEN, CYST = 1, 2, 3, 4
NESTED = within_matrix({TUMOUR: LIVER, CYST: TUMOUR}, 4)


def test_the_innermost_annotated_organ_around():
    known = known_matrix([{LIVER}, {LIVER, TUMOUR}, {SPLEEN}, {TUMOUR}], 4)
    expected = [[0, 1, 0, 1], [0, 1, 0, 2], [0, 0, 0, 0], [0, 0, 0, 2]]
    found = nearest_known(known, NESTED)
    assert found is not None
    assert found.tolist() == expected
    assert found.dtype == torch.int64
    spread = nearest_known(known_map(known, (2, 3)), NESTED)
    assert spread is not None
    assert spread[..., 1, 2].tolist() == expected
    assert nearest_known(known, None) is None
    assert nearest_known(known, torch.zeros_like(NESTED)) is None


@pytest.mark.parametrize("spread", [False, True])
def test_what_a_voxel_may_be(spread):
    """Of background, liver, tumour, spleen and cyst, each annotated voxel and each kind of case."""
    labels = torch.arange(5).reshape(1, 1, 5).expand(3, 1, 5)
    known = known_matrix([{LIVER}, {LIVER, TUMOUR}, set()], 4)
    possible = may_be(labels, known_map(known, (1, 5)) if spread else known, NESTED)
    assert possible[0, :, 0, 0].tolist() == [False, False, True, False], "no tumour outside of the liver"
    assert possible[0, :, 0, LIVER].tolist() == [False, True, False, True]
    assert possible[1, :, 0, LIVER].tolist() == [False, False, False, False], "a cyst lies in a tumour"
    assert possible[1, :, 0, TUMOUR].tolist() == [False, False, False, True]
    assert possible[1, :, 0, 0].tolist() == [False, False, True, False]
    assert possible[2].all()
    plain = may_be(labels, known)
    assert plain[0, :, 0, LIVER].tolist() == [False] * 4
    assert plain[0, :, 0, 0].tolist() == [False, True, True, True]


@pytest.mark.parametrize("spread", [False, True])
def test_what_annotations_leave_open(spread):
    """Of background, liver, tumour, spleen and cyst: background, then the same organs."""
    labels = torch.arange(5).reshape(1, 1, 5).expand(3, 1, 5)
    known = known_matrix([{LIVER}, {1, 2, 3, 4}, set()], 4)
    found = open_classes(labels, known_map(known, (1, 5)) if spread else known, NESTED)
    assert found[0, :, 0, 0].tolist() == [True, False, False, True, False]
    assert found[0, :, 0, LIVER].tolist() == [False, True, True, False, True]
    assert torch.equal(found[1, :, 0], torch.eye(5, dtype=torch.bool)), "everything is annotated"
    assert found[2].all()


def test_probabilities_among_some_classes():
    probabilities = torch.tensor([0.1, 0.6, 0.3, 0.0]).reshape(1, 4, 1)
    some = torch.tensor([True, False, True, True]).reshape(1, 4, 1)
    assert among(probabilities, some).flatten().tolist() == pytest.approx([0.25, 0, 0.75, 0])
    only = torch.tensor([False, False, False, True]).reshape(1, 4, 1)
    assert among(probabilities, only).flatten().tolist() == [0, 0, 0, 1]


@pytest.mark.parametrize("space", [(4,), (1, 4), (1, 2, 4)])
def test_coarse_features_are_interpolated_and_others_are_given_back(space):
    features = torch.tensor([0.0, 1.0]).expand(3, 2, *space[:-1], 2).contiguous()
    finer = on_grid(features, space)
    assert finer.shape == (3, 2, *space)
    assert torch.allclose(finer, torch.tensor([0.0, 0.25, 0.75, 1.0]))
    assert on_grid(finer, space) is finer
