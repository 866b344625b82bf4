"""What a training told of itself: curves, progress and messages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

_MOST_POINTS = 600
_MOST_MESSAGES = 20
_NOT_ORGANS = frozenset({"event", "time", "name", "iteration", "iterations", "stage"})


class Curve:
    """Points (iteration, value) with growing iterations; of many neighbours the mean is kept."""

    def __init__(self) -> None:
        self.points: list[tuple[float, float]] = []
        self._together = 1
        self._waiting: list[tuple[float, float]] = []

    def add(self, iteration: float, value: float) -> None:
        """Append a point; later ones are dropped first, since a resumed run repeats iterations."""
        if not math.isfinite(value):
            return
        while self.points and self.points[-1][0] >= iteration:
            self.points.pop()
        self._waiting = [point for point in self._waiting if point[0] < iteration]
        self._waiting.append((iteration, value))
        if len(self._waiting) < self._together:
            return
        self.points.append(_mean(self._waiting))
        self._waiting = []
        if len(self.points) > _MOST_POINTS:
            pairs = zip(self.points[::2], self.points[1::2], strict=False)
            self.points = [_mean(list(pair)) for pair in pairs]
            self._together *= 2


class TrainingLog:
    """The state of a run by its events.

    Attributes:
        loss: Of the training.
        dice: By organ key, of the averaged network on the held-out cases.
        mean_dice: Their mean.
        iteration: The last one.
        iterations: How many there will be; 0 before that is known.
        eta_seconds: Seconds left; None when unknown.
        stage: What is done now, in the trainer's words.
        messages: Warnings, latest last.
        ended: Kind of the last event that ends a run: "paused", "finished" or "failed"; else empty.
        failure: Problem, cause and next step of a failed run.
        pid: Number of its process; 0 when it was not told.
    """

    def __init__(self) -> None:
        self.loss = Curve()
        self.dice: dict[str, Curve] = {}
        self.mean_dice = Curve()
        self.iteration = 0
        self.iterations = 0
        self.eta_seconds: float | None = None
        self.stage = ""
        self.messages: list[str] = []
        self.ended = ""
        self.failure: dict[str, str] = {}
        self.pid = 0

    def take(self, event: Mapping[str, Any]) -> None:
        """Take an event; one that is not known, or lacks what it should have, changes nothing."""
        kind = event["event"]
        if kind == "started":
            self.ended, self.failure = "", {}
            self.pid = int(_number(event.get("pid")) or 0)
        elif kind == "progress":
            self._progress(event)
        elif kind == "metric":
            self._metric(event)
        elif kind == "warning":
            self.messages = [*self.messages, str(event.get("message", ""))][-_MOST_MESSAGES:]
        elif kind in ("paused", "finished", "failed"):
            self.ended, self.eta_seconds = kind, None
            if kind == "failed":
                self.failure = {key: str(event.get(key, "")) for key in ("problem", "cause", "next_step")}

    @property
    def fraction(self) -> float:
        """How much of the training is done, in [0, 1]."""
        return min(self.iteration / self.iterations, 1.0) if self.iterations else 0.0

    def _progress(self, event: Mapping[str, Any]) -> None:
        self.stage = str(event.get("stage", self.stage))
        self.eta_seconds = _number(event.get("eta_seconds"))
        iteration, loss = _number(event.get("iteration")), _number(event.get("loss"))
        if iteration is None:
            return
        self.iteration = int(iteration)
        self.iterations = int(_number(event.get("iterations")) or self.iterations)
        if loss is not None:
            self.loss.add(iteration, loss)

    def _metric(self, event: Mapping[str, Any]) -> None:
        iteration = _number(event.get("iteration"))
        if iteration is None or "dice" not in str(event.get("name", "")).lower():
            return
        for key, value in event.items():
            number = None if key in _NOT_ORGANS else _number(value)
            if number is not None:
                curve = self.mean_dice if key == "mean" else self.dice.setdefault(key, Curve())
                curve.add(iteration, number)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return points[-1][0], sum(value for _iteration, value in points) / len(points)
