"""A real Orthanc on this computer, a proxy that misbehaves in front of it, and a CT to store there."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import requests
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from multiorganseg.bundles import Bundle

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
AET, OWN_AET = "ORTHANC", "MULTIORGANSEG"
STARTED_IN_S = 60


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Orthanc:
    """Orthanc with its DICOMweb plugin, whose storage outlives a restart."""

    def __init__(self, folder: Path, users: dict[str, str] | None = None, **more: Any) -> None:
        self.folder, self.process = folder, None
        self.http, self.dicom, self.move = free_port(), free_port(), free_port()
        self.auth = next(((name.encode(), word.encode()) for name, word in (users or {}).items()), None)
        config = {
            "Name": "test",
            "StorageDirectory": str(folder / "db"),
            "IndexDirectory": str(folder / "db"),
            "HttpPort": self.http,
            "DicomPort": self.dicom,
            "DicomAet": AET,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": bool(users),
            "RegisteredUsers": users or {},
            "DicomModalities": {"own": [OWN_AET, "127.0.0.1", self.move]},
            "DicomAlwaysAllowStore": False,
            "DicomCheckCalledAet": True,
            "Plugins": [str(PLUGIN)],
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
            "ConcurrentJobs": 1,
            "StableAge": 1,
            **more,
        }
        (folder / "orthanc.json").write_text(json.dumps(config), encoding="utf-8")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    @property
    def web(self) -> str:
        return f"dicomweb://127.0.0.1:{self.http}/dicom-web"

    @property
    def dimse(self) -> str:
        return f"dimse://{AET}@127.0.0.1:{self.dicom}"

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [shutil.which("Orthanc") or "/usr/sbin/Orthanc", str(self.folder / "orthanc.json")],
            stdout=log,
            stderr=log,
        )
        until = time.monotonic() + STARTED_IN_S
        while time.monotonic() < until:
            try:
                requests.get(
                    f"{self.url}/dicom-web/studies?limit=1", auth=self.auth, timeout=5
                ).raise_for_status()
                return
            except requests.RequestException:
                assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
                time.sleep(0.1)
        pytest.fail("Orthanc did not start")

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def rest(self, path: str, **parameters: Any) -> Any:
        answer = requests.get(f"{self.url}{path}", auth=self.auth, timeout=30, params=parameters)
        answer.raise_for_status()
        return answer.json()

    def store(self, files: list[Path]) -> None:
        for file in files:
            answer = requests.post(
                f"{self.url}/instances", data=file.read_bytes(), auth=self.auth, timeout=30
            )
            answer.raise_for_status()

    def instances(self, modality: str) -> list[Dataset]:
        """All objects of a modality, as Orthanc gives them to anybody."""
        found = []
        for uid in self.rest("/series"):
            if self.rest(f"/series/{uid}")["MainDicomTags"].get("Modality") == modality:
                for instance in self.rest(f"/series/{uid}")["Instances"]:
                    answer = requests.get(f"{self.url}/instances/{instance}/file", auth=self.auth, timeout=30)
                    path = self.folder / "taken.dcm"
                    path.write_bytes(answer.content)
                    found.append(pydicom.dcmread(path))
        return found

    def clear(self) -> None:
        for patient in self.rest("/patients"):
            requests.delete(f"{self.url}/patients/{patient}", auth=self.auth, timeout=30)


def run_orthanc(folder: Path, users: dict[str, str] | None = None, **more: Any) -> Iterator[Orthanc]:
    """One that runs until the iterator is closed; options go into its configuration."""
    if not PLUGIN.is_file() or not (shutil.which("Orthanc") or Path("/usr/sbin/Orthanc").is_file()):
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    server = Orthanc(folder, users, **more)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def running_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    yield from run_orthanc(tmp_path_factory.mktemp("orthanc"))


@pytest.fixture
def orthanc(running_orthanc: Orthanc) -> Orthanc:
    """An empty Orthanc that lets everybody in."""
    if running_orthanc.process is None:
        running_orthanc.start()
    running_orthanc.clear()
    return running_orthanc


@pytest.fixture(scope="session")
def locked_orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """One that asks for a user and a password."""
    yield from run_orthanc(tmp_path_factory.mktemp("locked"), {"reader": "pässword"})


@pytest.fixture
def start_orthanc(tmp_path: Path) -> Iterator[Callable[..., Orthanc]]:
    """Start one with options of its configuration."""
    with ExitStack() as running:

        def start(**more: Any) -> Orthanc:
            (tmp_path / "own").mkdir()
            return running.enter_context(contextmanager(run_orthanc)(tmp_path / "own", None, **more))

        yield start


@pytest.fixture(autouse=True)
def no_login(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("MULTIORGANSEG_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


class Ct:
    """A CT of an ellipse as a DICOM series with a patient.

    Attributes:
        study: Study Instance UID.
        series: Series Instance UID.
        files: Its slices.
    """

    def __init__(
        self, folder: Path, slices: int = 20, seed: int = 0, study: str = "", patient: str = "P1"
    ) -> None:
        folder.mkdir(parents=True)
        self.folder, self.study, self.series = folder, study or generate_uid(), generate_uid()
        frame, generator = generate_uid(), np.random.default_rng(seed)
        k, j, i = np.mgrid[:slices, :48, :48]
        body = ((j - 24) / 18) ** 2 + ((i - 24) / 20) ** 2 < 1
        voxels = np.where(body, 60 + 30 * np.sin(k / 3) + generator.normal(0, 10, body.shape), -1000)
        self.voxels = voxels.astype(np.int16)
        self.files = []
        for number, pixels in enumerate(self.voxels):
            made = Dataset()
            made.file_meta = FileMetaDataset()
            made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
            made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = CTImageStorage
            made.SOPInstanceUID = made.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            made.StudyInstanceUID, made.SeriesInstanceUID = self.study, self.series
            made.FrameOfReferenceUID, made.SpecificCharacterSet = frame, "ISO_IR 192"
            made.PatientName, made.PatientID, made.StudyID = "Müller^Änne", patient, "7"
            made.PatientBirthDate, made.PatientSex, made.AccessionNumber = "19500101", "F", "A77"
            made.StudyDate, made.StudyTime, made.ReferringPhysicianName = "20260115", "120000", "Doc^Tor"
            made.InstitutionName, made.OperatorsName = "Loudhospital", "Loudoperator"
            made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 3, number + 1
            made.SeriesDescription, made.ImageType = "Abdomen venous", ["ORIGINAL", "PRIMARY", "AXIAL"]
            made.ImagePositionPatient = [0, 0, 3.0 * number]
            made.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
            made.PixelSpacing, made.SliceThickness = [2.0, 2.0], 3.0
            made.Rows, made.Columns = pixels.shape
            made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
            made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
            made.RescaleSlope, made.RescaleIntercept, made.RescaleType = 1, 0, "HU"
            made.PixelData = pixels.astype("<i2").tobytes()
            path = folder / f"{number:03d}.dcm"
            made.save_as(path, enforce_file_format=True)
            self.files.append(path)

    @property
    def path(self) -> str:
        return f"/studies/{self.study}/series/{self.series}"


@pytest.fixture
def make_ct(tmp_path: Path) -> Callable[..., Ct]:
    made: list[Ct] = []

    def make(**options: Any) -> Ct:
        made.append(Ct(tmp_path / f"ct{len(made)}", seed=len(made), **options))
        return made[-1]

    return make


@pytest.fixture(scope="session")
def tiny_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(name="tiny")


class Proxy:
    """Stands before Orthanc and does to some answers what a test wants.

    Attributes:
        rule: Called with the handler before a request is passed on; true when it answered itself.
        cut: Called with path and content of an answer; what is sent of it, the length announced in full.
        asked: Method, path and the header Authorization of every request.
    """

    def __init__(self, orthanc: Orthanc) -> None:
        self.rule: Callable[[Any], bool] = lambda handler: False
        self.cut: Callable[[str, bytes], bytes] = lambda path, content: content
        self.asked: list[tuple[str, str, str | None]] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                content = self.body()
                proxy.asked.append((self.command, self.path, self.headers.get("Authorization")))
                if proxy.rule(self):
                    return
                link = http.client.HTTPConnection("127.0.0.1", orthanc.http, timeout=60)
                dropped = ("transfer-encoding", "host", "content-length")
                kept = {key: value for key, value in self.headers.items() if key.lower() not in dropped}
                kept["Content-Length"] = str(len(content))
                try:
                    link.request(self.command, self.path, content, kept)
                    answer = link.getresponse()
                    said = answer.read()
                except OSError:
                    self.answer(502, b"no server behind the proxy")
                    return
                kind, packed = answer.headers.get("Content-Type"), answer.headers.get("Content-Encoding")
                self.answer(answer.status, said, kind, proxy.cut(self.path, said), packed)

            do_GET = do_POST = handle_any

            def body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length") or 0))
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
                return content

            def answer(
                self,
                status: int,
                content: bytes,
                kind: str | None = None,
                sent: bytes | None = None,
                packed: str | None = None,
            ) -> None:
                self.send_response(status)
                if packed:
                    self.send_header("Content-Encoding", packed)
                self.send_header("Content-Type", kind or "text/plain")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content if sent is None else sent)
                if sent is not None and len(sent) < len(content):
                    self.close_connection = True

            def log_message(self, *arguments: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    @property
    def web(self) -> str:
        return f"dicomweb://127.0.0.1:{self.port}/dicom-web"

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def proxy(orthanc: Orthanc) -> Iterator[Proxy]:
    made = Proxy(orthanc)
    yield made
    made.close()
