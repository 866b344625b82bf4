from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.errors import TrainingError
from multiorganseg.networks.output import NetworkOutput
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.progress import Progress
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.run.validate import (
    Classifier,
    TrainedRun,
    largest_components,
    run_predictor,
    segment_case,
    validation_dice,
)

CPU = torch.device("cpu")
CHANNELS = 4


class Planes(nn.Module):
    """Features are the image and its powers; organ 1 of the linear layer is where the image is bright."""

    def forward(self, image: Tensor) -> NetworkOutput:
        features = torch.cat([image**power for power in range(1, CHANNELS + 1)], dim=1)
        return NetworkOutput(torch.cat([8 * image, -8 - image], dim=1), features)


@pytest.fixture
def run(phantom_recipe) -> TrainedRun:
    torch.manual_seed(5)
    recipe = phantom_recipe(network={"activation": "sigmoid", "patch_shape": [4, 8, 8]})
    classifier = PrototypeClassifier(CHANNELS, 2, per_class=2, width=8).eval()
    return TrainedRun(Path("run"), recipe, 1, Planes(), classifier)


@pytest.fixture
def case() -> PreparedCase:
    image = np.random.default_rng(1).normal(size=(8, 12, 10)).astype(np.float16)
    return PreparedCase("case", image, np.zeros(image.shape, np.uint8), frozenset({1, 2}))


def _labels(run, case, classifier):
    return segment_case(run_predictor(run, classifier, CPU), case, run.recipe, CPU, Progress())


def test_the_linear_classifier_is_the_threshold_of_equation_2(run, case):
    expected = np.where(case.image.astype(np.float32) >= 0, 1, 0)
    assert np.array_equal(_labels(run, case, Classifier.LINEAR), expected)


@pytest.mark.parametrize("name", [Classifier.LABELLED, Classifier.UNLABELLED])
def test_prototypes_give_the_argmax_with_background(run, case, name):
    assert run.classifier is not None
    image = torch.from_numpy(case.image.astype(np.float32))[None, None]
    with torch.inference_mode():
        expected = run.classifier(run.network(image).features, name.value)[0].argmax(dim=0).numpy()
    assert len(np.unique(expected)) > 1
    assert np.mean(_labels(run, case, name) == expected) > 0.98


def test_prototypes_of_a_network_with_coarse_features(run, case):
    class Coarse(Planes):
        def forward(self, image):
            output = super().forward(image)
            return NetworkOutput(output.logits, functional.avg_pool3d(output.features, (1, 2, 2)))

    labels = _labels(replace(run, network=Coarse()), case, Classifier.UNLABELLED)
    assert labels.shape == case.image.shape
    assert len(np.unique(labels)) > 1


def test_the_two_banks_are_two_classifiers(run, case):
    first, second = (_labels(run, case, name) for name in (Classifier.LABELLED, Classifier.UNLABELLED))
    assert not np.array_equal(first, second)


def test_a_run_without_prototypes_says_so(run):
    plain = TrainedRun(run.folder, run.recipe, 1, run.network, None)
    assert run_predictor(plain, Classifier.LINEAR, CPU).activation == "sigmoid"
    with pytest.raises(TrainingError, match="no prototype classifier") as caught:
        run_predictor(plain, Classifier.UNLABELLED, CPU)
    assert "supervised" in caught.value.cause
    assert "prototypes = true" in caught.value.next_step


def test_largest_components_one_an_organ_and_two_for_kidneys(phantom_recipe):
    recipe = phantom_recipe(data={"labels": {"1": "kidneys", "2": "liver", "3": "spleen"}})
    labels = np.zeros((6, 10, 20), np.uint8)
    for row, value in ((1, 1), (5, 2)):
        labels[2, row, 1:5], labels[2, row, 7:10], labels[2, row, 12:14] = value, value, value
    labels[4, 8, 8] = 3
    kept = largest_components(labels, recipe, load_catalogue())
    expected = labels.copy()
    expected[2, 1, 12:14] = 0
    expected[2, 5, 7:] = 0
    assert np.array_equal(kept, expected)


def test_in_the_dice_of_the_fold_an_organ_holds_what_lies_within_it(run, case):
    class Halves(nn.Module):
        """Organ 2 in one half of the image, organ 1 in the other."""

        def forward(self, image: Tensor) -> NetworkOutput:
            second = (image > 0).float()
            return NetworkOutput(torch.cat([image * 0 - 9, 1 - second, second], dim=1), image)

    labels = {"1": "liver", "2": "liver_segment_1"}
    recipe = replace(
        run.recipe,
        data=replace(run.recipe.data, labels=labels),
        network=replace(run.recipe.network, activation="softmax"),
    )
    whole = replace(case, labels=np.ones_like(case.labels), known=frozenset({1}))
    assert validation_dice(Halves(), recipe, [whole], CPU, Progress())["liver"] == 1
