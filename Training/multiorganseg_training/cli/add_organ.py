"""`multiorganseg-train add-organ`: add organs to a model."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import OptionError
from multiorganseg.folders import user_cache_dir
from multiorganseg.outputs import keep
from multiorganseg.projects.file import data_inputs
from multiorganseg_training.cli.acceptance import show_acceptance
from multiorganseg_training.cli.progress import reported_errors, warn

if TYPE_CHECKING:
    from multiorganseg_training.acceptance.plan import AddOrganOptions

DeviceCount = Annotated[
    int,
    typer.Option(
        min=0,
        help="Train on so many devices at once, each with a batch of its own; 0 for as many as torchrun or "
        "SLURM started, else one.",
    ),
]


@reported_errors()
def add_organ_command(
    organ: Annotated[
        list[str], typer.Option(help="Key of an organ to learn, such as duodenum; may be repeated.")
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
    devices: DeviceCount = 0,
    run: Annotated[str, typer.Option(help="Name of the run in PROJECT/runs; else BASE-plus-ORGAN.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0,
    patches: Annotated[
        int | None, typer.Option(min=1, help="A step; fewer make a step shorter, and each teaches less.")
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Stop before the training; `pack` takes it to another machine.")
    ] = False,
) -> None:
    """Add organs to a model from a project's annotated cases, without losing those it knows.

    Cases are held out, the model is trained and then judged on them, old organs and new (see `acceptance`).
    With fewer than four annotated cases each is held out once, in a training of its own, and the time is
    shared.

    Before the training begins, a trial of a few steps says how long it takes on this machine.

    The same command again goes on where a stopped run was; Ctrl-C or an empty file `stop` in the run's folder
    pauses it. The base is not changed: `project publish` makes a new bundle of the run. Exit code 8 when it
    cannot be done; an acceptance check that is not passed is reported, and no failure.
    """
    from multiorganseg_training.acceptance.plan import AddOrganOptions, parse_seconds

    options = AddOrganOptions(base, tuple(organ), parse_seconds(time), iterations, seed, patches)
    _run(options, (project, run, cache), device, devices, only_plan=plan)


@reported_errors()
def merge_branches_command(
    base: Annotated[str, typer.Argument(help="Bundle with branches, by name or folder.")],
    project: Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")],
    time: Annotated[str, typer.Option(help="For the training: 1h, overnight, or such as 90m.")] = "overnight",
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Of each training, instead of a time.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: DeviceCount = 0,
    run: Annotated[str, typer.Option(help="Name of the run in PROJECT/runs; else BASE-merged.")] = "",
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    seed: Annotated[int, typer.Option(help="Of all randomness.")] = 0,
) -> None:
    """Merge the branches of a model, one for each organ that it learned later, into one network.

    Each branch makes a model slower. On the project's images, annotated or not, a network without branches
    learns what the model says; it is as fast as the model was before its first branch. It is accepted only
    where no organ falls behind on cases that were held out, and `project publish` makes a bundle of it.
    Stopping, going on and exit codes are those of `add-organ`.
    """
    from multiorganseg_training.acceptance.plan import AddOrganOptions, parse_seconds

    options = AddOrganOptions(base, (), parse_seconds(time), iterations, seed, merge=True)
    _run(options, (project, run, cache), device, devices)


def _run(
    options: AddOrganOptions,
    where: tuple[Path, str, Path | None],
    device: str,
    devices: int,
    *,
    only_plan: bool = False,
) -> None:
    from multiorganseg.bundles import find_bundle
    from multiorganseg.inference.backends import choose_device
    from multiorganseg.projects.runs import Paused, process_start
    from multiorganseg_training.acceptance.add_organ import Workplace
    from multiorganseg_training.acceptance.add_organ import add_organ as run_add_organ
    from multiorganseg_training.acceptance.plan import run_name
    from multiorganseg_training.run.devices import joined
    from multiorganseg_training.run.fit import follow

    project, run, cache = where
    bundle = find_bundle(options.base)
    name = run or run_name(bundle, options.organs)
    _require_name(name)
    folders = (project, project / "runs" / name, cache or user_cache_dir() / "cases")
    try:
        with (
            keep([*data_inputs(project), bundle.folder]),
            joined(choose_device(device), devices) as (together, own),
        ):
            if not together.first:
                return follow(together, own)
            place = Workplace(*folders, own, together)
            with progress_bar() as progress:
                acceptance = run_add_organ(
                    options, place, progress, warn, process_start(), _tell, only_plan=only_plan
                )
    except Paused as pause:
        out.print(Text(f"{pause.problem} {pause.next_step}"), soft_wrap=True)
        return
    if acceptance is None:
        out.print(Text(f"Next: multiorganseg-train pack {name} -p {project} -o run.zip"), soft_wrap=True)
        return
    show_acceptance(acceptance)
    out.print(Text(f"Report: {place.run / 'report.md'}"), soft_wrap=True)
    publish = f"multiorganseg-train project publish {project} {name}"
    if acceptance.passed:
        out.print(Text(f"Next: {publish}"), soft_wrap=True)
        return
    out.print("Next: read the report; annotate further cases, or train longer in another run: --run NAME")
    out.print(Text(f"To publish it all the same: {publish} --force 'REASON'"), soft_wrap=True)


def _tell(message: str) -> None:
    out.print(Text(message), soft_wrap=True)


def _require_name(name: str) -> None:
    if name.startswith(".") or Path(name).name != name or "\\" in name:
        msg = f"'{name}' cannot be the name of a run."
        raise OptionError(
            msg, next_step="Give a name, not a path; the run lies in the project's folder runs/."
        )
