"""A run's network with one of its classifiers, ready to segment."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import torch_backend
from multiorganseg.inference.stream import Predict
from multiorganseg.networks.output import NetworkOutput
from multiorganseg_training.evaluation.options import Classifier
from multiorganseg_training.features.grid import on_grid
from multiorganseg_training.features.trained_run import TrainedRun
from multiorganseg_training.partial.probabilities import SOFTMAX
from multiorganseg_training.prototypes.classifier import PrototypeClassifier


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
