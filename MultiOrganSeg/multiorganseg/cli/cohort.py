"""One case of a cohort from its files to its results, and which cases an earlier command finished."""

from __future__ import annotations

import hashlib
import json
import math
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from multiorganseg import __version__
from multiorganseg.atomic import write_text_atomically
from multiorganseg.bundles.json_text import format_json, read_json_object
from multiorganseg.cli.case import Case
from multiorganseg.cli.channels import channel_files, further_channels
from multiorganseg.cli.remote import Sending
from multiorganseg.errors import Cancelled, MultiOrganSegError
from multiorganseg.pacs import Address, open_archive
from multiorganseg.privacy import folders_of, no_more_readable_than, without_folders
from multiorganseg.progress import Progress, Stage
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.write import DICOM_FORMATS, write_results
from multiorganseg.schema import typed
from multiorganseg.scratch import work_folder
from multiorganseg.unforeseen import as_typed
from multiorganseg.volumes.dicom_series import files_of
from multiorganseg.volumes.headers import detached_files
from multiorganseg.volumes.names import case_name, volume_suffix

if TYPE_CHECKING:
    from multiorganseg.inference.segment import Options, Segmenter

FINISHED_FOLDER = ".multiorganseg-finished"
"""Folder beside the results with a record of each finished case."""

_CHUNK = 2**20


@dataclass(frozen=True)
class Work:
    """What a command does with each of its cases.

    Attributes:
        model: Name or folder of the bundle.
        digest: The bundle's sha256.
        options: What the user chose of the segmentation.
        output: Folder, or for a single case a file.
        formats: See `write_results`.
        preview: See `write_results`.
        resume: Whether finished cases are recorded, and those that an earlier command finished are skipped.
        sending: The archive that results go to; `output` does not count then.
    """

    model: str
    digest: str
    options: Options
    output: Path
    formats: frozenset[str]
    preview: bool
    resume: bool = False
    sending: Sending | None = None


@dataclass(frozen=True)
class CaseResult:
    """What became of one case; it holds no voxels.

    Attributes:
        source: The input.
        seconds: How long it took.
        files: What was written.
        statistics: One entry an organ; None when the case failed.
        unlike_training: Whether the scan is unlike those of the training.
        error: None when it went well.
        messages: Warnings.
        asides: Warnings of other libraries, which may quote the patient's name: for the terminal alone.
        earlier: Whether an earlier command had finished it.
        sent_to: The archive that has the files; empty where they lie in a folder.
    """

    source: Path
    seconds: float
    files: tuple[Path, ...] = ()
    statistics: tuple[OrganStatistics, ...] | None = None
    unlike_training: bool = False
    error: MultiOrganSegError | None = None
    messages: tuple[str, ...] = field(default=())
    asides: tuple[str, ...] = field(default=())
    earlier: bool = False
    sent_to: str = ""


def run_case(segmenter: Segmenter, work: Work, case: Case, progress: Progress) -> CaseResult:
    """Segment one case and write or send its results, unless they are there from an earlier command.

    Any error but `Cancelled` becomes part of the result.

    Raises:
        Cancelled: The user asked for it.
    """
    started = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            archive = work.sending.archive_for(case) if work.sending else None
            with case.at_hand(progress) as local:
                done = _run(segmenter, work, local, archive, caught, progress)
        except Cancelled:
            raise
        except Exception as error:
            return CaseResult(case.path, time.perf_counter() - started, error=as_typed(error))
    seconds = done.seconds if done.earlier else time.perf_counter() - started
    return replace(done, source=case.path, seconds=seconds)


