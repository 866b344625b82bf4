"""`multiorganseg segment`: volumes in, segmentations, tables and pictures out."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from multiorganseg.cli.console import err, out
from multiorganseg.cli.errors import reported_errors, show_error
from multiorganseg.cli.inputs import expand_inputs
from multiorganseg.cli.parent import stop_with_parent
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import Cancelled, MultiOrganSegError, ResourceError
from multiorganseg.events import EventStream, told_to
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.progress import Progress
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.write import FORMATS, plan_outputs, write_results

if TYPE_CHECKING:
    from multiorganseg.inference.segment import Segmenter

DEFAULT_FORMATS = "seg.nrrd,csv,json"


@dataclass(frozen=True)
class CaseResult:
    """What became of one case.

    Attributes:
        source: The input.
        seconds: How long it took.
        files: What was written.
        segmentation: None when it failed.
        error: None when it went well.
        messages: Warnings.
    """

    source: Path
    seconds: float
    files: tuple[Path, ...] = ()
    segmentation: Segmentation | None = None
    error: MultiOrganSegError | None = None
    messages: tuple[str, ...] = field(default=())


@reported_errors()
def segment(
    inputs: Annotated[
        list[Path],
        typer.Argument(help="Volume files, DICOM folders, or folders of either.", metavar="INPUT..."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o", "--output", help="Folder, or for a single input a .seg.nrrd, .nii.gz or .dcm file."
        ),
    ],
    model: Annotated[str, typer.Option(help="Name of a bundle, or a path to one.")] = "abdomen-ct",
    organs: Annotated[
        str, typer.Option(help="Organ keys separated by commas, such as liver,spleen; all when left out.")
    ] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quality: Annotated[
        str, typer.Option(help="fast, balanced or best: how much windows overlap.")
    ] = "balanced",
    formats: Annotated[
        str, typer.Option("--formats", help=f"Some of {', '.join(sorted(FORMATS))}, separated by commas.")
    ] = DEFAULT_FORMATS,
    preview: Annotated[bool, typer.Option(help="Draw a picture of planes and surfaces.")] = True,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also map where the network is unsure or its decoders differ: CASE.uncertainty.nii.gz, 0 "
            "(sure) to 255 (unsure), a row in the picture and a score for each organ. Labels stay the same.",
        ),
    ] = False,
    events: Annotated[
        Path | None, typer.Option(help="Write progress as JSON lines to this file; - for standard output.")
    ] = None,
    with_parent: Annotated[
        bool,
        typer.Option(
            "--stop-with-parent",
            help="End at once when standard input, to which at least one byte was written, is closed.",
        ),
    ] = False,
) -> None:
    """Segment the organs of CT or MR volumes; which of the two, and which organs, the model says.

    A bad case does not stop the others. Exit codes: 0 all went well; 2 wrong usage; 3 a volume cannot be
    segmented; 4 bundle; 5 organ; 6 memory, disk or device; 7 a package is missing; 130 cancelled; of several
    failures, the first one's.
    """
    if with_parent:
        stop_with_parent()
    with _event_stream(events) as stream, progress_bar() as progress:
        cases = expand_inputs(inputs)
        wanted = frozenset(_split(formats))
        _check_outputs(cases, output, wanted, preview, uncertainty)
        from multiorganseg.bundles import find_bundle
        from multiorganseg.inference.segment import Options, Segmenter

        options = Options(tuple(_split(organs)), quality, device, uncertainty=uncertainty)
        segmenter = Segmenter(find_bundle(model), options)
        stream.emit("started", cases=[str(case) for case in cases], model=model)
        results: list[CaseResult] = []
        for number, case in enumerate(cases):
            prefix = f"{case.name} ({number + 1}/{len(cases)}): " if len(cases) > 1 else ""
            results.append(
                _run_case(segmenter, case, output, wanted, preview, told_to(stream, progress, prefix))
            )
            _tell(results[-1], stream)
    _show(results, segmenter.catalogue)
    failures = [result.error for result in results if result.error]
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _run_case(
    segmenter: Segmenter,
    case: Path,
    output: Path,
    formats: frozenset[str],
    preview: bool,
    progress: Progress,
) -> CaseResult:
    from multiorganseg.volumes import dicom_files, read_volume

    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            progress("reading", 0.0)
            volume = read_volume(case)
            result = segmenter.segment(volume, progress)
            progress("writing", 0.0)
            files = write_results(
                result,
                volume,
                output,
                formats=formats,
                preview=preview,
                dicom_files=dicom_files(case) if "dcm" in formats else None,
                modality=segmenter.bundle.metadata.modality,
                catalogue=segmenter.catalogue,
            )
        except Cancelled:
            raise
        except MultiOrganSegError as error:
            return CaseResult(case, time.perf_counter() - started, error=error)
    messages = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    messages += result.provenance.get("messages", [])
    return CaseResult(case, time.perf_counter() - started, tuple(files), result, messages=tuple(messages))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_outputs(
    cases: list[Path], output: Path, formats: frozenset[str], preview: bool, uncertainty: bool
) -> None:
    """Find clashes of names before any time is spent."""
    owners: dict[Path, Path] = {}
    for case in cases:
        plan = plan_outputs(output, str(case), formats=formats, preview=preview, uncertainty=uncertainty)
        for path in plan.paths.values():
            if path in owners:
                problem = f"{owners[path]} and {case} would both be written to {path}."
                raise ResourceError(
                    problem, next_step="Name a folder for --output, and inputs of different names."
                )
            owners[path] = case


@contextmanager
def _event_stream(path: Path | None) -> Iterator[EventStream]:
    """Open the stream; an error that leaves the block is its last event."""
    with ExitStack() as files:
        if path is None or str(path) == "-":
            stream = EventStream(sys.stdout if path else None)
        else:
            stream = EventStream(files.enter_context(path.open("w", encoding="utf-8")))
        try:
            yield stream
        except Exception as error:
            stream.fail(error)
            raise


def _tell(result: CaseResult, stream: EventStream) -> None:
    for message in result.messages:
        stream.emit("warning", case=str(result.source), message=message)
    if result.error:
        stream.fail(result.error)
    else:
        stream.emit("finished", case=str(result.source), files=[str(file) for file in result.files])


def _show(results: list[CaseResult], catalogue: Catalogue) -> None:
    for result in results:
        for message in result.messages:
            err.print(f"[yellow]{result.source.name}:[/yellow] {message}")
        if result.error:
            err.print(f"[bold]{result.source}[/bold]")
            show_error(result.error)
    done = [result for result in results if result.segmentation]
    if len(done) == 1:
        _show_organs(done[0], catalogue)
    if len(results) > 1:
        table = Table("case", "result", "seconds", "organs found", "to look at")
        for result in sorted(results, key=_first_to_look_at):
            found = [s for s in result.segmentation.statistics if s.voxels] if result.segmentation else []
            flagged = (
                [s.key for s in result.segmentation.statistics if s.flags] if result.segmentation else []
            )
            state = "[green]done[/green]" if result.segmentation else "[red]failed[/red]"
            if _is_unlike_training(result):
                flagged = ["[yellow]the whole scan: unlike the training[/yellow]"]
            table.add_row(
                result.source.name, state, f"{result.seconds:.1f}", str(len(found)), ", ".join(flagged) or "–"
            )
        out.print(table)


def _first_to_look_at(result: CaseResult) -> int:
    if result.segmentation is None:
        return 0
    return 1 if _is_unlike_training(result) else 2


def _is_unlike_training(result: CaseResult) -> bool:
    return bool(result.segmentation and result.segmentation.provenance.get("unlike_training"))


def _show_organs(result: CaseResult, catalogue: Catalogue) -> None:
    assert result.segmentation is not None
    mapped = result.segmentation.uncertainty is not None
    columns = ("organ", "volume ml", "mean", "confidence", *(["uncertainty"] if mapped else []), "to look at")
    table = Table(*columns, title=f"{result.source.name}")
    for row in sorted(result.segmentation.statistics, key=lambda row: (not row.flags, -row.volume_ml)):
        organ = catalogue.get(row.key)
        red, green, blue = organ.color
        table.add_row(
            f"[rgb({red},{green},{blue})]■[/] {organ.name}",
            f"{row.volume_ml:.1f}",
            f"{row.mean_intensity:.0f}" if row.voxels else "–",
            f"{row.confidence:.2f}" if row.voxels else "–",
            *([f"{row.uncertainty:.2f}" if row.voxels else "–"] if mapped else []),
            ", ".join(flag.replace("_", " ") for flag in row.flags),
        )
    out.print(table)
    out.print(f"{result.seconds:.1f} s. Written:")
    for file in result.files:
        out.print(f"  {file}", soft_wrap=True)
