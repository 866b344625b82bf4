"""Batches that come again: what a method with a frozen network says of them is computed once and kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from multiorganseg.scratch import scratch_folder
from multiorganseg_training.data.batches import Batch, BatchSource
from multiorganseg_training.methods import Method, Step
from multiorganseg_training.methods.method import Seen

MAPS = "maps."
DRAWING, ORDER, MIXING = range(3)
"""What the randomness of a run is for, beside its seed."""

Draw = Callable[[int], Batch]


def numbered(batches: BatchSource, seed: int) -> Draw:
    """Return a source's batches by number, each drawn from randomness of its own."""
    return lambda number: batches.draw(int(np.random.default_rng((seed, DRAWING, number)).integers(2**63)))


class FixedBatches:
    """A number of batches at a time, each drawn from randomness of its own, in another order in each pass.

    What `Method.see` gives for a batch is rounded as it is stored: maps to bfloat16, other numbers to
    float16. It is rounded on the first use, too, so that a batch is the same whether it was kept, or is
    computed again since the program was killed, or the disk has no room for it.

    Args:
        method: Its `frozen` is true.
        draw: Gives a batch by its number, the same each time.
        count: How many at a time.
        passes: Over them, before others take their place; 0 keeps them to the end.
        seed: Of the run.
        folder: For files of this process alone.
        part: Which of several devices that train together this is.
    """

    def __init__(
        self, method: Method, draw: Draw, count: int, passes: int, seed: int, folder: Path, part: int = 0
    ) -> None:
        self._part = part
        self._method = method
        self._draw = draw
        self._count = count
        self._passes = passes
        self._seed = seed
        self._folder = folder
        self._kept: set[int] = set()

    def step(self, network: nn.Module, iteration: int) -> Step:
        """Return the loss of an iteration, counted from 0."""
        device = next(network.parameters()).device
        seen = self._seen(network, self.number(iteration), device)
        if not torch.is_autocast_enabled(device.type):  # torch mixes no precisions by itself
            seen = {
                name: tensor.float() if tensor.is_floating_point() else tensor
                for name, tensor in seen.items()
            }
        return self._method.learn(network, seen)

    def number(self, iteration: int) -> int:
        """Return which batch an iteration takes: the first pass over new ones takes them as they come."""
        turn, place = divmod(iteration, self._count)
        earlier, again = divmod(turn, self._passes) if self._passes else (0, turn)
        if again:
            place = int(np.random.default_rng((self._seed, ORDER, turn)).permutation(self._count)[place])
        return earlier * self._count + place

    def _seen(self, network: nn.Module, number: int, device: torch.device) -> Seen:
        path = self._folder / f"{number}.safetensors"
        if number in self._kept:
            return _restored(load_file(path, str(device)))
        self._forget(number - number % self._count)
        generator = np.random.default_rng((self._seed, MIXING, number, self._part))
        stored = _stored(self._method.see(network, self._draw(number), generator))
        try:
            save_file(stored, path)
            self._kept.add(number)
        except (OSError, SafetensorError):  # the latter where the disk is full
            path.unlink(missing_ok=True)
        return _restored(stored)

    def _forget(self, first: int) -> None:
        """Delete the batches before one; they do not come again."""
        for number in [each for each in self._kept if each < first]:
            (self._folder / f"{number}.safetensors").unlink(missing_ok=True)
            self._kept.remove(number)


@contextmanager
def fixed_batches(
    method: Method, draw: Draw, count: int, passes: int, seed: int, run: Path, part: int = 0
) -> Iterator[FixedBatches | None]:
    """Keep batches in a private folder of a run, which is deleted at the end; None where there are none.

    What a killed program left of such a folder is deleted first.
    """
    if not count or not method.frozen:
        yield None
        return
    with scratch_folder(run) as folder:
        yield FixedBatches(method, draw, count, passes, seed, folder, part)


def kept_bytes(seen: Seen) -> int:
    """Return how many bytes a batch takes on the disk."""
    return sum(tensor.nbytes for tensor in _stored(seen).values())


def _stored(seen: Seen) -> Seen:
    return {name: _channels_last(_rounded(name, tensor)) for name, tensor in seen.items()}


def _rounded(name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    return tensor.to(torch.bfloat16 if name.startswith(MAPS) else torch.float16)


def _channels_last(tensor: Tensor) -> Tensor:
    return tensor.movedim(1, -1).contiguous() if tensor.ndim > 1 else tensor


def _restored(stored: Seen) -> Seen:
    """Return tensors in memory of their own, laid out alike whether they come from a file or were computed.

    Axes of one voxel or channel may have any stride, by which torch chooses its kernels, which round
    differently.
    """
    own = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in stored.items()}
    return {name: tensor.movedim(-1, 1) if tensor.ndim > 1 else tensor for name, tensor in own.items()}
