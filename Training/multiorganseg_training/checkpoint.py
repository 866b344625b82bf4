"""Checkpoints from which a run goes on exactly where it was."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import TrainingError

FILE_NAME = "checkpoint.pt"


@dataclass(frozen=True)
class Checkpoint:
    """All state of a run.

    Attributes:
        iteration: Optimiser steps done.
        recipe: As `recipe_to_dict` gives it.
        network: State of the trained network.
        average: State of the averaged network.
        average_updates: See `WeightAverage.updates`.
        method: State of the method.
        optimiser: State of the optimiser.
        generator: State of the random generator.
        method_average: State of the average of `Method.judge`; empty where there is none.
    """

    iteration: int
    recipe: dict[str, Any]
    network: dict[str, Any]
    average: dict[str, Any]
    average_updates: int
    method: dict[str, Any]
    optimiser: dict[str, Any]
    generator: dict[str, Any]
    method_average: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, run: Path) -> None:
    """Write the checkpoint of a run atomically."""
    with atomic_path(run / FILE_NAME) as partial:
        torch.save(vars(checkpoint), partial)


def load_checkpoint(run: Path) -> Checkpoint | None:
    """Read the checkpoint of a run; None when it has none yet.

    Nothing but tensors and plain values is loaded; whatever else the file asks for is refused.

    Raises:
        TrainingError: The file is damaged or holds something else.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return None
    try:
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError as error:
        raise _unreadable(path, "It is damaged, or holds more than tensors and plain values.") from error
    except (OSError, EOFError, RuntimeError, TypeError, ValueError) as error:
        raise _unreadable(path, str(error)) from error


def trained_checkpoint(run: Path) -> Checkpoint:
    """Read the checkpoint of a run that must have one.

    Raises:
        TrainingError: There is none, or as for `load_checkpoint`.
    """
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        msg = f"{run} holds no checkpoint."
        raise TrainingError(
            msg, next_step="Name another run, or train: `multiorganseg-train fit` or `extend`."
        )
    return checkpoint


def _unreadable(path: Path, cause: str) -> TrainingError:
    msg = f"The checkpoint {path} cannot be read."
    return TrainingError(msg, cause=cause, next_step="Start the run anew in another folder.")
