"""What a person says of an organ: clicks, scribbles and lassos, in voxels of the volume's own grid."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import OptionError, VolumeError

Voxel = tuple[int, int, int]

CLICK, SCRIBBLE, LASSO = "click", "scribble", "lasso"
KINDS = (CLICK, SCRIBBLE, LASSO)
MOST_POINTS = 100_000


@dataclass(frozen=True)
class Prompt:
    """One statement about one organ.

    Attributes:
        kind: "click" (one voxel), "scribble" (a polyline: each point is joined to the next by a straight line
            of voxels, in any direction; a list of neighbouring voxels is one too) or "lasso" (a closed curve
            in a plane in which one of k, j, i is constant: what it encloses is meant).
        points: Voxels (k, j, i).
        positive: Whether they belong to the organ.
    """

    kind: str
    points: tuple[Voxel, ...]
    positive: bool

    def __post_init__(self) -> None:
        """Check the form.

        Raises:
            OptionError: The kind is unknown, or the points are none, too many, no voxels or no lasso.
        """
        problem = _problem(self)
        if problem:
            raise OptionError(
                problem, next_step="Give a click one voxel, a scribble one or more, a lasso three or more."
            )
        object.__setattr__(self, "points", tuple((int(k), int(j), int(i)) for k, j, i in self.points))

    @classmethod
    def click(cls, voxel: Sequence[int], *, positive: bool = True) -> Prompt:
        """Make a click."""
        return cls(CLICK, (_voxel(voxel),), positive)

    @classmethod
    def scribble(cls, points: Sequence[Sequence[int]], *, positive: bool = True) -> Prompt:
        """Make a scribble along points."""
        return cls(SCRIBBLE, tuple(_voxel(point) for point in points), positive)

    @classmethod
    def lasso(cls, points: Sequence[Sequence[int]], *, positive: bool = True) -> Prompt:
        """Make a lasso round a region of one slice; the curve is closed by itself."""
        return cls(LASSO, tuple(_voxel(point) for point in points), positive)

    def voxels(self) -> NDArray[np.intp]:
        """Return all voxels (n, 3) that are meant, each once, in ascending order."""
        points = np.array(self.points, dtype=np.intp)
        if self.kind == SCRIBBLE and len(points) > 1:
            points = np.concatenate([_line(a, b) for a, b in pairwise(points)])
        elif self.kind == LASSO:
            points = _inside(points)
        return np.unique(points, axis=0)

    def check(self, shape: tuple[int, int, int]) -> None:
        """Refuse points outside a volume.

        Raises:
            VolumeError: One lies outside.
        """
        for point in self.points:
            if not all(0 <= index < size for index, size in zip(point, shape, strict=True)):
                msg = f"The {self.kind} at voxel (k, j, i) = {point} lies outside the volume."
                ranges = ", ".join(f"{axis} 0…{size - 1}" for axis, size in zip("kji", shape, strict=True))
                raise VolumeError(msg, cause=f"It has {ranges}.", next_step="Give a voxel inside.")

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        return {
            "kind": self.kind,
            "points": [list(point) for point in self.points],
            "positive": self.positive,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Prompt:
        """Read a prompt.

        Raises:
            OptionError: It is none.
        """
        try:
            positive, kind = data["positive"], data["kind"]
            if not isinstance(positive, bool):
                message = f"'positive' is {positive!r}, not true or false"
                raise TypeError(message)
            return cls(str(kind), tuple(_voxel(point) for point in data["points"]), positive)
        except (KeyError, TypeError, ValueError) as error:
            msg = f"This is no prompt: {json.dumps(data, default=str)[:120]}"
            raise OptionError(
                msg, cause=str(error), next_step="Write kind, points and positive as a session does."
            ) from error


def _voxel(point: Sequence[int]) -> Voxel:
    k, j, i = point
    return k, j, i


def _problem(prompt: Prompt) -> str:
    if prompt.kind not in KINDS:
        return f"A prompt is a {', '.join(KINDS[:-1])} or {KINDS[-1]}, not '{prompt.kind}'."
    count = len(prompt.points)
    if (
        not 1 <= count <= MOST_POINTS
        or (prompt.kind == CLICK and count > 1)
        or (prompt.kind == LASSO and count < 3)
    ):
        return f"A {prompt.kind} cannot have {count} points."
    numbers = [number for point in prompt.points for number in point]
    if len(numbers) != 3 * count or not all(
        isinstance(number, int | np.integer) and not isinstance(number, bool) for number in numbers
    ):
        return "A point is three whole numbers (k, j, i)."
    if prompt.kind == LASSO and not any(len(set(axis)) == 1 for axis in zip(*prompt.points, strict=True)):
        return "A lasso lies in one slice: one of k, j and i must be the same for all of its points."
    return ""


def _line(a: NDArray[np.intp], b: NDArray[np.intp]) -> NDArray[np.intp]:
    steps = int(np.abs(b - a).max())
    shares = np.linspace(0.0, 1.0, steps + 1)[:, None]
    return np.floor(a + shares * (b - a) + 0.5).astype(np.intp)


def _inside(corners: NDArray[np.intp]) -> NDArray[np.intp]:
    """Voxels on a closed curve and inside it, by the even-odd rule."""
    closed = np.concatenate([corners, corners[:1]])
    edge = np.concatenate([_line(a, b) for a, b in pairwise(closed)])
    axis = int(np.argmin(np.ptp(corners, axis=0)))
    kept = [other for other in range(3) if other != axis]
    low, high = edge[:, kept].min(axis=0), edge[:, kept].max(axis=0)
    rows, columns = np.mgrid[low[0] : high[0] + 1, low[1] : high[1] + 1]
    inside = np.zeros(rows.shape, bool)
    for (r0, c0), (r1, c1) in zip(closed[:, kept], closed[1:, kept], strict=False):
        if r0 == r1:
            continue
        crosses = (rows >= min(r0, r1)) & (rows < max(r0, r1))
        inside ^= crosses & (columns < c0 + (rows - r0) * (c1 - c0) / (r1 - r0))
    filled = np.empty((int(inside.sum()), 3), np.intp)
    filled[:, axis] = corners[0, axis]
    filled[:, kept[0]], filled[:, kept[1]] = rows[inside], columns[inside]
    return np.concatenate([edge, filled])
