"""Answers of the worker in this process: what is kept, what is refused, and what stays as it was."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import CancelToken
from multiorganseg.refine import Prompt, Session
from multiorganseg.resident.requests import (
    CloseRequest,
    CorrectRequest,
    OpenRequest,
    PutRequest,
    SaveRequest,
    SegmentRequest,
    UndoRequest,
)
from multiorganseg.resident.worker import MOST_SESSIONS, Worker
from multiorganseg.results.seg_nrrd import read_seg_nrrd_authors
from multiorganseg.results.segmentation import Author
from multiorganseg.volumes import Volume, read_labels, write_volume

TABLE = {"1": "liver", "2": "spleen"}
ADD = Prompt.click((7, 20, 8)).to_json()
REMOVE = Prompt.click((7, 20, 20), positive=False).to_json()


def scene() -> tuple[Volume, np.ndarray]:
    """Liver and spleen in fat; labels lack the left half of the liver."""
    k, j, i = np.indices((14, 40, 44))
    liver = ((k - 7) / 5) ** 2 + ((j - 20) / 11) ** 2 + ((i - 14) / 10) ** 2 < 1
    spleen = ((k - 7) / 4) ** 2 + ((j - 20) / 8) ** 2 + ((i - 32) / 7) ** 2 < 1
    hu = np.select([liver, spleen], [120, 50], -80) + np.random.default_rng(1).normal(0, 8, liver.shape)
    labels = np.where(liver & (i > 13), 1, np.where(spleen, 2, 0)).astype(np.uint8)
    return Volume(hu.astype(np.int16), np.diag([1.5, 1.5, 3.0, 1.0]), "scene", "CT"), labels


class Client:
    """Asks a worker and reads its events."""

    def __init__(self, folder: Path) -> None:
        self.sink = io.StringIO()
        self.folder = folder
        self.worker = Worker(folder, self.sink)
        self.events: list[dict[str, Any]] = []

    def ask(self, request: Any, token: CancelToken | None = None) -> dict[str, Any]:
        """Return the last event of the answer."""
        start = len(self.sink.getvalue())
        self.worker.answer("one", request, token)
        self.events = [json.loads(line) for line in self.sink.getvalue()[start:].splitlines()]
        assert {event["id"] for event in self.events} == {"one"}
        return self.events[-1]


@pytest.fixture
def client(tmp_path: Path) -> Client:
    volume, labels = scene()
    write_volume(volume, tmp_path / "ct.nrrd")
    np.save(tmp_path / "labels.npy", labels)
    return Client(tmp_path)


def opened(session: str = "s", **changes: Any) -> OpenRequest:
    given = {"volume": "ct.nrrd", "labels": "labels.npy", "table": TABLE, "model": "none", **changes}
    return OpenRequest(session, **given)


def expected_of(labels: np.ndarray, organ: str, prompt: Any) -> int:
    """How many voxels the core changes."""
    session = Session(scene()[0], labels, LabelTable.from_json(TABLE))
    return session.correct(organ, [Prompt.from_json(prompt)]).voxels


def test_an_answer_is_that_of_the_core_and_only_its_box(client: Client) -> None:
    volume, labels = scene()
    core = Session(volume, labels, LabelTable.from_json(TABLE))
    assert client.ask(opened())["event"] == "finished"
    for ask in (ADD, REMOVE):
        expected = core.correct("liver", [Prompt.from_json(ask)], ["spleen"])
        end = client.ask(CorrectRequest("s", "liver", (ask,), ("spleen",)))
        assert end["event"] == "finished", end
        box = tuple(slice(first, last) for first, last in end["box"])
        assert box == expected.box
        np.testing.assert_array_equal(np.load(client.folder / end["file"]), expected.labels)
        assert (end["organs"], end["voxels"]) == (list(expected.organs), expected.voxels)
        assert expected.voxels > 0


def test_undo_gives_the_box_as_it_was(client: Client) -> None:
    _, labels = scene()
    client.ask(opened())
    done = client.ask(CorrectRequest("s", "liver", (ADD,)))
    undone = client.ask(UndoRequest("s"))
    assert undone["box"] == done["box"]
    box = tuple(slice(first, last) for first, last in undone["box"])
    np.testing.assert_array_equal(np.load(client.folder / undone["file"]), labels[box])
    nothing = client.ask(UndoRequest("s"))
    assert (nothing["event"], nothing["kind"]) == ("failed", "OptionError")


def test_what_was_painted_elsewhere_is_taken_over(client: Client) -> None:
    _, labels = scene()
    painted = labels.copy()
    painted[2:5, 3:8, 3:9] = 2
    client.ask(opened())
    client.ask(CorrectRequest("s", "liver", (ADD,)))
    np.save(client.folder / "box.npy", painted)
    said = {"version": 1, "steps": []}
    assert client.ask(PutRequest("s", "box.npy", steps=said))["event"] == "finished"
    expected = expected_of(painted, "spleen", REMOVE)
    end = client.ask(CorrectRequest("s", "spleen", (REMOVE,)))
    assert end["voxels"] == expected
    np.save(client.folder / "box.npy", np.full((3, 5, 6), 3, np.uint16))
    box = ((2, 5), (3, 8), (3, 9))
    table = {**TABLE, "3": "pancreas"}
    assert client.ask(PutRequest("s", "box.npy", box, table))["event"] == "finished"
    out = Prompt.click((3, 4, 4), positive=False).to_json()
    assert client.ask(CorrectRequest("s", "pancreas", (out,)))["voxels"]
    wrong = client.ask(PutRequest("s", "box.npy", ((2, 5), (3, 8), (3, 90))))
    assert (wrong["event"], wrong["kind"]) == ("failed", "VolumeError")


def test_an_organ_joins_and_the_labels_are_saved_with_who_drew_them(client: Client) -> None:
    assert client.ask(OpenRequest("s", "ct.nrrd", model="none"))["organs"] == {}
    outside = Prompt.click((900, 0, 0)).to_json()
    refused = client.ask(CorrectRequest("s", "pancreas", (outside,), new=True))
    assert refused["kind"] == "VolumeError"
    unknown = client.ask(CorrectRequest("s", "pancreas", (ADD,)))
    assert unknown["kind"] == "OrganError"
    end = client.ask(CorrectRequest("s", "pancreas", (ADD,), new=True))
    assert end["table"] == {"1": "pancreas"}
    saved = client.ask(SaveRequest("s", "out.seg.nrrd"))
    assert saved["files"] == ["out.seg.nrrd"]
    assert len(saved["steps"]["steps"]) == 1
    assert read_labels(client.folder / "out.seg.nrrd").voxels[7, 20, 8] == 1
    assert read_seg_nrrd_authors(client.folder / "out.seg.nrrd") == {"pancreas": Author.CORRECTED}
    again = client.ask(OpenRequest("t", "ct.nrrd", "out.seg.nrrd", model="none", steps=saved["steps"]))
    assert again["organs"] == {"1": "pancreas"}


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        (CorrectRequest("none", "liver", (ADD,)), "OptionError"),
        (CorrectRequest("s", "liver", ()), "OptionError"),
        (CorrectRequest("s", "liver", ({"kind": "click"},)), "OptionError"),
        (CorrectRequest("s", "liver", (Prompt.click((7, 20, 99)).to_json(),)), "VolumeError"),
        (CorrectRequest("s", "tail", (ADD,)), "OrganError"),
        (CorrectRequest("s", "liver", (ADD,), ("liver",)), "OrganError"),
        (opened(volume="gone.nrrd"), "VolumeError"),
        (opened(labels="gone.npy"), "VolumeError"),
        (opened(labels="other.npy"), "VolumeError"),
        (opened(labels="floats.npy"), "VolumeError"),
        (opened(volume="labels.nrrd"), "VolumeError"),
        (opened(model="no-such-model"), "BundleError"),
        (opened(table={"0": "liver"}), "OrganError"),
        (SegmentRequest("ct.nrrd", "out.seg.nrrd", "no-such-model"), "BundleError"),
    ],
)
def test_a_bad_request_is_refused_and_the_session_goes_on(client: Client, request_: Any, kind: str) -> None:
    volume, labels = scene()
    np.save(client.folder / "other.npy", labels[:-1])
    np.save(client.folder / "floats.npy", labels.astype(np.float32))
    write_volume(Volume(labels, volume.affine), client.folder / "labels.nrrd")
    client.ask(opened())
    end = client.ask(request_)
    assert (end["event"], end["kind"]) == ("failed", kind), end
    assert end["problem"]
    assert end["next_step"]
    expected = expected_of(labels, "liver", ADD)
    assert client.ask(CorrectRequest("s", "liver", (ADD,)))["voxels"] == expected


def test_sessions_are_bounded_and_closing_makes_room(client: Client) -> None:
    for number in range(MOST_SESSIONS):
        assert client.ask(opened(str(number)))["event"] == "finished"
    assert client.ask(opened("too many"))["kind"] == "ResourceError"
    assert client.ask(opened("0"))["event"] == "finished"
    client.ask(CloseRequest("0"))
    assert client.ask(CloseRequest("0"))["event"] == "finished"
    assert client.ask(opened("too many"))["event"] == "finished"


def test_a_request_that_was_cancelled_does_nothing(client: Client) -> None:
    client.ask(opened())
    token = CancelToken()
    token.cancel()
    assert client.ask(CorrectRequest("s", "liver", (ADD,)), token)["event"] == "cancelled"
    assert client.ask(UndoRequest("s"))["event"] == "failed"


def test_a_second_run_loads_no_network_and_a_correction_runs_none(
    client: Client, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from multiorganseg.inference import segment

    loaded, recorded = [], []
    load, record = segment.load_backend, segment.Segmenter.record
    monkeypatch.setattr(segment, "load_backend", lambda *a, **k: loaded.append(1) or load(*a, **k))
    monkeypatch.setattr(segment.Segmenter, "record", lambda *a, **k: recorded.append(1) or record(*a, **k))
    model = str(bundle.folder)
    first = client.ask(SegmentRequest("ct.nrrd", "a.seg.nrrd", model, device="cpu", keep_maps=True))
    assert (first["event"], first["files"]) == ("finished", ["a.seg.nrrd"]), first
    stages = [event["stage"] for event in client.events if event["event"] == "progress"]
    assert stages[0] == "reading"
    assert "segmenting" in stages
    again = SegmentRequest("ct.nrrd", "b.seg.nrrd", model, ("liver",), "fast", "cpu", keep_maps=True)
    assert client.ask(again)["event"] == "finished"
    assert len(loaded) == 1
    assert client.ask(opened(model=model))["event"] == "finished"
    assert client.ask(CorrectRequest("s", "liver", (ADD,)))["voxels"]
    assert recorded == []
    other = client.folder / "other.nrrd"
    volume, _ = scene()
    write_volume(Volume(volume.voxels + 1, volume.affine), other)
    assert client.ask(opened("t", volume="other.nrrd", model=model))["event"] == "finished"
    assert recorded == [1]
    assert any(event.get("stage") == "segmenting" for event in client.events)


def test_maps_kept_of_a_run_give_the_answers_of_maps_recorded_alone(client: Client, bundle: Bundle) -> None:
    model = str(bundle.folder)
    client.ask(opened(model=model, device="cpu"))
    alone = client.ask(CorrectRequest("s", "liver", (ADD,)))
    fresh = Client(client.folder)
    fresh.ask(SegmentRequest("ct.nrrd", "a.seg.nrrd", model, device="cpu", keep_maps=True))
    fresh.ask(opened(model=model))
    kept = fresh.ask(CorrectRequest("s", "liver", (ADD,)))
    assert (kept["box"], kept["voxels"]) == (alone["box"], alone["voxels"])


def test_no_event_names_the_folder(client: Client, tmp_path: Path, bundle: Bundle) -> None:
    client.ask(SegmentRequest(str(tmp_path / "gone.nrrd"), str(tmp_path / "o.seg.nrrd"), str(bundle.folder)))
    client.ask(opened(volume=str(tmp_path / "gone.nrrd")))
    assert str(tmp_path) not in client.sink.getvalue()


def test_nothing_is_written_over_the_volume(client: Client, bundle: Bundle) -> None:
    scan, _ = scene()
    write_volume(scan, client.folder / "ct.nii.gz")
    before = (client.folder / "ct.nii.gz").read_bytes()
    end = client.ask(SegmentRequest("ct.nii.gz", "ct.nii.gz", str(bundle.folder), device="cpu"))
    assert end["kind"] == "ResourceError"
    assert (client.folder / "ct.nii.gz").read_bytes() == before
