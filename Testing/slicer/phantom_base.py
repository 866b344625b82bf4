"""A small base model that knows the phantom's liver but not its spleen, and phantoms to learn from."""

from __future__ import annotations

import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TRAINING = Path(__file__).resolve().parents[1] / "training" / "conftest.py"
BASE, NEW = "liver-ct", "spleen"


class Phantoms:
    """The phantoms of the training's own tests."""

    def __init__(self) -> None:
        self._parts = runpy.run_path(str(TRAINING))

    def write(self, folder: Path, count: int) -> list[Path]:
        """Write CTs of so many patients; gives their image files."""
        for number in range(count):
            self._parts["write_phantom"](folder, f"patient_{number}", number)
        return sorted((folder / "images").iterdir())

    def spleen(self, number: int) -> NDArray[np.uint8]:
        """Voxels (k, j, i) of a patient's spleen, 0 or 1."""
        _image, labels = self._parts["phantom_arrays"](number)
        return (labels == self._parts["SPLEEN"]).astype(np.uint8)

    def train_base(self, work: Path, iterations: int) -> Path:
        """Train a network on liver and spleen, take the spleen's channel away, and write it as a bundle."""
        from multiorganseg.progress import Progress
        from multiorganseg_training.acceptance.publish import Publication, publish
        from multiorganseg_training.run.fit import Place, fit

        for number, name in enumerate(("case_a", "case_b", "case_c"), start=100):
            self._parts["write_phantom"](work / "data", name, number)
        place = Place(work / "data", work / "run", work / "cache", self._parts["CPU"])
        fit(self._recipe(iterations), place, Progress())
        said = Publication("1.0.0", "CC-BY-4.0", "The licence's text", "Blocks.")
        full = publish(place.run, place.data, work / "phantom-ct", said, Progress())
        return self._parts["forget_spleen"](full).folder

    def _recipe(self, iterations: int) -> Any:
        return self._parts["make_recipe"](optimisation={"iterations": iterations})


def install(bundle: Path, models: Path) -> None:
    """Put a bundle among the models of a user."""
    shutil.copytree(bundle, models / bundle.name)
