"""`multiorganseg-train add-organ`: add organs to a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError
from multiorganseg.user_folders import user_cache_dir
from multiorganseg_training.cli.acceptance import show_acceptance
from multiorganseg_training.cli.progress import reported_errors, warn


@reported_errors()
def add_organ_command(
    organ: Annotated[
        list[str], typer.Option(help="Key of an organ to learn, such as gallbladder; may be repeated.")
    ],
    project: Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")],
    base: Annotated[str, typer.Option(help="Base bundle, by name or folder.")] = "abdomen-ct",
    time: Annotated[
        str,
        typer.Option(
            help="For the training: 10m, 1h, overnight, or such as 90m. Preparing and judging add to it."
        ),
    ] = "1h",
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Of each training, instead of a time.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    run: Annotated[str, typer.Option(help="Name of the run in PROJECT/runs; else BASE-plus-ORGAN.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0,
) -> None:
    """Add organs to a model from a project's annotated cases, without losing those it knows.

    Cases are held out, the model is trained and then judged on them, old organs and new (see `acceptance`).
    With fewer than four annotated cases each is held out once, in a training of its own, and the time is
    shared.

    The same command again goes on where a stopped run was; Ctrl-C or an empty file `stop` in the run's folder
    pauses it. The base is not changed: `project publish` makes a new bundle of the run. Exit code 8 when it
    cannot be done; an acceptance check that is not passed is reported, and no failure.
    """
    from multiorganseg.bundles import find_bundle
    from multiorganseg.inference.backends import choose_device
    from multiorganseg.projects.runs import Paused, process_start
    from multiorganseg_training.acceptance.add_organ import Workplace
    from multiorganseg_training.acceptance.add_organ import add_organ as run_add_organ
    from multiorganseg_training.acceptance.plan import AddOrganOptions, parse_seconds, run_name

    options = AddOrganOptions(base, tuple(organ), parse_seconds(time), iterations, seed)
    name = run or run_name(find_bundle(base), options.organs)
    _require_name(name)
    place = Workplace(
        project, project / "runs" / name, cache or user_cache_dir() / "cases", choose_device(device)
    )
    try:
        with progress_bar() as progress:
            acceptance = run_add_organ(options, place, progress, warn, process_start())
    except Paused as pause:
        out.print(Text(f"{pause.problem} {pause.next_step}"), soft_wrap=True)
        return
    show_acceptance(acceptance)
    out.print(Text(f"Report: {place.run / 'report.md'}"), soft_wrap=True)
    publish = f"multiorganseg-train project publish {project} {name}"
    if acceptance.passed:
        out.print(Text(f"Next: {publish}"), soft_wrap=True)
        return
    out.print("Next: read the report; annotate further cases, or train longer in another run: --run NAME")
    out.print(Text(f"To publish it all the same: {publish} --force 'REASON'"), soft_wrap=True)


def _require_name(name: str) -> None:
    if name.startswith(".") or Path(name).name != name or "\\" in name:
        msg = f"'{name}' cannot be the name of a run."
        raise OptionError(
            msg, next_step="Give a name, not a path; the run lies in the project's folder runs/."
        )
