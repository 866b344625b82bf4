from __future__ import annotations

import pytest
import torch
from torch import Tensor

from multiorganseg_training.run.build import start_branch

OLD, MORE = 3, 2


@pytest.fixture(params=["softmax", "sigmoid"])
def pair(request, architecture, small_network, logits_of) -> tuple[str, list[Tensor], list[Tensor]]:
    """The activation, and the logits of each decoder before and after a branch of two organs."""
    channels = OLD + (request.param == "softmax")
    trained = small_network(architecture, channels)
    ground = {"branches": [MORE], "background": request.param == "softmax"}
    branched = small_network(architecture, channels + MORE, seed=1, **ground)
    branched.load_state_dict(trained.state_dict(), strict=False)
    start_branch(branched, request.param)
    return request.param, logits_of(trained), logits_of(branched)


def test_the_old_logits_stay(pair):
    _, before, after = pair
    for old, new in zip(before, after, strict=True):
        assert torch.equal(new[:, : old.shape[1]], old)


def test_new_organs_start_with_the_prior(pair):
    activation, before, after = pair
    for old, new in zip(before, after, strict=True):
        fresh = new[:, old.shape[1] :]
        if activation == "sigmoid":
            torch.testing.assert_close(fresh.sigmoid(), torch.full_like(fresh, 0.01))
        else:
            share = torch.full_like(fresh, 0.01 / MORE)
            torch.testing.assert_close((fresh - old[:, :1]).exp(), share, rtol=1e-4, atol=1e-6)
