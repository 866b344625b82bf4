from __future__ import annotations

import pytest
import torch

from multiorganseg.bundles import read_weights
from multiorganseg.errors import TrainingError
from multiorganseg_training.run.build import recipe_network
from multiorganseg_training.run.soup import mix_weights, mixed_arguments


def _tuned(phantom_recipe, full):
    arguments = {**full.metadata.arguments, "detail": 4, "statistics": "fixed"}
    recipe = phantom_recipe(network={"arguments": arguments, "initial": str(full.folder)})
    torch.manual_seed(0)
    state = recipe_network(recipe).state_dict()
    return recipe, {name: t + 0.1 if t.is_floating_point() else t for name, t in state.items()}


def test_the_mixture_lies_between_both(phantom_recipe, full):
    recipe, tuned = _tuned(phantom_recipe, full)
    mixed = mix_weights(full, tuned, recipe, 0.25)
    old = read_weights(full)
    for name, array in old.items():
        torch.testing.assert_close(mixed[name], torch.from_numpy(array).float() + 0.025, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(mixed["detail.head.weight"], 0.25 * tuned["detail.head.weight"])
    torch.testing.assert_close(mixed["detail.fine.weight"], tuned["detail.fine.weight"])
    assert not any("running" in name for name in mixed)
    assert mixed_arguments(recipe) == {**full.metadata.arguments, "detail": 4}


def test_without_the_runs_share_it_is_the_bundle(phantom_recipe, full):
    recipe, tuned = _tuned(phantom_recipe, full)
    mixed = mix_weights(full, tuned, recipe, 0.0)
    assert not mixed["detail.head.weight"].any()
    for name, array in read_weights(full).items():
        assert torch.equal(mixed[name], torch.from_numpy(array).float())


def test_another_network_is_refused(phantom_recipe, full):
    recipe, tuned = _tuned(phantom_recipe, full)
    other = phantom_recipe(network={"arguments": {"filters": [8, 16, 24]}})
    with pytest.raises(TrainingError, match="cannot be mixed"):
        mix_weights(full, tuned, other, 0.5)
    del tuned["head.weight"]
    with pytest.raises(TrainingError, match=r"cannot be mixed"):
        mix_weights(full, tuned, recipe, 0.5)
