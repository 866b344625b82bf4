"""Settings for all tests, and a small bundle with random weights for every test that runs a network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import settings

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, write_bundle
from multiorganseg.organs.labels import LabelTable

if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # as many workers as processors: each takes one thread, its children too
    os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("default", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")

ORGANS = ("spleen", "liver", "kidney_left")
ARGUMENTS = {"filters": [8, 8, 8], "stem_stride": [1, 2, 2]}


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
