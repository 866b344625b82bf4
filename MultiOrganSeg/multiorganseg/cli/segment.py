"""`multiorganseg segment`: volumes in, segmentations, tables and pictures out."""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.channels import first_channels, further_channels
from multiorganseg.cli.console import err, out, printable
from multiorganseg.cli.errors import reported_errors, show_error
from multiorganseg.cli.inputs import Case, expand_inputs
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.parent import stop_with_parent
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import Cancelled, MultiOrganSegError, ResourceError
from multiorganseg.events import EventKind, EventStream, with_events
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.outputs import open_stream
from multiorganseg.privacy import folders_of, without_folders
from multiorganseg.progress import Progress, Stage
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.write import FORMATS, plan_outputs, write_results
from multiorganseg.unforeseen import as_typed

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
        asides: Warnings of other libraries, which may quote the patient's name: for the terminal alone.
    """

    source: Path
    seconds: float
    files: tuple[Path, ...] = ()
    segmentation: Segmentation | None = None
    error: MultiOrganSegError | None = None
    messages: tuple[str, ...] = field(default=())
    asides: tuple[str, ...] = field(default=())


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
    mode: Annotated[
        str,
        typer.Option(
            help="Of a converted model: faithful (the steps of the program that it comes from; the default) "
            "or fast (those of this one)."
        ),
    ] = "",
    mirroring: Annotated[
        bool, typer.Option(help="In faithful mode, also see mirrored windows where that program does.")
    ] = True,
    uncertainty: Annotated[
        bool,
        typer.Option(
            "--uncertainty",
            help="Also map where the network is uncertain or its decoders differ: CASE.uncertainty.nii.gz, 0 "
            "(certain) to 255 (uncertain), a row in the picture and a score for each organ. Labels stay "
            "the same.",
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
    with (
        keep_inputs([*inputs, Path(model)]),
        _event_stream(events, (*inputs, output)) as stream,
        progress_bar() as progress,
    ):
        cases = expand_inputs(inputs)
        from multiorganseg.bundles import find_bundle

        bundle = find_bundle(model)
        cases = first_channels(cases, bundle.metadata.in_channels)
        wanted = frozenset(_split(formats))
        _check_outputs(cases, output, wanted, preview, uncertainty)
        from multiorganseg.inference.segment import Options, Segmenter

        options = Options(
            tuple(_split(organs)), quality, device, uncertainty=uncertainty, mode=mode, mirroring=mirroring
        )
        segmenter = Segmenter(bundle, options)
        stream.emit(EventKind.STARTED, cases=[case.name for case in cases], model=bundle.metadata.name)
        results: list[CaseResult] = []
        for number, case in enumerate(cases):
            prefix = f"{printable(case.name)} ({number + 1}/{len(cases)}): " if len(cases) > 1 else ""
            results.append(
                _run_case(segmenter, case, output, wanted, preview, with_events(stream, progress, prefix))
            )
            _tell(results[-1], stream)
    _show(results, segmenter.catalogue)
    failures = [result.error for result in results if result.error]
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _run_case(
    segmenter: Segmenter,
    case: Case,
    output: Path,
    formats: frozenset[str],
    preview: bool,
    progress: Progress,
) -> CaseResult:
    from multiorganseg.volumes import VolumeWarning

    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            progress(Stage.READING, 0.0)
            volume = case.read()
            others = further_channels(case, segmenter.bundle.metadata.in_channels)
            volume = segmenter.in_hounsfield(volume)
            result = segmenter.segment(volume, progress, others)
            progress(Stage.WRITING, 0.0)
            files = write_results(
                result,
                volume,
                case.output(output),
                formats=formats,
                preview=preview,
                dicom_files=case.dicom_files() if "dcm" in formats else None,
                modality=segmenter.bundle.metadata.modality,
                catalogue=segmenter.catalogue,
            )
        except Cancelled:
            raise
        except Exception as error:
            return CaseResult(case.path, time.perf_counter() - started, error=as_typed(error))
    reported = [warning for warning in caught if issubclass(warning.category, UserWarning)]
    own = [str(warning.message) for warning in reported if issubclass(warning.category, VolumeWarning)]
    asides = [str(warning.message) for warning in reported if not issubclass(warning.category, VolumeWarning)]
    own = without_folders(own, folders_of(Path(volume.source)))
    messages = tuple(dict.fromkeys([*result.provenance.get("messages", []), *own]))
    seconds = time.perf_counter() - started
    return CaseResult(case.path, seconds, tuple(files), result, messages=messages, asides=tuple(asides))


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_outputs(
    cases: list[Case], output: Path, formats: frozenset[str], preview: bool, uncertainty: bool
) -> None:
    """Find clashes of names before any time is spent."""
    owners: dict[Path, Case] = {}
    for case in cases:
        plan = plan_outputs(
            case.output(output), str(case), formats=formats, preview=preview, uncertainty=uncertainty
        )
        for path in plan.paths.values():
            if path in owners:
                problem = f"{owners[path]} and {case} would both be written to {path}."
                raise ResourceError(
                    problem, next_step="Name a folder for --output, and inputs of different names."
                )
            owners[path] = case


@contextmanager
def _event_stream(path: Path | None, named: tuple[Path, ...]) -> Iterator[EventStream]:
    """Open the stream; an error that leaves the block is its last event."""
    hidden = folders_of(*named)
    with ExitStack() as files:
        if path is None or str(path) == "-":
            stream = EventStream(sys.stdout if path else None, hidden)
        else:
            stream = EventStream(files.enter_context(open_stream(path)), hidden)
        try:
            yield stream
        except Exception as error:
            stream.fail(error)
            raise


def _tell(result: CaseResult, stream: EventStream) -> None:
    for message in result.messages:
        stream.emit(EventKind.WARNING, case=result.source.name, message=message)
    if result.error:
        stream.fail(result.error)
    else:
        stream.emit(EventKind.FINISHED, case=result.source.name, files=[file.name for file in result.files])


def _show(results: list[CaseResult], catalogue: Catalogue) -> None:
    names = Counter(result.source.name for result in results)

    def called(result: CaseResult) -> str:
        if names[result.source.name] == 1:
            return printable(result.source.name)
        try:
            root = os.path.commonpath([each.source.absolute().parent for each in results])
            return printable(os.path.relpath(result.source, root))
        except ValueError:  # they lie on several drives
            return printable(str(result.source))

    for result in results:
        for message in (*result.messages, *result.asides):
            whose = (f"{called(result)}: ", "yellow")
            err.print(Text.assemble(whose, printable(message, lines=True)), soft_wrap=True)
        if result.error:
            err.print(Text(printable(str(result.source)), "bold"), soft_wrap=True)
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
            state = Text("done", "green") if result.segmentation else Text("failed", "red")
            look_at = Text(", ".join(flagged) or "–")
            if _is_unlike_training(result):
                look_at = Text("the whole scan: unlike the training", "yellow")
            seconds = f"{result.seconds:.1f}"
            table.add_row(called(result), state, seconds, str(len(found)), look_at)
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
    table = Table(*columns, title=printable(result.source.name))
    for row in sorted(result.segmentation.statistics, key=lambda row: (not row.flags, -row.volume_ml)):
        organ = catalogue.get(row.key)
        red, green, blue = organ.color
        table.add_row(
            Text.assemble(("■", f"rgb({red},{green},{blue})"), f" {printable(organ.name)}"),
            f"{row.volume_ml:.1f}",
            f"{row.mean_intensity:.0f}" if row.voxels else "–",
            f"{row.confidence:.2f}" if row.voxels else "–",
            *([f"{row.uncertainty:.2f}" if row.voxels else "–"] if mapped else []),
            ", ".join(flag.replace("_", " ") for flag in row.flags),
        )
    out.print(table)
    out.print(f"{result.seconds:.1f} s. Written:")
    for file in result.files:
        out.print(f"  {printable(str(file))}", soft_wrap=True)
