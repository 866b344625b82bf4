"""`multiorganseg-train evaluate` and `compare`: what runs have learnt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.cli.console import err, out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.user_folders import user_cache_dir
from multiorganseg_training.evaluation.options import Classifier, Options, Split, Weights

evaluation_app = typer.Typer()


@evaluation_app.command("evaluate")
@reported_errors()
def evaluate_command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, with its checkpoint.")],
    data: Annotated[Path, typer.Option(help="Folder of a project, or one with images/ and labels/.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    weights: Annotated[
        Weights, typer.Option(help="The averaged network, which is published, or the last one.")
    ] = Weights.AVERAGED,
    classifier: Annotated[
        Classifier,
        typer.Option(help="The network's last layer, or the prototypes of annotated or of other voxels."),
    ] = Classifier.LINEAR,
    split: Annotated[
        Split, typer.Option(help="The recipe's validation fold, or the cases that it trains on.")
    ] = Split.VALIDATION,
    components: Annotated[
        bool, typer.Option(help="Keep only the largest component of each organ, two for kidneys.")
    ] = True,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder of the results; else evaluation/ in the run's."),
    ] = None,
) -> None:
    """Measure a run on the validation fold of its recipe, on the network's grid.

    As LTUDA reads it: Dice, and its Hausdorff distance slice by slice in pixels, which skips slices without
    a prediction. In full: Dice, Jaccard, NSD, HD95 and ASD in mm, and both in voxels as for the left atrium;
    empty predictions are counted and enter no distance. Writes evaluation.json and evaluation.csv.
    """
    from multiorganseg.inference.backends import choose_device
    from multiorganseg_training.evaluation.evaluate_run import evaluate_run
    from multiorganseg_training.evaluation.report import write_evaluation
    from multiorganseg_training.evaluation.tables import evaluation_tables, evaluation_title

    options = Options(weights, classifier, split, components)
    place = cache or user_cache_dir() / "cases"
    with progress_bar() as progress:
        evaluation = evaluate_run(run, data, place, choose_device(device), options, progress)
    folder = output or run / "evaluation"
    write_evaluation(evaluation, folder)
    out.print(Text(evaluation_title(evaluation), style="bold"))
    for title, table in evaluation_tables(evaluation):
        out.print(Text(f"\n{title}"), table)
    out.print(Text("Empty: the prediction has no voxel; 0 in Dice, Jaccard and NSD, and in no distance."))
    out.print(Text(f"Written: {folder}"), soft_wrap=True)


@evaluation_app.command("compare")
@reported_errors()
def compare_command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of finished runs.", metavar="RUN...")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the results.")] = Path(
        "comparison"
    ),
) -> None:
    """Compare finished runs; runs that differ in nothing but their seed are one row.

    Dice by organ, as the median over seeds and the range, of the last and of the averaged network, of the
    best network that the validation fold ever saw (optimistic: it is chosen by the cases that measure it),
    and of what `evaluate` wrote into the runs. Writes comparison.md, comparison.json and curves.png.
    """
    from multiorganseg_training.evaluation.comparison import compare
    from multiorganseg_training.evaluation.comparison_report import (
        comparison_table,
        namesakes_text,
        write_comparison,
    )
    from multiorganseg_training.evaluation.finished_run import read_runs

    finished, unfinished = read_runs(runs)
    if unfinished:
        names = ", ".join(map(str, unfinished))
        err.print(Text(f"Not finished, left out: {names}.", style="yellow"), soft_wrap=True)
    comparison = compare(finished)
    write_comparison(comparison, output)
    out.print(comparison_table(comparison, out.width))
    for line in namesakes_text(comparison):
        out.print(Text(line))
    out.print(Text(f"Written: {output}"), soft_wrap=True)
