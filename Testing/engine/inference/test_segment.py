from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from multiorganseg.bundles import CustomOrgan, Preprocessing
from multiorganseg.bundles.metadata import Domain
from multiorganseg.errors import Cancelled, OptionError, OrganError, ResourceError
from multiorganseg.inference import segment as module
from multiorganseg.inference.backends import Backend
from multiorganseg.inference.preflight import OVERLAPS, Settings
from multiorganseg.inference.segment import Options, Segmenter, select_organs
from multiorganseg.inference.stream import Predict
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.quality.components import CleanedLabels, keep_components
from multiorganseg.volumes import Volume

CPU = torch.device("cpu")
HU = {"spleen": 190.0, "liver": 110.0, "kidney_left": -20.0}
TISSUE = 40.0
POSITIONS = {"upright": 0.0, "oblique": 25.0}


def _affine(degrees: float) -> np.ndarray:
    """Voxels of 1.7 × 1.4 × 4 mm, stored from left to right, leaning about the patient's axis."""
    angle = np.deg2rad(degrees)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([-1.7, 1.4, 4.0])
    affine[:3, 3] = [120, -90, 300]
    return affine


def _phantom(degrees: float) -> tuple[Volume, np.ndarray]:
    """An abdomen of ellipsoids in patient space, and which organ each voxel belongs to."""
    shape, affine = (24, 88, 92), _affine(degrees)
    grid = Volume(np.zeros(shape, np.int16), affine).grid
    points = grid.to_patient(np.moveaxis(np.indices(shape), 0, -1))
    centre = grid.to_patient(tuple(0.5 * (np.array(shape) - 1)))

    def inside(offset: tuple[float, float, float], radii: tuple[float, float, float]) -> np.ndarray:
        return (((points - centre - np.array(offset)) / np.array(radii)) ** 2).sum(axis=-1) < 1

    voxels = np.full(shape, -1000, np.int16)
    voxels[inside((0, 0, 0), (68, 52, 400))] = TISSUE
    truth = np.zeros(shape, np.uint8)
    places = {"spleen": (30, 12, 5), "liver": (-28, -10, 0), "kidney_left": (12, -26, -8)}
    radii = {"spleen": (16, 14, 22), "liver": (26, 24, 30), "kidney_left": (13, 12, 18)}
    for value, key in enumerate(HU, start=1):
        truth[inside(places[key], radii[key])] = value
        voxels[inside(places[key], radii[key])] = HU[key]
    noise = np.random.default_rng(0).normal(0, 4, shape)
    return Volume((voxels + noise).astype(np.int16), affine, source="phantom"), truth


def _by_intensity(batch: torch.Tensor) -> tuple[torch.Tensor]:
    """Logits of a network that knows the phantom's intensities."""
    low, high = -160.0, 240.0
    hu = (batch + 1) * (high - low) / 2 + low
    distances = [(hu - wanted).abs() for wanted in HU.values()]
    background = torch.minimum((hu - TISSUE).abs(), (hu - low).abs())
    return (-torch.cat([background, *distances], dim=1) / 8,)


def _no_network(monkeypatch: pytest.MonkeyPatch, predict: Predict) -> None:
    fake = Backend(predict, CPU, "fake")
    monkeypatch.setattr(module, "load_backend", lambda *_, **__: fake)


def _dice(first: np.ndarray, second: np.ndarray) -> float:
    return 2 * np.count_nonzero(first & second) / (np.count_nonzero(first) + np.count_nonzero(second))


@pytest.mark.parametrize("degrees", POSITIONS.values(), ids=POSITIONS)
def test_organs_land_where_they_are(bundle, monkeypatch, degrees) -> None:
    _no_network(monkeypatch, _by_intensity)
    volume, truth = _phantom(degrees)
    result = Segmenter(bundle, Options(device="cpu", quality="fast")).segment(volume)
    assert result.labels.shape == volume.voxels.shape
    assert result.labels.dtype == np.uint8
    assert result.grid.same_as(volume.grid)
    assert result.table == bundle.metadata.labels
    for value, key in result.table.organs.items():
        assert _dice(result.labels == value, truth == value) > 0.9, key
    for row in result.statistics:
        wanted = np.count_nonzero(truth == result.table.value(row.key)) * volume.grid.voxel_volume / 1000
        assert row.volume_ml == pytest.approx(wanted, rel=0.15)
        assert row.mean_intensity == pytest.approx(HU[row.key], abs=25)
        assert 0.6 < row.confidence <= 1


