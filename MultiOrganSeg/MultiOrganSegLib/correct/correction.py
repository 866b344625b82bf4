"""One segmentation under correction: prompts wait, are answered one after the other, and are written."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import MultiOrganSegError, OptionError, VolumeError
from multiorganseg.events import EventKind
from multiorganseg.resident.requests import (
    NO_MODEL,
    CloseRequest,
    CorrectRequest,
    OpenRequest,
    PutRequest,
)
from MultiOrganSegLib.correct import segments
from MultiOrganSegLib.engine import Answer, Engine, remove_file
from MultiOrganSegLib.failure import no_room

if TYPE_CHECKING:
    from multiorganseg.refine.prompts import Prompt

MOST_WAITING = 500
_POLL_SECONDS = 0.02
_OPENING, _PUTTING, _CORRECTING = "opening", "putting", "correcting"


@dataclass(frozen=True)
class _Said:
    """A prompt that waits."""

    segment: str
    prompt: Prompt
    tried: bool = False


class Correction:
    """Prompts on a segmentation of the scene, in the background; `poll` moves it on.

    What people paint, undo or redo between prompts is taken over. An answer that meets a segmentation which
    was changed since it was asked for is dropped.

    Args:
        engine: Answers.
        node: The segmentation; its voxels must be those of the volume.
        volume: What is looked at.
        editor: Writes answers.
        model: Name of the model whose maps are used; empty for the one that drew the segments, else none.

    Attributes:
        error: Why the last prompt was not answered; None when it was.
        note: What happened that is no error; empty when there is nothing to tell.
        stage: What the engine does while it prepares; empty else.
        fraction: Of that stage, in [0, 1].
        lock_others: Whether answers leave all other segments as they are.
        answered: How many prompts were answered.
        seconds: How long the last answer took, from its prompt's turn until it was written.
        engine_seconds: How long the engine thought about it.
    """

    def __init__(
        self,
        engine: Engine,
        node: slicer.vtkMRMLSegmentationNode,
        volume: slicer.vtkMRMLScalarVolumeNode,
        editor: segments.Editor,
        model: str = "",
    ) -> None:
        self.node, self.volume, self.model = node, volume, model
        self.error: MultiOrganSegError | None = None
        self.note = ""
        self.stage, self.fraction = "", 0.0
        self.answered = 0
        self.lock_others = False
        self.seconds = self.engine_seconds = 0.0
        self._engine, self._editor = engine, editor
        self._session = engine.new_name("session", "")
        self._waiting: deque[_Said] = deque()
        self._answer: Answer | None = None
        self._doing = ""
        self._file: Path | None = None
        self._began = 0.0
        self._ids: list[str] = []
        self._labels: segments.Labels = np.zeros((0, 0, 0), np.uint8)
        self._place: tuple[Any, ...] = ()
        self._stamp: tuple[Any, ...] = ()
        self._steps: dict[str, Any] = {}
        self._owed: segments.Box | None = None

    @property
    def busy(self) -> bool:
        """Whether something is asked for or waits."""
        return self._answer is not None or bool(self._waiting)

    def say(self, segment: str, prompt: Prompt) -> None:
        """Let a prompt about a segment wait for its turn; what hinders it is told by `error`."""
        if len(self._waiting) >= MOST_WAITING:
            self.error = OptionError(
                _("{count} prompts wait for their answers.").format(count=MOST_WAITING),
                next_step=_("Wait for a moment."),
            )
            return
        self.error = None
        self._waiting.append(_Said(segment, prompt))
        self.poll()

    def poll(self) -> None:
        """Move on, without waiting for anything; to be called from a timer while `busy`."""
        try:
            if self._answer is None and self._waiting:
                self._ask()
            if self._answer is not None:
                self._listen(self._answer)
        except MultiOrganSegError as error:
            self._fail(error)

    def wait(self) -> None:
        """Wait until all prompts are answered, while the application stays alive.

        Raises:
            MultiOrganSegError: The last of them was not answered.
        """
        while self.busy:
            self.poll()
            slicer.app.processEvents()
            time.sleep(_POLL_SECONDS)
        if self.error is not None:
            raise self.error

    def pause(self) -> None:
        """Forget what is asked for and what waits."""
        self._waiting.clear()
        if self._answer is not None:
            self._answer.cancel()
            self._place = () if self._doing == _OPENING else self._place
            self._owed = _whole(self._labels)
            self._answer = None
        self.stage, self._began = "", 0.0

    def close(self) -> None:
        """Forget what waits, and let the engine forget the session."""
        self.pause()
        if self._engine.is_open(self._session):
            self._engine.ask(CloseRequest(self._session))

    def _ask(self) -> None:
        """Ask for what must come next: a session, what was changed elsewhere, or the answer to a prompt."""
        self._check()
        said = self._waiting[0]
        if said.segment not in self.node.GetSegmentation().GetSegmentIDs():
            raise OptionError(
                _("The segment {name} is gone.").format(name=said.segment), next_step=_("Choose another one.")
            )
        place = segments.place_of(self.volume)
        if not self._engine.is_open(self._session) or place != self._place:
            self._open(place)
        elif self._owed or segments.stamp(self.node) != self._stamp:
            self._put()
        if self._answer is None:
            self._correct(said)

    def _check(self) -> None:
        present = slicer.mrmlScene.IsNodePresent
        for what, node in ((_("The segmentation"), self.node), (_("The volume"), self.volume)):
            if not present(node):
                self._waiting.clear()
                raise VolumeError(
                    _("{what} was removed from the scene.").format(what=what),
                    next_step=_("Choose another one; what was corrected before stays as it is."),
                )
        segments.check_place(self.node, self.volume)

    def _open(self, place: tuple[Any, ...]) -> None:
        file = self._engine.write_volume(self.volume)
        self._take_labels()
        self._place = place
        self._send(
            _OPENING,
            OpenRequest(
                self._session,
                file,
                self._write(self._labels),
                self._table(),
                self.model or segments.model_of(self.node) or NO_MODEL,
                steps=self._steps,
            ),
        )

    def _put(self) -> None:
        """Take over what changed elsewhere; only the box that differs is sent."""
        known, ids, steps, owed = self._labels, self._ids, self._steps, self._owed
        self._take_labels()
        if ids != self._ids or known.dtype != self._labels.dtype:
            box = _whole(self._labels)
        else:
            box = _union(owed, _difference(known, self._labels))
        if box is None and steps == self._steps:
            return
        name = "" if box is None else self._write(self._labels[box])
        ranges = None if box is None else _ranges(box)
        self._send(_PUTTING, PutRequest(self._session, name, ranges, self._table(), self._steps))
        self._owed = None

    def _correct(self, said: _Said) -> None:
        keys = dict(zip(self._ids, segments.organ_keys(self.node, self._ids), strict=True))
        locked = segments.locked_segments(self.node, said.segment, self._editor.parameters)
        if self.lock_others:
            locked += [each for each in self._ids if each not in (said.segment, *locked)]
        self._send(
            _CORRECTING,
            CorrectRequest(
                self._session,
                keys[said.segment],
                (said.prompt.to_json(),),
                tuple(keys[each] for each in locked),
            ),
        )

    def _send(self, doing: str, request: Any) -> None:
        if not self._began:
            self._began = time.monotonic()
        self._doing, self._answer = doing, self._engine.ask(request)

    def _listen(self, answer: Answer) -> None:
        for event in answer.poll():
            if event["event"] == EventKind.PROGRESS and self._doing == _OPENING:
                self.stage, self.fraction = str(event["stage"]), float(event["fraction"])
        if not answer.ended:
            return
        self._answer, self.stage = None, ""
        if self._file is not None:
            remove_file(self._file)
            self._file = None
        if answer.cancelled:
            self._waiting.clear()
            self._place = ()
        elif answer.crashed:
            self._start_again(answer)
        elif answer.error is not None:
            if self._doing != _CORRECTING:
                self._place = ()
            raise answer.error
        elif self._doing == _CORRECTING and answer.end:
            said = self._waiting.popleft()
            self._write_back(said, answer.end)
        if self._waiting:
            self._ask()

    def _start_again(self, answer: Answer) -> None:
        """Ask once more after a crash; a prompt that ends the process twice is given up."""
        assert answer.error is not None
        if not self._waiting or self._waiting[0].tried:
            raise answer.error
        self._waiting[0] = replace(self._waiting[0], tried=True)
        cause = answer.error.cause
        self.note = _("The engine's process ended and was started again. {cause}").format(cause=cause).strip()

    def _write_back(self, said: _Said, end: dict[str, Any]) -> None:
        self._check()
        self.error = None
        if segments.stamp(self.node) != self._stamp:
            self._owed = _whole(self._labels)
            self._waiting.clear()
            self.note = _("An answer was dropped, since the segmentation was changed meanwhile.")
            self._began = 0.0
            return
        box = _box(end["box"]) if end["box"] else (slice(0, 0),) * 3
        before = self._labels[box].copy()
        asked = self._read(end["file"]) if end["file"] else before
        free = segments.allowed(self.node, self.volume, self._editor.parameters, self._ids, before, box)
        after = np.where(free, asked, before).astype(before.dtype)
        self._owed = box
        number = 1 + max((entry["n"] for each in self._ids for entry in self._said_of(each)), default=0)
        entries = [*self._said_of(said.segment), {"n": number, "prompts": [said.prompt.to_json()]}]
        text = segments.prompts_text(entries)
        segments.write_answer(
            self._editor, self.node, self.volume, self._ids, box, before, after, (said.segment, text)
        )
        self._owed = None if np.array_equal(after, asked) else box
        self._labels[box] = after
        self._stamp = segments.stamp(self.node)
        self._steps = self._collect_steps()
        self.answered += 1
        self.note = "" if (after != before).any() else _("Nothing had to change.")
        self.seconds, self._began = time.monotonic() - self._began, 0.0
        self.engine_seconds = float(end["seconds"])

    def _fail(self, error: MultiOrganSegError) -> None:
        """Tell an error; the prompt that met it is given up, those behind it are not."""
        self.error, self._began = error, 0.0
        if self._waiting:
            self._waiting.popleft()

    def _take_labels(self) -> None:
        self._ids, self._labels = segments.read_labels(self.node, self.volume)
        self._stamp = segments.stamp(self.node)
        self._steps = self._collect_steps()

    def _table(self) -> dict[str, str]:
        keys = segments.organ_keys(self.node, self._ids)
        return {str(value): key for value, key in enumerate(keys, start=1)}

    def _said_of(self, identity: str) -> list[dict[str, Any]]:
        return segments.prompts_of(self.node, identity)

    def _collect_steps(self) -> dict[str, Any]:
        """Return what segments say was said, in its order, as `Session.to_json` gives it."""
        keys = segments.organ_keys(self.node, self._ids)
        shape = self._labels.shape
        found = [
            (entry["n"], {"organ": key, "locked": [], "prompts": entry["prompts"]})
            for identity, key in zip(self._ids, keys, strict=True)
            for entry in self._said_of(identity)
            if _fits(entry["prompts"], shape)
        ]
        steps = [step for _n, step in sorted(found, key=lambda pair: pair[0])]
        return {"version": 1, "steps": steps}

    def _write(self, labels: segments.Labels) -> str:
        name = self._engine.new_name("labels", ".npy")
        self._file = self._engine.folder / name
        try:
            np.save(self._file, labels, allow_pickle=False)
        except OSError as error:
            raise no_room(self._engine.folder.parent, str(error)) from error
        return name

    def _read(self, name: str) -> segments.Labels:
        path = self._engine.folder / name
        labels = np.load(path, allow_pickle=False)
        remove_file(path)
        return labels


def _fits(prompts: list[Any], shape: tuple[int, ...]) -> bool:
    """Whether prompts of a tag can be of this volume."""
    from multiorganseg.refine.prompts import Prompt

    try:
        for prompt in prompts:
            Prompt.from_json(prompt).check((shape[0], shape[1], shape[2]))
    except MultiOrganSegError:
        return False
    return True


def _difference(one: segments.Labels, other: segments.Labels) -> segments.Box | None:
    """Return the smallest box outside which both are the same; None where they are the same at all."""
    differ = one != other
    parts = []
    for axis in range(3):
        lines = np.flatnonzero(differ.any(axis=tuple(a for a in range(3) if a != axis)))
        if not lines.size:
            return None
        parts.append(slice(int(lines[0]), int(lines[-1]) + 1))
    return parts[0], parts[1], parts[2]


def _union(one: segments.Box | None, other: segments.Box | None) -> segments.Box | None:
    if one is None or other is None:
        return one or other
    k, j, i = (slice(min(a.start, b.start), max(a.stop, b.stop)) for a, b in zip(one, other, strict=True))
    return k, j, i


def _whole(labels: segments.Labels) -> segments.Box:
    k, j, i = (slice(0, size) for size in labels.shape)
    return k, j, i


def _ranges(box: segments.Box) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    k, j, i = ((part.start, part.stop) for part in box)
    return k, j, i


def _box(ranges: list[list[int]]) -> segments.Box:
    k, j, i = (slice(first, last) for first, last in ranges)
    return k, j, i
