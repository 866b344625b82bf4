from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, write_bundle
from multiorganseg.networks.build import build_network
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes import Volume, write_volume

ORGANS = ("liver", "spleen")
ARGUMENTS = {"filters": [8, 8, 8], "stem_stride": [1, 2, 2]}


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    import torch

    torch.manual_seed(3)
    network = build_network("strided_dynunet", {"in_channels": 1, "out_channels": 3, **ARGUMENTS})
    metadata = Metadata(
        schema_version=1,
        name="tiny",
        version="1.0.0",
        description="Random weights, for tests",
        modality="CT",
        architecture="strided_dynunet",
        arguments=ARGUMENTS,
        activation="softmax",
        labels=LabelTable.numbered(ORGANS),
        preprocessing=Preprocessing((3.0, 1.5, 1.5), "window", (-125.0, 275.0)),
        patch_shape=(16, 32, 32),
        feature_channels=8,
        license="Apache-2.0",
    )
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    return write_bundle(tmp_path_factory.mktemp("models") / "tiny", metadata, weights, "# tiny", "Apache-2.0")


def make_ct(seed: int = 0) -> Volume:
    """An ellipse of soft tissue in air, 20 × 48 × 48 voxels at 3 × 2 × 2 mm, in LPS."""
    generator = np.random.default_rng(seed)
    k, j, i = np.mgrid[:20, :48, :48]
    body = ((j - 24) / 18) ** 2 + ((i - 24) / 20) ** 2 < 1
    voxels = np.where(body, 60 + 30 * np.sin(k / 3) + generator.normal(0, 10, body.shape), -1000)
    return Volume(voxels.astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]), "synthetic")


@pytest.fixture
def ct_file(tmp_path: Path) -> Path:
    path = tmp_path / "Bäuche 腹部" / "ct 1.nii.gz"
    path.parent.mkdir()
    write_volume(make_ct(), path)
    return path
