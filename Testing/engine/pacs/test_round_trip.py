"""From a real Orthanc and back, through both doors, over a line that breaks, and with hostile answers."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner

from multiorganseg.bundles import Bundle
from multiorganseg.cli.app import app
from multiorganseg.errors import Cancelled, ServerError
from multiorganseg.pacs import archive as archive_module
from multiorganseg.pacs import open_archive, parse_address
from multiorganseg.pacs.archive import WAITING, Query
from multiorganseg.progress import CancelToken, Progress
from multiorganseg.volumes import read_volume
from multiorganseg.volumes.read import read_labels

LOUD = ("Loudhospital", "Loudoperator")


def run(*command: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(map(str, command)))
    assert result.exit_code == code, result.output
    return result.output


def fetch(address: str, ct: Any, folder: Path, progress: Progress | None = None) -> np.ndarray:
    folder.mkdir()
    with open_archive(parse_address(address)) as link:
        link.fetch(ct.study, ct.series, folder, progress or Progress())
    return read_volume(folder).voxels


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive_module, "PATIENCE_S", 2.0)


@pytest.fixture(params=["web", "dimse"])
def door(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_find_lists_series_through_both_doors(orthanc: Any, make_ct: Callable[..., Any], door: str) -> None:
    one, other = make_ct(), make_ct(slices=3, patient="P2")
    orthanc.store([*one.files, *other.files])
    where = parse_address(getattr(orthanc, door))
    with open_archive(where) as link:
        found = link.find(Query(), Progress())
        assert {(each.series, each.images, each.patient_id) for each in found} == {
            (one.series, 20, "P1"),
            (other.series, 3, "P2"),
        }
        (entry,) = link.find(Query(patient_id="P2"), Progress())
        assert (entry.study, entry.modality, entry.study_date) == (other.study, "CT", "20260115")
        assert (entry.description, entry.number, entry.patient_name) == ("Abdomen venous", 3, "Müller^Änne")
        assert not link.find(Query(study_date="20260116-"), Progress())
        assert len(link.find(Query(study_date="20260101-20260131", description="VENOUS"), Progress())) == 2
        assert not link.find(Query(description="arterial"), Progress())
        assert not link.find(Query(modality="MR"), Progress())
        name = "Müller*" if door == "dimse" else "M*"  # Orthanc's DICOMweb finds no umlauts
        assert len(link.find(Query(patient_name=name), Progress())) == 2
        assert not link.find(Query(patient_name="Meier*"), Progress())
    told = run("pacs", "find", getattr(orthanc, door), "--patient-id", "P1")
    assert f"{where.archive}{one.path}" in told
    assert other.series not in told


def test_pages_are_put_together(
    orthanc: Any, make_ct: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from multiorganseg.pacs import dicomweb

    monkeypatch.setattr(dicomweb, "_PAGE", 7)
    ct = make_ct()
    orthanc.store(ct.files)
    np.testing.assert_array_equal(fetch(orthanc.web, ct, tmp_path / "in"), ct.voxels)


def test_what_is_fetched_is_what_was_stored(
    orthanc: Any, make_ct: Callable[..., Any], door: str, tmp_path: Path
) -> None:
    ct = make_ct()
    orthanc.store(ct.files)
    np.testing.assert_array_equal(fetch(getattr(orthanc, door), ct, tmp_path / "in"), ct.voxels)
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "in").iterdir()} == {0}


def test_images_come_by_move_where_a_port_is_named(
    orthanc: Any, make_ct: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIORGANSEG_MOVE_PORT", str(orthanc.move))
    ct = make_ct()
    orthanc.store(ct.files)
    np.testing.assert_array_equal(fetch(orthanc.dimse, ct, tmp_path / "in"), ct.voxels)


def test_a_title_that_the_archive_does_not_know_is_told(
    orthanc: Any, hurried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MULTIORGANSEG_AE_TITLE", "STRANGER")
    told = " ".join(run("pacs", "find", orthanc.dimse, "--date", "20260115", code=9).split())
    assert "ends the connection without an answer" in told
    assert "this computer's is STRANGER" in told


def test_series_are_listed_in_order(orthanc: Any, make_ct: Callable[..., Any], door: str) -> None:
    first, second = make_ct(slices=3), make_ct(slices=3)
    for ct, number in ((first, 9), (second, 2)):
        for file in ct.files:
            data = pydicom.dcmread(file)
            data.SeriesNumber, data.StudyInstanceUID = number, first.study
            data.save_as(file)
        orthanc.store(ct.files)
    listed = json.loads(run("pacs", "find", getattr(orthanc, door), "--patient-id", "P1", "--json"))
    assert [each["series"] for each in listed] == [second.series, first.series]


@pytest.mark.slow
def test_segmentation_report_and_contours_come_back_in_the_same_study(
    orthanc: Any, make_ct: Callable[..., Any], door: str, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    ct = make_ct()
    orthanc.store(ct.files)
    back = {"web": "dicomweb:", "dimse": "dimse:"}[door]
    options = ["--model", tiny_bundle.folder, "--quality", "fast", "--device", "cpu"]
    address = f"{getattr(orthanc, door)}{ct.path}"
    told = run("segment", address, "-o", back, "--formats", "dcm,sr,rtstruct", *options)
    assert f"Sent to {getattr(orthanc, door)}" in told
    (seg,), (report,), (contours,) = map(orthanc.instances, ("SEG", "SR", "RTSTRUCT"))

    run("segment", ct.folder, "-o", tmp_path / "out", "--formats", "seg.nrrd,json", "--no-preview", *options)
    local = read_labels(tmp_path / "out" / "ct0.seg.nrrd").voxels
    organs = json.loads((tmp_path / "out" / "ct0.statistics.json").read_text())["organs"]
    keys = [row["organ"] for row in organs if row["voxels"]]
    assert len(keys) > 1, "the comparison needs organs"
    assert masks(seg).keys() == set(keys)
    for value, key in tiny_bundle.metadata.labels.organs.items():
        if key in keys:
            np.testing.assert_array_equal(masks(seg)[key], local == value)

    seg.save_as(tmp_path / "back.dcm")
    for number, found in dcmqi_masks(tmp_path / "back.dcm", tmp_path / "dcmqi").items():
        key = seg.SegmentSequence[number - 1].TrackingID.split()[-1]
        np.testing.assert_array_equal(found, masks(seg)[key][masks(seg)[key].any(axis=(1, 2))])

    volumes = {
        (str(item.TrackingID), group)
        for item in seg.SegmentSequence
        for group in [measured(report)[str(item.TrackingUID)]]
    }
    told_volumes = {(f"MultiOrganSeg {row['organ']}", row["volume_ml"]) for row in organs if row["voxels"]}
    assert volumes == told_volumes
    for made in (seg, report, contours):
        assert (made.StudyInstanceUID, made.PatientID, str(made.PatientName)) == (
            ct.study,
            "P1",
            "Müller^Änne",
        )
        assert not any(word in str(made) for word in LOUD)
        assert made.SeriesInstanceUID != ct.series
    assert len({made.SeriesInstanceUID for made in (seg, report, contours)}) == 3
    assert {region.ROIName for region in contours.StructureSetROISequence} == set(keys)


def masks(seg: pydicom.Dataset) -> dict[str, np.ndarray]:
    """Mask (k, j, i) by organ; the count of voxels is compared with highdicom's own."""
    keys = {int(item.SegmentNumber): str(item.TrackingID).split()[-1] for item in seg.SegmentSequence}
    found = {key: np.zeros((20, 48, 48), bool) for key in keys.values()}
    for frame, pixels in zip(seg.PerFrameFunctionalGroupsSequence, seg.pixel_array, strict=True):
        number = int(frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        k = round(float(frame.PlanePositionSequence[0].ImagePositionPatient[2]) / 3)
        found[keys[number]][k] = pixels > 0
    read = highdicom.seg.Segmentation.from_dataset(seg)
    assert int(read.get_volume().array.sum()) == sum(int(mask.sum()) for mask in found.values())
    return found


def dcmqi_masks(path: Path, out: Path) -> dict[int, np.ndarray]:
    """Slices with voxels of each segment, as dcmqi reads them; none where it is not installed."""
    program = shutil.which("segimage2itkimage", path=str(Path(sys.executable).parent)) or shutil.which(
        "segimage2itkimage"
    )
    if program is None:
        return {}
    out.mkdir()
    command = [program, "--inputDICOM", str(path), "--outputDirectory", str(out), "-t", "nrrd"]
    subprocess.run(command, check=True, capture_output=True)
    found = {}
    for file in out.glob("*.nrrd"):
        voxels = sitk.GetArrayFromImage(sitk.ReadImage(str(file)))
        found[int(voxels.max())] = voxels[voxels.any(axis=(1, 2))] > 0
    assert found
    return found


def measured(report: pydicom.Dataset) -> dict[str, float]:
    """Volume in mL by tracking UID, as highdicom reads the report."""
    read = highdicom.sr.ComprehensiveSR.from_dataset(report)
    found = {}
    for group in read.content.get_volumetric_roi_measurement_groups():
        (volume,) = (m for m in group.get_measurements() if m.name.meaning == "Volume")
        assert volume.unit.value == "mL"
        found[group.tracking_uid] = float(volume.value)
    return found


@pytest.mark.slow
def test_a_second_run_stores_nothing_twice(
    orthanc: Any, make_ct: Callable[..., Any], tiny_bundle: Bundle
) -> None:
    one, other = make_ct(), make_ct(patient="P2")
    orthanc.store([*one.files, *other.files])
    command = ["pacs", "segment", orthanc.web, "-o", "dicomweb:", "--model", tiny_bundle.folder]
    command += ["--quality", "fast", "--device", "cpu"]
    run(*command, "--patient-id", "P1")
    assert len(orthanc.instances("SEG")) == len(orthanc.instances("SR")) == 1
    told = run(*command, "--date", "20260115")
    assert "done before" in told
    assert len(orthanc.instances("SEG")) == len(orthanc.instances("SR")) == 2
    run(*command, "--patient-id", "P1", "--again")
    assert len(orthanc.instances("SEG")) == 3


def test_a_restart_in_the_middle_of_fetching_is_survived(
    orthanc: Any, make_ct: Callable[..., Any], door: str, tmp_path: Path
) -> None:
    ct, waits = make_ct(slices=40), []
    orthanc.store(ct.files)
    killed = threading.Event()

    def report(stage: str, fraction: float) -> None:
        waits.append(stage)
        if stage == "fetching" and fraction > 0.2 and not killed.is_set():
            killed.set()
            orthanc.stop()
            threading.Timer(1.5, orthanc.start).start()

    voxels = fetch(getattr(orthanc, door), ct, tmp_path / "in", Progress(report))
    assert killed.is_set()
    np.testing.assert_array_equal(voxels, ct.voxels)
    time.sleep(0.5)


def test_a_server_that_is_down_while_results_are_sent_is_waited_for(
    orthanc: Any, make_ct: Callable[..., Any], door: str
) -> None:
    ct, stages = make_ct(slices=3), []
    orthanc.stop()
    timer = threading.Timer(2.0, orthanc.start)
    timer.start()
    with open_archive(parse_address(getattr(orthanc, door))) as link:
        link.send(ct.files, Progress(lambda stage, fraction: stages.append(stage)))
    timer.join()
    assert WAITING in stages
    assert len(orthanc.instances("CT")) == 3


def test_passing_errors_are_asked_again(
    proxy: Any, make_ct: Callable[..., Any], orthanc: Any, tmp_path: Path
) -> None:
    ct, calls = make_ct(slices=12), itertools.count()
    orthanc.store(ct.files)

    def every_other(handler: Any) -> bool:
        number = next(calls)
        if number % 2 == 0:
            handler.answer(500 if number % 4 else 503, b"out of order")
            return True
        return False

    proxy.rule = every_other
    np.testing.assert_array_equal(fetch(proxy.web, ct, tmp_path / "in"), ct.voxels)
    with open_archive(parse_address(proxy.web)) as link:
        link.send(make_ct(slices=3).files, Progress())
    assert len(orthanc.instances("CT")) == 15


@pytest.mark.usefixtures("hurried")
def test_lasting_errors_are_told(proxy: Any, make_ct: Callable[..., Any], tmp_path: Path) -> None:
    proxy.rule = lambda handler: handler.answer(500, b"<html>secret stack</html>") or True
    with pytest.raises(ServerError, match="HTTP 500") as raised:
        fetch(proxy.web, make_ct(slices=3), tmp_path / "in")
    assert raised.value.next_step


def test_a_broken_answer_is_completed_image_by_image(
    proxy: Any, orthanc: Any, make_ct: Callable[..., Any], tmp_path: Path
) -> None:
    ct = make_ct()
    orthanc.store(ct.files)
    proxy.cut = lambda path, content: content[: len(content) // 2] if path.endswith(ct.series) else content
    np.testing.assert_array_equal(fetch(proxy.web, ct, tmp_path / "in"), ct.voxels)
    single = [path for _, path, _ in proxy.asked if "/instances/" in path]
    assert 0 < len(single) <= 20


def test_half_a_series_is_refused(
    proxy: Any, orthanc: Any, make_ct: Callable[..., Any], tmp_path: Path
) -> None:
    ct = make_ct()
    orthanc.store(ct.files)
    gone = pydicom.dcmread(ct.files[7]).SOPInstanceUID

    def lost(handler: Any) -> bool:
        if handler.path.endswith(ct.series) or gone in handler.path:
            handler.answer(404, b"")
            return True
        return False

    proxy.rule = lost
    with pytest.raises(ServerError, match="only a part of the series: 1 of 20"):
        fetch(proxy.web, ct, tmp_path / "in")


def test_a_series_that_still_grows_comes_whole(
    proxy: Any, orthanc: Any, make_ct: Callable[..., Any], tmp_path: Path
) -> None:
    ct = make_ct()
    orthanc.store(ct.files[:12])

    def grow(handler: Any) -> bool:
        if handler.path.endswith(ct.series):
            orthanc.store(ct.files[12:])
        return False

    proxy.rule = grow
    np.testing.assert_array_equal(fetch(proxy.web, ct, tmp_path / "in"), ct.voxels)


def test_images_that_come_twice_count_once(
    proxy: Any, orthanc: Any, make_ct: Callable[..., Any], tmp_path: Path
) -> None:
    ct = make_ct(slices=12)
    orthanc.store(ct.files)
    orthanc.store(ct.files)

    def twice(handler: Any) -> bool:
        if not handler.path.endswith(ct.series):
            return False
        parts = b"".join(
            b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + file.read_bytes()
            for file in [*ct.files, *ct.files]
        )
        handler.answer(200, parts + b"\r\n--x--", 'multipart/related; type="application/dicom"; boundary=x')
        return True

    proxy.rule = twice
    np.testing.assert_array_equal(fetch(proxy.web, ct, tmp_path / "in"), ct.voxels)
    assert len(list((tmp_path / "in").iterdir())) == 12


@pytest.mark.parametrize(
    ("status", "content", "kind", "told"),
    [
        (200, b"<html>Welcome to the portal</html>", "text/html", "not DICOMweb"),
        (200, b"[1, 2, 3]", "application/dicom+json", "not DICOMweb"),
        (200, b'[{"0020000D": {"vr": "UI", "Value": ["../../etc"]}}]', "application/dicom+json", "no UID"),
        (404, b"", "text/plain", "HTTP 404"),
        (403, b"", "text/plain", "not allow"),
        (400, b"", "text/plain", "HTTP 400"),
    ],
)
def test_strange_answers_are_told(proxy: Any, status: int, content: bytes, kind: str, told: str) -> None:
    proxy.rule = lambda handler: handler.answer(status, content, kind) or True
    where = parse_address(proxy.web)
    with open_archive(where) as link, pytest.raises(Exception, match=told) as raised:
        link.find(Query(), Progress())
    assert isinstance(raised.value, ServerError) or told == "no UID"


def test_another_series_than_asked_for_is_refused(
    proxy: Any, orthanc: Any, make_ct: Callable[..., Any], tmp_path: Path
) -> None:
    ct, other = make_ct(slices=3), make_ct(slices=3)
    orthanc.store(ct.files)

    def swapped(handler: Any) -> bool:
        if not handler.path.endswith(ct.series):
            return False
        part = b"\r\n--x\r\nContent-Type: application/dicom\r\n\r\n" + other.files[0].read_bytes()
        handler.answer(200, part + b"\r\n--x--", 'multipart/related; type="application/dicom"; boundary=x')
        return True

    proxy.rule = swapped
    with pytest.raises(ServerError, match="another series"):
        fetch(proxy.web, ct, tmp_path / "in")


def test_waiting_and_fetching_can_be_cancelled(
    orthanc: Any, make_ct: Callable[..., Any], door: str, tmp_path: Path
) -> None:
    ct, token = make_ct(), CancelToken()
    orthanc.store(ct.files)

    def report(stage: str, fraction: float) -> None:
        if stage == "fetching" and fraction > 0.3:
            token.cancel()

    with pytest.raises(Cancelled):
        fetch(getattr(orthanc, door), ct, tmp_path / "in", Progress(report, token))
    assert len(list((tmp_path / "in").iterdir())) < 20
    waiting, stopped = CancelToken(), time.monotonic()
    orthanc.stop()
    with open_archive(parse_address(getattr(orthanc, door))) as link, pytest.raises(Cancelled):
        link.find(Query(), Progress(lambda stage, _: waiting.cancel() if stage == WAITING else None, waiting))
    assert time.monotonic() - stopped < 10
    orthanc.start()


def test_sending_files_sends_results_alone_unless_told(
    orthanc: Any, make_ct: Callable[..., Any], tiny_bundle: Bundle, tmp_path: Path
) -> None:
    ct = make_ct()
    run(
        *("segment", ct.folder, "-o", tmp_path / "out", "--formats", "sr,rtstruct,csv", "--quality", "fast"),
        *("--model", tiny_bundle.folder, "--device", "cpu", "--no-preview"),
    )
    told = run("pacs", "send", tmp_path / "out", ct.folder, "--to", orthanc.web)
    assert "Sent 3 file(s)" in told
    assert "20 DICOM file(s)" in told
    assert not orthanc.instances("CT")
    run("pacs", "send", ct.folder, "--to", orthanc.web, code=3)
    run("pacs", "send", ct.folder, "--to", orthanc.dimse, "--images")
    assert len(orthanc.instances("CT")) == 20
    (again,) = orthanc.instances("SEG")
    written = pydicom.dcmread(tmp_path / "out" / "ct0.seg.dcm")
    np.testing.assert_array_equal(again.pixel_array, written.pixel_array)
    run("pacs", "send", tmp_path / "out", "--to", orthanc.web)
    assert len(orthanc.instances("SEG")) == 1
