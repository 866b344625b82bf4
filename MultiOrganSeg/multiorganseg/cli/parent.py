"""What a command does for the process that started it: it tells events, and ends together with it."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from multiorganseg.events import EventStream
from multiorganseg.outputs import open_stream
from multiorganseg.privacy import folders_of
from multiorganseg.scratch import discard_scratch_folders

EVENTS_HELP = "Write progress as JSON lines to this file; - for standard output."
PARENT_HELP = "End at once when standard input, to which at least one byte was written, is closed."

EXIT_CODE = 143
"""As of a process that was asked to terminate."""


@contextmanager
def event_stream(path: Path | None, *named: Path) -> Iterator[EventStream]:
    """Open the stream of a command; an error that leaves the block is its last event.

    Args:
        path: File to write; "-" for standard output, None for no events.
        named: Paths whose folders the texts leave away.
    """
    hidden = folders_of(*named)
    with ExitStack() as files:
        if path is None or str(path) == "-":
            stream = EventStream(sys.stdout if path else None, hidden)
        else:
            stream = EventStream(files.enter_context(open_stream(path)), hidden)
        try:
            yield stream
        except Exception as error:
            stream.fail(error)
            raise


def stop_with_parent() -> None:
    """End this process at once when standard input ends, as it does when the parent closes it or dies.

    The parent shows by a first byte that it holds the other end. Without one nothing is watched, since a
    launcher in between may not pass its input on.
    """
    if sys.stdin is not None:
        threading.Thread(target=_watch, args=(sys.stdin.fileno(),), name="parent", daemon=True).start()


def _watch(descriptor: int) -> None:
    """Read without Python's buffer, whose lock a waiting thread would hold when the interpreter ends."""
    if not os.read(descriptor, 1):
        return
    while os.read(descriptor, 1):
        pass
    discard_scratch_folders()
    os._exit(EXIT_CODE)
