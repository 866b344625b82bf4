"""`multiorganseg segment`: volumes in, segmentations, tables and pictures out."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from multiorganseg.cli.case import Case
from multiorganseg.cli.case_results import COHORT_TABLE, CaseResult, CohortTable, show_results
from multiorganseg.cli.channels import first_channels, further_channels
from multiorganseg.cli.console import printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.inputs import expand_inputs
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.parent import stop_with_parent
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.cli.remote import Sending, archived_cases, sending
from multiorganseg.errors import Cancelled, OptionError, ResourceError
from multiorganseg.events import EventKind, EventStream, with_events
from multiorganseg.outputs import open_stream
from multiorganseg.pacs import Query, is_address, open_archive, parse_address
from multiorganseg.privacy import folders_of, private, without_folders
from multiorganseg.progress import Progress, Stage
from multiorganseg.results.write import DICOM_FORMATS, FORMATS, plan_outputs, write_results
from multiorganseg.scratch import work_folder
from multiorganseg.unforeseen import as_typed

if TYPE_CHECKING:
    from multiorganseg.inference.segment import Segmenter

DEFAULT_FORMATS = "seg.nrrd,csv,json"


@dataclass(frozen=True)
class Place:
    """Where results go.

    Attributes:
        output: Folder or file.
        formats: Some of `FORMATS`.
        preview: Whether a picture is drawn.
        sending: The archive that they go to; `output` does not count then.
    """

    output: Path
    formats: frozenset[str]
    preview: bool
    sending: Sending | None = None


@reported_errors()
def segment(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Volume files, DICOM folders, zip files of DICOM, folders of all these at any depth, or "
            "series of an archive: dicomweb://HOST/dicom-web/studies/UID/series/UID.",
            metavar="INPUT...",
        ),
    ],
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="Folder, or for a single input a .seg.nrrd, .nii.gz or .dcm file. To send the results to "
            "an archive: dicomweb: or dimse: (where the images came from), or its address.",
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
        str | None,
        typer.Option(
            "--formats",
            help=f"Some of {', '.join(sorted(FORMATS))}, separated by commas; {DEFAULT_FORMATS} when left "
            "out, to an archive dcm,sr.",
        ),
    ] = None,
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
    again: Annotated[
        bool, typer.Option("--again", help="Segment and send even what the archive has from an earlier run.")
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
    segmented; 4 bundle; 5 organ; 6 memory, disk or device; 7 a package is missing; 9 archive; 130
    cancelled; of several failures, the first one's.
    """
    if with_parent:
        stop_with_parent()
    settings = Settings(model, organs, device, quality, mode, mirroring, uncertainty)
    wanted = formats if formats is not None else DEFAULT_FORMATS
    to = sending(output, formats, again)
    place = Place(Path(output), frozenset(to.formats if to else split(wanted)), preview and not to, to)
    addresses = [parse_address(each) for each in inputs if is_address(each)]
    paths = [Path(each) for each in inputs if not is_address(each)]
    for address in addresses:
        if not address.study:
            msg = f"{address} names neither a study nor a series."
            raise OptionError(msg, next_step=f"See what there is: multiorganseg pacs find {address}")

    def cases(progress: Progress) -> list[Case]:
        found = expand_inputs(paths, progress) if paths else []
        for address in addresses:
            query = Query(study=address.study, series=address.series)
            found += archived_cases(address, query, progress)
        return found

    segment_cases(cases, paths, place, settings, events)


@dataclass(frozen=True)
class Settings:
    """How to segment, as the options of the command say it.

    Attributes:
        model: Name or path of the bundle.
        organs: Organ keys separated by commas.
        device: See `Options`, as all that follow.
        quality: See there.
        mode: See there.
        mirroring: See there.
        uncertainty: See there.
    """

    model: str
    organs: str = ""
    device: str = "auto"
    quality: str = "balanced"
    mode: str = ""
    mirroring: bool = True
    uncertainty: bool = False


