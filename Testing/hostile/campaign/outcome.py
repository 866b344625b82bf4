"""What became of one file."""

from __future__ import annotations

from dataclasses import dataclass

OUTCOMES = ("typed", "accepted", "untyped", "wrong", "memory", "hang", "crash")
"""In the order of the table: refused with a typed error; read; any other exception; read, but not what
another reader finds; more memory than a small file may take; no end; the process died."""

GOOD = frozenset({"typed", "accepted"})


@dataclass(frozen=True)
class Attempt:
    """One file and what became of it.

    Attributes:
        kind: Name of the kind.
        index: Number within the kind; with the seed it gives the same file again. 0 is the valid sample.
        mutation: What was done to the sample.
        outcome: One of `OUTCOMES`.
        detail: The error, the contradiction or the signal.
        place: Where in the product it was raised, for grouping.
        seconds: Wall-clock time.
    """

    kind: str
    index: int
    mutation: str
    outcome: str
    detail: str = ""
    place: str = ""
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        """Whether nothing is to be mended."""
        return self.outcome in GOOD

    @property
    def signature(self) -> tuple[str, str, str]:
        """What failures of one cause have in common."""
        return self.kind, self.outcome, self.place or self.detail[:60]
