"""From the engine's stages to one fraction and the time left."""

from __future__ import annotations

import time
from collections.abc import Callable

from multiorganseg.progress import Stage

WEIGHTS = {
    Stage.READING: 0.02,
    Stage.RESAMPLING: 0.04,
    Stage.LOADING: 0.06,
    Stage.SEGMENTING: 0.78,
    Stage.CLEANING: 0.02,
    Stage.RESTORING: 0.02,
    Stage.MEASURING: 0.03,
    Stage.WRITING: 0.03,
}
"""Share of the whole time by stage of the engine, in order; the network takes most of it."""

_LONGEST = Stage.SEGMENTING
_ENOUGH_SECONDS = 1.0
_ENOUGH_FRACTION = 0.02


class StageProgress:
    """How far a segmentation is over all stages.

    Args:
        clock: Seconds that never run back; replaced in tests.

    Attributes:
        stage: The last stage that the engine reported; empty before the first.
        fraction: Of the whole, in [0, 1]; never falls.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.stage = ""
        self.fraction = 0.0
        self._clock = clock
        self._began: tuple[float, float] | None = None
        self._left: tuple[float, float] | None = None

    def update(self, stage: str, fraction: float) -> None:
        """Take a report of the engine; a stage without a weight moves nothing."""
        self.stage = stage
        if stage not in WEIGHTS:
            return
        names, known = list(WEIGHTS), Stage(stage)
        before = sum(WEIGHTS[name] for name in names[: names.index(known)])
        self.fraction = max(self.fraction, before + WEIGHTS[known] * min(max(fraction, 0.0), 1.0))
        now = self._clock()
        if self._began is None:
            self._began = (now, self.fraction) if stage == _LONGEST else None
            return
        seconds, done = now - self._began[0], self.fraction - self._began[1]
        if seconds >= _ENOUGH_SECONDS and done >= _ENOUGH_FRACTION:
            self._left = (now, (1 - self.fraction) * seconds / done)

    def complete(self) -> None:
        """All is done."""
        self.fraction = 1.0
        self._left = (self._clock(), 0.0)

    @property
    def eta_seconds(self) -> float | None:
        """Seconds left by the pace of the network; None until it is known."""
        if self._left is None:
            return None
        since, left = self._left
        return max(left - (self._clock() - since), 0.0)
