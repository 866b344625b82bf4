"""The server as a process of its own, with real clients: honest, hostile, and one that outlives it."""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
import SimpleITK as sitk

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from multiorganseg.bundles import Bundle
from multiorganseg.children import module_command, module_environment
from multiorganseg.errors import OptionError, ResourceError
from multiorganseg.inference.segment import Segmenter
from multiorganseg.progress import CancelToken
from multiorganseg.refine import Prompt
from multiorganseg.resident.remote import RemoteWorker, Server
from multiorganseg.resident.requests import (
    NO_MODEL,
    Ask,
    CloseRequest,
    CorrectRequest,
    OpenRequest,
    SegmentRequest,
    UndoRequest,
    format_request,
)
from multiorganseg.volumes import Volume, read_labels, read_volume, write_volume
from Testing.engine.cli.conftest import make_ct

TOKEN = "a-token-of-the-tests"
PATIENCE_SECONDS = 900


@dataclass(eq=False)
class Running:
    """A server, its process and the folder below which it works."""

    url: str
    process: subprocess.Popen[str]
    folder: Path

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.rpartition("/")[2].split(":")
        return host, int(port)

    def files(self) -> list[str]:
        return [path.name for path in self.folder.rglob("*") if path.is_file() and path.name != ".owner"]

    def keeps(self, *names: str) -> bool:
        """Whether these files are left; a file that was sent goes just after its last byte."""
        until = time.monotonic() + 10
        while sorted(self.files()) != sorted(names) and time.monotonic() < until:
            time.sleep(0.02)
        return sorted(self.files()) == sorted(names)

    def resident(self) -> psutil.Process:
        return psutil.Process(self.process.pid).children()[0]


