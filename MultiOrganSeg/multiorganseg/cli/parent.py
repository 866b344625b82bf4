"""Ending together with the process that started this one."""

from __future__ import annotations

import os
import sys
import threading

from multiorganseg.scratch import discard_scratch_folders

EXIT_CODE = 143
"""As of a process that was asked to terminate."""


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
