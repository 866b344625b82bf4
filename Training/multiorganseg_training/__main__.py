"""`python -m multiorganseg_training` is the command `multiorganseg-train`."""

import os
import sys


def _run() -> None:
    """Take the working folder, which `python -m` adds, off the path before anything is imported from it."""
    if sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
        del sys.path[0]
    from multiorganseg_training.cli.app import main

    main()


_run()
