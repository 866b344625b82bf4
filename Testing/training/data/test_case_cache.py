from __future__ import annotations

import math
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from typer.testing import CliRunner

from multiorganseg.bundles import Preprocessing
from multiorganseg.errors import TrainingError
from multiorganseg.inference.prepare import prepare
from multiorganseg.metrics import dice
from multiorganseg.progress import Progress
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.cli.app import app
from multiorganseg_training.data import cache
from multiorganseg_training.data import cache as case_store
from multiorganseg_training.data.cache import PreparedCase, prepare_cases
from multiorganseg_training.data.cases import find_cases
from multiorganseg_training.recipe.recipe import PreprocessingSpec

SPEC = PreprocessingSpec((2.0, 1.5, 1.5), (-125.0, 275.0))
CHANNELS = {1: 1, 6: 2}
AFFINE = np.diag([1.5, 1.5, 2.0, 1.0])
BRIGHT = 0.5


@pytest.fixture
def data(tmp_path, add_case) -> Path:
    add_case(tmp_path / "data", "case_a", 0)
    return tmp_path / "data"


def _prepare(data: Path, spec: PreprocessingSpec = SPEC, channels: dict[int, int] = CHANNELS) -> PreparedCase:
    known = frozenset(channels.values())
    cases = [replace(case, channels=channels, known=known) for case in find_cases(data)]
    (case,) = prepare_cases(cases, data.parent / "cache", spec, Progress())
    return case


def _forbid_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> Volume:
        pytest.fail(f"{path} is read again")

    monkeypatch.setattr(cache, "read_volume", refuse)


def test_shapes_types_and_channels(data):
    case = _prepare(data)
    assert case.name == "case_a"
    assert case.image.shape == case.labels.shape
    assert (case.image.dtype, case.labels.dtype) == (np.float16, np.uint8)
    assert case.image.min() == -1
    assert case.image.max() <= 1
    reference = read_labels(data / "labels" / "case_a.nii.gz").voxels
    for channel, value in ((1, 1), (2, 6)):
        assert np.count_nonzero(case.labels == channel) == np.count_nonzero(reference == value)
    assert dice(case.image > BRIGHT, case.labels == 1) > 0.99


def test_label_values_without_a_channel_are_background(data):
    case = _prepare(data, channels={6: 1})
    assert np.array_equal(np.unique(case.labels), [0, 1])
    assert np.array_equal(case.labels == 1, _prepare(data).labels == 2)


def test_the_image_is_what_the_engine_gives_the_network(data):
    spec = replace(SPEC, spacing_mm=(3.0, 2.0, 2.5))
    metadata = SimpleNamespace(preprocessing=Preprocessing(spec.spacing_mm, "window", spec.window))
    _, image = prepare(read_volume(data / "images" / "case_a.nii.gz"), metadata.preprocessing)
    assert np.array_equal(_prepare(data, spec).image, image.astype(np.float16))


def test_a_case_is_prepared_once(data, monkeypatch):
    first = _prepare(data)
    _forbid_reading(monkeypatch)
    second = _prepare(data)
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.labels, second.labels)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_a_touched_or_copied_or_renamed_file_is_the_same(data, kind, monkeypatch, tmp_path):
    first = _prepare(data)
    _forbid_reading(monkeypatch)
    os.utime(data / kind / "case_a.nii.gz", (1, 1))
    assert np.array_equal(_prepare(data).image, first.image)
    for folder in ("images", "labels"):
        (data / folder / "case_a.nii.gz").rename(data / folder / "renamed.nii.gz")
    assert _prepare(data).name == "renamed"


def test_two_images_of_one_name_are_refused(data):
    for part in ("images", "labels"):
        write_volume(read_volume(data / part / "case_a.nii.gz"), data / part / "case_a.nrrd")
    with pytest.raises(TrainingError, match="several images named case_a"):
        find_cases(data)


