"""Commands of the research folder: evaluate and compare runs, look at their features."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.cli.console import err, out, prepare_output
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.folders import user_cache_dir
from multiorganseg.offline import keep_files_together
from multiorganseg.pictures import drawn
from multiorganseg_training.run.validate import Classifier, Options, Split, Weights

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure, compare and look into trained runs."
)


@app.command("evaluate")
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
    from research.evaluation.measure import evaluate_run
    from research.evaluation.report import evaluation_tables, evaluation_title, write_evaluation

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


@app.command("compare")
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
    from research.evaluation.comparison import compare
    from research.evaluation.comparison_report import comparison_table, namesakes_text, write_comparison
    from research.evaluation.finished import read_runs

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


JSON_FILE, PICTURE_FILE = "features.json", "features.png"


@app.command("features")
@reported_errors()
def features_command(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Folders of runs; the first says what is labelled."),
    ],
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/, or of a project.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder to write to; else that of the first run.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    weights: Annotated[str, typer.Option(help="averaged or last.")] = "averaged",
    pixels: Annotated[int, typer.Option(help="Of each organ, labelled and unlabelled each.")] = 2000,
    fold: Annotated[bool, typer.Option("--fold", help="Look at the validation fold too.")] = False,
    method: Annotated[str, typer.Option(help="Of the picture: pca or tsne.")] = "pca",
    space: Annotated[
        str,
        typer.Option(help="network: its last features; projected: where the prototypes of a run live."),
    ] = "network",
    seed: Annotated[int, typer.Option(help="Of the choice of pixels and of t-SNE.")] = 0,
) -> None:
    """Compare the features of labelled and unlabelled voxels of each organ, in numbers and as a picture.

    A voxel is unlabelled where the first run's recipe hides its organ from the training. Its true organ is
    read from the label files here, for this analysis only: they must hold all organs. Several runs are shown
    the same voxels. Written are features.json and features.png.
    """
    from multiorganseg.inference.backends import choose_device
    from research.features.picture import gap_table, study_json, variance_table, write_picture
    from research.features.study import Settings, study_features

    settings = Settings(pixels, fold, space, weights, method, seed)
    folder = output or runs[0]
    with progress_bar() as progress:
        study = study_features(
            runs, data, cache or user_cache_dir() / "cases", choose_device(device), settings, progress
        )
        write_text_atomically(folder / JSON_FILE, study_json(study))
        is_drawn = drawn("The picture", lambda: write_picture(study, folder / PICTURE_FILE, progress))
    out.print(variance_table(study))
    out.print(gap_table(study))
    for name in (JSON_FILE, PICTURE_FILE) if is_drawn else (JSON_FILE,):
        out.print(Text(f"Written: {folder / name}"), soft_wrap=True)


def main() -> None:
    """Entry point."""
    prepare_output()
    keep_files_together()
    app()
