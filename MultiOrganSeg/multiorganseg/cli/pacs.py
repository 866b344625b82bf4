"""`multiorganseg pacs`: find, segment and send images and results of an archive; keep a login."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.case import Case
from multiorganseg.cli.console import out, printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.cli.remote import archived_cases
from multiorganseg.cli.segment import Settings, results_place, segment_cases
from multiorganseg.errors import OptionError, VolumeError
from multiorganseg.pacs.address import EXAMPLE, check_uid, parse_address
from multiorganseg.pacs.archive import Query, RemoteSeries, open_archive
from multiorganseg.pacs.login import Login, store_login
from multiorganseg.progress import Progress
from multiorganseg.volumes.dicom_header import damage_as_typed, is_dicom, open_dicom
from multiorganseg.volumes.dicom_scan import files_below

pacs_app = typer.Typer(
    no_args_is_help=True,
    help="Images from an archive (PACS) and results back to it, over DICOMweb or DIMSE.\n\n"
    "An address is dicomweb://HOST[:PORT]/PATH or dimse://CALLED_AE@HOST:PORT, with "
    "/studies/UID behind it for a study, and /series/UID behind that for a series. `dicomweb://` is "
    "encrypted (HTTPS), but on this computer itself; dicomweb+http:// is not.\n\n"
    "A login stands in the environment (MULTIORGANSEG_PACS_TOKEN, or MULTIORGANSEG_PACS_USER and "
    "MULTIORGANSEG_PACS_PASSWORD) or in the keyring (`pacs login`), never on the command line.",
    epilog="Start with: multiorganseg pacs find dicomweb://HOST/dicom-web --date 20260101-20260131",
)

RESULTS = ("SEG", "SR", "RTSTRUCT")

_Address = Annotated[str, typer.Argument(help=f"Archive, study or series, such as {EXAMPLE}.")]
_PatientId = Annotated[str, typer.Option("--patient-id", help="Patient ID; * and ? match as in DICOM.")]
_PatientName = Annotated[str, typer.Option("--patient-name", help="Patient's name, such as 'Doe*'.")]
_Date = Annotated[str, typer.Option("--date", help="Study date YYYYMMDD, or a range YYYYMMDD-YYYYMMDD.")]
_Accession = Annotated[str, typer.Option("--accession", help="Accession number.")]
_Modality = Annotated[str, typer.Option("--modality", help="Of the series, such as CT.")]
_Description = Annotated[str, typer.Option("--description", help="Words of the series description.")]


@pacs_app.command("find")
@reported_errors()
def find_command(
    address: _Address,
    patient_id: _PatientId = "",
    patient_name: _PatientName = "",
    date: _Date = "",
    accession: _Accession = "",
    modality: _Modality = "",
    description: _Description = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the series as JSON.")] = False,
) -> None:
    """List series of an archive by patient, date and number, each with the address that `segment` takes.

    Nothing is fetched. For example, the CTs of January:
    multiorganseg pacs find dicomweb://HOST/dicom-web --date 20260101-20260131 --modality CT
    """
    where = parse_address(address)
    query = Query(patient_id, patient_name, date, accession, modality, description, where.study, where.series)
    with progress_bar() as progress, open_archive(where.archive) as archive:
        found = sorted(archive.find(query, progress), key=_place)
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=2, ensure_ascii=True))
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Patient", "Date", "Modality", "Series", "Images"):
        table.add_column(title, overflow="fold")
    for each in found:
        who = " ".join(part for part in (each.patient_id, each.patient_name) if part)
        series = " ".join([*([str(each.number)] if each.number is not None else []), each.description])
        images = "?" if each.images is None else str(each.images)
        row = (who, each.study_date, each.modality, series, images)
        table.add_row(*(Text(printable(cell)) for cell in row))
    if not found:
        out.print("No series fits.")
        return
    out.print(table)
    for each in found:
        place = f"{where.archive}/studies/{each.study}/series/{each.series}"
        out.print(printable(place), soft_wrap=True)


@pacs_app.command("segment")
@reported_errors()
def segment_command(
    address: _Address,
    output: Annotated[
        str,
        typer.Option(
            "-o",
            "--output",
            help="A folder; or dicomweb: (dimse:) to store the results in the archive, or the address of "
            "another one. Nothing is sent unless you ask for it here.",
        ),
    ],
    patient_id: _PatientId = "",
    patient_name: _PatientName = "",
    date: _Date = "",
    accession: _Accession = "",
    modality: _Modality = "",
    description: _Description = "",
    model: Annotated[str, typer.Option(help="Name of a bundle, or a path to one.")] = "abdomen-ct",
    organs: Annotated[str, typer.Option(help="Organ keys separated by commas; all when left out.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    quality: Annotated[str, typer.Option(help="fast, balanced or best.")] = "balanced",
    formats: Annotated[
        str | None,
        typer.Option(
            "--formats",
            help="To an archive: dcm (DICOM SEG), sr (report of the measurements) and rtstruct; dcm,sr when "
            "left out. To a folder as `segment`.",
        ),
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", help="Segment and send even what the archive has from an earlier run.")
    ] = False,
    events: Annotated[
        Path | None, typer.Option(help="Write progress as JSON lines to this file; - for standard output.")
    ] = None,
) -> None:
    """Segment all series that fit: fetch, segment, store, one after the other.

    Of each study every CT and MR of at least ten images, or the one image series there is. What the archive
    has from an earlier run of the same network and settings is passed over, so that a run that was stopped
    goes on where it was: say it again. Images lie in a private folder for as long as they are segmented.
    """
    where = parse_address(address)
    query = Query(patient_id, patient_name, date, accession, modality, description, where.study, where.series)
    if not (query.of_study or query.of_series or description):
        msg = "That would be the whole archive."
        raise OptionError(msg, next_step="Say which images: a study in the address, --date, --patient-id …")
    place = results_place(output, formats, preview=True, again=again)
    settings = Settings(model, *place, organs=organs, device=device, quality=quality)

    def cases(progress: Progress) -> list[Case]:
        return archived_cases(where, query, progress)

    segment_cases(cases, [], settings, events)


@pacs_app.command("send")
@reported_errors()
def send_command(
    paths: Annotated[
        list[Path], typer.Argument(help="DICOM files, or folders of such.", metavar="FILE...", exists=True)
    ],
    to: Annotated[str, typer.Option("--to", help="Address of the archive.")],
    images: Annotated[
        bool, typer.Option("--images", help="Send other DICOM files too, not results alone.")
    ] = False,
) -> None:
    """Store results that lie on the disk: DICOM SEG, reports and RTSTRUCT.

    multiorganseg segment CT_FOLDER -o out --formats dcm,sr,rtstruct
    multiorganseg pacs send out --to dicomweb://HOST/dicom-web
    """
    where = parse_address(to)
    if where.study:
        msg = "Files go into the study that they name."
        raise OptionError(msg, next_step=f"Name the archive alone: --to {where.archive}")
    files, others = _dicom_files(paths, images)
    if not files:
        msg = "There is nothing to send."
        raise VolumeError(
            msg,
            cause=f"{others} DICOM file(s) are no results." if others else "No file is DICOM.",
            next_step="Write results as DICOM (segment --formats dcm,sr), or send images with --images.",
        )
    with progress_bar() as progress, open_archive(where) as archive:
        archive.send(files, progress)
    out.print(Text(f"Sent {len(files)} file(s) to {where}."), soft_wrap=True)
    if others:
        out.print(Text(f"{others} DICOM file(s) that are no results were not sent.", "yellow"))


@pacs_app.command("login")
@reported_errors()
def login_command(
    address: _Address,
    token: Annotated[
        bool, typer.Option("--token", help="Ask for a token, not for user and password.")
    ] = False,
) -> None:
    """Keep a login for an archive in the keyring of this computer; it is asked for, and not shown."""
    where = parse_address(address)
    if not where.is_web:
        msg = "DIMSE knows no logins."
        raise OptionError(msg, next_step="Have this computer's title entered in the archive.")
    if token:
        login = Login(token=typer.prompt("Token", hide_input=True))
    else:
        login = Login(user=typer.prompt("User"), password=typer.prompt("Password", hide_input=True))
    store_login(where, login)
    out.print(Text(f"Kept the login for {where.server}."))


def _place(series: RemoteSeries) -> tuple[str, str, str, int]:
    number = sys.maxsize if series.number is None else series.number
    return series.patient_id, series.study_date, series.study, number


def _dicom_files(paths: list[Path], images: bool) -> tuple[list[Path], int]:
    """Return the DICOM files to send, segmentations first, and how many others there are."""
    below = [file for path in paths for file in (files_below(path) if path.is_dir() else [path])]
    found: list[tuple[int, Path]] = []
    others = 0
    for file in dict.fromkeys(below):
        data = open_dicom(file) if file.stat().st_size and is_dicom(file) else None
        if data is None:
            continue
        with damage_as_typed(file.name):
            modality = str(data.get("Modality", ""))
            for uid in (data.StudyInstanceUID, data.SeriesInstanceUID, data.SOPInstanceUID):
                check_uid(str(uid))
        if modality in RESULTS or images:
            found.append((RESULTS.index(modality) if modality in RESULTS else -1, file))
        else:
            others += 1
    return [file for _, file in sorted(found)], others
