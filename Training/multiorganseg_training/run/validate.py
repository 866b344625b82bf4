"""Quick validation on the network's grid while training."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import torch_backend
from multiorganseg.inference.stream import Predict, stream_labels
from multiorganseg.inference.windows import plan_windows
from multiorganseg.metrics import dice
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.networks.output import NetworkOutput
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.progress import Progress
from multiorganseg.quality.components import keep_components
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.losses.known import SOFTMAX, on_grid
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.recipe.file import recipe_from_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.build import new_network, recipe_method
from multiorganseg_training.run.checkpoint import Checkpoint, trained_checkpoint

AVERAGED, LAST = "averaged", "last"


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A network and what it was trained by.

    Attributes:
        folder: Of the run.
        recipe: Of the run.
        iteration: Steps done.
        network: In evaluation mode, on the CPU.
        classifier: Its prototypes, in evaluation mode; None where the method has none.
    """

    folder: Path
    recipe: Recipe
    iteration: int
    network: BranchingNetwork
    classifier: PrototypeClassifier | None


def load_run(folder: Path, weights: str = AVERAGED) -> TrainedRun:
    """Load the network of a run.

    Args:
        folder: Of the run.
        weights: "averaged", or "last": those after the last iteration, of network and prototypes alike.

    Raises:
        TrainingError: There is no checkpoint, or it does not fit this version of the software.
    """
    checkpoint = trained_checkpoint(folder)
    recipe = recipe_from_dict(checkpoint.recipe)
    network = new_network(recipe)
    try:
        classifier = _classifier(recipe, network, checkpoint, weights)
        network.load_state_dict(checkpoint.average if weights == AVERAGED else checkpoint.network)
    except RuntimeError as error:
        msg = f"The checkpoint in {folder} does not fit the network or the method of its recipe."
        raise TrainingError(
            msg, cause=str(error), next_step="Use the version of the software that trained it."
        ) from error
    return TrainedRun(folder, recipe, checkpoint.iteration, network.eval(), classifier)


def _classifier(
    recipe: Recipe, network: BranchingNetwork, checkpoint: Checkpoint, weights: str
) -> PrototypeClassifier | None:
    if not any(name.startswith("classifier.") for name in checkpoint.method):
        return None
    method = recipe_method(recipe, network)
    method.load_state_dict(checkpoint.method)
    classifier = method.get_submodule("classifier").eval()
    if not isinstance(classifier, PrototypeClassifier):
        return None
    if weights == AVERAGED:
        classifier.load_state_dict(checkpoint.method_average)
    return classifier


class Weights(str, Enum):
    """Which of a run's networks.

    Attributes:
        AVERAGED: The moving average, which is also published.
        LAST: The network after the last iteration.
    """

    AVERAGED = "averaged"
    LAST = "last"


class Classifier(str, Enum):
    """Which classifier gives the labels.

    Attributes:
        LINEAR: The network's last layer: the most probable organ where its sigmoid reaches 0.5, or the argmax
            of a softmax.
        LABELLED: The prototypes of annotated voxels; the argmax over background and organs.
        UNLABELLED: The prototypes of pseudo-labelled voxels; likewise.
    """

    LINEAR = "linear"
    LABELLED = "labelled"
    UNLABELLED = "unlabelled"


class Split(str, Enum):
    """Which of the recipe's cases.

    Attributes:
        VALIDATION: The validation fold.
        TRAINING: The others, each with the organs that the training knows in it.
    """

    VALIDATION = "validation"
    TRAINING = "training"


@dataclass(frozen=True)
class Options:
    """How a run is measured.

    Attributes:
        weights: Which network.
        classifier: Which classifier.
        split: Which cases.
        components: Whether each organ keeps only its largest connected components, as many as the catalogue
            says (two for the kidneys).
        tolerance_mm: Of the normalised surface distance.
    """

    weights: Weights = Weights.AVERAGED
    classifier: Classifier = Classifier.LINEAR
    split: Split = Split.VALIDATION
    components: bool = True
    tolerance_mm: float = 2.0


@dataclass(frozen=True)
class Predictor:
    """What `stream_labels` needs to know of a network.

    Attributes:
        predict: Takes (batch, 1, k, j, i) float32 on the device, gives logits.
        activation: "softmax" or "sigmoid", of these logits.
    """

    predict: Predict
    activation: str


