"""The correction of one segmentation, prompt by prompt."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import OptionError, OrganError, VolumeError
from multiorganseg.geometry.crop import Crop
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine.answer import FURTHEST, Answer, Situation, Tuning, answer, depth_of, reach_of
from multiorganseg.refine.changes import Box, Change, Journal, Labels
from multiorganseg.refine.maps import NetworkMaps, interpolate, nearest, plain_maps
from multiorganseg.refine.prompts import Prompt
from multiorganseg.refine.steps import FORMAT, Step, steps_from_json
from multiorganseg.volumes.volume import Grid, Volume

LARGEST_BOX = (64, 128, 128)
REACHES = (6.0, 12.0, 25.0)
"""Tried one after the other, in mm, until the box holds all that a prompt can mean."""

MOST_UNDO = 50
NEAR = 1e-3
"""Share of a changed voxel of the network's grid from which a voxel of the volume may change with it."""


class Session:
    """A volume, its labels, what the network said of it, and all prompts so far.

    The same prompts on the same labels give the same answer. A positive prompt only adds to its organ, a
    negative one only takes away; its own voxels always follow it, also in later answers.

    Args:
        volume: The image.
        labels: Array (k, j, i) on the volume's grid; copied.
        table: What the label values mean.
        maps: What a network said of the volume; without them intensity alone is looked at.
        tuning: Numbers of the method.

    Attributes:
        labels: The labels as they are now. Change them by `correct`, `undo` and `put` only.
        table: Grows by `add_organ`.
        steps: All that was said and not undone.

    Raises:
        VolumeError: The labels lie on another grid than the volume.
    """

    def __init__(
        self,
        volume: Volume,
        labels: Labels,
        table: LabelTable,
        maps: NetworkMaps | None = None,
        *,
        tuning: Tuning | None = None,
    ) -> None:
        if labels.shape != volume.voxels.shape:
            msg = f"The segmentation has {labels.shape} voxels (k, j, i), the volume {volume.voxels.shape}."
            raise VolumeError(msg, next_step="Bring the segmentation onto the volume's grid first.")
        self.volume, self.table = volume, table
        self.labels: Labels = labels.copy()
        self.maps = maps or plain_maps(volume)
        self.steps: list[Step] = []
        self._tuning = tuning or Tuning()
        self._undo: list[Change] = []
        self._settled: set[str] = set()

    @property
    def touched(self) -> tuple[str, ...]:
        """Keys of the organs that lost or gained voxels by prompts, in the order of the table."""
        undoable = {key for change in self._undo for key in change.organs}
        return tuple(key for key in self.table.keys if key in self._settled | undoable)

    def add_organ(self, key: str) -> int:
        """Let an organ join that no label stands for yet; give its label value.

        Raises:
            OrganError: It is there already, or there is no name or no value left.
        """
        if not key.strip() or key in self.table.keys:
            msg = (
                f"The segmentation has an organ '{key}' already." if key.strip() else "An organ needs a name."
            )
            raise OrganError(msg, next_step="Choose another name, or correct the organ that is there.")
        value = max([*self.table.organs, int(self.labels.max())], default=0) + 1
        self.table = LabelTable({**self.table.organs, value: key})
        if value > np.iinfo(self.labels.dtype).max:
            self.labels = self.labels.astype(np.uint16)
        return value

    def correct(self, organ: str, prompts: Sequence[Prompt], locked: Collection[str] = ()) -> Change:
        """Answer prompts about one organ, one after the other, as one step.

        Args:
            organ: Its key in the table.
            prompts: What is said of it, at least one.
            locked: Keys of the organs that must not change.

        Returns:
            The box that changed, with its labels.

        Raises:
            OptionError: There is no prompt.
            OrganError: The table has no such organ, or the organ itself is locked, or a positive prompt lies
                in a locked organ.
            VolumeError: A prompt lies outside the volume.
        """
        step = Step(organ, tuple(prompts), tuple(locked))
        self._check(step)
        count, journal = len(self.steps), Journal(self.labels)
        try:
            for prompt in prompts:
                self._follow(organ, prompt, locked, journal)
                self.steps.append(Step(organ, (prompt,), step.locked))
        except BaseException:
            journal.take_back()
            raise
        finally:
            del self.steps[count:]
        self.steps.append(step)
        change = journal.change(self.table)
        self._undo.append(change)
        self._settle(MOST_UNDO)
        return change

    def undo(self) -> Change:
        """Take back the last step; the change gives what it changed back.

        Raises:
            OptionError: There is none.
        """
        if not self._undo:
            msg = "There is nothing to undo."
            raise OptionError(msg, next_step=f"Steps before the last {MOST_UNDO} cannot be undone.")
        change = self._undo.pop()
        self.steps.pop()
        self.labels[change.box] = change.before
        return Change(change.box, change.before, change.labels, change.organs)

    def put(self, box: Box, labels: Labels, table: LabelTable | None = None) -> None:
        """Take over labels that were changed elsewhere (painted, say); undo does not go back beyond.

        Args:
            box: Slices (k, j, i) of the volume's grid.
            labels: What stands in it now.
            table: What the label values mean from now on; as before when None.

        Raises:
            VolumeError: The labels are not those of the box, or it lies outside the volume.
        """
        size = tuple(part.stop - part.start for part in box)
        inside = all(
            0 <= part.start <= part.stop <= n for part, n in zip(box, self.labels.shape, strict=True)
        )
        if size != labels.shape or labels.dtype.kind != "u" or not inside:
            msg = f"The box {box} does not take labels {labels.shape} of {labels.dtype}."
            raise VolumeError(msg, next_step="Give unsigned labels (k, j, i) of a box within the volume.")
        self.table = table or self.table
        if labels.dtype.itemsize > self.labels.dtype.itemsize:
            self.labels = self.labels.astype(labels.dtype)
        self.labels[box] = labels
        self._settle(0)

    def to_json(self) -> dict[str, Any]:
        """Return all that was said, JSON-serialisable; with the first labels it gives the present ones."""
        return {"version": FORMAT, "steps": [step.to_json() for step in self.steps]}

    def remember(self, data: Mapping[str, Any]) -> None:
        """Take over what was said earlier of labels that follow it already, in place of what is known of it.

        Raises:
            OptionError: It was not written by `to_json`.
            OrganError: It speaks of an organ that is not in the table.
            VolumeError: It lies outside the volume.
        """
        steps = steps_from_json(data)
        for step in steps:
            self._check(step, said_before=True)
        self.steps = steps
        self._settle(0)

    def replay(self, data: Mapping[str, Any]) -> None:
        """Repeat the prompts step by step; organs that are not in the table join.

        Raises:
            OptionError: It was not written by `to_json`.
        """
        for step in steps_from_json(data):
            if step.organ not in self.table.keys:
                self.add_organ(step.organ)
            self.correct(step.organ, step.prompts, step.locked)

    def _settle(self, most: int) -> None:
        """Keep the last changes for undo, and of those before only which organs they touched."""
        settled = self._undo[: max(0, len(self._undo) - most)]
        self._settled.update(key for change in settled for key in change.organs)
        del self._undo[: len(settled)]

    def _check(self, step: Step, *, said_before: bool = False) -> None:
        if not step.prompts:
            msg = "Nothing is said of the organ."
            raise OptionError(msg, next_step="Give at least one prompt.")
        self.table.value(step.organ)
        for key in step.locked:
            self.table.value(key)
        if step.organ in step.locked:
            msg = f"The organ '{step.organ}' is locked."
            raise OrganError(msg, next_step="Unlock it to correct it.")
        for prompt in step.prompts:
            prompt.check(self.volume.grid.shape)
            if said_before or not prompt.positive:
                continue
            voxels = prompt.voxels()
            under = self.labels[tuple(voxels.T)]
            values = [self.table.value(key) for key in step.locked]
            if np.isin(under, values).all():
                owner = self.table.organs[int(under[0])]
                msg = f"The {prompt.kind} for '{step.organ}' lies in '{owner}', which is locked."
                raise OrganError(msg, next_step=f"Unlock '{owner}', or point beside it.")

    def _follow(self, organ: str, prompt: Prompt, locked: Collection[str], journal: Journal) -> None:
        """Change the labels as one prompt says."""
        value = self.table.value(organ)
        fixed = np.array([self.table.value(key) for key in locked], dtype=self.labels.dtype)
        own = prompt.voxels()
        said_in, said_out = self._said(organ, prompt, own)
        spot = self._spots(own)
        if len(spot):
            self._spread(organ, prompt, spot, said_in, said_out, fixed, journal)
        under = self.labels[tuple(said_in.T)]
        journal.set(said_in[(under != value) & ~np.isin(under, fixed)], value)
        journal.set(said_out[self.labels[tuple(said_out.T)] == value], 0)

    def _said(
        self, organ: str, prompt: Prompt, own: NDArray[np.intp]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Voxels that all prompts put into the organ and out of it; the last word counts.

        What was later given to another organ is no longer asked for.
        """
        word: dict[tuple[int, int, int], bool] = {}
        for step in [*self.steps, Step(organ, (prompt,))]:
            for earlier in step.prompts:
                positive = earlier.positive
                if step.organ != organ:
                    if not positive:
                        continue
                    positive = False
                voxels = own if earlier is prompt else earlier.voxels()
                word.update(dict.fromkeys(map(tuple, voxels.tolist()), positive))
        inside = np.array([voxel for voxel, said in word.items() if said], dtype=np.intp).reshape(-1, 3)
        outside = np.array([voxel for voxel, said in word.items() if not said], dtype=np.intp).reshape(-1, 3)
        return inside, outside

    def _spots(self, voxels: NDArray[np.intp]) -> NDArray[np.intp]:
        """Voxels of the network's grid (n, 3) nearest to voxels of the volume; those outside are left out."""
        grid = self.maps.grid
        index = np.rint(grid.to_index(self.volume.grid.to_patient(voxels.astype(float)))).astype(np.intp)
        inside = ((index >= 0) & (index < np.array(grid.shape))).all(axis=1)
        return np.unique(index[inside], axis=0)

    def _spread(
        self,
        organ: str,
        prompt: Prompt,
        spot: NDArray[np.intp],
        said_in: NDArray[np.intp],
        said_out: NDArray[np.intp],
        fixed: Labels,
        journal: Journal,
    ) -> None:
        """Let the neighbourhood follow a prompt, in a box as large as the prompt can mean."""
        value = self.table.value(organ)
        known = self.maps.table.keys
        for trial in (*REACHES, self._tuning.most_reach_mm):
            box, room = _box_around(spot, self.maps.grid, FURTHEST * trial)
            points = Crop(self.maps.grid, box).target
            start = np.array([part.start for part in box])
            around = _cover(self.volume.grid, points)
            labels = self.labels[around]
            corner = np.array([part.start for part in around])
            inside = interpolate((labels == value).astype(np.float32), corner, self.volume.grid, points)
            depth = depth_of(inside, spot - start, prompt.positive, points)
            reach = reach_of(depth, self._tuning)
            if FURTHEST * reach <= room and (np.isfinite(depth) or trial == self._tuning.most_reach_mm):
                break
        reach = min(reach, room / FURTHEST)
        at = nearest(labels, corner, self.volume.grid, points)
        taken = np.isin(at, fixed)
        size = np.array(points.shape)
        spots_in, spots_out = (self._spots(said) - start for said in (said_in, said_out))
        spots_in = spots_in[((spots_in >= 0) & (spots_in < size)).all(axis=1)]
        spots_out = spots_out[((spots_out >= 0) & (spots_out < size)).all(axis=1)]
        reply = answer(
            self.maps,
            Situation(
                points,
                inside,
                (at != 0) & (at != value),
                1 + known.index(organ) if organ in known else None,
                spots_in,
                spots_out,
                spot - start,
                prompt.positive,
                taken,
                depth,
                reach,
            ),
            self._tuning,
        )
        if reply.changed.any():
            self._write(reply, points, value, fixed, prompt.positive, journal)

    def _write(
        self, reply: Answer, points: Grid, value: int, fixed: Labels, positive: bool, journal: Journal
    ) -> None:
        """Bring the changed voxels onto the volume's grid, by interpolation of their log-odds."""
        filled = np.argwhere(reply.changed)
        low = np.maximum(filled.min(axis=0) - 2, 0)
        high = np.minimum(filled.max(axis=0) + 3, reply.changed.shape)
        part: Box = (slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2]))
        grid = Crop(points, part).target
        box = _cover(self.volume.grid, grid)
        target = Crop(self.volume.grid, box).target
        zero = np.zeros(3)
        field = interpolate(reply.odds[part], zero, grid, target)
        near = interpolate(reply.changed[part].astype(np.float32), zero, grid, target) > NEAR
        labels = self.labels[box]
        if positive:
            follow = near & (field > 0) & (labels != value) & ~np.isin(labels, fixed)
        else:
            follow = near & (field <= 0) & (labels == value)
        journal.set(np.argwhere(follow) + [part.start for part in box], value if positive else 0)


