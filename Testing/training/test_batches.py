from __future__ import annotations

import numpy as np
import pytest
import torch

from multiorganseg_training.batches import BatchSource, fits


def test_batches_hold_what_the_recipe_asks_for(phantom_recipe, prepared):
    recipe = phantom_recipe(optimisation={"batch_size": 3})
    batch = BatchSource(recipe, prepared, np.random.default_rng(0), torch.device("cpu")).draw()
    assert batch.image.shape == (3, 1, *recipe.network.patch_shape)
    assert batch.labels.shape == (3, *recipe.network.patch_shape)
    assert batch.known.shape == (3, 2)
    assert set(batch.labels.unique().tolist()) <= {0, 1, 2}
    assert batch.labels.any()


def test_the_same_numbers_draw_the_same_batches(phantom_recipe, prepared):
    first, again, other = (
        BatchSource(phantom_recipe(), prepared, np.random.default_rng(seed), torch.device("cpu")).draw()
        for seed in (0, 0, 1)
    )
    assert torch.equal(first.image, again.image)
    assert not torch.equal(first.image, other.image)


def test_annotated_cases_come_first(phantom_recipe, prepared):
    recipe = phantom_recipe(optimisation={"batch_size": 4, "labelled_per_batch": 1})
    cases = [prepared[0], prepared[1].hide_all_but(frozenset())]
    batch = BatchSource(recipe, cases, np.random.default_rng(0), torch.device("cpu")).draw()
    assert batch.known.any(dim=1).tolist() == [True, False, False, False]
    assert not batch.labels[1:].any()


@pytest.mark.parametrize(("free", "fitting"), [(4, True), (3.9, False)])
def test_cases_lie_on_the_device_only_where_they_leave_room(monkeypatch, prepared, free, fitting):
    size = sum(case.image.nbytes + case.labels.nbytes for case in prepared)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free * size), 0))
    assert fits(prepared, torch.device("cuda")) is fitting
    assert not fits(prepared, torch.device("cpu"))