class PrototypeHead(nn.Module):
    """A network whose logits are those of a prototype classifier, channel 0 being background.

    Args:
        network: Gives features on the input's grid, or on a coarser one, from which they are interpolated.
        classifier: Trained with the network.
        bank: "labelled" or "unlabelled".
    """

    def __init__(self, network: nn.Module, classifier: PrototypeClassifier, bank: str) -> None:
        super().__init__()
        self.network = network
        self.classifier = classifier
        self.bank = bank

    def forward(self, image: Tensor) -> NetworkOutput:
        """Classify (batch, 1, k, j, i)."""
        features = on_grid(self.network(image).features, image.shape[2:])
        return NetworkOutput(self.classifier(features, self.bank), features)


def run_predictor(run: TrainedRun, classifier: Classifier, device: torch.device) -> Predictor:
    """Put a run's network with one of its classifiers on a device.

    Raises:
        TrainingError: A prototype classifier is asked for, and the run has trained none.
    """
    if classifier is Classifier.LINEAR:
        return Predictor(torch_backend(run.network, device).predict, run.recipe.network.activation)
    if run.classifier is None:
        msg = f"The run in {run.folder} has no prototype classifier."
        raise TrainingError(
            msg,
            cause=f"Its method '{run.recipe.method}' trained no prototypes.",
            next_step="Choose the linear classifier, or a run with method_arguments.prototypes = true.",
        )
    head = PrototypeHead(run.network, run.classifier, classifier.value)
    return Predictor(torch_backend(head.eval(), device).predict, SOFTMAX)


OVERLAP = 0.25


def segment_case(
    predictor: Predictor, case: PreparedCase, recipe: Recipe, device: torch.device, progress: Progress
) -> NDArray[np.unsignedinteger]:
    """Return the channels (k, j, i) that a network finds on its own grid, without post-processing."""
    image = case.image.astype(np.float32)
    shape = (image.shape[0], image.shape[1], image.shape[2])
    return stream_labels(
        predictor.predict,
        image,
        plan_windows(shape, recipe.network.patch_shape, OVERLAP),
        len(recipe.data.table.keys),
        activation=predictor.activation,
        air=recipe.preprocessing.air,
        feet=recipe.preprocessing.feet,
        batch_size=1,
        network_device=device,
        device=device,
        progress=progress,
    ).labels


def largest_components(
    labels: NDArray[np.unsignedinteger], recipe: Recipe, catalogue: Catalogue
) -> NDArray[np.unsignedinteger]:
    """Keep of each organ its largest components alone, however small: one, or as the catalogue says."""
    volume = float(np.prod(recipe.preprocessing.spacing_mm))
    return keep_components(labels, recipe.data.table, catalogue, voxel_volume=volume, speck_ml=0.0).labels


def validation_dice(
    network: nn.Module, recipe: Recipe, cases: list[PreparedCase], device: torch.device, progress: Progress
) -> dict[str, float]:
    """Return the mean Dice of each organ over the cases, on the network's grid, without post-processing.

    Args:
        network: In evaluation mode.
        recipe: Names the organs and the window.
        cases: Prepared cases of the fold.
        device: Where to run.
        progress: Checked for cancellation.

    Returns:
        Mean Dice by organ key over the cases that know the organ; NaN where none does, or where it occurs in
        none and is predicted in none.
    """
    predictor = Predictor(torch_backend(network, device).predict, recipe.network.activation)
    organs = recipe.data.table.keys
    parts = [load_catalogue().values_of(recipe.data.table, key) for key in organs]
    scores = np.full((len(cases), len(organs)), np.nan)
    for row, case in enumerate(cases):
        if not case.known:
            continue
        labels = segment_case(predictor, case, recipe, device, Progress(token=progress.token))
        for channel in sorted(case.known):
            found, expected = (np.isin(each, parts[channel - 1]) for each in (labels, case.labels))
            scores[row, channel - 1] = dice(found, expected)
    present = ~np.isnan(scores).all(axis=0)
    means = np.full(len(organs), np.nan)
    means[present] = np.nanmean(scores[:, present], axis=0)
    return dict(zip(organs, means.tolist(), strict=True))