def _box_around(spot: NDArray[np.intp], grid: Grid, margin_mm: float) -> tuple[Box, float]:
    """Box round voxels, not larger than the largest one, and the mm that it leaves on each side of them."""
    parts, room = [], margin_mm
    for axis in range(3):
        low, high = int(spot[:, axis].min()), int(spot[:, axis].max())
        margin = int(np.ceil(margin_mm / grid.spacing[axis]))
        margin = min(margin, max(LARGEST_BOX[axis] - (high - low + 1), 8) // 2)
        room = min(room, margin * grid.spacing[axis])
        parts.append(slice(max(0, low - margin), min(grid.shape[axis], high + margin + 1)))
    return (parts[0], parts[1], parts[2]), room


def _cover(grid: Grid, points: Grid) -> Box:
    """Smallest box of `grid` that holds all of `points` and half a voxel of theirs around."""
    edges = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in points.shape], indexing="ij")).reshape(3, -1).T
    index = grid.to_index(points.to_patient(edges))
    low = np.clip(np.floor(index.min(axis=0)), 0, np.array(grid.shape) - 1).astype(int)
    high = np.clip(np.ceil(index.max(axis=0)) + 1, low + 1, grid.shape).astype(int)
    return slice(low[0], high[0]), slice(low[1], high[1]), slice(low[2], high[2])
