"""Ending a process with all that it started."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import suppress

_PATIENCE_SECONDS = 5.0


def end_process_tree(process: subprocess.Popen[bytes]) -> None:
    """End a child, its children and theirs at once, and wait until they are gone.

    On POSIX the child must lead a process group of its own: that reaches those whose parent has ended.
    """
    import psutil

    if process.poll() is not None:
        return
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(process.pid)
        family = [root, *root.children(recursive=True)]
        for member in family:
            with suppress(psutil.NoSuchProcess):
                member.kill()
        end_process_group(process)
        psutil.wait_procs(family[1:], timeout=_PATIENCE_SECONDS)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_PATIENCE_SECONDS)


def end_process_group(process: subprocess.Popen[bytes]) -> None:
    """End what is left of the group that a child leads; to be called before or just after it is reaped."""
    if os.name == "posix":
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
