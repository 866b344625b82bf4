"""A MONAI Bundle: its configuration read as data, its weights from `model.pt`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.bundles.original import Original
from multiorganseg.convert.converted import Converted
from multiorganseg.convert.monai_config import MonaiConfig, component
from multiorganseg.convert.monai_networks import read_monai_network
from multiorganseg.convert.monai_steps import read_inferer, read_postprocessing, read_preprocessing
from multiorganseg.convert.read_checkpoint import read_checkpoint, refused
from multiorganseg.convert.source_json import read_source_json

NOT_STATED = "not stated by its source"
LONGEST_LICENCE = 1 << 20
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def is_monai_bundle(folder: Path) -> bool:
    """Whether a folder has the layout of a MONAI Bundle."""
    return (folder / "configs").is_dir() and (folder / "models").is_dir()


def find_bundle_folder(place: Path) -> Path | None:
    """Find a MONAI Bundle in a folder, or in one that lies in it."""
    found = [
        folder for folder in (place, *sorted(place.iterdir())) if folder.is_dir() and is_monai_bundle(folder)
    ]
    return found[0] if found else None


def convert_monai_bundle(folder: Path) -> Converted:
    """Read a bundle.

    Raises:
        BundleError: Something in it is not valid, a program, or not supported.
    """
    inference = folder / "configs" / "inference.json"
    others = [path.name for path in sorted((folder / "configs").glob("inference.y*ml"))]
    if not inference.is_file() and others:
        cause = f"Its configuration is {others[0]}; JSON alone is read."
        raise refused(folder, cause, "Write it as inference.json; MONAI reads that as well.")
    weights = folder / "models" / "model.pt"
    if not weights.is_file():
        script = (folder / "models" / "model.ts").is_file()
        cause = (
            "It has TorchScript alone, a program that would have to be run."
            if script
            else "It has no weights."
        )
        raise refused(folder, cause, "Put the file with the weights alone at models/model.pt.")
    config = MonaiConfig(read_source_json(inference), inference)
    metadata = read_source_json(folder / "configs" / "metadata.json")
    try:
        return _convert(folder, config, metadata, weights)
    except _WRONG as error:
        raise refused(folder, f"Its configuration is not valid: {error!r}.") from error


def _convert(folder: Path, config: MonaiConfig, metadata: Mapping[str, Any], weights: Path) -> Converted:
    labels = _labels(metadata, folder)
    steps = read_preprocessing(config)
    windows = read_inferer(config)
    checkpoint = read_checkpoint(weights)
    network = read_monai_network(*component(config.part("network_def")), checkpoint, len(labels) + 1)
    original = Original(
        program="MONAI Bundle",
        orientation="",
        axes=(2, 1, 0),
        in_slices=False,
        channels=("image",),
        intensities=(steps.intensity,),
        normalise_first=steps.normalise_first,
        crop=steps.crop,
        margin=steps.margin,
        resampling="linear",
        spacing_tolerance=0.0,
        step="fixed",
        overlap=windows.overlap,
        padding=windows.padding,
        weights=windows.weights,
        mirrored=(),
        folds=1,
        half_precision=False,
        restore=read_postprocessing(config),
    )
    title = str(metadata.get("name") or folder.name)[:100]
    said = folder / "LICENSE"
    text = ""
    if said.is_file() and said.stat().st_size <= LONGEST_LICENCE:
        text = said.read_text(encoding="utf-8", errors="replace").strip()
    first = next((line.strip() for line in text.splitlines() if line.strip()), "")
    licence = str(metadata.get("copyright") or first or NOT_STATED)
    image = metadata["network_data_format"]["inputs"]["image"]
    return Converted(
        name=folder.name,
        description=f"{title}: MONAI Bundle, {len(labels)} organs, converted.",
        modality="MR" if str(image.get("modality", "CT")).upper().startswith("MR") else "CT",
        architecture=network.architecture,
        arguments=network.arguments,
        activation="softmax",
        labels=labels,
        original=original,
        orientation=steps.orientation,
        spacing_mm=steps.spacing_mm,
        patch_shape=windows.shape,
        weights=(network.weights,),
        license=licence[:200],
        licence_text=text or f"The licence of these weights, as metadata.json states it: {licence}.",
        files=(config.path, folder / "configs" / "metadata.json", weights),
        facts={"converted_from": "MONAI Bundle", "title": title, "version": str(metadata.get("version", ""))},
    )


def _labels(metadata: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    outputs = metadata["network_data_format"]["outputs"]
    names = next(iter(outputs.values()))["channel_def"]
    if set(names) != {str(number) for number in range(len(names))} or not 2 <= len(names) <= 256:
        raise refused(folder, f"The channels of its output are {list(names)}; 2 to 256 from 0 are supported.")
    if str(names["0"]).casefold() != "background":
        raise refused(folder, f"Channel 0 of its output is '{names['0']}', not background.")
    labels = tuple(str(names[str(number)]).strip() for number in range(1, len(names)))
    if not all(0 < len(name) <= 100 and name.isprintable() for name in labels):
        raise refused(folder, "A label has no name.")
    return labels