def test_pieces_that_are_removed_do_not_count_in_the_confidence(bundle, monkeypatch) -> None:
    _no_network(monkeypatch, _by_intensity)
    volume, truth = _phantom(0.0)
    voxels = volume.voxels.copy()
    piece = (slice(9, 15), slice(61, 71), slice(54, 64))
    assert not truth[piece].any()
    voxels[piece] = HU["liver"] - 33
    segmenter = Segmenter(bundle, Options(device="cpu", quality="fast"))
    plain = segmenter.segment(volume)
    result = segmenter.segment(Volume(voxels, volume.affine))
    assert not result.labels[piece].any()
    for row, alone in zip(result.statistics, plain.statistics, strict=True):
        assert row.confidence == pytest.approx(alone.confidence, abs=1e-3), row.key


@pytest.mark.parametrize("degrees", POSITIONS.values(), ids=POSITIONS)
def test_a_real_network_runs_end_to_end(bundle, degrees) -> None:
    volume, _ = _phantom(degrees)
    before = volume.voxels.copy()
    result = Segmenter(bundle, Options(device="cpu", quality="fast")).segment(volume)
    np.testing.assert_array_equal(volume.voxels, before)
    assert result.labels.shape == volume.voxels.shape
    assert result.labels.any()
    assert set(np.unique(result.labels)) <= {0, 1, 2, 3}
    assert [row.key for row in result.statistics] == list(bundle.metadata.labels.keys)
    said = json.loads(json.dumps(dict(result.provenance)))
    assert said["bundle"] == {"name": "tiny-ct", "version": "0.1.0", "sha256": bundle.digest}
    assert said["input"] == "phantom"
    assert said["overlap"] == OVERLAPS["fast"]
    assert said["windows"] > 1
    assert said["messages"] == []
    assert list(said["seconds"]) == ["resample", "load network", "network", "clean", "restore", "measure"]


def test_one_segmenter_gives_the_same_again(bundle) -> None:
    volume, _ = _phantom(0.0)
    segmenter = Segmenter(bundle, Options(device="cpu", quality="fast"))
    first, second = segmenter.segment(volume), segmenter.segment(volume)
    np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize("wanted", [("spleen",), ("kidney_left", "spleen"), ("liver",)])
def test_fewer_organs_keep_their_voxels(bundle, monkeypatch, wanted) -> None:
    _no_network(monkeypatch, _by_intensity)
    volume, _ = _phantom(0.0)
    every = Segmenter(bundle, Options(device="cpu", quality="fast")).segment(volume)
    some = Segmenter(bundle, Options(organs=wanted, device="cpu", quality="fast")).segment(volume)
    values = [every.table.value(key) for key in wanted]
    np.testing.assert_array_equal(some.labels, np.where(np.isin(every.labels, values), every.labels, 0))
    assert set(some.table.keys) == set(wanted)
    assert all(some.table.value(key) == every.table.value(key) for key in wanted)
    assert [row for row in every.statistics if row.key in wanted] == list(some.statistics)


def test_selecting_leaves_the_dtype() -> None:
    table = LabelTable({1: "spleen", 700: "liver"})
    labels = np.array([[[0, 1, 700]]], np.uint16)
    kept, names = select_organs(labels, table, ["liver"])
    assert kept.dtype == np.uint16
    assert kept.tolist() == [[[0, 0, 700]]]
    assert dict(names.organs) == {700: "liver"}


def test_what_cannot_be_asked_for_is_refused(bundle, monkeypatch) -> None:
    with pytest.raises(OrganError) as caught:
        Segmenter(bundle, Options(organs=("liver", "pancreas")))
    assert "pancreas" in caught.value.problem
    assert "spleen" in caught.value.next_step
    with pytest.raises(OptionError, match="superb"):
        Segmenter(bundle, Options(quality="superb"))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match="cuda"):
        Segmenter(bundle, Options(device="cuda"))


def test_air_is_empty_without_asking_the_network(bundle, monkeypatch) -> None:
    def predict(batch: torch.Tensor) -> tuple[torch.Tensor]:
        assert not batch.any(), "only the stopwatch may ask"
        return (torch.zeros((len(batch), 4, *batch.shape[2:])),)

    _no_network(monkeypatch, predict)
    volume = Volume(np.full((20, 60, 60), -1000, np.int16), _affine(0.0))
    result = Segmenter(bundle, Options(device="cpu")).segment(volume)
    assert not result.labels.any()
    assert result.provenance["windows"] == 0
    assert all(row.voxels == 0 and math.isnan(row.confidence) for row in result.statistics)


def test_a_volume_smaller_than_a_window(bundle) -> None:
    voxels = np.random.default_rng(0).normal(40, 60, (2, 9, 7)).astype(np.float32)
    volume = Volume(voxels, np.diag([1.0, 1.0, 2.0, 1.0]))
    result = Segmenter(bundle, Options(device="cpu", quality="best")).segment(volume)
    assert result.labels.shape == (2, 9, 7)
    assert result.provenance["windows"] == 1


