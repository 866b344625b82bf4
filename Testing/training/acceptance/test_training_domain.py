from __future__ import annotations

from dataclasses import replace

import numpy as np

from multiorganseg.bundles.metadata import Domain
from multiorganseg_training.acceptance.card import training_domain


def test_it_is_measured_on_cases_with_organs_alone(phantom_recipe, prepared):
    recipe = phantom_recipe()
    domain = training_domain(prepared, recipe)
    assert isinstance(domain, Domain)
    assert set(domain.organs_hu) == set(recipe.data.table.keys)
    assert domain.scan["length_mm"][0] > 0
    empty = replace(
        prepared[0],
        image=np.full_like(prepared[0].image, 0.9),
        labels=np.zeros_like(prepared[0].labels),
    )
    assert training_domain([*prepared, empty], recipe) == domain


def test_one_odd_case_of_many_does_not_widen_the_range(phantom_recipe, prepared):
    recipe = phantom_recipe()
    bright = replace(prepared[0], image=np.clip(prepared[0].image + 0.5, -1, 1))
    many = training_domain([prepared[0]] * 19 + [bright], recipe)
    alone = training_domain([prepared[0]], recipe)
    assert many is not None
    assert alone is not None
    assert many.organs_hu == alone.organs_hu


def test_one_scan_that_goes_on_further_up_does_not_teach_what_lies_there(phantom_recipe, prepared):
    recipe = phantom_recipe(preprocessing={"spacing_mm": [3.0, 4.0, 4.0]})
    spleen, liver = (recipe.data.table.value(key) for key in ("spleen", "liver"))
    labels = np.zeros_like(prepared[0].labels)
    labels[2:20], labels[2:22, 0, 0] = liver, spleen
    higher = labels.copy()
    higher[2:30, 0, 0] = spleen
    cases = [replace(prepared[0], labels=each) for each in (*[labels] * 19, higher)]
    heights = [training_domain(some, recipe).above_liver_mm["spleen"] for some in (cases, cases[-1:])]
    assert heights == [6.0, 30.0]


def test_networks_without_a_window_have_none(phantom_recipe, prepared):
    recipe = phantom_recipe(preprocessing={"intensity": "zscore"})
    assert training_domain(prepared, recipe) is None


def test_converted_networks_have_none(phantom_recipe, prepared):
    """Their intensities are not HU, and what they were trained on is not among the cases."""
    said = {"program": "nnU-Net 2", "orientation": "RAS", "axes": [0, 1, 2], "in_slices": False}
    said |= {"channels": ["CT"], "normalise_first": True, "crop": "nonzero", "margin": 0, "folds": 1}
    said |= {"intensities": [{"kind": "clip_zscore", "low": -100, "high": 250, "mean": 80, "std": 60}]}
    said |= {"resampling": "spline", "spacing_tolerance": 0.0, "step": "even", "overlap": 0.5}
    said |= {"padding": "zero", "weights": "centred_delta", "mirrored": [], "half_precision": True}
    said |= {"restore": "logits"}
    recipe = phantom_recipe(preprocessing={"intensity": "original", "original": said})
    assert recipe.preprocessing.feet == (0, True)
    assert training_domain(prepared, recipe) is None
