from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from multiorganseg_training.data.batches import BatchSource, fits


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


def test_a_part_of_another_case_is_pasted_with_its_labels(phantom_recipe, prepared):
    bright, dark = (
        replace(case, image=np.full_like(case.image, value), labels=np.full_like(case.labels, channel))
        for case, value, channel in zip(prepared, (0.5, -0.5), (1, 2), strict=True)
    )
    still = {"scale": [1.0, 1.0], "rotation_degrees": 0.0, "anisotropy": 0.0, "brightness": 0.0, "noise": 0.0}
    still |= {"contrast": [1.0, 1.0], "blur_probability": 0.0, "organ_centred": 1.0}
    for mixed, expected in ((0.0, 0), (1.0, 15)):
        recipe = phantom_recipe(augmentation={**still, "mixed": mixed})
        source = BatchSource(recipe, [bright, dark], np.random.default_rng(0), torch.device("cpu"))
        both = 0
        for _ in range(60):
            batch = source.draw()
            inside = batch.labels[0] > 0
            both += len(batch.labels[0][inside].unique()) == 2
            assert ((batch.image[0, 0] > 0)[inside] == (batch.labels[0] == 1)[inside]).all()
        assert abs(both - expected) <= (10 if mixed else 0)