def test_specks_are_measured_on_the_grid_of_the_network(bundle, monkeypatch) -> None:
    seen: list[float] = []

    def keep(*arguments: object, voxel_volume: float) -> CleanedLabels:
        seen.append(voxel_volume)
        return keep_components(*arguments, voxel_volume=voxel_volume)

    _no_network(monkeypatch, _by_intensity)
    monkeypatch.setattr(module, "keep_components", keep)
    Segmenter(bundle, Options(device="cpu", quality="fast")).segment(_phantom(0.0)[0])
    assert seen == pytest.approx([math.prod(bundle.metadata.preprocessing.spacing_mm)])


def test_cancelling_reaches_the_window_loop(bundle, monkeypatch) -> None:
    stages: list[str] = []

    def report(stage: str, fraction: float) -> None:
        stages.append(stage)
        if stages.count("segmenting") == 2:
            progress.token.cancel()

    _no_network(monkeypatch, _by_intensity)
    progress = Progress(report)
    with pytest.raises(Cancelled):
        Segmenter(bundle, Options(device="cpu", quality="fast")).segment(_phantom(0.0)[0], progress)
    assert stages.count("segmenting") == 2
    assert "cleaning" not in stages


def test_progress_passes_every_stage(bundle, monkeypatch) -> None:
    _no_network(monkeypatch, _by_intensity)
    reports: list[tuple[str, float]] = []
    progress = Progress(lambda stage, fraction: reports.append((stage, fraction)))
    Segmenter(bundle, Options(device="cpu", quality="fast")).segment(_phantom(0.0)[0], progress)
    assert list(dict.fromkeys(stage for stage, _ in reports)) == [
        "resampling",
        "loading the network",
        "segmenting",
        "cleaning",
        "restoring the grid",
        "measuring",
    ]
    assert reports[-1] == ("measuring", 1.0)


def test_a_time_limit_takes_a_coarser_step(bundle, monkeypatch) -> None:
    _no_network(monkeypatch, _by_intensity)
    volume, _ = _phantom(0.0)
    options = Options(device="cpu", quality="best", time_limit=1e-9)
    result = Segmenter(bundle, options).segment(volume)
    assert result.provenance["overlap"] == OVERLAPS["fast"]
    assert len(result.provenance["messages"]) == 1
    patient = Segmenter(bundle, replace(options, time_limit=None)).segment(volume)
    assert patient.provenance["overlap"] == OVERLAPS["best"]
    assert patient.provenance["windows"] > result.provenance["windows"]


@pytest.mark.parametrize(
    ("card", "error"),
    [
        ("cuda", torch.cuda.OutOfMemoryError("CUDA out of memory.")),
        ("mps", RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)")),
    ],
    ids=["cuda", "mps"],
)
@pytest.mark.parametrize(("largest", "messages"), [(2, 1), (1, 2), (0, 3)])
def test_a_full_graphics_card_is_no_crash(bundle, monkeypatch, largest, messages, card, error) -> None:
    volume, truth = _phantom(0.0)
    used: list[str] = []

    def load(_: object, device: torch.device, decoders: int, *, features: bool) -> Backend:
        def predict(batch: torch.Tensor) -> tuple[torch.Tensor]:
            used.append(device.type)
            if device.type == card and len(batch) > largest:
                raise error
            return _by_intensity(batch)

        return Backend(predict, CPU, f"fake, {device.type}")

    monkeypatch.setattr(module, "load_backend", load)
    planned = Settings(torch.device(card), CPU, OVERLAPS["fast"], 4)
    monkeypatch.setattr(module, "plan_settings", lambda *_, **__: planned)
    result = Segmenter(bundle, Options(device="cpu", quality="fast")).segment(volume)
    assert len(result.provenance["messages"]) == messages
    assert used[-1] == (card if largest else "cpu")
    assert result.provenance["backend"] == f"fake, {used[-1]}"
    assert _dice(result.labels == 2, truth == 2) > 0.9


@pytest.mark.parametrize(
    ("error", "reported"),
    [
        (MemoryError(), ResourceError),
        (RuntimeError("can't allocate memory"), ResourceError),
        (RuntimeError("no"), RuntimeError),
    ],
)
def test_main_memory_that_runs_out_is_reported(bundle, monkeypatch, error, reported) -> None:
    def run_out(_: torch.Tensor) -> tuple[torch.Tensor]:
        raise error

    _no_network(monkeypatch, run_out)
    with pytest.raises(reported):
        Segmenter(bundle, Options(device="cpu", quality="fast")).segment(_phantom(0.0)[0])


