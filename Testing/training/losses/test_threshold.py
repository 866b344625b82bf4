from __future__ import annotations

import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.pseudo_labels import hard_labels, linear_threshold


def _logits(*rows: tuple[float, ...]) -> torch.Tensor:
    """Each row gives the probabilities of one voxel."""
    return torch.tensor(rows).logit().T.reshape(1, len(rows[0]), 1, len(rows))


def test_equation_2_by_hand():
    logits = _logits((0.6, 0.7), (0.49, 0.2), (0.5, 0.1), (0.2, 0.4))
    assert linear_threshold(logits).tolist() == [[[2, 0, 1, 0]]]
    assert linear_threshold(logits, 0.3).tolist() == [[[2, 1, 1, 2]]]


def test_with_a_threshold_for_each_organ_the_best_that_reaches_its_own_wins():
    logits = _logits((0.45, 0.4), (0.6, 0.4), (0.45, 0.29))
    assert linear_threshold(logits, [0.5, 0.3]).tolist() == [[[2, 1, 0]]]


def test_saturated_sigmoids_keep_their_order():
    logits = torch.tensor([200.0, 300.0]).reshape(1, 2, 1, 1, 1)
    assert linear_threshold(logits).tolist() == [[[[2]]]]


def test_both_heads():
    logits = _logits((0.6, 0.7))
    assert hard_labels(logits, "sigmoid").item() == 2
    assert hard_labels(logits, "sigmoid", 0.8).item() == 0
    assert hard_labels(torch.tensor([2.0, 1.0, 1.5]).reshape(1, 3, 1, 1), "softmax").item() == 0


@pytest.mark.parametrize("threshold", [0.0, 1.0, [0.5], [0.5, 0.5, 0.5]])
def test_wrong_thresholds_are_refused(threshold):
    with pytest.raises(TrainingError, match="do not suit 2 organs"):
        linear_threshold(torch.zeros(1, 2, 1, 1), threshold)
