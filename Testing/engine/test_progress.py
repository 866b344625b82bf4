from __future__ import annotations

import threading

import pytest

from multiorganseg.errors import Cancelled
from multiorganseg.progress import CancelToken, Progress


def test_reports_are_passed_on_within_nought_and_one() -> None:
    seen: list[tuple[str, float]] = []
    progress = Progress(lambda stage, fraction: seen.append((stage, fraction)))
    for fraction in (-0.5, 0.0, 0.25, 1.0, 1.5):
        progress("work", fraction)
    assert seen == [("work", fraction) for fraction in (0.0, 0.0, 0.25, 1.0, 1.0)]


def test_after_cancelling_nothing_is_reported() -> None:
    seen: list[str] = []
    progress = Progress(lambda stage, _: seen.append(stage))
    progress("before", 0.5)
    progress.token.cancel()
    with pytest.raises(Cancelled):
        progress("after", 0.6)
    assert seen == ["before"]


def test_another_thread_can_cancel() -> None:
    progress = Progress()
    thread = threading.Thread(target=progress.token.cancel)
    thread.start()
    thread.join()
    assert progress.token.cancelled
    with pytest.raises(Cancelled):
        progress("work", 0.0)


def test_every_progress_has_a_token_of_its_own_unless_given() -> None:
    first, second = Progress(), Progress()
    first.token.cancel()
    second("work", 0.1)
    shared = CancelToken()
    shared.cancel()
    with pytest.raises(Cancelled):
        Progress(token=shared)("work", 0.1)
