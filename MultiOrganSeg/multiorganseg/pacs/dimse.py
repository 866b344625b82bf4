"""Archives that speak classic DICOM: C-FIND, C-GET or C-MOVE, and C-STORE.

Source: DICOM PS3.4, annexes B (storage) and C (query/retrieve).
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from multiorganseg.errors import OptionError, ServerError
from multiorganseg.pacs.address import Address
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
from multiorganseg.pacs.login import AUTHORITY, MOVE_PORT, OWN_TITLE, certificates
from multiorganseg.progress import Progress
from multiorganseg.volumes.dicom_header import damage_as_typed, open_dicom, read_whole_dicom

if TYPE_CHECKING:
    from pydicom import Dataset

_TIMEOUT_S = 30
_PENDING, _WARNING = (0xFF00, 0xFF01), 0xB000
_LOOKING = "asking the archive"
_IMAGES = (
    "CTImageStorage",
    "EnhancedCTImageStorage",
    "MRImageStorage",
    "EnhancedMRImageStorage",
    "PositronEmissionTomographyImageStorage",
)
_UNCOMPRESSED = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
_COMPRESSED = tuple(f"1.2.840.10008.1.2{end}" for end in (".4.70", ".4.80", ".4.81", ".4.90", ".4.91", ".5"))
T = TypeVar("T")


class Dimse:
    """Associations with an archive; see `multiorganseg.pacs.archive.Archive`.

    The archive must know this computer's Application Entity title (`MULTIORGANSEG_AE_TITLE`). Images come by
    C-GET, or by C-MOVE where `MULTIORGANSEG_MOVE_PORT` names the port to which the archive sends them.

    Args:
        address: Of the archive.

    Raises:
        DependencyError: pynetdicom is not installed.
        OptionError: The environment holds no port or no title, or names files that are not there.
    """

    def __init__(self, address: Address) -> None:
        try:
            import pynetdicom
        except ImportError as error:
            package = "pynetdicom"
            raise missing_package(package, error) from error
        self.address = address
        self._pynetdicom: Any = pynetdicom
        self._title = os.environ.get(OWN_TITLE) or "MULTIORGANSEG"
        port = os.environ.get(MOVE_PORT, "")
        if (port and not (port.isascii() and port.isdigit() and int(port) < 65536)) or len(self._title) > 16:
            msg = f"{MOVE_PORT} or {OWN_TITLE} is not valid."
            raise OptionError(msg, next_step="Give a port below 65536 and a title of at most 16 characters.")
        self._move_port = int(port) if port else None
        self._tls = self._context() if address.is_encrypted else None

    def __enter__(self) -> Dimse:
        """Return it; associations last as long as one question."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is open."""

    def find(self, query: Query, progress: Progress) -> list[RemoteSeries]:
        """List series, those of one study together."""
        progress(_LOOKING, 0.0)
        fields = ("StudyInstanceUID", "StudyDate", "PatientID", "PatientName", "AccessionNumber")
        studies = self._find("STUDY", {**dict.fromkeys(fields, ""), **query.of_study}, progress)
        found: list[RemoteSeries] = []
        for number, study in enumerate(studies):
            progress(_LOOKING, number / len(studies))
            known = {keyword: text_of(study, keyword) for keyword in fields}
            uid = known["StudyInstanceUID"]
            wanted = ("SeriesInstanceUID", "Modality", "SeriesDescription", "SeriesNumber")
            keys = {**dict.fromkeys((*wanted, "NumberOfSeriesRelatedInstances"), ""), **query.of_series}
            answers = self._find("SERIES", {"StudyInstanceUID": uid, **keys}, progress)
            found += [described_series(each, known, uid) for each in answers]
        return matching(found, query)

    def fetch(self, study: str, series: str, folder: Path, progress: Progress) -> None:
        """Write every image of a series into a folder, each once, and refuse a part of it.

        What is missing after the whole series was asked for is asked for image by image.
        """
        inbox, asked = Inbox(folder, series), set[str]()
        get = self._get if self._move_port is None else self._move
        named = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
        while new := [uid for uid in self._images(study, series, progress) if uid not in asked]:
            asked.update(new)

            def whole() -> None:
                get({**named, "QueryRetrieveLevel": "SERIES"}, inbox, len(asked), progress)

            self._asked(whole, progress)
            for uid in new:
                if uid not in inbox.uids:
                    one = {**named, "QueryRetrieveLevel": "IMAGE", "SOPInstanceUID": uid}

                    def single(keys: Mapping[str, str] = one) -> None:
                        get(keys, inbox, len(asked), progress)

                    self._asked(single, progress)
        inbox.require(asked)
        progress(FETCHING, 1.0)

    def send(self, files: Sequence[Path], progress: Progress) -> None:
        """Store DICOM files, and see that the archive has them."""
        outbox = Outbox(files)
        contexts: dict[tuple[str, str], None] = {}
        for file in files:
            header = open_dicom(file)
            with damage_as_typed(file.name):
                assert header is not None
                contexts[str(header.SOPClassUID), str(header.file_meta.TransferSyntaxUID)] = None

        def store() -> None:
            with self._associated([(kind, [syntax]) for kind, syntax in contexts]) as link:
                for file in list(outbox.left):
                    progress(SENDING, outbox.fraction)
                    data = read_whole_dicom(file)
                    status = link.send_c_store(data)
                    if "Status" not in status:
                        raise _broken()
                    code = int(status.Status)
                    if code != 0 and (code & 0xF000) != _WARNING:
                        raise not_stored(file.name, f"Its reason: {code:#06x}.")
                    with damage_as_typed(file.name):
                        outbox.done(file, data)

        self._asked(store, progress)
        outbox.require_listed(lambda study, series: self._images(study, series, progress))
        progress(SENDING, 1.0)

    def has_series(self, study: str, series: str, progress: Progress) -> bool:
        """Whether the archive has the series."""
        return bool(self._images(study, series, progress))

    def _images(self, study: str, series: str, progress: Progress) -> list[str]:
        keys = {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": ""}
        answers = self._find("IMAGE", keys, progress)
        return list(dict.fromkeys(filter(None, (text_of(each, "SOPInstanceUID") for each in answers))))

    def _find(self, level: str, keys: Mapping[str, str], progress: Progress) -> list[Dataset]:
        model = self._model("Find")

        def ask() -> list[Dataset]:
            found = []
            with self._associated([(model, None)]) as link:
                for status, answer in link.send_c_find(
                    _identifier({**keys, "QueryRetrieveLevel": level}), model
                ):
                    progress(_LOOKING, 0.0)
                    if self._is_pending(status) and answer is not None:
                        found.append(answer)
            return found

        return self._asked(ask, progress)

    def _get(self, keys: Mapping[str, str], inbox: Inbox, count: int, progress: Progress) -> None:
        model, evt = self._model("Get"), self._pynetdicom.evt
        classes = [getattr(self._pynetdicom.sop_class, name) for name in _IMAGES]
        wanted = [(each, list(_UNCOMPRESSED)) for each in classes]
        wanted += [(each, [syntax]) for each in classes for syntax in _COMPRESSED]
        roles = [self._pynetdicom.build_role(each, scp_role=True) for each in classes]
        received = [(evt.EVT_C_STORE, _keep, [inbox])]
        with self._associated([(model, None), *wanted], ext_neg=roles, evt_handlers=received) as link:
            for status, _ in link.send_c_get(_identifier(keys), model):
                progress(FETCHING, len(inbox.uids) / max(count, len(inbox.uids)))
                self._is_pending(status)

    def _move(self, keys: Mapping[str, str], inbox: Inbox, count: int, progress: Progress) -> None:
        model, evt = self._model("Move"), self._pynetdicom.evt
        entity = self._pynetdicom.AE(self._title)
        entity.require_called_aet = True
        for name in _IMAGES:
            entity.add_supported_context(
                getattr(self._pynetdicom.sop_class, name), [*_UNCOMPRESSED, *_COMPRESSED]
            )
        assert self._move_port is not None
        place, received = ("", self._move_port), [(evt.EVT_C_STORE, _keep, [inbox])]
        server: Any = entity.start_server(place, block=False, evt_handlers=received)
        try:
            with self._associated([(model, None)]) as link:
                for status, _ in link.send_c_move(_identifier(keys), self._title, model):
                    progress(FETCHING, len(inbox.uids) / max(count, len(inbox.uids)))
                    self._is_pending(status)
        finally:
            server.shutdown()

    def _model(self, what: str) -> Any:
        return getattr(self._pynetdicom.sop_class, f"StudyRootQueryRetrieveInformationModel{what}")

    @contextmanager
    def _associated(self, contexts: Sequence[tuple[Any, Any]], **options: Any) -> Iterator[Any]:
        entity = self._pynetdicom.AE(self._title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = _TIMEOUT_S
        entity.connection_timeout = _TIMEOUT_S
        for abstract, syntaxes in contexts:
            entity.add_requested_context(abstract, syntaxes or list(_UNCOMPRESSED))
        tls = (self._tls, self.address.host) if self._tls else None
        link = entity.associate(
            self.address.host,
            self.address.port,
            ae_title=self.address.called,
            tls_args=tls,
            **options,
        )
        if link.is_rejected:
            msg = f"{self.address.server} refuses this computer."
            raise ServerError(
                msg,
                cause=f"It does not know the title {self._title} at this address, or is not called "
                f"{self.address.called}.",
                next_step=f"Have the title entered there; choose it with {OWN_TITLE}.",
            )
        if not link.is_established:
            msg = "no association"
            raise ConnectionError(msg)
        try:
            yield link
        except BaseException:
            link.abort()
            raise
        link.release()

    def _is_pending(self, status: Any) -> bool:
        """Whether more follows.

        Raises:
            ConnectionAbortedError: The connection broke.
            ServerError: The archive refuses.
        """
        if "Status" not in status:
            raise _broken()
        code = int(status.Status)
        if code in _PENDING:
            return True
        if code not in (0x0000, _WARNING):
            comment = str(status.get("ErrorComment") or "")[:200]
            msg = f"{self.address.server} could not do what was asked."
            raise ServerError(
                msg,
                cause=f"Its status: {code:#06x} {comment}".strip() + ".",
                next_step="Look into its log. For C-MOVE it must know this computer's title, host and port.",
            )
        return False

    def _asked(self, call: Callable[[], T], progress: Progress) -> T:
        try:
            return patiently(call, lambda error: isinstance(error, ConnectionError), progress)
        except ConnectionAbortedError as error:
            msg = f"{self.address.server} ends the connection without an answer."
            raise ServerError(
                msg,
                cause=f"It was asked again for {PATIENCE_S:.0f} s. So do archives that do not know a title; "
                f"this computer's is {self._title}.",
                next_step=f"Have the title entered there; choose it with {OWN_TITLE}.",
            ) from error
        except ConnectionError as error:
            msg = f"{self.address.server} cannot be reached."
            raise ServerError(
                msg,
                cause=f"There was no association for {PATIENCE_S:.0f} s.",
                next_step="Check host, port and whether it runs; a firewall may stand between."
                + (f" Its certificate may not be trusted: {AUTHORITY}." if self._tls else ""),
            ) from error

    def _context(self) -> ssl.SSLContext:
        files = certificates()
        context = ssl.create_default_context(cafile=files.authority or None)
        if files.own:
            context.load_cert_chain(files.own, files.key or None)
        return context


def _broken() -> ConnectionAbortedError:
    return ConnectionAbortedError("the association broke")


def _identifier(keys: Mapping[str, str]) -> Dataset:
    from pydicom import Dataset

    made = Dataset()
    made.SpecificCharacterSet = "ISO_IR 192"
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return made


def _keep(event: Any, inbox: Inbox) -> int:
    """Take an image that the archive sends; 0xA700 says that it could not be kept."""
    try:
        data = event.request
        content = event.encoded_dataset()
        series = str(event.dataset.SeriesInstanceUID)
        inbox.add(str(data.AffectedSOPInstanceUID), series, content)
    except Exception:  # damaged data and full disks alike are seen by what is missing at the end
        return 0xA700
    return 0x0000
