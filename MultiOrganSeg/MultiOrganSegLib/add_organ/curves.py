"""What a training reports of itself: curves, progress and messages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from multiorganseg.events import ENDS, EventKind, metric_values

_MOST_POINTS = 600
_MOST_MESSAGES = 20


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
        ended: Kind of the last event that ends a run; else empty.
        failure: The event in which a run failed; None when it did not.
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
        self.failure: Mapping[str, Any] | None = None

    def take(self, event: Mapping[str, Any]) -> None:
        """Take an event; one that is not known, or lacks what it should have, changes nothing."""
        kind = event["event"]
        if kind == EventKind.STARTED:
            self.ended, self.failure = "", None
        elif kind == EventKind.PROGRESS:
            self._progress(event)
        elif kind == EventKind.METRIC:
            self._metric(event)
        elif kind == EventKind.WARNING:
            self.messages = [*self.messages, str(event.get("message", ""))][-_MOST_MESSAGES:]
        elif kind in ENDS:
            self.ended, self.eta_seconds = kind, None
            self.failure = event if kind == EventKind.FAILED else None

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
        for key, value in metric_values(event).items():
            number = _number(value)
            if number is not None:
                curve = self.mean_dice if key == "mean" else self.dice.setdefault(key, Curve())
                curve.add(iteration, number)


def _number(value: Any) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and math.isfinite(value) else None


def _mean(points: list[tuple[float, float]]) -> tuple[float, float]:
    return points[-1][0], sum(value for _iteration, value in points) / len(points)
