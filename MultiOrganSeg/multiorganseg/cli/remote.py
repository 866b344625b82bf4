"""Images that come from an archive, and results that go to one."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from multiorganseg import __version__
from multiorganseg.cli.case import Case, series_name
from multiorganseg.errors import OptionError, ResourceError, ServerError
from multiorganseg.pacs.address import BACK, Address, is_address, parse_address
from multiorganseg.pacs.archive import Query, RemoteSeries, main_series, open_archive, result_series
from multiorganseg.progress import Progress
from multiorganseg.results.write import DICOM_FORMATS
from multiorganseg.volumes.dicom_header import damage_as_typed, read_whole_dicom
from multiorganseg.volumes.names import IMAGE_SUFFIXES, volume_suffix

DEFAULT_FORMATS = "dcm,sr"
_IN_ORDER = ("dcm", "sr", "rtstruct")


@dataclass(frozen=True)
class ArchivedSeries:
    """A series that an archive holds; see `multiorganseg.cli.case.Origin`.

    Attributes:
        address: Of the series.
    """

    address: Address

    def fetch(self, folder: Path, progress: Progress) -> None:
        """Put its files into an empty folder.

        Raises:
            ServerError: The archive does not give the whole series.
        """
        with open_archive(self.address.archive) as archive:
            archive.fetch(self.address.study, self.address.series, folder, progress)


@dataclass(frozen=True)
class Sending:
    """That results go to an archive.

    Attributes:
        archive: Which; None for that from which the images came.
        formats: What goes there, the segmentation first.
        again: Whether it goes there even if it is there.
    """

    archive: Address | None
    formats: tuple[str, ...]
    again: bool = False

    def archive_for(self, case: Case) -> Address:
        """Return the archive for the results of a case.

        Raises:
            OptionError: It came from none.
        """
        if self.archive is not None:
            return self.archive
        if isinstance(case.origin, ArchivedSeries):
            return case.origin.address.archive
        msg = f"{case} does not come from an archive."
        raise OptionError(msg, next_step="Name the archive: -o dicomweb://HOST/dicom-web")

    def check(self, cases: Iterable[Case]) -> None:
        """Refuse cases whose results cannot go to an archive, before any time is spent.

        Raises:
            OptionError: One came from no archive, and none is named.
            ResourceError: One is no DICOM series.
        """
        for case in cases:
            self.archive_for(case)
            if case.series is None and volume_suffix(case.name).lower() in IMAGE_SUFFIXES:
                msg = f"The results of {case} cannot go to an archive."
                raise ResourceError(
                    msg, cause="It is no DICOM series.", next_step="Write them into a folder: -o FOLDER"
                )

    def series_for(self, case: Case, made_by: str) -> dict[str, str]:
        """Name the series of the results of a case whose files are at hand, by format."""
        nonce = secrets.token_hex(16) if self.again else ""
        return result_series(_uids(case)[1], f"{__version__} {made_by} {nonce}")

    def is_done(self, case: Case, archive: Address, series: dict[str, str], progress: Progress) -> bool:
        """Whether the last of the results of an earlier run is in the archive, and so all of them."""
        if self.again:
            return False
        with open_archive(archive) as link:
            return link.has_series(_uids(case)[0], series[self.formats[-1]], progress)


def sending(output: str, formats: str | None, again: bool) -> Sending | None:
    """Read an output as an archive; None where it is a path.

    Raises:
        OptionError: It names a study, or formats that an archive does not take.
    """
    if output not in BACK and not is_address(output):
        return None
    wanted = {part.strip() for part in (formats or DEFAULT_FORMATS).split(",") if part.strip()}
    strange = sorted(wanted - DICOM_FORMATS)
    if strange or not wanted:
        msg = f"An archive does not take {', '.join(strange) or 'nothing'}."
        raise OptionError(msg, next_step=f"Choose among {', '.join(_IN_ORDER)} with --formats.")
    wanted |= {"dcm"} if "sr" in wanted else set()
    address = None if output in BACK else parse_address(output)
    if address is not None and address.study:
        msg = "Results go into the study of their images, which need not be named."
        raise OptionError(msg, next_step=f"Name the archive alone: -o {address.archive}")
    return Sending(address, tuple(kind for kind in _IN_ORDER if kind in wanted), again)


def archived_cases(address: Address, query: Query, progress: Progress) -> list[Case]:
    """List the cases of a series, of a study, or of all that a query finds.

    A series that is named is taken as it is; of studies, every CT and MR of at least ten images, else the
    one image series there is.

    Raises:
        ServerError: There is nothing to segment, or the archive does not answer.
    """
    with open_archive(address.archive) as archive:
        found = archive.find(query, progress)
    if address.series:
        chosen = found[:1] or [RemoteSeries(address.study, address.series)]
    else:
        studies = dict.fromkeys(each.study for each in found)
        chosen = [each for study in studies for each in main_series(s for s in found if s.study == study)]
    if not chosen:
        listed = [f"{each.description or each.series} ({each.modality}, {each.images})" for each in found[:5]]
        msg = f"Nothing to segment at {address}."
        raise ServerError(
            msg,
            cause=f"Found: {'; '.join(listed)}." if listed else "No series fits.",
            next_step="Look what there is with `multiorganseg pacs find`, and name a series.",
        )
    return _named(address, chosen)


def _named(address: Address, chosen: Sequence[RemoteSeries]) -> list[Case]:
    """Call each case by its series, in a folder for its study where there are several."""
    studies = list(dict.fromkeys(each.study for each in chosen))
    cases, used = [], Counter[str]()
    for each in chosen:
        folder = Path(f"study_{studies.index(each.study) + 1}") if len(studies) > 1 else Path()
        name = series_name(each.number, each.description or each.modality or "series")
        used[str(folder / name).casefold()] += 1
        times = used[str(folder / name).casefold()]
        name = f"{name}_{times}" if times > 1 else name
        place = Address(
            address.is_web,
            address.is_encrypted,
            address.host,
            address.port,
            address.root,
            address.called,
            each.study,
            each.series,
        )
        cases.append(Case(folder / name, None, folder, (), ArchivedSeries(place), each.series))
    return cases


def _uids(case: Case) -> tuple[str, str]:
    """Study and Series Instance UID of a case whose files are at hand."""
    if case.series is not None:
        return case.series.headers[0].study, case.series.uid
    files = case.dicom_files()
    assert files, "`Sending.check` lets DICOM through alone"
    data = read_whole_dicom(files[0])
    with damage_as_typed(files[0].name):
        return str(data.StudyInstanceUID), str(data.SeriesInstanceUID)
