from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from multiorganseg.bundles import Preprocessing
from multiorganseg.errors import TrainingError
from multiorganseg.inference.prepare import prepare
from multiorganseg.metrics import dice
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training import cache
from multiorganseg_training.cache import PreparedCase, prepare_cases
from multiorganseg_training.cases import find_cases
from multiorganseg_training.recipe import PreprocessingSpec

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
def test_a_changed_file_is_prepared_anew(data, kind, monkeypatch):
    _prepare(data)
    os.utime(data / kind / "case_a.nii.gz", (1, 1))
    _forbid_reading(monkeypatch)
    with pytest.raises(pytest.fail.Exception, match="read again"):
        _prepare(data)


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


@pytest.mark.parametrize("moved", ["origin", "shape"])
def test_labels_on_another_grid_are_refused(data, moved):
    path = data / "labels" / "case_a.nii.gz"
    voxels, affine = read_labels(path).voxels, AFFINE.copy()
    if moved == "origin":
        affine[:3, 3] = 5
    else:
        voxels = voxels[:, :, :-1]
    write_volume(Volume(voxels, affine), path)
    with pytest.raises(TrainingError, match=r"'case_a' lie on different grids"):
        _prepare(data)


def test_progress_is_told(data):
    told = []
    prepare_cases(find_cases(data), data.parent, SPEC, Progress(lambda *report: told.append(report)))
    assert told == [("preparing cases", 0.0), ("preparing cases", 1.0)]


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