@pytest.fixture(scope="module")
def models(make_bundle: Callable[..., Bundle], tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    bundle = make_bundle(name="tiny-served")
    folder = tmp_path_factory.mktemp("models")
    shutil.copytree(bundle.folder, folder / "tiny-served")
    return bundle


@pytest.fixture(scope="module")
def start(models: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Running]]:
    running = []

    def begin(*arguments: str, port: int = 0) -> Running:
        folder = tmp_path_factory.mktemp("served")
        environment = {
            **module_environment(),
            "MULTIORGANSEG_TOKEN": TOKEN,
            "MULTIORGANSEG_MODELS": str(models.folder.parent),
            "TMPDIR": str(folder),
            "OMP_NUM_THREADS": "1",
        }
        words = ["serve", "--port", str(port), "--device", "cpu", "--most-mib", "16", *arguments]
        process = subprocess.Popen(
            module_command("multiorganseg", words), env=environment, stdout=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("Serving at http"), line
        return Running(line.split()[-1], process, folder)

    yield begin
    for process in running:
        process.terminate()
        process.wait(60)
        assert process.stdout is not None
        process.stdout.close()


@pytest.fixture(scope="module")
def served(start: Callable[..., Running]) -> Running:
    return start()


class Client:
    """Asks the server as the module's resident process does, and reads its events."""

    def __init__(self, url: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.sink = folder, io.StringIO()
        self.worker = RemoteWorker(Server(url, TOKEN), folder, self.sink)

    def ask(self, request: Ask, token: CancelToken | None = None) -> dict[str, Any]:
        """Return the last event of the answer."""
        self.worker.answer("one", request, token)
        last: dict[str, Any] = json.loads(self.sink.getvalue().splitlines()[-1])
        return last

    def stages(self) -> list[str]:
        events = [json.loads(line) for line in self.sink.getvalue().splitlines()]
        return [event["stage"] for event in events if event["event"] == "progress"]


SEGMENT = SegmentRequest("ct.nrrd", "ct.seg.nrrd", "tiny-served", formats=("json",))


def test_a_volume_is_segmented_there_and_nothing_of_it_stays(
    served: Running, models: Bundle, tmp_path: Path
) -> None:
    client = Client(served.url, tmp_path / "here")
    write_volume(make_ct(), client.folder / "ct.nrrd")
    end = client.ask(SEGMENT)
    assert end["event"] == "finished", end
    assert set(end["files"]) == {"ct.seg.nrrd", "ct.statistics.json"}
    assert {"reading", "segmenting", "writing"} <= set(client.stages())
    alone = Segmenter(models).segment(read_volume(client.folder / "ct.nrrd"))
    assert (read_labels(client.folder / "ct.seg.nrrd").voxels == alone.labels).all()
    assert served.keeps(), "neither the image nor its results stay"


def test_a_session_of_correction(served: Running, tmp_path: Path) -> None:
    client = Client(served.url, tmp_path / "here")
    write_volume(make_ct(), client.folder / "ct.nrrd")
    opened = client.ask(OpenRequest("s", "ct.nrrd", table={"1": "liver"}, model=NO_MODEL))
    assert opened["event"] == "finished", opened
    click = Prompt.click((10, 24, 24)).to_json()
    changed = client.ask(CorrectRequest("s", "liver", (click,)))
    assert changed["event"] == "finished", changed
    assert changed["voxels"] > 0
    assert (client.folder / changed["file"]).is_file()
    other = Client(served.url, tmp_path / "there")
    assert "no session" in other.ask(UndoRequest("s"))["problem"], "sessions of others are not seen"
    assert client.ask(UndoRequest("s"))["event"] == "finished"
    assert served.keeps("ct.nrrd"), "a correction needs it"
    assert client.ask(CloseRequest("s"))["event"] == "finished"
    client.worker.close()
    assert served.keeps()


def test_other_formats_are_sent_as_one_file(served: Running, tmp_path: Path) -> None:
    client = Client(served.url, tmp_path / "here")
    write_volume(make_ct(), client.folder / "ct.nrrd")
    sitk.WriteImage(sitk.ReadImage(client.folder / "ct.nrrd"), client.folder / "ct.mhd")
    request = SegmentRequest("ct.mhd", "out", "tiny-served", formats=("nii.gz", "csv"))
    end = client.ask(request)
    assert end["event"] == "finished", end
    assert (client.folder / "out" / "ct.seg.nii.gz").is_file()
    assert (client.folder / "out" / "ct.statistics.csv").is_file()


def test_cancel_and_a_crash_are_told_and_the_next_request_is_answered(
    served: Running, tmp_path: Path
) -> None:
    client = Client(served.url, tmp_path / "here")
    ct = make_ct()
    large = Volume(ct.voxels.repeat(4, 0).repeat(4, 1).repeat(4, 2), ct.affine)
    write_volume(large, client.folder / "large.nrrd")
    slow = SegmentRequest("large.nrrd", "large.seg.nrrd", "tiny-served", quality="best")
    token = CancelToken()

    def when_computing(act: Callable[[], None]) -> None:
        seen = len(client.stages())

        def wait() -> None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while "segmenting" not in client.stages()[seen:] and time.monotonic() < deadline:
                time.sleep(0.02)
            act()

        threading.Thread(target=wait, daemon=True).start()

    when_computing(token.cancel)
    assert client.ask(slow, token)["event"] == "cancelled"
    when_computing(lambda: served.resident().kill())
    end = client.ask(slow)
    assert end["event"] == "failed"
    assert "has ended before it was done" in end["problem"]
    write_volume(ct, client.folder / "ct.nrrd")
    assert client.ask(SEGMENT)["event"] == "finished"
    assert not (client.folder / "large.seg.nrrd").exists()


def test_a_server_that_is_started_anew_is_told(start: Callable[..., Running], tmp_path: Path) -> None:
    first = start()
    client = Client(first.url, tmp_path / "here")
    write_volume(make_ct(), client.folder / "ct.nrrd")
    opening = OpenRequest("s", "ct.nrrd", table={"1": "liver"}, model=NO_MODEL)
    assert client.ask(opening)["event"] == "finished"
    first.process.kill()
    first.process.wait()
    end = client.ask(opening)
    assert "does not answer" in end["problem"]
    assert "try again in a minute" in end["next_step"]
    start(port=first.address[1])
    end = client.ask(UndoRequest("s"))
    assert end["event"] == "failed"
    assert "started anew" in end["cause"]
    assert client.ask(opening)["event"] == "finished", "the volume is sent again"


def test_tls(start: Callable[..., Running], tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    make = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -keyout key.pem -out cert.pem -subj /CN=localhost"
    )
    words = [*make.split(), "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(words, cwd=tmp_path, check=True, capture_output=True)
    running = start("--tls-certificate", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    url = f"https://localhost:{running.address[1]}"
    assert Server(url, TOKEN, tmp_path / "cert.pem").status()["device"] == "cpu"
    with pytest.raises(ResourceError, match="is not trusted"):
        Server(url, TOKEN).status()
    other_name = Server(url.replace("localhost", "127.0.0.1"), TOKEN, tmp_path / "cert.pem")
    with pytest.raises(ResourceError, match="is not trusted"):
        other_name.status()
    with pytest.raises(OptionError, match="does not know this token"):
        Server(url, "another token", tmp_path / "cert.pem").status()


def _accepted(address: tuple[str, int], room: str, identity: str) -> http.client.HTTPResponse:
    """Ask, and return once the request stands in the queue."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECONDS)
    line = format_request(identity, SegmentRequest("ct.nrrd", "ct.seg.nrrd", "tiny-served"))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection.request("POST", f"/v1/rooms/{room}/requests", line, headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    answer.readline()
    return answer


def _hostile(address: tuple[str, int], number: int) -> str:
    """Do one kind of harm; returns what became of it."""
    kind = number % 5
    if kind == 0:  # no token, and a body without an end
        sent = (
            b"POST /v1/rooms HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 1000
        )
        return _raw(address, sent)
    if kind == 1:  # garbage instead of HTTP
        return _raw(address, os.urandom(5000))
    if kind == 2:  # connects, and says nothing more
        return _raw(address, b"GET /v1/sta")
    headers = {"Authorization": f"Bearer {TOKEN}"}
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECONDS)
    connection.request("POST", "/v1/rooms", headers=headers)
    room = json.loads(connection.getresponse().read())["room"]
    if kind == 3:  # more than is allowed
        try:
            connection.request("PUT", f"/v1/rooms/{room}/files/a.npy", bytes(64 * 2**20), headers)
            return str(connection.getresponse().status)
        except (BrokenPipeError, ConnectionResetError):
            return "closed"
    connection.close()  # a body that stops coming
    start = f"PUT /v1/rooms/{room}/files/a.npy HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {TOKEN}\r\n"
    return _raw(address, start.encode() + b"Content-Length: 1000000\r\n\r\nabc")


def _raw(address: tuple[str, int], sent: bytes) -> str:
    with socket.create_connection(address, timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(sent)
        try:
            said = connection.recv(1000)
        except ConnectionResetError:
            return "closed"
    return said.split()[1].decode() if said.startswith(b"HTTP") else "closed"


@pytest.mark.slow
def test_a_hundred_clients_of_which_twenty_are_hostile(served: Running, tmp_path: Path) -> None:
    """None crashes it, the honest are answered in the order in which they asked, and memory is bounded."""
    process = psutil.Process(served.process.pid)
    before = process.memory_info().rss
    write_volume(make_ct(), tmp_path / "ct.nrrd")
    voxels = (tmp_path / "ct.nrrd").read_bytes()
    server = Server(served.url, TOKEN)
    with ThreadPoolExecutor(20) as bad, ThreadPoolExecutor(80) as good:
        harm = [bad.submit(_hostile, served.address, number) for number in range(20)]
        rooms, ends = [], []
        for _ in range(80):
            with server.asked("POST", "/rooms") as answer:
                rooms.append(json.loads(answer.read())["room"])
            with server.asked("PUT", f"/rooms/{rooms[-1]}/files/ct.nrrd", voxels):
                pass

        def finish(number: int, answer: http.client.HTTPResponse) -> None:
            *_, last = [line for line in answer if line.strip()]
            ends.append((number, json.loads(last)))

        answers = [
            good.submit(finish, number, _accepted(served.address, room, f"r{number}"))
            for number, room in enumerate(rooms)
        ]
        for each in answers:
            each.result(PATIENCE_SECONDS)
        outcomes = [each.result(PATIENCE_SECONDS) for each in harm]
    assert [end["event"] for _, end in ends] == ["finished"] * 80
    times = {number: end["time"] for number, end in ends}
    assert sorted(times, key=times.__getitem__) == list(range(80))
    assert set(outcomes[0::5]) == {"401"}
    assert set(outcomes[1::5]) <= {"400", "closed"}
    assert set(outcomes[2::5]) == {"closed"}
    assert set(outcomes[3::5]) <= {"413", "closed"}
    assert set(outcomes[4::5]) <= {"408", "closed"}
    assert served.process.poll() is None
    assert server.status()["waiting"] == 0
    assert process.memory_info().rss < before + 100 * 2**20
