"""What the server lets in and what it refuses, in this process; no network is computed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("fastapi")
pytest.importorskip("httpx")
from starlette.testclient import TestClient

from multiorganseg.cli.app import app as command
from multiorganseg.events import EventKind, event_log
from multiorganseg.serve import app as serving
from multiorganseg.serve import rooms
from multiorganseg.serve.app import Service, build_app
from multiorganseg.volumes import write_volume
from Testing.engine.cli.conftest import make_ct

TOKEN = "a-token-of-the-tests"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    service = Service(tmp_path, TOKEN, "cpu", 2**20)
    with TestClient(build_app(service), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        yield client


@pytest.fixture
def room(client: TestClient) -> str:
    return str(client.post("/v1/rooms").json()["room"])


@pytest.mark.parametrize("given", ["", "Bearer ", "Bearer wrong", f"Basic {TOKEN}"])
def test_without_the_token_nothing_is_answered(client: TestClient, given: str) -> None:
    for method, path in (("GET", "/v1/status"), ("POST", "/v1/rooms"), ("GET", "/v1/nothing")):
        answer = client.request(method, path, headers={"Authorization": given})
        assert answer.status_code == 401
        assert answer.headers["connection"] == "close"
        assert "token" in answer.json()["problem"]


def test_the_status_names_what_there_is(client: TestClient) -> None:
    said = client.get("/v1/status").json()
    assert said["protocol"] == 1
    assert said["device"] == "cpu"
    assert "abdomen-ct" in said["models"]
    assert client.get("/docs").status_code == 404


@pytest.mark.parametrize("name", ["..%2Fa.nrrd", ".a.nrrd", "a%00.nrrd", "c:a.nrrd", "a" * 300 + ".nrrd"])
def test_names_lead_nowhere_else(client: TestClient, room: str, tmp_path: Path, name: str) -> None:
    before = set(tmp_path.rglob("*"))
    answer = client.put(f"/v1/rooms/{room}/files/{name}", content=b"x")
    assert answer.status_code in (400, 404)
    assert client.get(f"/v1/rooms/{room}/files/{name}").status_code in (400, 404)
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("a.mhd", b"ObjectType = Image", 400),
        ("a.exe", b"MZ", 400),
        ("a.nrrd", b"no header", 422),
        ("a.nrrd", b"NRRD0004\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\n"
         b"data file: /etc/hostname\n\n", 422),
        ("a.nii", b"x" * (2**20 + 1), 413),
    ],
)  # fmt: skip
def test_files_that_are_not_taken_leave_nothing(
    client: TestClient, room: str, tmp_path: Path, name: str, content: bytes, code: int
) -> None:
    answer = client.put(f"/v1/rooms/{room}/files/{name}", content=content)
    assert answer.status_code == code, answer.text
    assert answer.json()["next_step"]
    assert not list((tmp_path / room).iterdir())


def test_a_room_holds_no_more_than_is_allowed(client: TestClient, room: str) -> None:
    for number, code in ((1, 200), (1, 200), (2, 413)):
        answer = client.put(f"/v1/rooms/{room}/files/{number}.npy", content=b"x" * 700_000)
        assert answer.status_code == code


def test_a_slow_sender_is_sent_away(client: TestClient, room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "GRACE_SECONDS", -1000.0)
    answer = client.put(f"/v1/rooms/{room}/files/a.npy", content=b"xyz")
    assert answer.status_code == 408
    assert "slow" in answer.json()["problem"]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"{", "no request"),
        (b'{"request": "dance", "id": "1"}', "no request 'dance'"),
        (
            b'{"request": "segment", "id": "1", "volume": "../a.nrrd", "output": "b.seg.nrrd"}',
            "without folders",
        ),
        (
            b'{"request": "segment", "id": "1", "volume": "a.nrrd", "output": "/b.seg.nrrd"}',
            "without folders",
        ),
        (
            b'{"request": "segment", "id": "1", "volume": "a.nrrd", "output": "b", "model": "/tmp"}',
            "no model",
        ),
        (b'{"request": "segment", "id": "1", "volume": "a.nrrd", "output": "b.dcm"}', "no DICOM"),
        (b'{"request": "open", "id": "1", "session": "s", "volume": 3}', "'volume' must be text"),
    ],
)
def test_requests_that_are_none_are_refused_at_once(
    client: TestClient, room: str, line: bytes, text: str
) -> None:
    answer = client.post(f"/v1/rooms/{room}/requests", content=line)
    assert answer.status_code == 400, answer.text
    assert text in " ".join(str(answer.json().get(part)) for part in ("problem", "cause", "next_step"))


def test_an_endless_request_is_refused(client: TestClient, room: str) -> None:
    answer = client.post(f"/v1/rooms/{room}/requests", content=b" " * (16 * 2**20 + 1))
    assert answer.status_code == 413


def test_a_room_that_is_gone_is_told(client: TestClient, room: str, tmp_path: Path) -> None:
    write_volume(make_ct(), tmp_path / "a.nii.gz")
    sent = client.put(f"/v1/rooms/{room}/files/a.nii.gz", content=(tmp_path / "a.nii.gz").read_bytes())
    assert sent.status_code == 200
    assert client.delete(f"/v1/rooms/{room}").status_code == 200
    assert not (tmp_path / room).exists()
    answer = client.get(f"/v1/rooms/{room}/files/a.nii.gz")
    assert answer.status_code == 404
    assert "started anew" in answer.json()["cause"]


def test_rooms_are_bounded_and_cleared_when_idle(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(rooms, "MOST_ROOMS", 2)
    kept = rooms.Rooms(tmp_path, 1)
    first, second = kept.open(), kept.open()
    with pytest.raises(rooms.ResourceError, match="too many"):
        kept.open()
    second.used -= rooms.IDLE_SECONDS + 1
    assert kept.idle() == [second]
    second.asked["1"] = "1"
    assert kept.idle() == [], "an answer is under way"
    kept.close(first)
    assert kept.open() is not first


def test_trainings_are_told_without_folders(tmp_path: Path) -> None:
    run = tmp_path / "project" / "runs" / "first"
    run.mkdir(parents=True)
    with event_log(run / "events.jsonl") as events:
        events.emit(EventKind.STARTED, recipe="first")
        events.emit(EventKind.PROGRESS, iteration=3, iterations=9, loss=0.5)
        events.emit(EventKind.FINISHED)
    service = Service(tmp_path / "service", TOKEN, "cpu", project=tmp_path / "project")
    with TestClient(build_app(service), headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        answer = client.get("/v1/training")
    (run,) = answer.json()["runs"]
    assert run["state"] == "finished"
    assert run["progress"]["iteration"] == 3
    assert str(tmp_path) not in answer.text
    with TestClient(
        build_app(Service(tmp_path, TOKEN)), headers={"Authorization": f"Bearer {TOKEN}"}
    ) as client:
        assert client.get("/v1/training").status_code == 400


@pytest.mark.parametrize(
    ("arguments", "token", "text"),
    [
        (("--host", "0.0.0.0"), TOKEN, "in the clear"),
        (("--tls-key", __file__), TOKEN, "certificate and its key"),
        ((), "short", "too short"),
        (("--host", "192.0.2.1", "--plain"), TOKEN, "Cannot listen"),
        (("--tls-key", __file__, "--tls-certificate", __file__, "--port", "0"), TOKEN, "cannot be used"),
    ],
)
def test_the_command_refuses_what_is_not_safe(arguments: tuple[str, ...], token: str, text: str) -> None:
    result = CliRunner(env={"MULTIORGANSEG_TOKEN": token}).invoke(command, ["serve", *arguments])
    assert result.exit_code in (2, 6), result.output
    assert text in result.output
