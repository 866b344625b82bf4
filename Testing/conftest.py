"""Settings for all tests, and a small bundle with random weights for every test that runs a network."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import settings

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, write_bundle
from multiorganseg.networks.names import ARCHITECTURES
from multiorganseg.organs.labels import LabelTable

if TYPE_CHECKING:
    from torch import Tensor

    from multiorganseg.networks.branching import BranchingNetwork

if "PYTEST_XDIST_WORKER" in os.environ:
    # There are as many workers as processors: each takes one thread, and so do its children. The width that a
    # worker is started with would be that of every console.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.pop("COLUMNS", None)

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ORDINARY_SECONDS = 0.03
"""What `_work` takes on an idle machine: 0.031 to 0.033 were measured on an Intel Xeon, 2026-11-30."""

ORGANS = ("spleen", "liver", "kidney_left")
SMALL_NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    "strided_dynunet": ({"filters": [4, 8, 8]}, (8, 16, 16)),
    "slice_unet": ({"filters": [4, 6, 8]}, (2, 8, 8)),
    "vnet": ({"n_filters": 4, "stages": 2, "dropout": 0.0}, (4, 4, 4)),
    "nnunet": (
        {
            "filters": [4, 6, 8],
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "encoder": [1, 2, 2],
            "decoder": [1, 1],
            "residual": True,
        },
        (4, 8, 8),
    ),
    "monai_segresnet_ds": ({"filters": 4, "blocks_down": [1, 1]}, (4, 4, 4)),
    "monai_unet": ({"filters": [4, 6, 8], "strides": [[2, 2, 2], [1, 2, 2]], "units": 2}, (4, 8, 8)),
    "monai_dynunet": (
        {
            "filters": [4, 6, 8],
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
            "residual": True,
        },
        (4, 8, 8),
    ),
    "monai_segresnet": ({"filters": 8, "blocks_down": [1, 1], "blocks_up": [1]}, (4, 4, 4)),
    "monai_swin_unetr": (
        {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
        (32, 32, 64),
    ),
}
"""By architecture: arguments that make it small, and the size of an image that it takes."""

ARGUMENTS = {"filters": [8, 8, 8], "stem_stride": [1, 2, 2]}


def _work() -> float:
    """Processor seconds of a fixed piece of work, half of it Python's and half of it on arrays of 8 MB."""
    values = np.random.default_rng(0).random((80, 160, 160), np.float32)
    started = time.process_time()
    sum(number % 7 for number in range(200_000))
    np.sort(values[:8], axis=None)
    for axis in range(3):
        np.cumsum(values, axis=axis)
    return time.process_time() - started


@pytest.fixture
def slowness() -> float:
    """How many times longer this machine, as busy as it is now, takes than an idle one; at least 1.

    Limits of seconds are multiplied by it: a test fails by what the code costs, not by who else is at work.
    """
    return max(1.0, median(_work() for _ in range(5)) / ORDINARY_SECONDS)


@pytest.fixture(scope="session")
def metadata() -> Metadata:
    return Metadata(
        schema_version=1,
        name="tiny-ct",
        version="0.1.0",
        description="Random weights for tests.",
        modality="CT",
        architecture="strided_dynunet",
        arguments=ARGUMENTS,
        activation="softmax",
        labels=LabelTable.numbered(ORGANS),
        preprocessing=Preprocessing((3.0, 2.0, 2.0), "window", (-160.0, 240.0)),
        patch_shape=(16, 32, 32),
        feature_channels=8,
        license="Apache-2.0",
    )


@pytest.fixture(scope="session")
def make_bundle(metadata: Metadata, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Bundle]:
    """Write a bundle with random weights; arguments change its metadata."""

    def make(**changes: object) -> Bundle:
        import torch

        from multiorganseg.networks.build import build_network

        said = replace(metadata, **changes)
        torch.manual_seed(5)
        network = build_network(
            said.architecture, {"in_channels": 1, "out_channels": said.channels, **said.arguments}
        )
        with torch.no_grad():
            network.head.weight.mul_(8)
        weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
        folder: Path = tmp_path_factory.mktemp("bundles") / said.name
        return write_bundle(folder, said, weights, "# Tiny", "Licence text")

    return make


@pytest.fixture(scope="session")
def bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle()


@pytest.fixture(params=ARCHITECTURES)
def architecture(request: pytest.FixtureRequest) -> str:
    if request.param == "monai_swin_unetr":
        pytest.importorskip("einops", reason="MONAI's SwinUNETR needs einops")
    return str(request.param)


@pytest.fixture(scope="session")
def small_network() -> Callable[..., BranchingNetwork]:
    """Build a small network with random weights, in evaluation mode."""

    def build(architecture: str, channels: int, seed: int = 0, **arguments: object) -> BranchingNetwork:
        import torch

        from multiorganseg.networks.build import build_network

        torch.manual_seed(seed)
        sizes = {"in_channels": 1, "out_channels": channels}
        return build_network(architecture, {**sizes, **SMALL_NETWORKS[architecture][0], **arguments}).eval()

    return build


@pytest.fixture
def small_image(architecture: str) -> Tensor:
    """Return one image that the small network of the architecture takes."""
    import torch

    return torch.randn((1, 1, *SMALL_NETWORKS[architecture][1]), generator=torch.Generator().manual_seed(2))


@pytest.fixture
def logits_of(small_image: Tensor) -> Callable[[BranchingNetwork], list[Tensor]]:
    """Return the logits of each decoder of a small network for the small image."""
    import torch

    from multiorganseg.networks.output import decoder_outputs

    def run(network: BranchingNetwork) -> list[Tensor]:
        with torch.no_grad():
            return [output.logits for output in decoder_outputs(network, small_image)]

    return run
