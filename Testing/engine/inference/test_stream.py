from __future__ import annotations

import importlib.util
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from multiorganseg.errors import Cancelled
from multiorganseg.inference.maps import MapRecorder
from multiorganseg.inference.slab import probabilities, uncertainty
from multiorganseg.inference.stream import AIR_TOLERANCE, fill_windows, stream_labels
from multiorganseg.inference.windows import centre_weights, plan_windows
from multiorganseg.intensities import AIR
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes.volume import Volume

CPU = torch.device("cpu")
WINDOW = (6, 8, 10)
ORGANS = 3
TIE = 1e-5


class Fake:
    """Logits from the intensity of each voxel and, with `drift`, from where in its window it lies."""

    def __init__(self, channels: int, drift: float) -> None:
        self.slopes = torch.linspace(-3, 3, channels)[None, :, None, None, None]
        self.offsets = torch.linspace(-0.7, 0.4, channels)[None, :, None, None, None]
        self.drift = drift
        self.batches: list[int] = []

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        self.batches.append(len(batch))
        assert batch.shape[1:] == (1, *WINDOW)
        ramp = torch.linspace(-1, 1, WINDOW[1])[None, None, None, :, None] * self.drift
        return (self.slopes * (batch + ramp * self.slopes.sign()) + self.offsets + 2 * ramp,)