def test_an_organ_of_the_bundle_alone(make_bundle, monkeypatch) -> None:
    _no_network(monkeypatch, _by_intensity)
    own = make_bundle(
        labels=LabelTable.numbered(("spleen", "liver", "graft_left")),
        custom_organs={"graft_left": CustomOrgan("Left graft", (1, 2, 3))},
    )
    segmenter = Segmenter(own, Options(device="cpu", quality="fast"))
    result = segmenter.segment(_phantom(0.0)[0])
    assert [row.key for row in result.statistics] == ["spleen", "liver", "graft_left"]
    assert result.statistics[2].voxels > 0
    assert segmenter.catalogue.get("graft_left").color == (1, 2, 3)
    assert segmenter.catalogue.get("graft_left").side == "left"


def test_independent_organs_and_standardised_intensities(make_bundle) -> None:
    mr = make_bundle(
        name="tiny-mr",
        modality="MR",
        activation="sigmoid",
        preprocessing=Preprocessing((3.0, 2.0, 2.0), "zscore", None),
    )
    voxels = np.random.default_rng(0).gamma(2, 100, (14, 50, 50)).astype(np.float32)
    volume = Volume(voxels, _affine(0.0))
    canonical, image = module.prepare(volume, mr.metadata.preprocessing)
    assert canonical.crop.target.shape == voxels.shape
    assert abs(float(image.mean())) < 1e-3
    assert float(image.std()) == pytest.approx(1, abs=1e-3)
    result = Segmenter(mr, Options(device="cpu", quality="fast")).segment(volume)
    assert set(np.unique(result.labels)) <= {0, 1, 2, 3}
    assert result.provenance["windows"] > 1


@pytest.mark.parametrize("wide", [(0, 40, 40), (0, 7, 64), (9, 0, 0)])
def test_air_around_the_patient_hardly_moves_labels(bundle, wide) -> None:
    """Windows lie on the body, not on the image: at most two voxels of a hundred change with the air."""
    phantom, _ = _phantom(0.0)
    volume = Volume(
        np.pad(phantom.voxels, [(0, 0), (12, 12), (12, 12)], constant_values=-1000), phantom.affine
    )
    padding = [(size, size) for size in wide]
    voxels = np.pad(volume.voxels, padding, constant_values=-1000)
    affine = volume.affine.copy()
    affine[:3, 3] = volume.grid.to_patient(tuple(-float(size) for size in wide))
    inner = tuple(slice(size, size + length) for size, length in zip(wide, volume.voxels.shape, strict=True))
    segmenter = Segmenter(bundle, Options(device="cpu"))
    plain = segmenter.segment(volume).labels
    padded = segmenter.segment(Volume(voxels, affine)).labels
    assert plain.any()
    moved = np.count_nonzero(padded[inner] != plain) / np.count_nonzero(plain)
    assert moved <= 0.02
    outside = np.ones(voxels.shape, bool)
    outside[inner] = False
    assert np.count_nonzero(padded[outside]) <= 0.02 * np.count_nonzero(plain)


def test_an_arm_beside_the_trunk_changes_no_label_of_a_network_that_saw_none(bundle) -> None:
    phantom, _ = _phantom(0.0)
    voxels = np.pad(phantom.voxels, [(0, 0), (0, 0), (12, 60)], constant_values=-1000)
    arm = voxels.copy()
    arm[:, 30:60, 120:145] = TISSUE
    plain, beside = Volume(voxels, phantom.affine), Volume(arm, phantom.affine)
    saw_arms, saw_none = (Domain({"width_mm": (100.0, width)}, {}, {}) for width in (250.0, 150.0))
    labels = {}
    for name, domain in (("arms", saw_arms), ("none", saw_none)):
        taught = replace(bundle, metadata=replace(bundle.metadata, domain=domain))
        segmenter = Segmenter(taught, Options(device="cpu"))
        labels[name] = [segmenter.segment(volume).labels for volume in (plain, beside)]
    np.testing.assert_array_equal(labels["none"][0], labels["none"][1])
    np.testing.assert_array_equal(labels["arms"][0], labels["none"][0])
    assert (labels["arms"][1] != labels["none"][1]).any()


def test_where_another_part_of_the_body_is_shown_nothing_is_an_organ(bundle, monkeypatch) -> None:
    volume, _ = _phantom(0.0)
    segmenter = Segmenter(bundle, Options(device="cpu"))
    assert segmenter.segment(volume).labels.any()
    judgement = module.Judgement(("A leg.",), another_part=True)
    monkeypatch.setattr(module, "judge", lambda *_: judgement)
    result = segmenter.segment(volume)
    assert not result.labels.any()
    assert all(row.flags == ("not_found",) for row in result.statistics)
    assert result.provenance["unlike_training"] == ["A leg."]
