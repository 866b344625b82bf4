"""The one way to start a child process: it runs a module, and finds modules nowhere but where we say.

Python puts the working folder, or its name as an empty entry of PYTHONPATH, first on the path from which it
imports. A project or a folder of images from elsewhere may hold a `numpy.py`; it must never be run.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PACKAGE_ROOT = Path(__file__).resolve().parents[1]
"""The folder in which the engine's package lies."""

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_START = (
    "import sys; del sys.argv[0]; sys.path[:] = [folder for folder in sys.path if folder]; "
    "import runpy; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def module_command(module: str, arguments: Sequence[str] = (), executable: str = "") -> list[str]:
    """Return the command that runs a module as `python -m` does, without the working folder on its path.

    Python has an option for it from 3.11 on; this does it in all versions. To be started with the
    environment of `module_environment`, and in a folder of our own.

    Args:
        module: Full name of a module or package.
        arguments: Its arguments.
        executable: The Python to run it; that of this process when empty.
    """
    return [executable or sys.executable, "-c", _START, module, *arguments]


def module_environment(
    folders: Sequence[Path] = (), environment: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Return the environment for `module_command`: our folders come first, text is UTF-8.

    Args:
        folders: Further folders to import from, before the engine's.
        environment: To start from; that of this process when None. Relative and empty entries of its
            PYTHONPATH, which mean the working folder, are left out.
    """
    given = dict(os.environ if environment is None else environment)
    previous = [entry for entry in given.get("PYTHONPATH", "").split(os.pathsep) if Path(entry).is_absolute()]
    given["PYTHONPATH"] = os.pathsep.join([*map(str, folders), str(PACKAGE_ROOT), *previous])
    given["PYTHONSAFEPATH"] = "1"
    given["PYTHONUTF8"] = "1"
    return given


def run_module(
    module: str,
    arguments: Sequence[str],
    folder: Path,
    *,
    seconds: float | None = None,
    threads: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a module in a child process to its end, without input.

    Args:
        module: Full name of a module or package.
        arguments: Its arguments.
        folder: Of our own, in which it runs.
        seconds: After which it is ended; None for no limit.
        threads: For numerical libraries; None leaves it to them.

    Returns:
        Exit code, output and errors as text.

    Raises:
        subprocess.TimeoutExpired: It took longer.
        OSError: It cannot be started.
    """
    limits = {} if threads is None else dict.fromkeys(_THREAD_VARIABLES, str(threads))
    return subprocess.run(
        module_command(module, arguments),
        cwd=folder,
        env={**module_environment(), **limits},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
    )
