"""Commands of a project that bring a trained run into use, and say what to annotate next."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.console import out
from multiorganseg.errors import TrainingError
from multiorganseg.folders import user_cache_dir
from multiorganseg.outputs import keep
from multiorganseg.pictures import drawn
from multiorganseg.projects.file import load_project, project_inputs, project_lock
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg_training.cli.acceptance import find_run
from multiorganseg_training.cli.progress import reported_errors, reported_progress
from multiorganseg_training.project.organs import project_catalogue

_Folder = Annotated[Path, typer.Argument(help="Folder of the project.")]


@reported_errors()
def publish_command(
    folder: _Folder,
    run: Annotated[Path, typer.Argument(help="Name of a run of the project, or its folder.")],
    name: Annotated[str, typer.Option(help="Of the bundle; else its base's with what was learned.")] = "",
    version: Annotated[str, typer.Option(help="Three numbers; else counted up.")] = "",
    force: Annotated[
        str,
        typer.Option(
            metavar="REASON", help="Publish without a passed acceptance check; the reason goes into the card."
        ),
    ] = "",
) -> None:
    """Make a bundle of a run that passed the acceptance check, and install it beside its base.

    The bundle is kept in the project's bundles/ and appears in `multiorganseg models list`. Its base is not
    touched.
    """
    from multiorganseg_training.acceptance.publish_organ import PublishOptions, publish_organ

    kept = [folder / name for name in ("images", "labels")]
    with project_lock(folder), keep(kept):
        published = publish_organ(
            load_project(folder), find_run(folder, run), PublishOptions(name, version, force)
        )
    said = published.kept.metadata
    out.print(Text(f"Published {said.name} {said.version}: {published.kept.folder}"), soft_wrap=True)
    out.print(Text(f"Installed: {published.installed.folder}"), soft_wrap=True)
    out.print(Text(f"Next: multiorganseg segment IMAGE -o FOLDER --model {said.name}"), soft_wrap=True)


@reported_errors()
def rollback_command(
    folder: _Folder,
    name: Annotated[str, typer.Argument(help="Of a bundle that the project published.")],
) -> None:
    """Take the newest version of a published bundle out of use, so that the one before is in use again.

    What lies in the project's bundles/ stays there.
    """
    from multiorganseg_training.acceptance.publish_organ import roll_back

    with project_lock(folder):
        before = roll_back(load_project(folder), name)
    if before is None:
        out.print(Text(f"{name} is no longer installed; its base is in use as before."))
    else:
        out.print(Text(f"In use again: {name} {before.metadata.version}"))


@reported_errors()
def learning_curve_command(
    folder: _Folder,
    organ: Annotated[str, typer.Option(help="Organ key; else every organ that the runs learned.")] = "",
    target: Annotated[float | None, typer.Option(help="Dice to reach; else 0.02 more than now.")] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder of the pictures; else the project's.")
    ] = None,
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write points and estimates as JSON.")
    ] = None,
) -> None:
    """Estimate from the runs' acceptance checks how many more cases an organ needs.

    It takes runs with at least three different numbers of annotated cases.
    """
    from multiorganseg.atomic import write_text_atomically
    from multiorganseg.bundles.json_text import format_json
    from multiorganseg_training.advice import cases_needed, collect_points, draw_curve, fit_curve

    project = load_project(folder)
    found = collect_points(folder)
    if organ:
        project.matrix.count(organ, LabelStatus.ANNOTATED)
        found = {organ: found.get(organ, [])}
    if not found:
        msg = "No run of this project has been through the acceptance check with an organ measured."
        raise TrainingError(msg, next_step="Train and judge one first: multiorganseg-train add-organ --help")
    catalogue = project_catalogue(project)
    answers: dict[str, dict[str, object]] = {}
    for key, points in found.items():
        answers[key] = {
            "points": [{"cases": point.cases, "dice": point.dice, "run": point.run} for point in points],
            "sentence": "",
            "picture": None,
        }
        table = Table(box=None, pad_edge=False, header_style="bold", title=key, title_justify="left")
        table.add_column("Annotated cases", justify="right")
        table.add_column("Dice", justify="right")
        table.add_column("Run", overflow="fold")
        for point in points:
            table.add_row(str(point.cases), f"{point.dice:.3f}", Text(point.run))
        out.print(table)
        try:
            learned = fit_curve(points)
        except TrainingError:
            if len(found) == 1 and json_path is None:
                raise
            out.print(Text("Too few points: it takes runs with three different numbers of cases."))
            continue
        needed = cases_needed(learned, target)
        path = (output or folder) / f"learning-curve-{key}.png"
        draw = partial(draw_curve, learned, needed, catalogue.get(key).name, path)
        is_drawn = drawn(f"The curve of {key}", draw)
        answers[key] |= {"sentence": needed.sentence(), "picture": str(path) if is_drawn else None}
        out.print(Text(needed.sentence()))
        limit, drop, rate = learned.best
        out.print(Text(f"Fit: Dice(n) = {limit:.3f} − {drop:.3f}·n^(−{rate:.2f})", style="dim"))
        if is_drawn:
            out.print(Text(f"Written: {path}"), soft_wrap=True)
    if json_path is not None:
        with keep(project_inputs(folder)):
            write_text_atomically(json_path, format_json({"schema_version": 1, "organs": answers}))


@reported_errors()
def next_command(
    folder: _Folder,
    model: Annotated[str, typer.Option(help="Bundle to ask, by name or folder.")],
    organ: Annotated[
        str, typer.Option(help="Organ key; else the one that most cases lack, new ones first.")
    ] = "",
    limit: Annotated[int, typer.Option(min=1, help="How many cases to show.")] = 10,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    json_path: Annotated[
        Path | None, typer.Option("--json", metavar="PATH", help="Write all ranked cases as JSON.")
    ] = None,
) -> None:
    """Say which case to annotate next: where the network is uncertain, and unlike what was annotated.

    What the network says of an image is remembered, so that asking again is quick.
    """
    from multiorganseg.atomic import write_text_atomically
    from multiorganseg.bundles import find_bundle
    from multiorganseg.bundles.json_text import format_json
    from multiorganseg_training.advice import next_cases

    project, bundle = load_project(folder), find_bundle(model)
    lacking = [each for each in project.table.keys if each not in bundle.metadata.labels.keys]
    key = organ or min(lacking or project.table.keys, key=lambda each: len(_known(project, each)))
    with reported_progress() as progress:
        ranked = next_cases(
            project, bundle, key, user_cache_dir() / "views", device=device, progress=progress
        )
    table = Table(box=None, pad_edge=False, header_style="bold", title_justify="left")
    table.title = f"Annotate next: {key}"
    table.add_column("Case", overflow="fold")
    for title in ("Score", "Uncertainty", "Distance"):
        table.add_column(title, justify="right")
    table.add_column("Why", overflow="fold")
    for entry in ranked[:limit]:
        table.add_row(
            Text(entry.facts.case),
            f"{entry.score:.2f}",
            _shown(entry.facts.uncertainty),
            _shown(entry.facts.distance),
            entry.reason,
        )
    out.print(table)
    if json_path is not None:
        rows = [
            {
                "case": entry.facts.case,
                "score": round(entry.score, 4),
                "uncertainty": _defined(entry.facts.uncertainty),
                "distance": _defined(entry.facts.distance),
                "reason": entry.reason,
            }
            for entry in ranked
        ]
        with keep(project_inputs(folder)):
            write_text_atomically(json_path, format_json({"schema_version": 1, "organ": key, "cases": rows}))


def register(project_app: typer.Typer) -> None:
    """Add the commands to `multiorganseg-train project`."""
    project_app.command("publish")(publish_command)
    project_app.command("rollback")(rollback_command)
    project_app.command("next")(next_command)
    project_app.command("learning-curve")(learning_curve_command)


def _known(project: Project, organ: str) -> list[str]:
    return [case for case in project.cases if organ in project.matrix.known(case)]


def _shown(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.3f}"


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 5)