def test_labels_of_another_dataset_with_equal_name_size_and_time_are_its_own(data, tmp_path):
    voxels = {}
    for name, value in (("one", 1), ("other", 6)):
        folder = tmp_path / name / "data"
        shutil.copytree(data, folder)
        labels = np.zeros(read_labels(data / "labels" / "case_a.nii.gz").voxels.shape, np.uint8)
        labels[10:20, 20:30, 20:30] = value
        nifti = folder / "labels" / "case_a.nii"
        write_volume(Volume(labels, AFFINE), nifti)
        (folder / "labels" / "case_a.nii.gz").unlink()
        image = read_volume(folder / "images" / "case_a.nii.gz")
        (folder / "images" / "case_a.nii.gz").unlink()
        write_volume(image, folder / "images" / "case_a.nii")
        for path in (nifti, folder / "images" / "case_a.nii"):
            os.utime(path, (1e9, 1e9))
        cases = [replace(case, channels=CHANNELS, known=frozenset({1, 2})) for case in find_cases(folder)]
        (prepared,) = prepare_cases(cases, tmp_path / "shared", SPEC, Progress())
        voxels[name] = set(np.unique(prepared.labels)) - {0}
    assert voxels == {"one": {1}, "other": {2}}


def test_a_damaged_entry_is_made_anew(data):
    first = _prepare(data)
    (entry,) = (data.parent / "cache").glob("*.npz")
    whole = entry.read_bytes()
    for damaged in (b"", whole[:1000], b"PK", b"x" * 100):
        entry.write_bytes(damaged)
        assert np.array_equal(_prepare(data).image, first.image)
    np.savez(entry, image=np.zeros(3), labels=np.zeros(3))
    assert np.array_equal(_prepare(data).image, first.image)


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_the_cache_is_private_and_names_nobody(data):
    _prepare(data)
    folder = data.parent / "cache"
    (entry,) = folder.iterdir()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(entry.stat().st_mode) == 0o600
    assert "case_a" not in entry.name


def test_the_cache_keeps_to_its_bound_and_lets_go_what_was_used_longest_ago(data, monkeypatch):
    folder = data.parent / "cache"
    spacings = [(2.0, 1.5, 1.5), (2.5, 2.0, 2.0), (3.0, 2.5, 2.5)]
    paths = []
    for number, spacing in enumerate(spacings[:2]):
        before = set(folder.glob("*.npz"))
        _prepare(data, replace(SPEC, spacing_mm=spacing))
        (new,) = set(folder.glob("*.npz")) - before
        os.utime(new, (number + 1, number + 1))
        paths.append(new)
    (folder / "mine.npz").write_bytes(b"not of the cache")
    _prepare(data, replace(SPEC, spacing_mm=spacings[0]))
    size = sum(path.stat().st_size for path in paths)
    monkeypatch.setenv("MULTIORGANSEG_CACHE_GIB", str(size / 2**30))
    _prepare(data, replace(SPEC, spacing_mm=spacings[2]))
    assert paths[0].exists(), "used since"
    assert not paths[1].exists()
    assert sum(about.st_size for _, about in case_store.entries(folder)) <= size
    done = CliRunner().invoke(app, ["cache", "--cache", str(folder)])
    assert "2 cases" in done.stdout
    assert CliRunner().invoke(app, ["cache", "--cache", str(folder), "--clear"]).exit_code == 0
    assert [path.name for path in folder.iterdir()] == ["mine.npz"]
    monkeypatch.setenv("MULTIORGANSEG_CACHE_GIB", "much")
    assert CliRunner().invoke(app, ["cache"]).exit_code == 2


def test_a_file_is_hashed_once_while_it_stays(data, monkeypatch):
    path = data / "images" / "case_a.nii.gz"
    first = case_store.content_digest(path)
    before = case_store._digest.cache_info().misses
    assert case_store.content_digest(path) == first
    assert case_store._digest.cache_info().misses == before
    path.write_bytes(path.read_bytes() + b"more")
    assert case_store.content_digest(path) != first


@pytest.mark.parametrize(
    "changed",
    [
        {"spec": replace(SPEC, spacing_mm=(4.0, 3.0, 3.0))},
        {"spec": replace(SPEC, window=(-100.0, 275.0))},
        {"channels": {1: 2, 6: 1}},
    ],
    ids=["spacing", "window", "channels"],
)
def test_another_recipe_gets_a_cache_file_of_its_own(data, changed):
    _prepare(data)
    _prepare(data, **changed)
    assert len(list((data.parent / "cache").glob("*.npz"))) == 2


def test_a_flipped_volume_gives_the_same_case(data, tmp_path):
    flipped = AFFINE.copy()
    flipped[0] = [-1.5, 0, 0, 1.5 * 63]
    for kind in ("images", "labels"):
        voxels = read_volume(data / kind / "case_a.nii.gz").voxels
        write_volume(
            Volume(voxels[:, :, ::-1], flipped), tmp_path / "flipped" / "data" / kind / "case_a.nii.gz"
        )
    straight, turned = _prepare(data), _prepare(tmp_path / "flipped" / "data")
    assert np.array_equal(straight.labels, turned.labels)
    assert np.allclose(straight.image, turned.image, atol=2e-3)


