"""`multiorganseg segment`: volumes in, segmentations, tables and pictures out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from multiorganseg.cli.case import Case
from multiorganseg.cli.case_results import COHORT_TABLE, cohort_table, show_results
from multiorganseg.cli.channels import first_channels
from multiorganseg.cli.cohort import CaseResult, Work, run_case
from multiorganseg.cli.console import printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.inputs import expand_inputs
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.parent import EVENTS_HELP, PARENT_HELP, event_stream, stop_with_parent
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.cli.remote import Sending, archived_cases, sending
from multiorganseg.errors import OptionError, ResourceError
from multiorganseg.events import EventKind, EventStream, with_events
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.pacs import Query, is_address, parse_address
from multiorganseg.progress import Progress
from multiorganseg.results.write import FORMATS, plan_outputs

DEFAULT_FORMATS = "seg.nrrd,csv,json"


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
    ray: Annotated[
        bool,
        typer.Option(
            "--ray",
            help="Spread the cases over the processors and graphics cards of this machine, or of the Ray "
            "cluster that RAY_ADDRESS names. Implies --resume.",
        ),
    ] = False,
    ray_address: Annotated[
        str, typer.Option(help="The same on another Ray cluster, such as 10.0.0.1:6379.", metavar="HOST:PORT")
    ] = "",
    worker_cpus: Annotated[
        int,
        typer.Option(
            min=0, help="With --ray: processors of each worker; 0 for 4, or 1 beside a graphics card."
        ),
    ] = 0,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Skip the cases that an earlier command with --resume finished alike."),
    ] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Segment and send even what the archive has from an earlier run.")
    ] = False,
    events: Annotated[Path | None, typer.Option(help=EVENTS_HELP)] = None,
    with_parent: Annotated[
        bool,
        typer.Option("--stop-with-parent", help=PARENT_HELP),
    ] = False,
) -> None:
    """Segment the organs of CT or MR volumes; which of the two, and which organs, the model says.

    A bad case does not stop the others. Exit codes: 0 all went well; 2 wrong usage; 3 a volume cannot be
    segmented; 4 bundle; 5 organ; 6 memory, disk or device; 7 a package is missing; 9 archive; 130
    cancelled; of several failures, the first one's.
    """
    if with_parent:
        stop_with_parent()
    settings = Settings(
        model,
        *results_place(output, formats, preview=preview, again=again),
        organs=organs,
        device=device,
        quality=quality,
        mode=mode,
        mirroring=mirroring,
        uncertainty=uncertainty,
        resume=resume,
        on_ray=ray or bool(ray_address),
        ray_address=ray_address,
        worker_cpus=worker_cpus,
    )
    addresses = [parse_address(each) for each in inputs if is_address(each)]
    paths = [Path(each) for each in inputs if not is_address(each)]
    for address in addresses:
        if not address.study:
            msg = f"{address} names neither a study nor a series."
            raise OptionError(msg, next_step=f"See what there is: multiorganseg pacs find {address}")
    if settings.on_ray:  # workers stand in other folders
        paths = [path.absolute() for path in paths]

    def cases(progress: Progress) -> list[Case]:
        found = expand_inputs(paths, progress) if paths else []
        for address in addresses:
            query = Query(study=address.study, series=address.series)
            found += archived_cases(address, query, progress)
        return found

    segment_cases(cases, paths, settings, events)


@dataclass(frozen=True)
class Settings:
    """What a command does with its cases, as its options say it.

    Attributes:
        model: Name or path of the bundle.
        output: See `Work`, as all that follow up to `sending`.
        formats: See there.
        preview: See there.
        sending: See there.
        organs: Organ keys separated by commas.
        device: See `Options`, as all that follow up to `uncertainty`.
        quality: See there.
        mode: See there.
        mirroring: See there.
        uncertainty: See there.
        resume: See `Work`.
        on_ray: Whether cases are spread over a Ray cluster.
        ray_address: See `Cluster`.
        worker_cpus: See `Cluster`.
    """

    model: str
    output: Path
    formats: frozenset[str]
    preview: bool
    sending: Sending | None = None
    organs: str = ""
    device: str = "auto"
    quality: str = "balanced"
    mode: str = ""
    mirroring: bool = True
    uncertainty: bool = False
    resume: bool = False
    on_ray: bool = False
    ray_address: str = ""
    worker_cpus: int = 0


def results_place(
    output: str, formats: str | None, *, preview: bool, again: bool
) -> tuple[Path, frozenset[str], bool, Sending | None]:
    """Read where results go: output, formats, preview and sending of `Settings`.

    Raises:
        OptionError: As `sending`.
    """
    to = sending(output, formats, again)
    if to is not None:
        return Path(), frozenset(to.formats), False, to
    return Path(output), frozenset(_split(DEFAULT_FORMATS if formats is None else formats)), preview, None


def segment_cases(
    find_cases: Callable[[Progress], list[Case]],
    paths: Sequence[Path],
    settings: Settings,
    events: Path | None,
) -> None:
    """Segment cases, show what became of them, and end with the first failure's code.

    Args:
        find_cases: Finds them.
        paths: What is read and must not be replaced.
        settings: How to segment, and where results go.
        events: Where progress is written as JSON lines.

    Raises:
        MultiOrganSegError: Of what concerns all cases.
        typer.Exit: A case failed.
    """
    model, output = settings.model, settings.output
    if settings.on_ray:
        output = output.absolute()
        model = str(Path(model).absolute()) if Path(model).is_dir() else model
    with (
        keep_inputs([*paths, Path(model)]),
        event_stream(events, *paths, output) as stream,
        progress_bar() as progress,
    ):
        cases = find_cases(progress)
        from multiorganseg.bundles import find_bundle

        bundle = find_bundle(model)
        cases = first_channels(cases, bundle.metadata.in_channels)
        if settings.sending:
            settings.sending.check(cases)
        else:
            _check_outputs(cases, output, settings)
        from multiorganseg.bundles.custom_organs import with_custom_organs
        from multiorganseg.inference.segment import Options, Segmenter

        options = Options(
            tuple(_split(settings.organs)),
            settings.quality,
            settings.device,
            uncertainty=settings.uncertainty,
            mode=settings.mode,
            mirroring=settings.mirroring,
        )
        work = Work(
            model,
            bundle.digest,
            options,
            output,
            settings.formats,
            settings.preview,
            (settings.resume or settings.on_ray) and settings.sending is None,
            settings.sending,
        )
        catalogue = with_custom_organs(load_catalogue(), bundle.metadata.custom_organs)
        started = {"cases": [case.name for case in cases], "model": bundle.metadata.name}
        with cohort_table(cases, work, bundle.metadata.modality, catalogue) as table:

            def report(result: CaseResult) -> None:
                table(result)
                _tell(result, stream)

            if settings.on_ray:
                from multiorganseg.cli.ray_workers import Cluster, run_on_ray

                stream.emit(EventKind.STARTED, **started)
                cluster = Cluster(settings.ray_address, settings.worker_cpus)
                results = run_on_ray(work, cases, cluster, with_events(stream, progress), report)
            else:
                segmenter = Segmenter(bundle, options)
                stream.emit(EventKind.STARTED, **started)
                results = []
                for number, case in enumerate(cases):
                    prefix = f"{printable(case.name)} ({number + 1}/{len(cases)}): " if len(cases) > 1 else ""
                    results.append(run_case(segmenter, work, case, with_events(stream, progress, prefix)))
                    report(results[-1])
    show_results(results, catalogue)
    failures = [result.error for result in results if result.error]
    if failures:
        raise typer.Exit(failures[0].exit_code)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _check_outputs(cases: list[Case], output: Path, settings: Settings) -> None:
    """Find clashes of names before any time is spent."""
    owners: dict[Path, Case | str] = {}
    if len(cases) > 1:
        owners[output / COHORT_TABLE] = "The table of all cases"
    for case in cases:
        plan = plan_outputs(
            case.output(output),
            str(case),
            formats=settings.formats,
            preview=settings.preview,
            uncertainty=settings.uncertainty,
        )
        for path in plan.paths.values():
            if path in owners:
                problem = f"{owners[path]} and {case} would both be written to {path}."
                raise ResourceError(
                    problem, next_step="Name a folder for --output, and inputs of different names."
                )
            owners[path] = case


def _tell(result: CaseResult, stream: EventStream) -> None:
    for message in result.messages:
        stream.emit(EventKind.WARNING, case=result.source.name, message=message)
    if result.error:
        stream.fail(result.error)
    else:
        stream.emit(EventKind.FINISHED, case=result.source.name, files=[file.name for file in result.files])
