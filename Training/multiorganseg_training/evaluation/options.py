"""What of a run is measured, and on which cases."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


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
