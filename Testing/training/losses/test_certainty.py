from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.mutual import entropy, more_certain, uncertainty


def _voxels(*distributions: list[float]) -> Tensor:
    """Return one distribution a voxel, (1, classes, voxels)."""
    return torch.tensor(distributions).T[None]


def _chosen(student: Tensor, teacher: Tensor, selection: str, threshold: float = 0.5) -> Tensor:
    return more_certain(
        uncertainty(student, selection), uncertainty(teacher, selection), selection, threshold
    )


def test_entropy_of_simple_distributions():
    found = entropy(_voxels([1.0, 0.0], [0.5, 0.5], [0.25, 0.75]))[0]
    expected = [0.0, math.log(2), 0.25 * math.log(4) + 0.75 * math.log(4 / 3)]
    torch.testing.assert_close(found, torch.tensor(expected), rtol=0, atol=1e-5)
    assert torch.isfinite(found).all()


def test_the_student_learns_where_the_teacher_is_more_certain():
    student = _voxels([0.6, 0.4], [0.1, 0.9], [0.5, 0.5], [0.3, 0.7])
    teacher = _voxels([0.8, 0.2], [0.4, 0.6], [0.5, 0.5], [0.8, 0.2])
    for selection in ("entropy", "confidence"):
        assert _chosen(student, teacher, selection).tolist() == [[True, False, False, True]]
        assert _chosen(teacher, student, selection).tolist() == [[False, True, False, False]]


def test_with_two_classes_both_choices_are_one():
    student, teacher = torch.rand((2, 2, 1, 500), generator=torch.Generator().manual_seed(0))
    first, second = (torch.stack([p, 1 - p], dim=1) for p in (student, teacher))
    assert torch.equal(_chosen(first, second, "entropy"), _chosen(first, second, "confidence"))


def test_with_three_classes_they_differ():
    """The student leaves one rival, the teacher is more certain of the first than of both others."""
    student, teacher = _voxels([0.55, 0.45, 0.0]), _voxels([0.6, 0.2, 0.2])
    assert not _chosen(student, teacher, "entropy").any()
    assert _chosen(student, teacher, "confidence").all()


def test_a_fixed_threshold_looks_at_the_teacher_alone():
    student, teacher = _voxels([1.0, 0.0], [0.5, 0.5]), _voxels([0.85, 0.15], [0.75, 0.25])
    assert _chosen(student, teacher, "threshold", 0.8).tolist() == [[True, False]]
    assert _chosen(student, teacher, "threshold", 0.5).all()
    assert _chosen(student, teacher, "everywhere").all()


def test_an_unknown_selection_is_refused():
    with pytest.raises(TrainingError, match="selection"):
        more_certain(torch.zeros(1), torch.zeros(1), "margin")
    with pytest.raises(TrainingError, match="selection"):
        uncertainty(_voxels([1.0, 0.0]), "margin")
