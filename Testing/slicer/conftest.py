"""The stand-in Slicer host for the tests of the Slicer side."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]

for folder in (
    REPOSITORY / "Testing" / "host",
    REPOSITORY / "Testing" / "slicer",
    REPOSITORY / "MultiOrganSeg",
):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))


def _start(widgets: bool) -> Any:
    pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
    if widgets:
        pytest.importorskip("PySide6", reason="needs PySide6-Essentials: pip install -e .[slicer-test]")
    import slicer_host

    return slicer_host.start(widgets=widgets)


def _clean(running: Any) -> Iterator[Any]:
    running.reset()
    running.forget_errors()
    yield running
    running.reset()
    assert running.errors == [], "an exception left a slot or an observer, see above"


@pytest.fixture
def host() -> Iterator[Any]:
    """The running host with an empty scene; fails if an exception was lost in a slot or observer."""
    yield from _clean(_start(widgets=False))


@pytest.fixture
def widget_host() -> Iterator[Any]:
    """The same with `qt`, `ctk` and stand-in widgets; `host.answers` answers the dialogs."""
    yield from _clean(_start(widgets=True))