class Three(Fake):
    """Two more decoders that think little of what the first one says."""

    def __call__(self, batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        (first,) = super().__call__(batch)
        return first, 1.5 * first.flip(1) + batch, 0.5 * first - batch


def _image(shape: tuple[int, int, int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.9, 1, shape).astype(np.float32)


def _averages(predict, image, plan, activation, air, decoder=0) -> np.ndarray:
    """Probabilities of background or its threshold and of the organs, (channels, k, j, i)."""
    padding = [(0, padded - size) for padded, size in zip(plan.shape, image.shape, strict=True)]
    padded = np.pad(image, padding, constant_values=image.min() if air is None else air)
    weights = centre_weights(plan.window).astype(np.float64)
    sums, totals = np.zeros((ORGANS + 1, *plan.shape)), np.zeros(plan.shape)
    for corner in itertools.product(*plan.starts):
        where = tuple(slice(first, first + n) for first, n in zip(corner, plan.window, strict=True))
        crop = padded[where]
        organs = np.zeros((ORGANS, *plan.window))
        if air is None or crop.max() > air + AIR_TOLERANCE:
            logits = predict(torch.from_numpy(crop.copy())[None, None])[decoder][0].double()
            if activation == "softmax":
                organs = torch.softmax(logits, dim=0)[1:].numpy()
            else:
                organs = torch.sigmoid(logits).numpy()
        sums[(slice(1, None), *where)] += organs * weights
        totals[where] += weights
    inside = tuple(slice(0, size) for size in image.shape)
    organs = (sums / totals)[(slice(1, None), *inside)]
    rival = 1 - organs.sum(axis=0) if activation == "softmax" else np.full(image.shape, 0.5)
    return np.concatenate([rival[None], organs])


def _obvious(predict, image, plan, activation, air) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For the whole volume: label, its probability, and by how much it won."""
    ranked = _averages(predict, image, plan, activation, air)
    labels = ranked.argmax(axis=0)
    background = ranked[0] if activation == "softmax" else 1 - ranked[1:].max(axis=0)
    confidence = np.where(labels == 0, background, ranked.max(axis=0))
    top = np.sort(ranked, axis=0)
    return labels, confidence, top[-1] - top[-2]


def _stream(predict, image, plan, activation, air=None, batch_size=1, organs=ORGANS, progress=None, **more):
    return stream_labels(
        predict,
        image,
        plan,
        organs,
        activation=activation,
        air=air,
        batch_size=batch_size,
        network_device=CPU,
        device=CPU,
        progress=progress or Progress(),
        **more,
    )


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("drift", [0.0, 0.5], ids=["voxelwise", "drifting"])
@pytest.mark.parametrize(
    ("shape", "overlap", "batch_size"),
    [
        ((19, 20, 31), 0.4, 1),
        ((19, 20, 31), 0.6, 3),
        ((25, 9, 10), 0.75, 8),
        ((4, 21, 7), 0.1, 2),
        ((6, 8, 10), 0.4, 4),
    ],
)
def test_it_equals_the_average_over_the_whole_volume(shape, overlap, batch_size, drift, activation) -> None:
    predict = Fake(ORGANS + (activation == "softmax"), drift)
    image, plan = _image(shape), plan_windows(shape, WINDOW, overlap)
    result = _stream(predict, image, plan, activation, batch_size=batch_size)
    assert result.windows == sum(predict.batches) == plan.count
    assert max(predict.batches) <= batch_size
    labels, confidence, margin = _obvious(predict, image, plan, activation, None)
    assert result.labels.shape == shape
    assert result.labels.dtype == result.confidence.dtype == np.uint8
    assert len(np.unique(labels)) > 1
    clear = margin > TIE
    np.testing.assert_array_equal(result.labels[clear], labels[clear])
    np.testing.assert_allclose(result.confidence[clear] / 255, confidence[clear], atol=0.51 / 255)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("batch_size", [1, 5])
def test_windows_in_air_are_background_without_asking(activation, batch_size) -> None:
    shape = (20, 26, 34)
    image = np.full(shape, AIR, np.float32)
    image += np.random.default_rng(1).uniform(0, 0.9 * AIR_TOLERANCE, shape).astype(np.float32)
    image[5:14, 4:15, 14:22] = _image((9, 11, 8))
    plan = plan_windows(shape, WINDOW, 0.5)
    crops = [
        image[tuple(slice(first, first + n) for first, n in zip(corner, WINDOW, strict=True))]
        for corner in itertools.product(*plan.starts)
    ]
    busy = sum(float(crop.max()) > AIR + AIR_TOLERANCE for crop in crops)
    assert 0 < busy < plan.count

    predict = Fake(ORGANS + (activation == "softmax"), 0.3)
    result = _stream(predict, image, plan, activation, air=AIR, batch_size=batch_size)
    assert result.windows == sum(predict.batches) == busy
    labels, confidence, margin = _obvious(predict, image, plan, activation, AIR)
    clear = margin > TIE
    np.testing.assert_array_equal(result.labels[clear], labels[clear])
    np.testing.assert_allclose(result.confidence[clear] / 255, confidence[clear], atol=0.51 / 255)

    predict.batches.clear()
    assert _stream(predict, image, plan, activation, air=None).windows == plan.count


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("air", [None, AIR], ids=["everywhere", "beside air"])
@pytest.mark.parametrize("kind", [Fake, Three], ids=["one decoder", "three decoders"])
def test_the_map_is_that_of_the_averages_and_leaves_the_labels(monkeypatch, activation, air, kind) -> None:
    monkeypatch.setattr("multiorganseg.inference.slab.NUMBERS_AT_ONCE", 2500)
    shape = (19, 20, 31)
    image = _image(shape)
    if air is not None:
        image[:, 8:] = air
    plan = plan_windows(shape, WINDOW, 0.4)
    predict = kind(ORGANS + (activation == "softmax"), 0.5)
    decoders = 3 if kind is Three else 1
    result = _stream(predict, image, plan, activation, air, 3, decoders=decoders, uncertain=True)
    each = [_averages(predict, image, plan, activation, air, decoder) for decoder in range(decoders)]
    mean = torch.from_numpy(np.moveaxis(sum(each) / decoders, 0, -1))
    wanted = uncertainty(mean, activation).numpy()
    assert result.uncertainty.shape == shape
    assert result.uncertainty.dtype == np.uint8
    assert wanted.max() > 0.5
    np.testing.assert_allclose(result.uncertainty / 255, wanted, atol=0.52 / 255)
    if air is not None:
        assert not result.uncertainty[:, 17:].any()

    alone = _stream(lambda batch: predict(batch)[:1], image, plan, activation, air, 3)
    assert alone.uncertainty is None
    np.testing.assert_array_equal(result.labels, alone.labels)
    np.testing.assert_array_equal(result.confidence, alone.confidence)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("at_first", [True, False])
def test_planes_are_mirrored_towards_the_feet_alone(axis, at_first) -> None:
    sizes = [9, 9, 9]
    sizes[axis] = 4
    image = _image(tuple(sizes))
    filled, inside = fill_windows(image[None], (10, 10, 10), AIR, (axis, at_first))
    np.testing.assert_array_equal(filled[0][inside], image)
    along = np.moveaxis(filled[0], axis, 0)
    along = along if at_first else along[::-1]
    np.testing.assert_array_equal(
        along[:6][::-1], np.pad(along[6:], [(6, 0), (0, 0), (0, 0)], "reflect")[:6][::-1]
    )
    others = [slice(None) if a == axis else 9 for a in range(3)]
    assert (filled[0][tuple(others)] == AIR).all()
    unknown, place = fill_windows(image, (10, 10, 10), AIR, None)
    np.testing.assert_array_equal(unknown[place], image)
    assert (np.moveaxis(unknown, axis, 0)[4:] == AIR).all()


@pytest.mark.parametrize("feet", [(0, True), (2, True), (2, False)])
def test_maps_lie_where_the_image_does(feet) -> None:
    """Whatever was put around it, a recorded score is that of its voxel."""
    image = np.full((6, 6, 6), 0.1, np.float32)
    image[1, 2, 3] = 1.0
    recorder = MapRecorder()
    recorder.begin(image, 2, 1, (1, 1, 1))

    def predict(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.cat([torch.zeros_like(batch), 20 * (batch - 0.5)], dim=1), batch

    plan = plan_windows(image.shape, (8, 8, 8), 0.5)
    result = _stream(predict, image, plan, "softmax", AIR, organs=1, recorder=recorder, feet=feet)
    table = LabelTable.numbered(["liver"])
    volume = Volume(image, np.eye(4), "case")
    maps = recorder.finish(volume.grid, table, volume)
    for found in (result.labels, maps.scores.values[1], maps.features.values[0]):
        assert np.unravel_index(np.argmax(found), found.shape) == (1, 2, 3)


def test_an_empty_volume_asks_nothing() -> None:
    image = np.full((3, 30, 5), AIR, np.float32)
    plan = plan_windows(image.shape, WINDOW, 0.4)
    result = _stream(pytest.fail, image, plan, "softmax", air=AIR)
    assert result.windows == 0
    assert not result.labels.any()
    assert (result.confidence == 255).all()


def test_many_organs_take_two_bytes() -> None:
    organs = 300

    def last(batch: torch.Tensor) -> tuple[torch.Tensor]:
        logits = torch.zeros((len(batch), organs + 1, *WINDOW))
        logits[:, -1] = 20
        return (logits,)

    image = _image((7, 8, 10))
    plan = plan_windows(image.shape, WINDOW, 0.1)
    result = _stream(last, image, plan, "softmax", organs=organs)
    assert result.labels.dtype == np.uint16
    assert (result.labels == organs).all()


@pytest.mark.parametrize("batch_size", [1, 4])
def test_cancelling_stops_between_batches(batch_size) -> None:
    image = _image((20, 26, 34))
    plan = plan_windows(image.shape, WINDOW, 0.4)
    predict = Fake(ORGANS + 1, 0.0)
    reports: list[float] = []

    def report(stage: str, fraction: float) -> None:
        reports.append(fraction)
        if len(reports) == 3:
            progress.token.cancel()

    progress = Progress(report)
    with pytest.raises(Cancelled):
        _stream(predict, image, plan, "softmax", batch_size=batch_size, progress=progress)
    assert len(predict.batches) == 4


def test_progress_rises_to_one() -> None:
    image = _image((20, 26, 34))
    plan = plan_windows(image.shape, WINDOW, 0.4)
    reports: list[tuple[str, float]] = []
    progress = Progress(lambda stage, fraction: reports.append((stage, fraction)))
    _stream(Fake(ORGANS + 1, 0.0), image, plan, "softmax", batch_size=3, progress=progress)
    fractions = [fraction for _, fraction in reports]
    assert {stage for stage, _ in reports} == {"segmenting"}
    assert fractions == sorted(fractions)
    assert len(set(fractions)) == len(fractions)
    assert fractions[-1] == 1


PEAK = """
import json, resource, sys
import numpy as np, torch
from multiorganseg.inference.stream import stream_labels
from multiorganseg.inference.windows import plan_windows
from multiorganseg.progress import Progress

torch.set_num_threads(1)
cpu, organs, window, decoders = torch.device("cpu"), 63, (16, 32, 32), int(sys.argv[1])

def predict(batch):
    return [torch.zeros((len(batch), organs + 1, *window)) + batch] * decoders

def run(depth):
    image = np.zeros((depth, 60, 60), np.float32)
    stream_labels(predict, image, plan_windows(image.shape, window, 0.1), organs, activation="softmax",
                  air=None, batch_size=1, network_device=cpu, device=cpu, progress=Progress(),
                  decoders=decoders, uncertain=decoders > 1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(json.dumps({"start": start, "short": run(16), "tall": run(128)}))
"""


@pytest.mark.skipif(importlib.util.find_spec("resource") is None, reason="peak memory is not known here")
@pytest.mark.parametrize("decoders", [1, 2])
def test_memory_grows_with_the_slab_not_with_the_volume(decoders: int) -> None:
    command = [sys.executable, "-c", PEAK, str(decoders)]
    child = subprocess.run(command, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stderr
    peak = json.loads(child.stdout)
    slab = 64 * 16 * 60 * 60 * 4 * decoders
    assert peak["short"] - peak["start"] < 4 * slab
    assert peak["tall"] - peak["short"] < slab


@pytest.mark.parametrize("channels", [2, 14, 105])
def test_probabilities_are_torchs_softmax(channels: int) -> None:
    logits = 200 * torch.randn((3, 5, 7, channels), generator=torch.Generator().manual_seed(0))
    kept = logits.clone()
    torch.testing.assert_close(probabilities(logits, "softmax"), torch.softmax(logits, dim=-1))
    assert torch.equal(logits, kept)


@pytest.mark.parametrize("planes", [1, 2, 4])
def test_a_short_scan_goes_on_along_k_and_ends_in_air_in_plane(planes) -> None:
    image = _image((planes, 5, 7))
    seen: list[torch.Tensor] = []

    def predict(batch: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(batch[0, 0])
        return Fake(ORGANS + 1, 0.0)(batch)

    plan = plan_windows(image.shape, WINDOW, 0.4)
    result = _stream(predict, image, plan, "softmax", air=AIR)
    (window,) = seen
    assert (window[:, 5:] == AIR).all()
    assert (window[:, :, 7:] == AIR).all()
    np.testing.assert_array_equal(window[-planes:, :5, :7], image)
    for above in range(1, min(planes, WINDOW[0] - planes + 1)):
        np.testing.assert_array_equal(window[-planes - above, :5, :7], image[above])
    assert (window[:, :5, :7] > AIR).all()
    labels, _, margin = _obvious(Fake(ORGANS + 1, 0.0), image, plan, "softmax", AIR)
    clear = margin > TIE
    np.testing.assert_array_equal(result.labels[clear], labels[clear])
