from __future__ import annotations

import pytest

from multiorganseg import errors
from multiorganseg.errors import Cancelled, MultiOrganSegError, VolumeError

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_every_kind_ends_the_command_line_in_its_own_way() -> None:
    codes = [kind.exit_code for kind in KINDS]
    assert len(KINDS) > 7
    assert all(issubclass(kind, MultiOrganSegError) for kind in KINDS)
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)


def test_the_text_says_problem_cause_and_next_step() -> None:
    error = VolumeError("No voxels.", cause="The file is empty.", next_step="Export it again.")
    assert str(error) == "No voxels. The file is empty. Export it again."
    assert str(VolumeError("No voxels.")) == "No voxels."
    assert str(Cancelled()) == "Cancelled."


def test_only_the_problem_stands_without_a_name() -> None:
    with pytest.raises(TypeError):
        VolumeError("No voxels.", "The file is empty.")
