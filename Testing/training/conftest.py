from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from multiorganseg.bundles import Bundle, read_weights, write_bundle
from multiorganseg.events import read_events
from multiorganseg.folders import resources_dir
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.acceptance.publish import Publication, publish
from multiorganseg_training.data.cache import PreparedCase
from multiorganseg_training.recipe.file import recipe_from_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.fit import EVENTS_FILE, Place, fit

SPACING = (2.0, 1.5, 1.5)
LIVER, SPLEEN = 6, 1
HU = {LIVER: 110.0, SPLEEN: 210.0}
CPU = torch.device("cpu")

PHANTOM_RECIPE: dict[str, Any] = {
    "name": "phantom-ct",
    "description": "Two blocks in a box",
    "data": {"labels": {"1": "spleen", "6": "liver"}, "validation": ["case_c"]},
    "preprocessing": {"spacing_mm": list(SPACING), "window": [-125.0, 275.0]},
    "network": {"arguments": {"filters": [8, 16, 16]}, "patch_shape": [16, 40, 48]},
    "augmentation": {"rotation_degrees": 5.0, "noise": 0.02, "brightness": 0.05, "organ_centred": 0.8},
    "reporting": {"log_every": 20, "validate_every": 80, "checkpoint_every": 20},
    "optimisation": {
        "iterations": 120,
        "batch_size": 2,
        "learning_rate": 0.01,
        "head_factor": 5.0,
        "ema_decay": 0.9,
        "precision": "fp32",
    },
}


@dataclass(frozen=True)
class PhantomRun:
    recipe: Recipe
    place: Place
    scores: dict[str, dict[str, float]]
    events: list[dict[str, Any]]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small networks lose more by waiting for busy cores than they gain from two threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def phantom_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder of three cases."""
    folder = tmp_path_factory.mktemp("Données 数据")
    for seed, name in enumerate(("case_a", "case_b", "case_c")):
        write_phantom(folder, name, seed)
    return folder


@pytest.fixture
def phantom_recipe() -> Callable[..., Recipe]:
    """Make the phantom's recipe with changed sections, such as `optimisation={"iterations": 3}`."""
    return make_recipe


@pytest.fixture
def save_recipe() -> Callable[[Path, Recipe], Path]:
    """Write a recipe as a TOML file."""
    return write_recipe


@pytest.fixture
def add_case() -> Callable[..., None]:
    """Write a phantom case into a data folder, with another affine where one is given."""
    return write_phantom


@pytest.fixture
def place(phantom_data: Path, phantom_run: PhantomRun, tmp_path: Path) -> Place:
    """A new run over the phantom, whose cases are in the cache already."""
    return Place(phantom_data, tmp_path / "run", phantom_run.place.cache, CPU)


