"""The consoles that every command writes to: what a name holds is shown, never obeyed."""

from __future__ import annotations

import logging
import re
import sys
import unicodedata
import warnings
from collections.abc import Iterable
from typing import IO, Any, TextIO, cast

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment
from rich.text import Text

from multiorganseg.privacy import silence_dicom_libraries

_JOINERS = "\u200c\u200d"
"""Characters without a shape that words of some languages need."""


def printable(text: str, *, lines: bool = False) -> str:
    """Replace characters that command a terminal, turn its text round or cannot be written.

    Args:
        text: Such as a name from elsewhere.
        lines: Whether line breaks stay; in a name they would begin a line of somebody else's.
    """
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable()
        or (lines and character == "\n")
        or character in _JOINERS
        or unicodedata.category(character) == "Zs"
        else "�"
        for character in text
    )


class SafeConsole(Console):
    """A console that reads no markup in text and lets no control character of it through.

    Styles are given by `rich.text.Text`. A line never begins with "{", with which an event begins, since the
    event stream may be on the same output.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Render as the parent does, text made printable."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable():
                yield segment
            else:
                yield Segment(printable(segment.text, lines=True), segment.style)

    @property
    def file(self) -> IO[str]:
        """Where it writes."""
        return cast(IO[str], _NoEvents(super().file))

    @file.setter
    def file(self, new_file: IO[str]) -> None:
        self._file = new_file


class _NoEvents:
    """A text stream on which no line begins as an event does."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        return self._stream.write(re.sub(r"^\{", " {", text, flags=re.MULTILINE))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def prepare_output() -> None:
    """Let everything that this process tells be harmless: warnings and logs go through `err`.

    Standard output and error replace what their encoding lacks, where it is not UTF-8.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    warnings.showwarning = show_warning
    silence_dicom_libraries()
    logging.basicConfig(handlers=[_ToConsole(logging.WARNING)], format="%(message)s")


def show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Show our own warnings as a sentence, those of libraries as Python does."""
    ours = category.__module__.startswith("multiorganseg")
    text = f"Warning: {message}" if ours else warnings.formatwarning(message, category, filename, lineno)
    err.print(Text(text.rstrip(), style="yellow" if ours else ""), soft_wrap=True)


class _ToConsole(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        err.print(Text(self.format(record)), soft_wrap=True)


out = SafeConsole()
"""Standard output: results."""

err = SafeConsole(stderr=True)
"""Standard error: errors, warnings and progress."""
