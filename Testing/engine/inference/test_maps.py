"""What is kept of a run for corrections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from multiorganseg.inference.maps import LIMIT_BYTES, MapRecorder, MeanMap, plan_steps
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.inference.stream import stream_labels
from multiorganseg.inference.windows import plan_windows
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes import Volume
from multiorganseg.volumes.volume import Grid

CPU = torch.device("cpu")
AFFINE = np.diag([1.5, 1.5, 3.0, 1.0])
STRIDE = (1, 2, 2)
WINDOW = (6, 8, 8)


def _predict(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and features, both of the intensity of each voxel; features are means of cells."""
    features = torch.nn.functional.avg_pool3d(batch, STRIDE)
    return torch.cat([-batch, batch, 2 * batch - 1], dim=1), torch.cat([features, 1 - features], dim=1)


@pytest.mark.parametrize("shape", [(13, 19, 21), (6, 8, 8), (9, 16, 24)])
def test_the_maps_are_the_means_of_what_the_windows_said(shape) -> None:
    k, j, i = np.indices(shape)
    image = (0.02 * k + 0.03 * j - 0.01 * i).astype(np.float32)
    recorder, plan = MapRecorder(), plan_windows(shape, WINDOW, 0.45)
    settings = {"activation": "softmax", "air": None, "batch_size": 2, "network_device": CPU, "device": CPU}
    recorder.begin(image, 3, 2, STRIDE)
    kept = stream_labels(_predict, image, plan, 2, progress=Progress(), recorder=recorder, **settings)
    plain = stream_labels(lambda b: _predict(b)[:1], image, plan, 2, progress=Progress(), **settings)
    np.testing.assert_array_equal(kept.labels, plain.labels)
    np.testing.assert_array_equal(kept.confidence, plain.confidence)
    volume = Volume(image, AFFINE)
    maps = recorder.finish(volume.grid, LabelTable({4: "liver", 9: "spleen"}), volume)
    maps.check(volume)
    wanted = torch.log_softmax(_predict(torch.from_numpy(image)[None, None])[0], dim=1)[0].numpy()
    np.testing.assert_allclose(maps.scores.values, wanted, atol=5e-3)
    np.testing.assert_allclose(maps.image.values[0], image, atol=1e-3)
    assert maps.grid.same_as(volume.grid)
    inner = tuple(slice(1, -1) for _ in range(3))
    centres = np.stack(np.meshgrid(*[np.arange(n) for n in maps.features.grid.shape], indexing="ij"), -1)
    index = volume.grid.to_index(maps.features.grid.to_patient(centres.astype(float)))
    linear = index @ [0.02, 0.03, -0.01]
    # Where a window of odd start ends, half a cell is missing; a cell off by a voxel would be off by 0.03.
    apart = np.abs(maps.features.values[0][inner] - linear[inner])
    assert apart.max() < 0.02
    assert apart.mean() < 0.005
    np.testing.assert_allclose(maps.features.values[1] + maps.features.values[0], 1, atol=4e-3)


@pytest.mark.parametrize("step", [(1, 2, 2), (2, 4, 4), (4, 4, 4)])
@pytest.mark.parametrize("start", [(0, 0, 0), (3, 5, 1)])
def test_pieces_land_where_they_are_on_any_cells(step, start) -> None:
    grid = Grid((24, 32, 32), AFFINE)
    means = MeanMap(1, grid.shape, step)
    size = tuple(n - first for n, first in zip(grid.shape, start, strict=True))
    k, j, i = np.indices(size)
    ramp = 0.1 * (k + start[0]) + 0.05 * (j + start[1]) - 0.02 * (i + start[2])
    values = torch.from_numpy(ramp[None].astype(np.float32))
    means.add(start, (1, 1, 1), values, torch.ones(values.shape[1:]))
    found = means.result(grid)
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in found.grid.shape], indexing="ij"), -1)
    linear = grid.to_index(found.grid.to_patient(cells.astype(float))) @ [0.1, 0.05, -0.02]
    inner = tuple(slice(-(-first // width) + 1, -1) for first, width in zip(start, step, strict=True))
    np.testing.assert_allclose(found.values[0][inner], linear[inner], atol=5e-3)


@pytest.mark.parametrize("shape", [(400, 240, 240), (1200, 512, 512), (150, 200, 230)])
@pytest.mark.parametrize(("channels", "features"), [(14, 32), (105, 64)])
def test_the_bytes_stay_under_the_limit(shape, channels, features) -> None:
    image, scores, cells = plan_steps(shape, channels, features, STRIDE, LIMIT_BYTES)
    bytes_of = [
        2 * count * int(np.prod(np.ceil(np.array(shape) / step)))
        for count, step in ((1, image), (channels, scores), (features, cells))
    ]
    assert sum(bytes_of) <= LIMIT_BYTES
    assert np.prod(image) <= np.prod(scores)


def test_a_run_gives_them_beside_the_same_labels(bundle) -> None:
    generator = np.random.default_rng(0)
    j, i = np.indices((18, 40, 44))[1:]
    body = ((j - 20) / 17) ** 2 + ((i - 22) / 19) ** 2 < 1
    hu = np.where(body, generator.normal(60, 60, body.shape), -1000).astype(np.int16)
    volume = Volume(hu, np.diag([2.0, 2.0, 3.0, 1.0]), "ct", "CT")
    recorder = MapRecorder()
    segmenter = Segmenter(bundle, Options(device="cpu"))
    kept = segmenter.segment(volume, recorder=recorder)
    maps = recorder.maps
    assert maps is not None
    assert maps.table == bundle.metadata.labels
    assert len(maps.features.values) == bundle.metadata.feature_channels
    np.testing.assert_array_equal(kept.labels, segmenter.segment(volume).labels)
    again = segmenter.record(volume)
    for name in ("image", "scores", "features"):
        np.testing.assert_array_equal(getattr(again, name).values, getattr(maps, name).values)
    small = segmenter.record(volume, recorder=MapRecorder(limit_bytes=maps.nbytes // 3))
    assert 0 < small.nbytes <= maps.nbytes // 3
