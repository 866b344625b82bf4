"""Starts, and the game between a simulated user and a method of correction."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from harness.simulated_user import SimulatedUser
from multiorganseg.metrics.overlap import dice
from multiorganseg.metrics.surface import normalized_surface_distance
from multiorganseg.refine import Prompt
from multiorganseg.volumes import Volume

Labels = NDArray[np.unsignedinteger]
Mask = NDArray[np.bool_]
Box = tuple[slice, slice, slice]

AUTOMATIC, LOBE, LEAK, SWAP, NOTHING = "automatic", "lost lobe", "leak", "swap", "nothing"
STARTS = (AUTOMATIC, LOBE, LEAK, SWAP, NOTHING)
LEAK_MM = 18.0
SWAP_MM = 25.0
VIEW_MARGIN = 12


class Method(Protocol):
    """Answers prompts about one organ.

    Attributes:
        labels: All labels as they are now, (k, j, i).
    """

    labels: Labels

    def answer(self, prompt: Prompt) -> Box:
        """Change the labels and give the box outside which nothing changed."""
        ...


@dataclass
class Game:
    """What happened to one organ of one case.

    Attributes:
        dice: After 0, 1, 2, … prompts.
        nsd: Normalised surface distance after as many prompts as asked for.
        seconds: Wall seconds of each answer.
        cpu_seconds: CPU seconds of each answer, which other programs do not lengthen.
        voxels_in_locked: Voxels of other organs that changed.
    """

    dice: list[float] = field(default_factory=list)
    nsd: dict[int, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    voxels_in_locked: int = 0


def play(
    method: Method,
    volume: Volume,
    truth: Mask,
    value: int,
    user: SimulatedUser,
    prompts: int,
    *,
    tolerance_mm: float = 2.0,
    surfaces_at: tuple[int, ...] = (),
) -> Game:
    """Let a user prompt a method until all is right, or `prompts` times.

    Args:
        method: Holds the start.
        volume: The image.
        truth: The organ (k, j, i).
        value: Its label value.
        user: Who prompts.
        prompts: How often at most.
        tolerance_mm: Of the normalised surface distance.
        surfaces_at: Numbers of prompts after which it is measured.
    """
    game, spacing, start = Game(), volume.grid.spacing, method.labels.copy()
    view = _view(truth | (start == value))
    for number in range(prompts + 1):
        now, wanted = method.labels[view] == value, truth[view]
        game.dice.append(dice(now, wanted))
        if number in surfaces_at:
            game.nsd[number] = normalized_surface_distance(now, wanted, spacing, tolerance_mm)
        if number == prompts:
            break
        prompt = user.prompt(now, wanted, spacing)
        if prompt is None:
            game.dice += game.dice[-1:] * (prompts - number)
            game.nsd |= {later: game.nsd.get(number, 1.0) for later in surfaces_at if later > number}
            break
        corner = [part.start for part in view]
        points = tuple(
            tuple(int(a + b) for a, b in zip(point, corner, strict=True)) for point in prompt.points
        )
        prompt = Prompt(prompt.kind, points, prompt.positive)
        wall, cpu = time.perf_counter(), time.process_time()
        box = method.answer(prompt)
        game.seconds.append(time.perf_counter() - wall)
        game.cpu_seconds.append(time.process_time() - cpu)
        view = _joint(view, box)
    others = (start != value) & (start != 0)
    game.voxels_in_locked = int(np.count_nonzero(method.labels[others] != start[others]))
    return game


def starts(
    truth: Labels, automatic: Labels, value: int, spacing: tuple[float, float, float]
) -> Iterator[tuple[str, Labels]]:
    """Return the automatic labels, and what may go wrong with them.

    A lost lobe is the upper 40 % of the organ's slices; a leak is a ball of 18 mm round the organ's leftmost
    voxel; a swap gives the organ what lies within 25 mm of it of its largest neighbour.
    """
    where = np.argwhere(truth == value)
    own = automatic == value
    yield AUTOMATIC, automatic.copy()
    lost = automatic.copy()
    above = np.arange(len(lost))[:, None, None] > np.quantile(where[:, 0], 0.6)
    lost[own & above] = 0
    yield LOBE, lost
    leak = automatic.copy()
    leak[_ball(truth.shape, where[where[:, 2].argmax()], LEAK_MM, spacing)] = value
    yield LEAK, leak
    swap = _swapped(automatic, value, where, spacing)
    if swap is not None:
        yield SWAP, swap
    nothing = automatic.copy()
    nothing[own] = 0
    yield NOTHING, nothing


def _swapped(
    automatic: Labels, value: int, where: NDArray[np.intp], spacing: tuple[float, float, float]
) -> Labels | None:
    low, high = where.min(axis=0), where.max(axis=0) + 1
    reach = [int(SWAP_MM // step) for step in spacing]
    box = tuple(slice(max(0, a - r), b + r) for a, b, r in zip(low, high, reach, strict=True))
    counts = np.bincount(automatic[box].ravel())
    counts[[0, value]] = 0
    if not counts.any() or len(counts) <= value:
        return None
    neighbour = int(counts.argmax())
    swapped = automatic.copy()
    spots = np.argwhere(automatic == neighbour)
    middle = where.mean(axis=0)
    nearest = spots[(((spots - middle) * spacing) ** 2).sum(axis=1).argmin()]
    ball = _ball(automatic.shape, nearest, SWAP_MM, spacing)
    swapped[ball & (automatic == neighbour)] = value
    return swapped


def _ball(
    shape: tuple[int, ...], centre: NDArray, radius: float, spacing: tuple[float, float, float]
) -> Mask:
    square = sum(
        ((index - middle) * step) ** 2
        for index, middle, step in zip(np.indices(shape, sparse=True), centre, spacing, strict=True)
    )
    return np.asarray(square < radius**2)


def _view(mask: Mask) -> Box:
    parts = []
    for axis in range(3):
        found = np.flatnonzero(mask.any(axis=tuple(other for other in range(3) if other != axis)))
        first, last = (int(found[0]), int(found[-1])) if found.size else (0, mask.shape[axis] - 1)
        parts.append(slice(max(0, first - VIEW_MARGIN), min(mask.shape[axis], last + 1 + VIEW_MARGIN)))
    return parts[0], parts[1], parts[2]


def _joint(one: Box, other: Box) -> Box:
    if any(part.stop <= part.start for part in other):
        return one
    k, j, i = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return k, j, i
