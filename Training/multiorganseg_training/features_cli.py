"""The command that looks at the features of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

from multiorganseg.atomic import write_text_atomically
from multiorganseg.cli.console import out
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.pictures import drawn
from multiorganseg.user_folders import user_cache_dir

JSON_FILE, PICTURE_FILE = "features.json", "features.png"


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
    from multiorganseg_training.features.picture import write_picture
    from multiorganseg_training.features.report import gap_table, study_json, variance_table
    from multiorganseg_training.features.study import Settings, study_features

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
