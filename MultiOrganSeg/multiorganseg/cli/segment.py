"""`multiorganseg segment`: volumes in, segmentations, tables and pictures out."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.channels import first_channels
from multiorganseg.cli.cohort import CaseResult, Work, run_case
from multiorganseg.cli.console import err, out, printable
from multiorganseg.cli.errors import reported_errors, show_error
from multiorganseg.cli.inputs import Case, expand_inputs
from multiorganseg.cli.kept import keep_inputs
from multiorganseg.cli.parent import EVENTS_HELP, PARENT_HELP, event_stream, stop_with_parent
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.errors import ResourceError
from multiorganseg.events import EventKind, EventStream, with_events
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.results.write import FORMATS, plan_outputs

DEFAULT_FORMATS = "seg.nrrd,csv,json"


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
    events: Annotated[Path | None, typer.Option(help=EVENTS_HELP)] = None,
    with_parent: Annotated[
        bool,
        typer.Option("--stop-with-parent", help=PARENT_HELP),
    ] = False,
) -> None:
    """Segment the organs of CT or MR volumes; which of the two, and which organs, the model says.

    A bad case does not stop the others. Exit codes: 0 all went well; 2 wrong usage; 3 a volume cannot be
    segmented; 4 bundle; 5 organ; 6 memory, disk or device; 7 a package is missing; 130 cancelled; of several
    failures, the first one's.
    """
    if with_parent:
        stop_with_parent()
    on_ray = ray or bool(ray_address)
    if on_ray:  # workers stand in other folders
        inputs, output = [path.absolute() for path in inputs], output.absolute()
        model = str(Path(model).absolute()) if Path(model).is_dir() else model
    with (
        keep_inputs([*inputs, Path(model)]),
        event_stream(events, *inputs, output) as stream,
        progress_bar() as progress,
    ):
        cases = expand_inputs(inputs)
        from multiorganseg.bundles import find_bundle

        bundle = find_bundle(model)
        cases = first_channels(cases, bundle.metadata.in_channels)
        wanted = frozenset(_split(formats))
        _check_outputs(cases, output, wanted, preview, uncertainty)
        from multiorganseg.bundles.custom_organs import with_custom_organs
        from multiorganseg.inference.segment import Options, Segmenter

        options = Options(
            tuple(_split(organs)), quality, device, uncertainty=uncertainty, mode=mode, mirroring=mirroring
        )
        work = Work(model, bundle.digest, options, output, wanted, preview, resume or on_ray)
        started = {"cases": [case.name for case in cases], "model": bundle.metadata.name}
        if on_ray:
            from multiorganseg.cli.ray_workers import Cluster, run_on_ray

            stream.emit(EventKind.STARTED, **started)
            cluster = Cluster(ray_address, worker_cpus)
            reporting = with_events(stream, progress)
            results = run_on_ray(work, cases, cluster, reporting, lambda result: _tell(result, stream))
        else:
            segmenter = Segmenter(bundle, options)
            stream.emit(EventKind.STARTED, **started)
            results = []
            for number, case in enumerate(cases):
                prefix = f"{printable(case.name)} ({number + 1}/{len(cases)}): " if len(cases) > 1 else ""
                results.append(run_case(segmenter, work, case, with_events(stream, progress, prefix)))
                _tell(results[-1], stream)
        catalogue = with_custom_organs(load_catalogue(), bundle.metadata.custom_organs)
    _show(results, catalogue)
    failures = [result.error for result in results if result.error]
    if failures:
        raise typer.Exit(failures[0].exit_code)


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
    done = [result for result in results if result.statistics is not None]
    if len(done) == 1:
        _show_organs(done[0], catalogue)
    if len(results) > 1:
        table = Table("case", "result", "seconds", "organs found", "to look at")
        for result in sorted(results, key=_first_to_look_at):
            rows = result.statistics or ()
            state = Text("failed", "red") if result.error else Text("done", "green")
            if result.earlier:
                state = Text("done before", "green")
            look_at = Text(", ".join(row.key for row in rows if row.flags) or "–")
            if result.unlike_training:
                look_at = Text("the whole scan: unlike the training", "yellow")
            found = str(sum(row.voxels > 0 for row in rows))
            table.add_row(called(result), state, f"{result.seconds:.1f}", found, look_at)
        out.print(table)


def _first_to_look_at(result: CaseResult) -> int:
    return 0 if result.error else 1 if result.unlike_training else 2


def _show_organs(result: CaseResult, catalogue: Catalogue) -> None:
    rows = result.statistics or ()
    mapped = any(row.uncertainty is not None for row in rows)
    columns = ("organ", "volume ml", "mean", "confidence", *(["uncertainty"] if mapped else []), "to look at")
    table = Table(*columns, title=printable(result.source.name))
    for row in sorted(rows, key=lambda row: (not row.flags, -row.volume_ml)):
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
