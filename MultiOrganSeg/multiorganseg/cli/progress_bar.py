"""A progress bar for one piece of long work, with the time left and Ctrl-C as cancel."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from multiorganseg.cli.console import err, printable
from multiorganseg.progress import CancelToken, Progress


@contextmanager
def progress_bar() -> Iterator[Progress]:
    """Show one bar on standard error and give the `Progress` that moves it.

    The first Ctrl-C cancels at the next check, the second interrupts at once.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    token = CancelToken()
    with RichProgress(*columns, console=err, transient=True) as bar, cancel_on_interrupt(token):
        task = bar.add_task("", total=1.0)
        current = ""

        def report(stage: str, fraction: float) -> None:
            nonlocal current
            title = stage.split(",")[0]
            if title != current:
                current = title
                bar.reset(task, total=1.0)
            bar.update(task, completed=fraction, description=printable(stage))

        yield Progress(report, token)


@contextmanager
def cancel_on_interrupt(token: CancelToken) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `token.cancel()` for the length of the block."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if token.cancelled:
            raise KeyboardInterrupt
        token.cancel()

    previous = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
