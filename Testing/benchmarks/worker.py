"""Child processes of `inference.py` and `foreign.py`: each does one thing, so that its memory is its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from harness.stages import Recorder

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Steps of the inference benchmark.",
)

Events = Annotated[Path, typer.Argument(help="JSON-lines file for the recorded stages.")]


@app.command()
def ours(events: Events, ct: Path, bundle: Path, quality: str, output: Path) -> None:
    """Segment with the engine."""
    from harness.ours import run_ours

    run_ours(ct, bundle, quality, output, Recorder(events))


@app.command()
def plain(
    events: Events, ct: Path, bundle: Path, quality: str, output: Path, full_precision: bool = False
) -> None:
    """Segment the plain way."""
    from harness.plain import run_plain

    from multiorganseg.inference.preflight import OVERLAPS

    run_plain(ct, bundle, OVERLAPS[quality], full_precision, output, Recorder(events))


@app.command()
def find_ct(
    events: Events, folder: Path, output: Path, ct: Path | None = None, slices: int | None = None
) -> None:
    """Find the real CT, or fetch it into `folder`; crop it into `output` for a trial."""
    from harness.cases import write_crop

    from multiorganseg.cli.demo import fetch_demo_ct

    recorder = Recorder(events)
    source = ct or fetch_demo_ct(folder)
    if slices:
        write_crop(source, output, slices)
    _describe(recorder, output if slices else source)


@app.command()
def box_ct(events: Events, folder: Path, output: Path, ct: str, box_mm: str) -> None:
    """Find the real CT, or fetch it into `folder`; write its middle, so many mm along k, j and i."""
    from harness.cases import write_box

    from multiorganseg.cli.demo import fetch_demo_ct

    recorder = Recorder(events)
    box = tuple(float(size) for size in box_mm.split(",")) if box_mm else None
    write_box(Path(ct) if ct else fetch_demo_ct(folder), output, box)
    _describe(recorder, output)


@app.command()
def convert(events: Events, model: Path, folder: Path) -> None:
    """Convert a network of nnU-Net into a folder of bundles; its name is that of its data set."""
    from multiorganseg.convert.convert import ConvertOptions
    from multiorganseg.convert.convert import convert as convert_network

    recorder = Recorder(events)
    options = ConvertOptions(orientation="LPS", name=f"benchmark-{model.parent.name}", replace=True)
    with recorder.stage("convert"):
        done = convert_network(model, folder, options)
    recorder.facts(folder=str(done.bundle.folder))


@app.command()
def foreign(
    events: Events, ct: Path, bundle: Path, mode: str, backend: str, mirroring: str, output: Path
) -> None:
    """Segment with a converted network."""
    from harness.ours import run_converted

    run_converted(ct, bundle, mode, backend, mirroring == "True", output, Recorder(events))


@app.command()
def equal(events: Events, first: Path, second: Path) -> None:
    """Say which share of all voxels two label maps agree in."""
    import numpy as np

    from multiorganseg.volumes.read import read_labels

    recorder = Recorder(events)
    recorder.facts(equal=float(np.mean(read_labels(first).voxels == read_labels(second).voxels)))


@app.command()
def tall_ct(events: Events, output: Path, slices: int | None = None) -> None:
    """Make the tall synthetic CT."""
    from harness.cases import write_tall

    recorder = Recorder(events)
    write_tall(output, slices)
    _describe(recorder, output)


@app.command()
def bundle(events: Events, model: str, classes: int, recipe: Path, folder: Path) -> None:
    """Return a bundle with so many organs: the trained one, one made from it, or one with random weights."""
    from harness.networks import random_bundle, split_bundle

    from multiorganseg.bundles import find_bundle
    from multiorganseg.errors import BundleError

    recorder = Recorder(events)
    try:
        trained = find_bundle(model)
    except BundleError:
        chosen, weights = random_bundle(recipe, classes, folder), "random weights"
    else:
        same = len(trained.metadata.labels.organs) == classes
        chosen = trained if same else split_bundle(trained, classes, folder)
        weights = f"{model} {trained.metadata.version}" + ("" if same else ", its organs divided")
    spacing = chosen.metadata.preprocessing.spacing_mm
    recorder.facts(folder=str(chosen.folder), weights=weights, spacing=spacing, classes=classes)


@app.command()
def compare(events: Events, first: Path, second: Path) -> None:
    """Say how far two label maps agree: share of equal voxels among those labelled by one, and mean Dice."""
    import numpy as np

    from multiorganseg.metrics import dice
    from multiorganseg.volumes.read import read_labels

    recorder = Recorder(events)
    one, other = read_labels(first).voxels, read_labels(second).voxels
    labelled = (one > 0) | (other > 0)
    values = np.flatnonzero(np.bincount(other.ravel()))[1:]
    scores = [dice(one == value, other == value) for value in values]
    recorder.facts(
        equal=float((one == other)[labelled].mean()) if labelled.any() else 1.0,
        mean_dice=float(np.mean(scores)) if scores else 1.0,
        organs=len(values),
    )


def _describe(recorder: Recorder, path: Path) -> None:
    from multiorganseg.volumes.read import read_volume

    grid = read_volume(path).grid
    recorder.facts(path=str(path), shape=grid.shape, spacing=grid.spacing)


if __name__ == "__main__":
    app()
