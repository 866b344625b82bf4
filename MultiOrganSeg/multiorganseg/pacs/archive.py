"""An archive of images: what can be asked of it, whichever language it speaks."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar
from uuid import NAMESPACE_OID, uuid5

from multiorganseg.errors import DependencyError, MultiOrganSegError, ResourceError, ServerError
from multiorganseg.pacs.address import Address
from multiorganseg.progress import Progress
from multiorganseg.results.write import DICOM_FORMATS
from multiorganseg.volumes.dicom_scan import NOT_IMAGES

if TYPE_CHECKING:
    from pydicom import Dataset

FETCHING, SENDING, WAITING = "fetching", "sending", "waiting for the archive"
PATIENCE_S = 90.0
"""How long a silent or failing archive is waited for."""

_FIRST_WAIT_S, _LONGEST_WAIT_S, _TICK_S = 0.5, 8.0, 0.2
_MAIN_MODALITIES, _MAIN_IMAGES = ("CT", "MR"), 10
T = TypeVar("T")


@dataclass(frozen=True)
class Query:
    """What to look for; empty texts match everything, `*` and `?` match as in DICOM.

    Attributes:
        patient_id: Patient ID.
        patient_name: Patient's Name, such as "Doe*".
        study_date: YYYYMMDD, or a range YYYYMMDD-YYYYMMDD that may be open at one end.
        accession: Accession Number.
        modality: Of series, such as "CT".
        description: Words of the series description, in any case.
        study: Study Instance UID.
        series: Series Instance UID.
    """

    patient_id: str = ""
    patient_name: str = ""
    study_date: str = ""
    accession: str = ""
    modality: str = ""
    description: str = ""
    study: str = ""
    series: str = ""

    @property
    def of_study(self) -> Mapping[str, str]:
        """Values by DICOM keyword that choose studies."""
        said = {
            "PatientID": self.patient_id,
            "PatientName": self.patient_name,
            "StudyDate": self.study_date,
            "AccessionNumber": self.accession,
            "StudyInstanceUID": self.study,
        }
        return {keyword: value for keyword, value in said.items() if value}

    @property
    def of_series(self) -> Mapping[str, str]:
        """Values by DICOM keyword that choose series of a study."""
        said = {"Modality": self.modality, "SeriesInstanceUID": self.series}
        return {keyword: value for keyword, value in said.items() if value}


@dataclass(frozen=True)
class RemoteSeries:
    """A series as an archive describes it.

    Attributes:
        study: Study Instance UID.
        series: Series Instance UID.
        modality: CT, MR, SEG, …
        description: Series Description.
        number: Series Number; None where the archive is silent.
        images: How many it holds; None where the archive is silent.
        study_date: YYYYMMDD.
        patient_id: Patient ID.
        patient_name: Patient's Name.
    """

    study: str
    series: str
    modality: str = ""
    description: str = ""
    number: int | None = None
    images: int | None = None
    study_date: str = ""
    patient_id: str = ""
    patient_name: str = ""

    @property
    def is_image(self) -> bool:
        """Whether there is something to segment."""
        return self.modality not in NOT_IMAGES


class Archive(Protocol):
    """An open connection to an archive; every method may raise `ServerError` and `Cancelled`."""

    address: Address

    def find(self, query: Query, progress: Progress) -> list[RemoteSeries]:
        """List series, those of one study together."""

    def fetch(self, study: str, series: str, folder: Path, progress: Progress) -> None:
        """Write every image of a series into a folder, each once, and refuse a part of it."""

    def send(self, files: Sequence[Path], progress: Progress) -> None:
        """Store DICOM files, and see that the archive has them."""

    def has_series(self, study: str, series: str, progress: Progress) -> bool:
        """Whether the archive has the series."""


def open_archive(address: Address) -> AbstractContextManager[Archive]:
    """Return a connection by the language of the address; nothing is sent before a method is called.

    Raises:
        DependencyError: Its package is not installed.
        OptionError: As `login_for` and `certificates`.
        ServerError: As `login_for`.
    """
    if address.is_web:
        from multiorganseg.pacs.dicomweb import DicomWeb

        return DicomWeb(address)
    from multiorganseg.pacs.dimse import Dimse

    return Dimse(address)


def main_series(found: Iterable[RemoteSeries]) -> list[RemoteSeries]:
    """Choose as in a folder: every CT and MR of at least ten images, else the one image series there is."""
    images = [each for each in found if each.is_image]
    main = [
        each
        for each in images
        if each.modality in _MAIN_MODALITIES and (each.images is None or each.images >= _MAIN_IMAGES)
    ]
    return main or (images if len(images) == 1 else [])


def result_series(source: str, made_by: str) -> dict[str, str]:
    """Name the series into which results go, by format: the same for the same images, network and settings.

    So a second run finds what the first has stored, however that ended.

    Args:
        source: Series Instance UID of the images.
        made_by: What decides the result: version, network, settings.
    """
    names = {kind: uuid5(NAMESPACE_OID, "|".join((source, made_by, kind))) for kind in DICOM_FORMATS}
    return {kind: f"2.25.{name.int}" for kind, name in names.items()}


def patiently(call: Callable[[], T], is_passing: Callable[[Exception], bool], progress: Progress) -> T:
    """Call again, ever more slowly, while the error is one that may pass, for `PATIENCE_S` seconds.

    Raises:
        Cancelled: The user asked for it while waiting.
    """
    wait, until = _FIRST_WAIT_S, time.monotonic() + PATIENCE_S
    while True:
        try:
            return call()
        except Exception as error:
            if isinstance(error, MultiOrganSegError) or not is_passing(error) or time.monotonic() > until:
                raise
        waited_until = time.monotonic() + wait
        while (left := waited_until - time.monotonic()) > 0:
            progress(WAITING, 1 - left / wait)
            time.sleep(min(_TICK_S, left))
        wait = min(2 * wait, _LONGEST_WAIT_S)


def missing_package(name: str, error: ImportError) -> DependencyError:
    """Make the error for a package of the extra `pacs`."""
    return DependencyError(
        f"Speaking with an archive needs the package {name}.",
        cause=str(error),
        next_step="Install it: pip install 'multiorganseg[pacs]'",
    )


class Inbox:
    """A folder into which images of one series are put, each once, under a name that says nothing.

    Args:
        folder: It.
        series: Series Instance UID.
    """

    def __init__(self, folder: Path, series: str) -> None:
        self.folder, self.series = folder, series
        self.uids: set[str] = set()

    def add(self, uid: str, series: str, content: bytes) -> None:
        """Write an image that is not there yet.

        Raises:
            ServerError: It belongs to another series.
            ResourceError: It cannot be written.
        """
        if series != self.series:
            msg = "The archive sent an image of another series."
            raise ServerError(msg, next_step="Ask those who run it; nothing was segmented.")
        if uid in self.uids:
            return
        path = self.folder / f"{hashlib.sha256(uid.encode()).hexdigest()[:32]}.dcm"
        try:
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(content)
        except OSError as error:
            path.unlink(missing_ok=True)
            msg = "An image from the archive could not be kept."
            raise ResourceError(
                msg, cause=str(error), next_step="Free space among the temporary files (TMPDIR)."
            ) from error
        self.uids.add(uid)

    def require(self, wanted: Iterable[str]) -> None:
        """Refuse a part of a series, and more than it.

        Raises:
            ServerError: Images are missing, or came that are not wanted.
        """
        asked = set(wanted)
        lacking, strange = len(asked - self.uids), len(self.uids - asked)
        if not self.uids:
            msg = "The archive has no image of this series."
            raise ServerError(msg, next_step="Look which series there are: multiorganseg pacs find")
        if strange:
            msg = f"{strange} image(s) came that the archive does not list in this series."
            raise ServerError(msg, next_step="Ask those who run it; nothing was segmented.")
        if lacking:
            msg = f"The archive gave only a part of the series: {lacking} of {len(asked)} images are missing."
            raise ServerError(msg, next_step="Try again later; if it stays so, have the series stored anew.")


class Outbox:
    """Files to be stored, and what became of them.

    Args:
        files: DICOM files.
    """

    def __init__(self, files: Sequence[Path]) -> None:
        self.left = list(files)
        self._count = len(files)
        self._sent: dict[tuple[str, str], dict[str, str]] = {}

    @property
    def fraction(self) -> float:
        """How much is sent, in [0, 1]."""
        return 1 - len(self.left) / self._count if self._count else 1.0

    def done(self, file: Path, data: Dataset) -> None:
        """Note that an archive took a file, which its identifiers name."""
        self.left.remove(file)
        series = (str(data.StudyInstanceUID), str(data.SeriesInstanceUID))
        self._sent.setdefault(series, {})[str(data.SOPInstanceUID)] = file.name

    def require_listed(self, images: Callable[[str, str], Iterable[str]]) -> None:
        """Refuse what an archive took and does not list.

        Args:
            images: Lists the SOP Instance UIDs of a series, by study and series.

        Raises:
            ServerError: Something is not listed.
        """
        for (study, series), sent in self._sent.items():
            listed = set(images(study, series))
            lost = [name for uid, name in sent.items() if uid not in listed]
            if lost:
                raise not_stored(lost[0], "It took the file, but does not list it.")


def not_stored(name: str, cause: str) -> ServerError:
    """Make the error for a file that an archive does not keep."""
    return ServerError(
        f"The archive did not store {name}.",
        cause=cause,
        next_step="Ask those who run it whether it takes such objects, and from you.",
    )


def text_of(data: Dataset, keyword: str) -> str:
    """Return an attribute that an archive sent as text; empty where it is missing or damaged."""
    try:
        value = data.get(keyword)
    except (ValueError, TypeError, LookupError, NotImplementedError):
        return ""
    return "" if value is None else str(value).strip()


def described_series(data: Dataset, study: Mapping[str, str], uid: str) -> RemoteSeries:
    """Turn an archive's answer into a `RemoteSeries`.

    Args:
        data: Answer about a series.
        study: What is known of its study, by DICOM keyword.
        uid: Study Instance UID.
    """

    def whole(keyword: str) -> int | None:
        text = text_of(data, keyword)
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    return RemoteSeries(
        uid,
        text_of(data, "SeriesInstanceUID"),
        text_of(data, "Modality"),
        text_of(data, "SeriesDescription"),
        whole("SeriesNumber"),
        whole("NumberOfSeriesRelatedInstances"),
        study.get("StudyDate", ""),
        study.get("PatientID", ""),
        study.get("PatientName", ""),
    )


def matching(found: Iterable[RemoteSeries], query: Query) -> list[RemoteSeries]:
    """Keep what fits a query: archives need not know every key."""
    words = query.description.casefold().split()
    return [
        each
        for each in found
        if each.series
        and (not query.series or each.series == query.series)
        and (not query.modality or each.modality == query.modality)
        and all(word in each.description.casefold() for word in words)
    ]
