"""Errors that nothing expected, as errors for the user."""

from __future__ import annotations

import importlib

import pytest

from multiorganseg.errors import DependencyError
from multiorganseg.unforeseen import as_typed


@pytest.mark.parametrize(
    ("module", "next_step"),
    [
        ("a_package_that_is_not_there", "pip install a_package_that_is_not_there"),
        ("multiorganseg.a_file_that_is_not_there", "Install MultiOrganSeg again"),
        ("multiorganseg_training_of_another_release", "pip install"),
    ],
)
def test_a_missing_module_is_got_where_it_comes_from(module, next_step):
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module(module)
    error = as_typed(caught.value)
    assert isinstance(error, DependencyError)
    assert next_step in error.next_step
