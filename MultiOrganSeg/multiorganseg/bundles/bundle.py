"""A bundle on disk: verified as a whole before anything of it is used."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multiorganseg.bundles.inference_config import inference_problems
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.bundles.manifest import MANIFEST, file_digest, listed_digest, manifest_problems
from multiorganseg.bundles.metadata import Metadata
from multiorganseg.bundles.metadata_json import metadata_from_json
from multiorganseg.bundles.safetensors_header import TensorEntry, read_header
from multiorganseg.errors import BundleError
from multiorganseg.schema import SchemaError

if TYPE_CHECKING:
    from numpy.typing import NDArray

METADATA = "configs/metadata.json"
INFERENCE = "configs/inference.json"
WEIGHTS = "models/model.safetensors"
FURTHER_WEIGHTS = "models/fold-{number}.safetensors"
CARD = "docs/README.md"
LICENSE = "LICENSE"
_REQUIRED = (METADATA, INFERENCE, WEIGHTS, CARD, LICENSE)


@dataclass(frozen=True)
class Bundle:
    """A trained network as a folder; made by `load_bundle`, which verified it.

    Attributes:
        folder: The bundle's folder.
        metadata: What it says about its network.
    """

    folder: Path
    metadata: Metadata

    @property
    def weights_path(self) -> Path:
        """The weights in safetensors format, of the first fold."""
        return self.folder / WEIGHTS

    @property
    def card_path(self) -> Path:
        """The model card in Markdown."""
        return self.folder / CARD

    @property
    def digest(self) -> str:
        """Sha256 of the manifest, which stands for every byte of the bundle."""
        return file_digest(self.folder / MANIFEST)


def load_bundle(folder: Path | str, *, hashed: bool = True) -> Bundle:
    """Load a bundle after verifying every file of it; neither torch nor pickle is involved.

    Args:
        folder: The bundle's folder.
        hashed: Whether every byte is compared with the manifest, which takes a second for large weights. Who
            only shows what a bundle says may leave it to the process that uses the weights.

    Raises:
        BundleError: The folder is no bundle, or something in it is wrong; the cause lists everything found.
    """
    folder = Path(folder).absolute()
    if not folder.is_dir():
        message = f"There is no bundle at {folder}."
        raise BundleError(
            message,
            cause="It is a file." if folder.exists() else "The folder does not exist.",
            next_step="Install a zip file with `multiorganseg models install`, or correct the path.",
        )
    try:
        metadata, problems = _inspect(folder, hashed)
    except OSError as error:
        metadata, problems = None, [str(error)]
    if metadata is None or problems:
        message = f"The bundle {folder.name} cannot be used."
        raise BundleError(
            message,
            cause="\n".join(problems),
            next_step="Install it again from its source; do not edit the files of a bundle by hand.",
        )
    return Bundle(folder, metadata)


def verify_bundle(folder: Path | str) -> None:
    """Check a bundle as `load_bundle` does.

    Raises:
        BundleError: Something is wrong; the cause has one line for each finding.
    """
    load_bundle(folder)


def weights_names(folds: int) -> tuple[str, ...]:
    """Return the files of weights in a bundle of so many folds."""
    return (WEIGHTS, *(FURTHER_WEIGHTS.format(number=number) for number in range(2, folds + 1)))


def weights_header(bundle: Bundle, fold: int = 0) -> dict[str, TensorEntry]:
    """Read names, types and shapes of the network's weights, and none of the weights.

    Args:
        bundle: Holds them.
        fold: Which of its networks, from 0.

    Raises:
        BundleError: The file was changed since the bundle was loaded.
    """
    try:
        return read_header(bundle.folder / weights_names(bundle.metadata.folds)[fold])
    except (OSError, ValueError) as error:
        raise _changed(bundle, str(error)) from error


def read_weights(bundle: Bundle, fold: int = 0) -> dict[str, NDArray[np.floating[Any]]]:
    """Read the network's weights.

    Args:
        bundle: Holds them.
        fold: Which of its networks, from 0.

    Returns:
        Writable arrays by parameter name, float16 or float32 as stored; bfloat16 is given as float32.

    Raises:
        BundleError: The file was changed since the bundle was loaded, or holds a NaN or an infinity.
    """
    from safetensors import SafetensorError, deserialize

    name = weights_names(bundle.metadata.folds)[fold]
    try:
        data = (bundle.folder / name).read_bytes()
        expected = listed_digest(bundle.folder, name)
    except (OSError, ValueError, KeyError) as error:
        raise _changed(bundle, str(error)) from error
    if hashlib.sha256(data).hexdigest() != expected:
        raise _changed(bundle, "The sha256 of the weights does not match the manifest.")
    try:
        weights = {name: _to_array(entry) for name, entry in deserialize(data)}
    except SafetensorError as error:
        raise _changed(bundle, str(error)) from error
    broken = [name for name, array in weights.items() if not np.isfinite(array).all()]
    if broken:
        message = f"The weights of {bundle.metadata.name} are broken."
        raise BundleError(
            message,
            cause=f"NaN or infinity in {', '.join(broken[:5])}.",
            next_step="Train it again or install another version.",
        )
    return weights


def _to_array(entry: dict[str, Any]) -> NDArray[np.floating[Any]]:
    if entry["dtype"] == "BF16":
        halves = np.frombuffer(entry["data"], "<u2").astype("<u4") << 16
        return halves.view("<f4").reshape(entry["shape"])
    stored = np.frombuffer(entry["data"], {"F16": "<f2", "F32": "<f4"}[entry["dtype"]])
    return stored.reshape(entry["shape"]).copy()


def _changed(bundle: Bundle, cause: str) -> BundleError:
    return BundleError(
        f"The bundle {bundle.metadata.name} was changed while it was in use.",
        cause=cause,
        next_step="Run `multiorganseg models verify`, then install the bundle again.",
    )


def _inspect(folder: Path, hashed: bool) -> tuple[Metadata | None, list[str]]:
    problems = manifest_problems(folder, hashed)
    unlisted = [name for name in _REQUIRED if not (folder / name).is_file()]
    problems += [f"{name} is missing" for name in unlisted if f"{name} is missing" not in problems]
    if problems:
        return None, problems
    try:
        problems += inference_problems(read_json_object(folder / INFERENCE))
    except ValueError as error:
        problems.append(f"{INFERENCE} is not valid: {error}")
    try:
        read_header(folder / WEIGHTS)
    except ValueError as error:
        problems.append(f"{WEIGHTS} is not valid: {error}")
    try:
        data = read_json_object(folder / METADATA)
    except ValueError as error:
        return None, [*problems, f"{METADATA} is not valid: {error}"]
    try:
        metadata = metadata_from_json(data)
    except SchemaError as error:
        problems += [f"metadata.json: {problem}" for problem in error.problems]
    if problems:
        return None, problems
    return metadata, [*_fold_problems(folder, metadata), *_organ_problems(metadata)]


def _fold_problems(folder: Path, metadata: Metadata) -> list[str]:
    problems = []
    for name in weights_names(metadata.folds)[1:]:
        try:
            read_header(folder / name)
        except (ValueError, FileNotFoundError) as error:
            problems.append(f"{name} is not valid: {error}")
    return problems


def _organ_problems(metadata: Metadata) -> list[str]:
    from multiorganseg.organs.catalogue import load_catalogue

    known = load_catalogue().organs
    return [
        f"metadata.json: the organ '{key}' is neither in the catalogue nor declared in custom_organs"
        for key in metadata.labels.keys
        if key not in known and key not in metadata.custom_organs
    ]
