"""`multiorganseg-train acceptance`: old against new, organ by organ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.errors import TrainingError
from multiorganseg_training.cli.progress import reported_errors, reported_progress

if TYPE_CHECKING:
    from multiorganseg.projects.acceptance import AcceptanceReport


_STYLES = {"pass": "green", "fail": "bold red", "unproven": "yellow"}


@reported_errors()
def acceptance_command(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run, or its name in the project.")],
    project: Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")],
    base: Annotated[
        str, typer.Option(help="Base bundle, by name or folder; else the one of the recipe.")
    ] = "",
    margin: Annotated[float, typer.Option(help="By how much the Dice of an old organ may fall.")] = 0.01,
    floor: Annotated[float, typer.Option(help="Dice that a new organ must reach.")] = 0.5,
    quality: Annotated[str, typer.Option(help="fast, balanced or best, as in `segment`.")] = "balanced",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Judge a run's network against its base, on cases that were held out.

    Writes acceptance.json, report.md and pictures into the run's folder. The exit code is 8 when it does not
    pass.
    """
    from multiorganseg.bundles import find_bundle
    from multiorganseg.projects.file import load_project
    from multiorganseg.projects.runs import run_lock
    from multiorganseg_training.acceptance.check import check_run
    from multiorganseg_training.acceptance.compare import CheckOptions

    folder = find_run(project, run)
    options = CheckOptions(margin, floor, quality, device)
    with run_lock(folder), reported_progress() as progress:
        acceptance = check_run(
            folder,
            load_project(project),
            options,
            progress,
            base=find_bundle(base) if base else None,
        )
    show_acceptance(acceptance)
    out.print(Text(f"Report: {folder / 'report.md'}"), soft_wrap=True)
    if not acceptance.passed:
        msg = "The acceptance check was not passed."
        raise TrainingError(
            msg,
            cause="; ".join(
                f"{key}: {organ.why}"
                for key, organ in acceptance.organs.items()
                if organ.verdict.value == "fail"
            ),
            next_step=f"Read {folder / 'report.md'}.",
        )
    out.print(Text(f"Next: multiorganseg-train project publish {project} {folder.name}"), soft_wrap=True)


def show_acceptance(acceptance: AcceptanceReport) -> None:
    """Print the verdicts as a table, the new organs first."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Organ", "", "Verdict"):
        table.add_column(
            title, no_wrap=True, min_width=max(map(len, acceptance.organs)) if title == "Organ" else None
        )
    some_interval = any(organ.confidence_interval for organ in acceptance.organs.values())
    for title in ("Cases", "Dice old", "Dice new", "Change", *(["95 % interval"] if some_interval else [])):
        table.add_column(title, justify="right", min_width=6)
    table.add_column("Worst case", overflow="fold")
    agreement = False
    for key, organ in {**acceptance.with_role("new"), **acceptance.with_role("old")}.items():
        by_base = organ.reference == "base" and organ.dice_new is not None
        agreement = agreement or by_base
        table.add_row(
            key,
            organ.role,
            Text(organ.verdict.value, style=_STYLES[organ.verdict.value]),
            str(organ.cases),
            _number(organ.dice_old),
            _number(organ.dice_new) + ("*" if by_base else ""),
            "" if organ.difference is None else f"{organ.difference:+.3f}",
            *([_interval(organ.confidence_interval)] if some_interval else []),
            Text(organ.worst_case or ""),
        )
    out.print(table)
    if agreement:
        out.print(Text("* Not annotated in the held-out cases: agreement with the old network.", style="dim"))
    out.print(
        Text(
            f"Acceptance check ({acceptance.how}): {'passed' if acceptance.passed else 'not passed'}",
            style="bold",
        )
    )


def find_run(project: Path, run: Path) -> Path:
    """Return the folder of a run that is named by its path, or by its name in a project.

    Raises:
        TrainingError: There is neither.
    """
    for folder in (project / "runs" / run, run):
        if folder.is_dir():
            return folder
    msg = f"There is no run {run}."
    known = sorted(folder.name for folder in (project / "runs").glob("*") if folder.is_dir())
    raise TrainingError(
        msg,
        cause=f"The project has: {', '.join(known)}." if known else "The project has no run yet.",
        next_step="Name one of them, or train one: multiorganseg-train add-organ --help",
    )


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f"{interval[0]:+.3f} … {interval[1]:+.3f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