def segment_cases(
    find_cases: Callable[[Progress], list[Case]],
    paths: Sequence[Path],
    place: Place,
    settings: Settings,
    events: Path | None,
) -> None:
    """Segment cases one after the other, show what became of them, and end with the first failure's code.

    Args:
        find_cases: Finds them.
        paths: What is read and must not be replaced.
        place: Where results go.
        settings: How to segment.
        events: Where progress is written as JSON lines.

    Raises:
        MultiOrganSegError: Of what concerns all cases.
        typer.Exit: A case failed.
    """
    with (
        keep_inputs([*paths, Path(settings.model)]),
        _event_stream(events, (*paths, place.output)) as stream,
        progress_bar() as progress,
    ):
        cases = find_cases(progress)
        from multiorganseg.bundles import find_bundle

        bundle = find_bundle(settings.model)
        cases = first_channels(cases, bundle.metadata.in_channels)
        if place.sending:
            place.sending.check(cases)
        else:
            _check_outputs(cases, place, settings.uncertainty)
        from multiorganseg.inference.segment import Options, Segmenter

        options = Options(
            tuple(split(settings.organs)),
            settings.quality,
            settings.device,
            uncertainty=settings.uncertainty,
            mode=settings.mode,
            mirroring=settings.mirroring,
        )
        segmenter = Segmenter(bundle, options)
        stream.emit(EventKind.STARTED, cases=[case.name for case in cases], model=bundle.metadata.name)
        results: list[CaseResult] = []
        with _cohort_table(cases, place, bundle.metadata.modality, settings.uncertainty) as table:
            for number, case in enumerate(cases):
                prefix = f"{printable(case.name)} ({number + 1}/{len(cases)}): " if len(cases) > 1 else ""
                results.append(_run_case(segmenter, case, place, with_events(stream, progress, prefix)))
                _tell(results[-1], stream)
                if table:
                    table.add(case, results[-1], segmenter.catalogue)
    show_results(results, segmenter.catalogue)
    failures = [result.error for result in results if result.error]
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _run_case(segmenter: Segmenter, case: Case, place: Place, progress: Progress) -> CaseResult:
    from multiorganseg.volumes import VolumeWarning

    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            result, source = _segment_case(segmenter, case, place, progress)
        except Cancelled:
            raise
        except Exception as error:
            return CaseResult(case.path, time.perf_counter() - started, error=as_typed(error))
    reported = [warning for warning in caught if issubclass(warning.category, UserWarning)]
    own = [str(warning.message) for warning in reported if issubclass(warning.category, VolumeWarning)]
    asides = [str(warning.message) for warning in reported if not issubclass(warning.category, VolumeWarning)]
    own = without_folders(own, folders_of(case.path, source))
    provenance = result.segmentation.provenance if result.segmentation else {}
    messages = tuple(dict.fromkeys([*provenance.get("messages", []), *own]))
    seconds = time.perf_counter() - started
    return replace(result, seconds=seconds, messages=messages, asides=tuple(asides))


def _segment_case(
    segmenter: Segmenter, case: Case, place: Place, progress: Progress
) -> tuple[CaseResult, Path]:
    """Segment one case into a folder, or into an archive by way of a folder of our own.

    Returns:
        What became of it, and where its files lay.
    """
    to = place.sending
    archive = to.archive_for(case) if to else None
    with ExitStack() as stack:
        local = stack.enter_context(case.at_hand(progress))
        output, series = local.output(place.output), dict[str, str]()
        if to and archive:
            output = stack.enter_context(work_folder())
            made_by = (
                f"{segmenter.bundle.digest} {replace(segmenter.options, device='auto', uncertainty=False)}"
            )
            series = to.series_for(local, made_by)
            if to.is_done(local, archive, series, progress):
                return CaseResult(case.path, 0.0, sent_to=str(archive), is_there=True), local.path
        progress(Stage.READING, 0.0)
        volume = local.read()
        others = further_channels(local, segmenter.bundle.metadata.in_channels)
        volume = segmenter.in_hounsfield(volume)
        result = segmenter.segment(volume, progress, others)
        progress(Stage.WRITING, 0.0)
        files = write_results(
            result,
            volume,
            output,
            formats=place.formats,
            preview=place.preview,
            dicom_files=local.dicom_files() if DICOM_FORMATS & place.formats else None,
            modality=segmenter.bundle.metadata.modality,
            catalogue=segmenter.catalogue,
            series_uids=series,
        )
        if archive:
            with open_archive(archive) as link:
                link.send([file for file in files if file.suffix == ".dcm"], progress)
    return CaseResult(case.path, 0.0, tuple(files), result, sent_to=str(archive or "")), local.path


@contextmanager
def _cohort_table(
    cases: Sequence[Case], place: Place, modality: str, uncertainty: bool
) -> Iterator[CohortTable | None]:
    """Open the table of all cases, where there are several and a table is wanted."""
    if place.sending or len(cases) < 2 or "csv" not in place.formats:
        yield None
        return
    with ExitStack() as files:
        place.output.mkdir(parents=True, exist_ok=True)
        with private():
            sink = files.enter_context(open_stream(place.output / COHORT_TABLE))
        yield CohortTable(sink, modality, uncertainty)


def split(text: str) -> list[str]:
    """Read a list that is separated by commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_outputs(cases: list[Case], place: Place, uncertainty: bool) -> None:
    """Find clashes of names before any time is spent."""
    owners: dict[Path, Case | str] = {}
    if len(cases) > 1:
        owners[place.output / COHORT_TABLE] = "The table of all cases"
    for case in cases:
        plan = plan_outputs(
            case.output(place.output),
            str(case),
            formats=place.formats,
            preview=place.preview,
            uncertainty=uncertainty,
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
