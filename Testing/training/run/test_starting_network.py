from __future__ import annotations

import numpy as np
import pytest
import torch

from multiorganseg.bundles import Bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg_training.run.build import recipe_network


def _arguments(full: Bundle, **further: object) -> dict:
    return {"arguments": {**full.metadata.arguments, **further}, "initial": str(full.folder)}


def test_a_network_with_detail_starts_as_the_one_without(phantom_recipe, full):
    recipe = phantom_recipe(network=_arguments(full, detail=4))
    network, base = recipe_network(recipe).eval(), load_network(full)
    image = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 1, *recipe.network.patch_shape)))
    with torch.inference_mode():
        logits, old = network(image.float()).logits, base(image.float()).logits
    torch.testing.assert_close(logits, old, atol=1e-4, rtol=1e-4)


def test_a_network_of_fixed_statistics_starts_with_the_weights_and_learns_the_statistics(
    phantom_recipe, full
):
    recipe = phantom_recipe(network=_arguments(full, statistics="fixed"))
    network, base = recipe_network(recipe), load_network(full)
    own = network.state_dict()
    assert all(torch.equal(own[name], tensor) for name, tensor in base.state_dict().items())
    assert all(int(tensor) == 0 for name, tensor in own.items() if name.endswith(".updates"))
    image = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (1, 1, *recipe.network.patch_shape)))
    logits, old = network.train()(image.float()).logits, base(image.float()).logits
    torch.testing.assert_close(logits, old, atol=1e-4, rtol=1e-4)


def test_other_arguments_are_refused_as_before(phantom_recipe, full):
    with pytest.raises(TrainingError, match="cannot start"):
        recipe_network(phantom_recipe(network=_arguments(full, filters=[4, 8, 16, 24])))
