"""`multiorganseg-train pack`, `train-pack` and `unpack`: a training on another machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.folders import user_cache_dir
from multiorganseg.outputs import keep
from multiorganseg.projects.file import project_inputs
from multiorganseg_training.cli.acceptance import find_run
from multiorganseg_training.cli.progress import reported_errors, reported_progress

_Project = Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")]
_Run = Annotated[Path, typer.Argument(help="Folder of the run, or its name in the project.")]


@reported_errors()
def pack_command(
    run: _Run,
    project: _Project,
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, such as run.zip.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
) -> None:
    """Pack a planned run for a machine with a graphics card.

    Plan it first: `add-organ … --plan`. The file holds the model that organs are added to, the recipe, and
    changed, cut-out patches with their labels; no whole image, no file name, no name of a case. Patches show
    the inside of bodies all the same: pass the file on as you would pass on images.

    The other machine needs torch, numpy, safetensors and the two folders `multiorganseg` and
    `multiorganseg_training`: python -m multiorganseg_training.run.packed run.zip learned.safetensors
    """
    from multiorganseg_training.acceptance.away import pack_run

    folder = find_run(project, run)
    with keep(project_inputs(project)), reported_progress() as progress:
        pack_run(folder, project, cache or user_cache_dir() / "cases", output, progress)
    size = output.stat().st_size / 2**20
    out.print(Text(f"Packed: {output}, {size:.0f} MiB"), soft_wrap=True)
    there = f"python -m multiorganseg_training.run.packed {output.name} learned.safetensors"
    out.print(Text(f"There: {there}"), soft_wrap=True)
    back = f"multiorganseg-train unpack learned.safetensors {folder.name} -p {project}"
    out.print(Text(f"Then:  {back}"), soft_wrap=True)


@reported_errors()
def train_pack_command(
    pack: Annotated[Path, typer.Argument(help="File that `pack` wrote.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="File to write, such as learned.safetensors.")
    ],
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Train a packed run; the same command goes on where a killed one was."""
    from multiorganseg.inference.backends import choose_device
    from multiorganseg_training.run.packed import train_pack

    with keep([pack]), progress_bar() as progress:
        train_pack(pack, output, choose_device(device), progress)
    out.print(Text(f"Bring it back: multiorganseg-train unpack {output.name} RUN -p PROJECT"), soft_wrap=True)


@reported_errors()
def unpack_command(
    learned: Annotated[Path, typer.Argument(help="File that the training of the pack wrote.")],
    run: _Run,
    project: _Project,
) -> None:
    """Bring back what a packed run learned elsewhere, verified; old organs stay those of the base.

    The same `add-organ` as before then judges it; nothing is trained here.
    """
    from multiorganseg_training.acceptance.away import unpack_run
    from multiorganseg_training.acceptance.plan import load_plan

    folder = find_run(project, run)
    unpack_run(learned, folder)
    plan = load_plan(folder)
    organs = " ".join(f"--organ {key}" for key in (plan.new_organs if plan else ()))
    command = f"multiorganseg-train add-organ -p {project} {organs} --run {folder.name}"
    out.print(Text(f"Next, with the options that planned it: {command}"), soft_wrap=True)
