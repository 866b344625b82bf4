"""What dialogs ask and what a test answers in the user's stead."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any


class UnansweredDialogError(AssertionError):
    """A dialog opened that would have waited for the user, and no answer was given for it."""


@dataclass(frozen=True)
class Shown:
    """One dialog that was shown.

    Attributes:
        kind: Class of the dialog, or "getOpenFileName" and the like for static ones.
        title: Window title.
        text: The main text.
        detail: Detailed and informative text.
        answer: What was answered.
    """

    kind: str
    title: str
    text: str
    detail: str
    answer: Any


@dataclass
class Answers:
    """Answers in the order in which the dialogs will ask, and a record of all dialogs.

    An answer is the value that the dialog returns (`qt.QMessageBox.Yes`, a path) or a function that gets
    the dialog (None for static ones) and returns that value. A message box with one button needs none.
    """

    shown: list[Shown] = field(default_factory=list)
    _queue: deque[Any] = field(default_factory=deque)

    def add(self, *answers: Any) -> None:
        """Queue answers."""
        self._queue.extend(answers)

    @property
    def left(self) -> int:
        """How many answers were not asked for yet."""
        return len(self._queue)

    @property
    def texts(self) -> list[str]:
        """Texts of all dialogs that were shown."""
        return [shown.text for shown in self.shown]

    def take(
        self,
        kind: str,
        title: str = "",
        text: str = "",
        detail: str = "",
        dialog: Any = None,
        default: Any = None,
    ) -> Any:
        """Answer a dialog with the next answer, or with `default` if none is queued, and record it.

        Raises:
            UnansweredDialogError: No answer is queued and there is no default.
        """
        if self._queue:
            answer = self._queue.popleft()
            if callable(answer) and not isinstance(answer, type):
                answer = answer(dialog)
        elif default is not None:
            answer = default
        else:
            message = f"{kind} '{title}' asks and no answer is queued: {text}"
            raise UnansweredDialogError(message)
        self.shown.append(Shown(kind, title, text, detail, answer))
        return answer

    def clear(self) -> None:
        """Forget answers and records."""
        self.shown.clear()
        self._queue.clear()
