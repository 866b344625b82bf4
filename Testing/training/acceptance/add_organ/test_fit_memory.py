from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from multiorganseg.errors import ResourceError
from multiorganseg.inference import backends
from multiorganseg_training.acceptance.budget import (
    COPIES,
    OVERHEAD,
    USED_SHARE,
    bytes_per_voxel,
    fit_memory,
    free_bytes,
)
from multiorganseg_training.acceptance.check import Split
from multiorganseg_training.acceptance.plan import AddOrganOptions, add_organ_recipe
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.build import recipe_network

CPU = torch.device("cpu")


@pytest.fixture
def recipe(base) -> Recipe:
    """Batches of two patches of 16 × 40 × 48 voxels, in float32."""
    options = AddOrganOptions(str(base.folder), ("spleen",))
    made = add_organ_recipe(base, Split((), (), "none"), options)
    return replace(made, optimisation=replace(made.optimisation, precision="fp32"))


@pytest.fixture
def needed(recipe):
    """Bytes that must be free for a batch of patches."""
    network = recipe_network(recipe)
    weights = COPIES * sum(tensor.nbytes for tensor in network.state_dict().values())

    def bytes_free(batch: int, voxels: int) -> int:
        kept = bytes_per_voxel(recipe, network, batch) * batch * voxels
        return int((weights + OVERHEAD * kept) / USED_SHARE) + 1

    return bytes_free


def _chosen(recipe: Recipe, free: int) -> tuple[int, tuple[int, int, int]]:
    fitted = fit_memory(recipe, CPU, free)
    return fitted.optimisation.batch_size, fitted.network.patch_shape


def test_what_is_kept_of_one_voxel(recipe):
    network = recipe_network(recipe)
    two, one = (bytes_per_voxel(recipe, network, batch) for batch in (2, 1))
    assert 1.6 * one < two < 2.4 * one, "the mixed view doubles it"
    assert 100 < one < 10_000


@pytest.mark.parametrize(("has", "precision"), [(True, "bf16"), (False, "fp32")])
def test_float32_is_planned_where_the_device_has_no_bfloat16(recipe, monkeypatch, has, precision):
    monkeypatch.setattr(backends, "has_bf16", lambda: has)
    wanted = replace(recipe, optimisation=replace(recipe.optimisation, precision="bf16"))
    assert fit_memory(wanted, CPU, 2**40).optimisation.precision == precision


def test_much_memory_changes_nothing(recipe):
    assert fit_memory(recipe, CPU, 2**40) == recipe


def test_less_memory_first_makes_the_batch_smaller_and_then_the_patch(recipe, needed):
    whole = 16 * 40 * 48
    assert _chosen(recipe, needed(2, whole)) == (2, (16, 40, 48))
    assert _chosen(recipe, needed(2, whole) - 10) == (1, (16, 40, 48))
    assert _chosen(recipe, needed(1, whole) - 10) == (1, (16, 40, 40))
    assert _chosen(recipe, needed(1, 8 * 16 * 16)) == (1, (8, 16, 16))


def test_too_little_memory_is_an_error_and_no_crash(recipe, needed):
    with pytest.raises(ResourceError, match="GiB of free memory do not suffice") as caught:
        fit_memory(recipe, CPU, needed(1, 8 * 16 * 16) - 10)
    assert "another device" in caught.value.next_step


def test_free_memory_is_that_of_the_machine():
    assert 2**20 < free_bytes(CPU) < 2**50
