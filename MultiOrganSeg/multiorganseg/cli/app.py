"""The command `multiorganseg`."""

from __future__ import annotations

from typing import Annotated

import typer

from multiorganseg import __version__
from multiorganseg.cli.console import out, prepare_output
from multiorganseg.cli.correct import correct
from multiorganseg.cli.demo import demo
from multiorganseg.cli.doctor import doctor
from multiorganseg.cli.evaluate import evaluate
from multiorganseg.cli.models import models_app
from multiorganseg.cli.pacs import pacs_app
from multiorganseg.cli.resident import resident
from multiorganseg.cli.segment import segment
from multiorganseg.cli.serve import serve
from multiorganseg.offline import keep_files_together

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Segment many organs of a CT with one command.",
    epilog="Start with: multiorganseg demo",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(f"MultiOrganSeg {__version__}")
        raise typer.Exit


@app.callback()
def main_options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Segment many organs of a CT with one command."""


app.command()(segment)
app.command()(correct)
app.command()(evaluate)
app.add_typer(models_app, name="models")
app.add_typer(pacs_app, name="pacs")
app.command()(doctor)
app.command()(demo)
app.command()(resident)
app.command()(serve)


def main() -> None:
    """Entry point."""
    prepare_output()
    keep_files_together()
    app()
