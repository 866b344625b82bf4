"""A kind of file: how a valid one is made, spoiled, read by the product and judged by another reader."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

Judge = Callable[[Path, Any], str]


def unjudged(folder: Path, result: Any) -> str:
    """Find nothing wrong, for kinds that no other reader understands."""
    return ""


@dataclass(frozen=True)
class Kind:
    """One kind of file.

    Attributes:
        name: For the table and `--kind`.
        prepare: Writes a valid sample into an empty folder.
        mutate: Spoils the sample in that folder and says in a few words what it did.
        read: Reads the sample through the product's entry point.
        judge: Compares what was read with what an independent reader says; empty when nothing contradicts or
            that reader does not take the file.
        warm: Called with the sample before the first child is forked, for what a library loads at first use;
            it must not start threads.
    """

    name: str
    prepare: Callable[[Path], None]
    mutate: Callable[[Random, Path], str]
    read: Callable[[Path], Any]
    judge: Judge = unjudged
    warm: Callable[[Path], object] = lambda folder: None
