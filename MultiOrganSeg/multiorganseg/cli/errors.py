"""Errors on the command line: what went wrong, why and what to do next, and an exit code."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.panel import Panel
from rich.text import Text

from multiorganseg.cli.console import err, printable, show_warning
from multiorganseg.errors import MultiOrganSegError
from multiorganseg.unforeseen import as_typed
from multiorganseg.volumes.check import VolumeWarning


@contextmanager
def reported_errors() -> Iterator[None]:
    """Show warnings and a `MultiOrganSegError`, and end with its exit code.

    Use it as `@reported_errors()` above a command.

    A lack of memory is shown as one.

    Raises:
        typer.Exit: An error was shown.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", VolumeWarning)
            warnings.showwarning = show_warning
            yield
    except (MultiOrganSegError, MemoryError) as error:
        typed_error = as_typed(error)
        show_error(typed_error)
        raise typer.Exit(typed_error.exit_code) from error


def show_error(error: MultiOrganSegError) -> None:
    """Write an error to standard error: a red panel in a terminal, plain lines elsewhere."""
    parts = [Text(printable(error.problem), style="bold red")]
    if error.cause:
        parts.append(Text(printable(error.cause, lines=True).replace("\n", "\n  ")))
    if error.next_step:
        parts.append(Text.assemble(("Next: ", "bold"), printable(error.next_step)))
    text = Text("\n").join(parts)
    if err.is_terminal:
        err.print(Panel(text, title="Error", title_align="left", border_style="red"))
    else:
        err.print(Text.assemble("Error: ", text), soft_wrap=True)