@pytest.fixture(scope="session")
def phantom_run(phantom_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PhantomRun:
    """A run to its end that learns the two organs."""
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("phantom")
    place = Place(phantom_data, folder / "run", folder / "cache", CPU)
    recipe = make_recipe()
    scores = fit(recipe, place, Progress())
    return PhantomRun(recipe, place, scores, list(read_events(place.run / EVENTS_FILE)))


@pytest.fixture(scope="session")
def full(phantom_run: PhantomRun, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A network that knows the phantom's spleen and liver."""
    folder = tmp_path_factory.mktemp("bases") / "phantom-ct"
    said = Publication("1.0.0", "CC-BY-4.0", "The licence's text", "Blocks.")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIORGANSEG_CACHE", str(folder.parent / "cache"))
        return publish(phantom_run.place.run, phantom_run.place.data, folder, said, Progress())


@pytest.fixture(scope="session")
def base(full: Bundle) -> Bundle:
    """The same network without a channel for the spleen, though its trunk has seen both."""
    return forget_spleen(full)


@pytest.fixture
def models(base: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of bundles, in which the base lies, beside an empty one of bundled networks."""
    resources, user = tmp_path / "Resources", tmp_path / "Modèles"
    shutil.copytree(resources_dir() / "Organs", resources / "Organs")
    (resources / "Models").mkdir()
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(resources))
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(user))
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    shutil.copytree(base.folder, user / base.folder.name)
    return user


@pytest.fixture
def prepared() -> list[PreparedCase]:
    """Two cases as the cache would give them."""
    return [prepared_case(name, seed) for seed, name in enumerate(("case_a", "case_b"))]


def make_recipe(**sections: Any) -> Recipe:
    data = json.loads(json.dumps(PHANTOM_RECIPE))
    for name, value in sections.items():
        data[name] = {**data[name], **value} if isinstance(value, dict) and name in data else value
    return recipe_from_dict(data)


def forget_spleen(full: Bundle) -> Bundle:
    """Write the phantom's network beside itself without the channel of its spleen, as `liver-ct`."""
    keep = [0, 2]
    weights = read_weights(full)
    weights["head.weight"] = weights["head.weight"][:, keep]
    weights["head.bias"] = weights["head.bias"][keep]
    metadata = replace(
        full.metadata, name="liver-ct", labels=LabelTable.numbered(["liver"]), metrics={}, domain=None
    )
    return write_bundle(full.folder.parent / "liver-ct", metadata, weights, "# Liver", "The licence's text")


def phantom_arrays(seed: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return HU and label values (32, 64, 64): a body in air with a liver and a spleen of its own place."""
    generator = np.random.default_rng(seed)
    labels = np.zeros((32, 64, 64), np.uint8)
    shift = generator.integers(-2, 3, size=(2, 3))
    _block(labels, (16, 32, 22), (12, 22, 18), shift[0])[...] = LIVER
    _block(labels, (16, 32, 46), (8, 14, 10), shift[1])[...] = SPLEEN
    image = np.full(labels.shape, -1000, np.float32)
    image[:, 10:54, 8:58] = 30
    for value, intensity in HU.items():
        image[labels == value] = intensity
    return image + generator.normal(0, 8, image.shape).astype(np.float32), labels


def write_phantom(folder: Path, name: str, seed: int, affine: NDArray[np.float64] | None = None) -> None:
    image, labels = phantom_arrays(seed)
    if affine is None:
        affine = np.diag([*SPACING[::-1], 1.0])
    write_volume(Volume(image.astype(np.int16), affine), folder / "images" / f"{name}.nii.gz")
    write_volume(Volume(labels, affine), folder / "labels" / f"{name}.nii.gz")


def prepared_case(name: str, seed: int) -> PreparedCase:
    image, labels = phantom_arrays(seed)
    channels = np.select([labels == SPLEEN, labels == LIVER], [1, 2], 0).astype(np.uint8)
    normalised = np.clip((image + 125) / 200 - 1, -1, 1).astype(np.float16)
    return PreparedCase(name, normalised, channels, frozenset({1, 2}))


def write_recipe(path: Path, recipe: Recipe) -> Path:
    """Write a recipe as TOML; JSON values of the fields used here are TOML values too."""
    lines: list[str] = []
    _write_table(lines, "", dataclasses.asdict(recipe))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def _write_table(lines: list[str], name: str, table: dict[str, Any]) -> None:
    if name:
        lines.append(f"[{name}]")
    nested = {key: value for key, value in table.items() if isinstance(value, dict)}
    lines += [f"{key} = {json.dumps(value)}" for key, value in table.items() if key not in nested]
    for key, value in nested.items():
        _write_table(lines, f"{name}.{key}".lstrip("."), value)


def _block(
    array: NDArray[np.uint8], centre: tuple[int, ...], size: tuple[int, ...], shift: NDArray[np.int64]
) -> NDArray[np.uint8]:
    return array[
        tuple(slice(c + s - n // 2, c + s + n // 2) for c, n, s in zip(centre, size, shift, strict=True))
    ]