def test_an_oblique_volume_keeps_image_and_labels_together(tmp_path, add_case):
    angle = math.radians(25)
    turn = np.eye(4)
    turn[:2, :2] = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    add_case(tmp_path / "data", "case_a", 0, turn @ AFFINE)
    reference = read_labels(tmp_path / "data" / "labels" / "case_a.nii.gz").voxels
    case = _prepare(tmp_path / "data")
    assert case.image.shape == case.labels.shape
    assert case.labels.shape != reference.shape
    for channel, value in ((1, 1), (2, 6)):
        expected = np.count_nonzero(reference == value)
        assert np.count_nonzero(case.labels == channel) == pytest.approx(expected, rel=0.05)
    assert dice(case.image > BRIGHT, case.labels == 1) > 0.85


@pytest.mark.parametrize("shift_mm", [0.4, 500.0], ids=["between voxels", "outside"])
def test_labels_on_another_grid_are_refused(data, shift_mm):
    path = data / "labels" / "case_a.nii.gz"
    voxels, affine = read_labels(path).voxels, AFFINE.copy()
    affine[:3, 3] += shift_mm
    write_volume(Volume(voxels, affine), path)
    with pytest.raises(TrainingError, match=r"'case_a' (do not )?lie "):
        _prepare(data)


def test_labels_of_the_same_voxels_in_another_frame_are_taken(data):
    path = data / "labels" / "case_a.nii.gz"
    expected = _prepare(data).labels
    whole = read_labels(path)
    turned, cropped = whole.affine.copy(), whole.affine.copy()
    turned[:3, 3] += turned[:3, 0] * (whole.voxels.shape[2] - 1)
    turned[:3, 0] *= -1
    write_volume(Volume(whole.voxels[:, :, ::-1].copy(), turned), path)
    assert np.array_equal(_prepare(data).labels, expected)
    rows = np.flatnonzero(whole.voxels.any(axis=(0, 2)))
    cropped[:3, 3] += cropped[:3, 1] * rows[0]
    write_volume(Volume(whole.voxels[:, rows[0] : rows[-1] + 1].copy(), cropped), path)
    with pytest.warns(VolumeWarning, match="counts as background"):
        assert np.array_equal(_prepare(data).labels, expected)


def test_progress_is_reported(data):
    reported = []
    prepare_cases(find_cases(data), data.parent, SPEC, Progress(lambda *report: reported.append(report)))
    assert reported == [("preparing cases", 0.0), ("preparing cases", 1.0)]


def test_values_of_one_organ_share_its_channel(data):
    apart, together = _prepare(data), _prepare(data, channels={1: 1, 6: 1})
    np.testing.assert_array_equal(together.labels > 0, apart.labels > 0)
    assert set(np.unique(together.labels)) == {0, 1}
    assert together.known == {1}


def test_hidden_organs_leave_no_voxel_and_are_not_known(data):
    case = _prepare(data)
    hidden = case.hide_all_but(frozenset({2}))
    assert hidden.known == {2}
    np.testing.assert_array_equal(hidden.labels, np.where(case.labels == 2, 2, 0))
    assert hidden.labels.dtype == case.labels.dtype
    assert hidden.hide_all_but(frozenset({1, 2})).known == {2}, "what is hidden stays hidden"


def test_a_case_without_a_label_file_knows_what_is_absent(data):
    (case,) = find_cases(data)
    whole = _prepare(data)
    bare = replace(case, labels=None, channels=CHANNELS, known=frozenset({2}))
    (prepared,) = prepare_cases([bare], data.parent / "cache", SPEC, Progress())
    np.testing.assert_array_equal(prepared.image, whole.image)
    assert prepared.labels.shape == whole.labels.shape
    assert not prepared.labels.any()
    assert prepared.known == {2}


def test_labels_that_a_case_does_not_know_are_left_out(data):
    (case,) = find_cases(data)
    partly = replace(case, channels=CHANNELS, known=frozenset({2}))
    (prepared,) = prepare_cases([partly], data.parent / "cache", SPEC, Progress())
    assert set(np.unique(prepared.labels)) == {0, 2}
    assert len(_prepare(data).known) == 2
    assert len(list((data.parent / "cache").glob("*.npz"))) == 1, "what is known is not part of the cache"
