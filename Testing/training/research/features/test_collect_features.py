from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.errors import Cancelled
from multiorganseg.networks.output import NetworkOutput
from multiorganseg.progress import CancelToken, Progress
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.run.validate import TrainedRun
from research.features.pixels import Pixels, collect_features

CPU = torch.device("cpu")


class Mirror(nn.Module):
    """Its features are the image, its square and one; on a grid coarser in plane where `stride` is 2."""

    def __init__(self, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.windows: list[Tensor] = []

    def forward(self, image: Tensor) -> NetworkOutput:
        self.windows.append(image.clone())
        coarse = functional.avg_pool3d(image, (1, self.stride, self.stride))
        return NetworkOutput(image, torch.cat([coarse, coarse**2, torch.ones_like(coarse)], dim=1))


@pytest.fixture
def make_run(phantom_recipe):
    def make(patch_shape, stride=1, classifier=None) -> TrainedRun:
        recipe = phantom_recipe(network={"patch_shape": list(patch_shape)})
        return TrainedRun(Path("run"), recipe, 3, Mirror(stride), classifier)

    return make


def _case(name: str, shape: tuple[int, int, int], seed: int) -> PreparedCase:
    image = np.random.default_rng(seed).uniform(-0.5, 1, shape).astype(np.float16)
    return PreparedCase(name, image, np.zeros(shape, np.uint8), frozenset())


@pytest.fixture
def cases() -> list[PreparedCase]:
    return [_case("a", (9, 20, 25), 0), _case("b", (3, 12, 40), 1)]


def _pixels(cases: list[PreparedCase], count: int = 200) -> Pixels:
    generator = np.random.default_rng(5)
    case = generator.integers(0, len(cases), count)
    position = np.stack([generator.integers(0, cases[number].labels.shape) for number in case])
    return Pixels(case, position, np.ones(count, np.int64), np.zeros(count, np.int64))


def _expected(cases: list[PreparedCase], pixels: Pixels) -> Tensor:
    values = torch.tensor(
        [
            float(cases[case].image[tuple(place)])
            for case, place in zip(pixels.case, pixels.position, strict=True)
        ]
    )
    return functional.normalize(torch.stack([values, values**2, torch.ones_like(values)], dim=1), dim=-1)


@pytest.mark.parametrize("patch_shape", [(1, 16, 16), (4, 16, 16), (16, 32, 48)])
def test_every_pixel_gets_the_features_of_its_voxel(make_run, cases, patch_shape):
    pixels = _pixels(cases)
    found = collect_features(make_run(patch_shape), cases, pixels, False, CPU, Progress())
    np.testing.assert_allclose(found, _expected(cases, pixels).numpy(), atol=1e-6)


def test_only_windows_with_pixels_are_seen(make_run, cases):
    one = Pixels(np.array([0]), np.array([[8, 3, 3]]), np.array([1]), np.array([0]))
    run = make_run((1, 16, 16))
    collect_features(run, cases, one, False, CPU, Progress())
    (window,) = run.network.windows
    np.testing.assert_array_equal(window[0, 0, 0].numpy(), cases[0].image[8, :16, :16].astype(np.float32))


def test_coarse_features_come_onto_the_grid(make_run):
    ramp = np.broadcast_to(np.linspace(-0.5, 0.5, 16, dtype=np.float16), (2, 16, 16)).copy()
    case = PreparedCase("ramp", ramp, np.zeros(ramp.shape, np.uint8), frozenset())
    pixels = _pixels([case])
    inside = (pixels.position[:, 2] > 0) & (pixels.position[:, 2] < 15)
    found = collect_features(make_run((2, 16, 16), stride=2), [case], pixels, False, CPU, Progress())
    values = found[:, 0] / found[:, 2]
    expected = ramp[tuple(pixels.position.T)].astype(np.float32)
    np.testing.assert_allclose(values[inside], expected[inside], atol=1e-3)


def test_projected_features_are_those_that_the_prototypes_see(make_run, cases):
    torch.manual_seed(0)
    classifier = PrototypeClassifier(3, 2, width=4).eval()
    pixels = _pixels(cases)
    found = collect_features(make_run((4, 16, 16), 1, classifier), cases, pixels, True, CPU, Progress())
    values = torch.tensor(
        [float(cases[c].image[tuple(p)]) for c, p in zip(pixels.case, pixels.position, strict=True)]
    )
    raw = torch.stack([values, values**2, torch.ones_like(values)])
    with torch.no_grad():
        expected = classifier.embed(raw[None])
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-5)


def test_it_can_be_cancelled(make_run, cases):
    token = CancelToken()
    token.cancel()
    with pytest.raises(Cancelled):
        collect_features(make_run((1, 16, 16)), cases, _pixels(cases), False, CPU, Progress(token=token))