def _run(
    segmenter: Segmenter,
    work: Work,
    case: Case,
    archive: Address | None,
    caught: Sequence[warnings.WarningMessage],
    progress: Progress,
) -> CaseResult:
    """Run a case whose files are on the disk; results for an archive go by way of a folder of our own."""
    from multiorganseg.volumes import VolumeWarning

    started = time.perf_counter()
    channels = segmenter.bundle.metadata.in_channels
    progress(Stage.READING, 0.0)
    inputs = tuple(_files(case, channels)) if work.resume else ()
    key = case_key(inputs, work) if work.resume else ""
    if work.resume and (finished := _finished(case, work, key)):
        return finished
    with ExitStack() as folders:
        output, series = case.output(work.output), dict[str, str]()
        if work.sending and archive:
            output = folders.enter_context(work_folder())
            settings = replace(work.options, device="", uncertainty=False)
            series = work.sending.series_for(case, f"{work.digest} {settings}")
            if work.sending.is_done(case, archive, series, progress):
                return CaseResult(case.path, 0.0, sent_to=str(archive), earlier=True)
        volume = case.read()
        others = further_channels(case, channels)
        volume = segmenter.in_hounsfield(volume)
        result = segmenter.segment(volume, progress, others)
        progress(Stage.WRITING, 0.0)
        files = write_results(
            result,
            volume,
            output,
            formats=work.formats,
            preview=work.preview,
            dicom_files=case.dicom_files() if DICOM_FORMATS & work.formats else None,
            modality=segmenter.bundle.metadata.modality,
            catalogue=segmenter.catalogue,
            series_uids=series,
        )
        if archive:
            with open_archive(archive) as link:
                link.send([file for file in files if file.suffix == ".dcm"], progress)
    warned = [warning for warning in caught if issubclass(warning.category, UserWarning)]
    ours = [str(w.message) for w in warned if issubclass(w.category, VolumeWarning)]
    asides = tuple(str(w.message) for w in warned if not issubclass(w.category, VolumeWarning))
    done = CaseResult(
        case.path,
        time.perf_counter() - started,
        tuple(files),
        result.statistics,
        bool(result.provenance.get("unlike_training")),
        messages=_messages(result, without_folders(ours, folders_of(Path(volume.source)))),
        asides=asides,
        sent_to=str(archive or ""),
    )
    if work.resume:
        with no_more_readable_than(*inputs):
            _record(done, case, work, key)
    return done


def result_folder(case: Case, work: Work) -> Path:
    """Return the folder in which the results of a case lie."""
    place = case.output(work.output)
    return place.parent if volume_suffix(place.name) and not place.is_dir() else place


def case_key(inputs: Iterable[Path], work: Work) -> str:
    """Return the sha256 of all that decides a case's results: its files, the bundle, options and version.

    The device is left out: a cohort may go on elsewhere.

    Raises:
        OSError: A file cannot be read.
    """
    options = replace(work.options, device="")
    said = [__version__, work.digest, asdict(options), sorted(work.formats), work.preview]
    digest = hashlib.sha256(json.dumps(said).encode())
    for path in inputs:
        with path.open("rb") as source:
            digest.update(f"\n{path.stat().st_size}\n".encode())
            while chunk := source.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


@dataclass(frozen=True)
class _Finished:
    key: str
    seconds: float
    files: tuple[str, ...]
    statistics: tuple[OrganStatistics, ...]
    unlike_training: bool
    messages: tuple[str, ...]


def _messages(result: Segmentation, own: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*result.provenance.get("messages", []), *own]))


def _files(case: Case, channels: int) -> Iterator[Path]:
    if case.series:
        yield from sorted(case.series.files)
    elif case.path.is_dir():
        yield from sorted(files_of(case.path))
    else:
        for path in (case.path, *channel_files(case, channels)):
            yield from (path, *detached_files(path))


def _record_path(case: Case, work: Work) -> Path:
    named = result_folder(case, work) != case.output(work.output)
    name = case_name(work.output.name if named else case.name)
    return result_folder(case, work) / FINISHED_FOLDER / f"{name}.finished.json"


def _record(result: CaseResult, case: Case, work: Work, key: str) -> None:
    path = _record_path(case, work)
    finished = _Finished(
        key,
        round(result.seconds, 3),
        tuple(file.name for file in result.files),
        tuple(_finite(row) for row in result.statistics or ()),
        result.unlike_training,
        result.messages,
    )
    write_text_atomically(path, format_json(asdict(finished)))


def _finite(row: OrganStatistics) -> OrganStatistics:
    """Write 0 for what an empty organ has no value of; JSON has no NaN."""
    values = vars(row).items()
    empty: dict[str, Any] = {name: 0.0 for name, v in values if isinstance(v, float) and math.isnan(v)}
    return replace(row, **empty)


def _finished(case: Case, work: Work, key: str) -> CaseResult | None:
    """Return the result of an earlier command; None where it had another key, or a file of it is gone."""
    path = _record_path(case, work)
    with suppress(OSError, ValueError, MultiOrganSegError):
        said = typed(_Finished, read_json_object(path), "The record of a case")
        files = tuple(path.parent.parent / Path(name).name for name in said.files)
        if said.key == key and all(file.is_file() for file in files):
            return CaseResult(
                case.path,
                said.seconds,
                files,
                said.statistics,
                said.unlike_training,
                messages=said.messages,
                earlier=True,
            )
    return None
