"""Checkpoints from which a run goes on exactly where it was, and averaged weights."""

from __future__ import annotations

import copy
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import Tensor, nn

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.prototypes import PrototypeBank


class WeightAverage:
    """Keeps a copy of a network whose weights follow it slowly.

    The decay after n updates is (1 + n) / (10 + n) until it reaches `decay`, so that the average forgets the
    random start. Buffers are copied, but for prototypes, which follow as weights do and keep unit length.

    Attributes:
        network: The averaged copy, in evaluation mode.
        updates: How often `update` was called.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.updates = 0
        self._decay = decay

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards `network`."""
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averaged: list[Tensor] = list(self.network.parameters())
        current: list[Tensor] = list(network.parameters())
        torch._foreach_lerp_(averaged, current, 1 - decay)
        for mine, theirs in zip(self.network.modules(), network.modules(), strict=True):
            if isinstance(mine, PrototypeBank) and isinstance(theirs, PrototypeBank):
                mine.follow(theirs, decay)
                continue
            for buffer, source in zip(
                mine.buffers(recurse=False), theirs.buffers(recurse=False), strict=True
            ):
                buffer.copy_(source)


FILE_NAME = "checkpoint.pt"
_COUNTS, _NETWORKS = ("iteration", "average_updates"), ("network", "average")
_DAMAGED = "It is damaged, or holds more than tensors and plain values."


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
    """Write the checkpoint of a run atomically.

    Raises:
        ResourceError: It cannot be written or the disk is full; the one before stays.
    """
    with atomic_path(run / FILE_NAME) as partial:
        try:
            torch.save(vars(checkpoint), partial)
        except RuntimeError as error:  # so torch tells of a full disk
            raise OSError(str(error).splitlines()[0]) from error


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
        _require_plain_zip(path)
        checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except UnpicklingError as error:
        raise _unreadable(path, _DAMAGED) from error
    except Exception as error:  # whatever reading a damaged file runs into
        raise _unreadable(path, f"{type(error).__name__}: {error}") from error
    problem = _problem(checkpoint)
    if problem:
        raise _unreadable(path, problem)
    return checkpoint


def _require_plain_zip(path: Path) -> None:
    """Refuse what torch would read though it never wrote it: other pickles, and zip files that expand."""
    try:
        with zipfile.ZipFile(path) as archive:
            expands = any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist())
    except zipfile.BadZipFile as error:
        raise UnpicklingError(_DAMAGED) from error
    if expands:
        raise UnpicklingError(_DAMAGED)


def _problem(checkpoint: Checkpoint) -> str:
    for name, value in vars(checkpoint).items():
        if name in _COUNTS:
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**53:
                return f"'{name}' is no count."
        elif not isinstance(value, dict):
            return f"'{name}' is no table."
        elif name in _NETWORKS and not all(_is_entry(key, entry) for key, entry in value.items()):
            return f"'{name}' is no state of a network."
    return ""


def _is_entry(name: object, value: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(value, torch.Tensor)
        and value.layout == torch.strided
        and value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    )


def trained_checkpoint(run: Path) -> Checkpoint:
    """Read the checkpoint of a run that must have one.

    Raises:
        TrainingError: There is none, or as for `load_checkpoint`.
    """
    checkpoint = load_checkpoint(run)
    if checkpoint is None:
        msg = f"{run} holds no checkpoint."
        raise TrainingError(
            msg, next_step="Name another run, or train: `multiorganseg-train fit` or `add-organ`."
        )
    return checkpoint


def _unreadable(path: Path, cause: str) -> TrainingError:
    msg = f"The checkpoint {path} cannot be read."
    return TrainingError(msg, cause=cause, next_step="Start the run anew in another folder.")
