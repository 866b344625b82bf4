"""Errors on the command line: what went wrong, why and what to do next, and an exit code."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer
from rich.panel import Panel
from rich.text import Text

from multiorganseg.cli.console import err
from multiorganseg.errors import MultiOrganSegError


@contextmanager
def reported_errors() -> Iterator[None]:
    """Show a `MultiOrganSegError` and end with its exit code; use as `@reported_errors()` above a command.

    Raises:
        typer.Exit: An error was shown.
    """
    try:
        yield
    except MultiOrganSegError as error:
        show_error(error)
        raise typer.Exit(error.exit_code) from error


def show_error(error: MultiOrganSegError) -> None:
    """Write an error to standard error: a red panel in a terminal, plain lines elsewhere."""
    parts = [Text(_printable(error.problem), style="bold red")]
    if error.cause:
        parts.append(Text(_printable(error.cause)))
    if error.next_step:
        parts.append(Text.assemble(("Next: ", "bold"), _printable(error.next_step)))
    text = Text("\n").join(parts)
    if err.is_terminal:
        err.print(Panel(text, title="Error", title_align="left", border_style="red"))
    else:
        err.print(Text.assemble("Error: ", text), soft_wrap=True)


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() or character == "\n" else "�" for character in text)
