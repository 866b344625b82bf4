"""The network of a run, as its checkpoint holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiorganseg.errors import TrainingError
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg_training.build import new_network, recipe_method
from multiorganseg_training.checkpoint import Checkpoint, trained_checkpoint
from multiorganseg_training.prototypes.classifier import PrototypeClassifier
from multiorganseg_training.recipe import Recipe
from multiorganseg_training.recipe_dict import recipe_from_dict

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
