"""Archives that speak DICOMweb: QIDO-RS, WADO-RS and STOW-RS.

Source: DICOM PS3.18, sections 10.4 to 10.6.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from multiorganseg.errors import MultiOrganSegError, ServerError
from multiorganseg.pacs.address import Address, check_uid
from multiorganseg.pacs.archive import (
    FETCHING,
    PATIENCE_S,
    SENDING,
    Inbox,
    Outbox,
    Query,
    RemoteSeries,
    described_series,
    matching,
    missing_package,
    not_stored,
    patiently,
    text_of,
)
from multiorganseg.pacs.login import AUTHORITY, CERTIFICATE, PASSWORD, TOKEN, USER, certificates, login_for
from multiorganseg.progress import Progress
from multiorganseg.volumes.dicom_header import damage_as_typed, read_whole_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

_TIMEOUT_S = (10.0, 120.0)
_PAGE = 200
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_FOUND = 404
_LOOKING = "asking the archive"
T = TypeVar("T")


class DicomWeb:
    """A connection over HTTP; see `multiorganseg.pacs.archive.Archive`.

    Logins go with every request to this archive, and to no other: redirections are not followed.

    Args:
        address: Of the archive.

    Raises:
        DependencyError: dicomweb-client is not installed.
        OptionError: As `login_for` and `certificates`.
        ServerError: As `login_for`.
    """

    def __init__(self, address: Address) -> None:
        try:
            import requests
            from dicomweb_client import DICOMwebClient
        except ImportError as error:
            package = "dicomweb-client"
            raise missing_package(package, error) from error
        self.address, login, files = address, login_for(address), certificates()

        class Authorization(requests.auth.AuthBase):
            """Logs in as given, and never as a file of the home folder (.netrc) says.

            It is the last to see a request, and leaves a star as it is: Orthanc takes an escaped one for a
            letter, not for the wildcard.
            """

            def __call__(self, request: Any) -> Any:
                request.url = request.url.replace("%2A", "*")
                if login.token:
                    request.headers["Authorization"] = f"Bearer {login.token}"
                elif login:
                    user, password = login.user.encode(), login.password.encode()
                    requests.auth.HTTPBasicAuth(user, password)(request)
                return request

        session = requests.Session()
        session.auth, session.max_redirects = Authorization(), 0
        if files.authority:
            session.verify = files.authority
        if files.own:
            session.cert = (files.own, files.key) if files.key else files.own
        if address.is_loopback:
            session.trust_env = False
        self._session = session
        self._client = DICOMwebClient(address.url, session=session, timeout=_TIMEOUT_S)
        self._client.set_http_retry_params(retry=False)

    def __enter__(self) -> DicomWeb:
        """Return the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self._session.close()

    def find(self, query: Query, progress: Progress) -> list[RemoteSeries]:
        """List series, those of one study together."""
        progress(_LOOKING, 0.0)
        if query.study and query.of_study.keys() == {"StudyInstanceUID"}:
            studies = [{"StudyInstanceUID": query.study}]
        else:
            wanted = ["StudyInstanceUID", "StudyDate", "PatientID", "PatientName"]
            answers = self._all(self._client.search_for_studies, query.of_study, wanted, progress)
            studies = [{keyword: text_of(each, keyword) for keyword in wanted} for each in answers]
        found: list[RemoteSeries] = []
        for number, study in enumerate(studies):
            progress(_LOOKING, number / len(studies))
            uid = check_uid(study["StudyInstanceUID"])
            fields = ["SeriesDescription", "SeriesNumber", "NumberOfSeriesRelatedInstances", "PatientID"]
            fields += ["PatientName", "StudyDate"]
            answers = self._all(self._client.search_for_series, query.of_series, fields, progress, uid)
            for each in answers:
                known = {keyword: study.get(keyword) or text_of(each, keyword) for keyword in fields[3:]}
                found.append(described_series(each, known, uid))
        return matching(found, query)

    def fetch(self, study: str, series: str, folder: Path, progress: Progress) -> None:
        """Write every image of a series into a folder, each once, and refuse a part of it.

        The series comes in one answer; what is still missing after that, because the connection broke or
        because the series was still being stored, comes image by image.
        """
        inbox, asked = Inbox(folder, series), set[str]()
        while new := [uid for uid in self._images(study, series, progress) if uid not in asked]:
            if not asked:
                self._stream(study, series, inbox, len(new), progress)
            asked.update(new)
            for uid in new:
                if uid not in inbox.uids:
                    progress(FETCHING, len(inbox.uids) / len(asked))
                    self._fetch_one(study, series, uid, inbox, progress)
        inbox.require(asked)
        progress(FETCHING, 1.0)

    def send(self, files: Sequence[Path], progress: Progress) -> None:
        """Store DICOM files, and see that the archive has them."""
        outbox = Outbox(files)
        for file in files:
            progress(SENDING, outbox.fraction)
            data = read_whole_dicom(file)
            with damage_as_typed(file.name):
                study = check_uid(str(data.StudyInstanceUID))

            def store(data: Dataset = data, study: str = study) -> Dataset:
                return self._client.store_instances([data], study_instance_uid=study)

            answer = self._asked(store, progress, f"store {file.name}")
            refused: Any = answer.get("FailedSOPSequence") or ()
            if len(refused):
                raise not_stored(file.name, f"Its reason: {int(refused[0].get('FailureReason', 0)):#06x}.")
            outbox.done(file, data)
        outbox.require_listed(lambda study, series: self._images(study, series, progress))
        progress(SENDING, 1.0)

    def has_series(self, study: str, series: str, progress: Progress) -> bool:
        """Whether the archive has the series."""
        found = self._all(self._client.search_for_series, {"SeriesInstanceUID": series}, [], progress, study)
        return any(text_of(each, "SeriesInstanceUID") == series for each in found)

    def _images(self, study: str, series: str, progress: Progress) -> list[str]:
        """List the SOP Instance UIDs of a series; none where the archive does not know it."""
        answers = self._all(self._client.search_for_instances, {}, [], progress, study, series)
        return list(dict.fromkeys(filter(None, (text_of(each, "SOPInstanceUID") for each in answers))))

    def _stream(self, study: str, series: str, inbox: Inbox, count: int, progress: Progress) -> None:
        """Take what one answer brings; what a broken one lacks is asked for again by the caller."""
        import requests

        progress(FETCHING, 0.0)
        try:
            for data in self._client.iter_series(study, series):
                _keep(data, inbox)
                progress(FETCHING, len(inbox.uids) / max(count, len(inbox.uids)))
        except MultiOrganSegError:
            raise
        except Exception as error:  # broken answers raise as they like
            is_final = isinstance(error, requests.RequestException) and not _may_pass(error)
            if is_final and _status(error) != _NOT_FOUND:
                raise self._told(error, "fetch the series") from error

    def _fetch_one(self, study: str, series: str, uid: str, inbox: Inbox, progress: Progress) -> None:
        """Take one image; one that the archive lists and does not have stays missing."""

        def retrieve() -> Dataset | None:
            try:
                return self._client.retrieve_instance(study, series, check_uid(uid))
            except Exception as error:
                if _status(error) == _NOT_FOUND:
                    return None
                raise

        data = self._asked(retrieve, progress, "fetch an image")
        if data is not None:
            with damage_as_typed("An image from the archive"):
                _keep(data, inbox)

    def _all(
        self,
        search: Callable[..., list[dict[str, Any]]],
        filters: Mapping[str, str],
        fields: Sequence[str],
        progress: Progress,
        *within: str,
    ) -> list[Dataset]:
        """Ask page by page until nothing new comes."""
        from pydicom import Dataset

        found: dict[str, Dataset] = {}
        while True:

            def ask(offset: int = len(found)) -> list[Dataset]:
                answers = search(
                    *within,
                    fields=list(fields) or None,
                    search_filters=dict(filters) or None,
                    limit=_PAGE,
                    offset=offset,
                )
                return [Dataset.from_json(each) for each in answers]

            page = self._asked(ask, progress, "search")
            before = len(found)
            for each in page:
                names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
                found.setdefault("/".join(text_of(each, name) for name in names), each)
            if len(page) < _PAGE or len(found) == before:
                return list(found.values())

    def _asked(self, call: Callable[[], T], progress: Progress, what: str) -> T:
        try:
            return patiently(call, _may_pass, progress)
        except MultiOrganSegError:
            raise
        except Exception as error:  # archives answer what they like, and pydicom and json raise as they like
            raise self._told(error, what) from error

    def _told(self, error: Exception, what: str) -> ServerError:
        """Return an error of HTTP as one for the user, without anything that might be a login."""
        import requests

        server, status = self.address.server, _status(error)
        if isinstance(error, requests.exceptions.SSLError):
            return ServerError(
                f"The certificate of {server} is not trusted.",
                cause=_innermost(error),
                next_step=f"Name the file with your hospital's certificates in {AUTHORITY}; where the "
                f"archive asks for your own, in {CERTIFICATE}.",
            )
        if status == 401:
            return ServerError(
                f"{server} does not know the user.",
                cause="The login is missing or wrong (HTTP 401).",
                next_step=f"Set {TOKEN}, or {USER} and {PASSWORD}, or store them: "
                f"multiorganseg pacs login {self.address.archive}",
            )
        if status == 403:
            return ServerError(
                f"{server} does not allow this user to {what} (HTTP 403).",
                next_step="Ask those who run it for the right.",
            )
        if status == _NOT_FOUND:
            return ServerError(
                f"{server} does not have what was asked for (HTTP 404).",
                cause=f"It was asked at {self.address.url}.",
                next_step="Check the path of the DICOMweb services and the UIDs: multiorganseg pacs find",
            )
        if isinstance(error, requests.TooManyRedirects):
            return ServerError(
                f"{server} sends to another address, which is not followed.",
                next_step="Give the address where its DICOMweb services really are.",
            )
        if status is not None:
            return ServerError(
                f"{server} could not {what} (HTTP {status}).",
                cause=f"It was asked again for {PATIENCE_S:.0f} s." if status in _PASSING else "",
                next_step="Look into its log, or ask those who run it.",
            )
        is_answer = isinstance(error, requests.exceptions.InvalidJSONError)
        if isinstance(error, requests.RequestException) and not is_answer:
            return ServerError(
                f"{server} cannot be reached.",
                cause=f"{_innermost(error)} It was tried for {PATIENCE_S:.0f} s.",
                next_step="Check host, port and whether it runs; a firewall or proxy may stand between.",
            )
        return ServerError(
            f"{server} answers in a way that is not DICOMweb.",
            cause=f"{type(error).__name__}: {str(error)[:200]}",
            next_step=f"Check the path of the services; it was asked at {self.address.url}.",
        )


def _keep(data: Dataset, inbox: Inbox) -> None:
    written = io.BytesIO()
    data.save_as(written, enforce_file_format=True)
    inbox.add(str(data.SOPInstanceUID), str(data.SeriesInstanceUID), written.getvalue())


def _status(error: Exception) -> int | None:
    response = getattr(error, "response", None)
    return None if response is None else int(response.status_code)


def _may_pass(error: Exception) -> bool:
    import requests

    if isinstance(error, requests.exceptions.SSLError | requests.TooManyRedirects):
        return False
    status = _status(error)
    if status is not None:
        return status in _PASSING
    kinds = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, kinds)


def _innermost(error: BaseException) -> str:
    """The first cause of a chain of errors, whose outer ones quote whole objects."""
    seen: set[int] = set()
    while id(error) not in seen:
        seen.add(id(error))
        inner = next((arg for arg in error.args if isinstance(arg, BaseException)), None)
        inner = getattr(error, "reason", None) if not isinstance(inner, BaseException) else inner
        if not isinstance(inner, BaseException):
            break
        error = inner
    return f"{str(error).rpartition('>: ')[2] or type(error).__name__}."
