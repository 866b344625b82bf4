"""Progress reports and cancellation that reach into every long loop."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from multiorganseg.errors import Cancelled


class Stage(str, Enum):
    """What a segmentation does, in this order; its value is what people read."""

    READING = "reading"
    RESAMPLING = "resampling"
    LOADING = "loading the network"
    SEGMENTING = "segmenting"
    CLEANING = "cleaning"
    RESTORING = "restoring the grid"
    MEASURING = "measuring"
    WRITING = "writing"

    def __str__(self) -> str:
        """Return what people read, in every version of Python."""
        return self.value


class CancelToken:
    """Set from another thread or a signal handler; checked inside long loops."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next check."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()


def _ignore(stage: str, fraction: float) -> None:
    return None


@dataclass(frozen=True)
class Progress:
    """What long work reports to.

    Attributes:
        report: Called with the stage's name and the fraction of that stage done, in [0, 1].
        token: Checked at every report.
    """

    report: Callable[[str, float], None] = _ignore
    token: CancelToken = field(default_factory=CancelToken)

    def __call__(self, stage: str, fraction: float) -> None:
        """Report and raise `Cancelled` if the user asked for it."""
        if self.token.cancelled:
            raise Cancelled
        self.report(stage, min(max(fraction, 0.0), 1.0))
