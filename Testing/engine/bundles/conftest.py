from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, write_bundle
from multiorganseg.bundles.json_text import format_json
from multiorganseg.bundles.manifest import MANIFEST, build_manifest
from multiorganseg.folders import resources_dir
from multiorganseg.networks.names import ARCHITECTURES
from multiorganseg.organs.labels import LabelTable

Make = Callable[..., Bundle]


@pytest.fixture
def metadata() -> Metadata:
    return Metadata(
        schema_version=1,
        name="abdomen-test",
        version="1.2.0",
        description="Two organs for tests.",
        modality="CT",
        architecture=ARCHITECTURES[0],
        arguments={"in_channels": 1, "out_channels": 3, "filters": [16, 32]},
        activation="softmax",
        labels=LabelTable.numbered(["spleen", "liver"]),
        preprocessing=Preprocessing((3.0, 1.5, 1.5), "window", (-160.0, 240.0)),
        patch_shape=(64, 96, 96),
        feature_channels=16,
        license="Apache-2.0",
        metrics={"liver": {"dice": 0.95, "hd95": 4.0}, "spleen": {"dice": 0.9}},
        training={"cases": 16, "seed": 7},
    )


@pytest.fixture
def weights() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "stem.weight": generator.normal(size=(16, 1, 3, 3, 3)).astype(np.float32),
        "stem.bias": np.zeros(16, np.float32),
        "scale": np.float32(1.5).reshape(()),
    }


@pytest.fixture
def make(tmp_path: Path, metadata: Metadata, weights: dict[str, np.ndarray]) -> Make:
    def build(folder: Path | None = None, said: Metadata = metadata) -> Bundle:
        return write_bundle(folder or tmp_path / "made" / said.name, said, weights, "# Card", "Licence text")

    return build


@pytest.fixture
def bundle(make: Make) -> Bundle:
    return make()


@pytest.fixture
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """Empty folders of the bundled and of the user's bundles, in effect for the test."""
    resources, user = tmp_path / "Resources", tmp_path / "Modèles 模型"
    shutil.copytree(resources_dir() / "Organs", resources / "Organs")
    (resources / "Models").mkdir()
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(resources))
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(user))
    return resources / "Models", user


@pytest.fixture
def reseal() -> Callable[[Path], None]:
    """Write a manifest that fits a folder, as someone who builds a bad bundle on purpose would."""

    def seal(folder: Path) -> None:
        (folder / MANIFEST).write_text(format_json(build_manifest(folder)), encoding="utf-8")

    return seal


@pytest.fixture
def edit_metadata(bundle: Bundle, reseal: Callable[[Path], None]) -> Callable[..., Path]:
    """Change fields of the bundle's metadata.json and its manifest with it; None deletes a field."""

    def edit(**changes: Any) -> Path:
        path = bundle.folder / "configs" / "metadata.json"
        data = {**json.loads(path.read_text(encoding="utf-8")), **changes}
        data = {key: value for key, value in data.items() if value is not None}
        path.write_text(json.dumps(data), encoding="utf-8")
        reseal(bundle.folder)
        return bundle.folder

    return edit
