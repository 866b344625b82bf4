"""Stands for `slicer.testing`."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Sequence


def exitSuccess() -> None:
    """Nothing to do: the launcher ends with 0 unless an error reached it."""


def exitFailure(message: str = "") -> None:
    """Tell the launcher that the test failed."""
    raise RuntimeError(message)


def runUnitTest(path: str | Sequence[str], testname: str) -> None:
    """Run the unit tests of a Python module.

    Args:
        path: Folder or folders to look for it in.
        testname: Dotted name of a module, test case or test method.

    Raises:
        RuntimeError: A test failed or there was none.
    """
    sys.path.extend([path] if isinstance(path, str) else path)
    suite = unittest.TestLoader().loadTestsFromName(testname)
    result = unittest.TextTestRunner(verbosity=2).run(suite)
    if not result.wasSuccessful():
        exitFailure(f"{testname}: {len(result.failures)} failures, {len(result.errors)} errors")
    if result.testsRun == 0:
        exitFailure(f"{testname}: no test was found")
