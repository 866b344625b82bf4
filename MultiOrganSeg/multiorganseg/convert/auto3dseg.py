"""A model file of Auto3DSeg, as the Slicer extension MONAIAuto3DSeg has them: weights with configuration."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from multiorganseg.bundles.original import Intensity, Original
from multiorganseg.convert.converted import Converted
from multiorganseg.convert.read_checkpoint import Checkpoint, Weights, refused

NOT_STATED = "not stated by its source"
OVERLAP = 0.625
MARGIN = 10
TOLERANCE = 0.25
_STAY = "It stays usable with MONAI itself."
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)
_NORMS = {"INSTANCE": "INSTANCE", "INSTANCE_NVFUSER": "INSTANCE", "BATCH": "BATCH"}


def is_auto3dseg(checkpoint: Checkpoint) -> bool:
    """Whether a file of PyTorch is one of Auto3DSeg."""
    tree = checkpoint.tree
    return isinstance(tree.get("state_dict"), Mapping) and isinstance(tree.get("config"), Mapping)


def convert_auto3dseg(checkpoint: Checkpoint) -> Converted:
    """Read a model file.

    Raises:
        BundleError: Something in it is not valid, or not supported.
    """
    path, config = checkpoint.path, checkpoint.tree["config"]
    try:
        return _convert(checkpoint, config)
    except _WRONG as error:
        raise refused(path, f"Its configuration is not valid: {error!r}.") from error


def _convert(checkpoint: Checkpoint, config: Mapping[str, Any]) -> Converted:
    path = checkpoint.path
    network = config["network"]
    kind = str(network["_target_"])
    if kind.rpartition(".")[2] != "SegResNetDS" or kind not in (
        "SegResNetDS",
        "monai.networks.nets.SegResNetDS",
    ):
        raise refused(path, f"Its network is {kind}; SegResNetDS alone is supported.", _STAY)
    if config.get("sigmoid"):
        raise refused(path, "Its organs overlap (sigmoid), which is not supported.", _STAY)
    if config.get("extra_modalities"):
        raise refused(path, "It takes several images of a patient, which is not supported.", _STAY)
    known = {"_target_", "init_filters", "blocks_down", "norm", "in_channels", "out_channels", "dsdepth"}
    unusual = sorted(key for key in set(network) - known if network[key] is not None)
    norm = network["norm"][0] if isinstance(network["norm"], list) else network["norm"]
    if unusual or norm not in _NORMS or int(network["in_channels"]) != 1:
        raise refused(
            path, f"Its network has what is not supported: {unusual or norm}, or several channels.", _STAY
        )
    labels = _labels(config, int(network["out_channels"]), path)
    roi = [int(size) for size in config["roi_size"]]
    spacing = [float(size) for size in config["resample_resolution"]]
    if len(roi) != 3 or len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
        message = f"roi_size {roi}, resample_resolution {spacing}"
        raise ValueError(message)
    original = Original(
        program="Auto3DSeg",
        orientation="",
        axes=(2, 1, 0),
        in_slices=False,
        channels=("image",),
        intensities=(_intensity(config, path),),
        normalise_first=False,
        crop="positive" if config.get("crop_foreground", True) else "none",
        margin=MARGIN,
        resampling="linear",
        spacing_tolerance=TOLERANCE,
        step="fixed",
        overlap=OVERLAP,
        padding="zero",
        weights="gaussian",
        mirrored=(),
        folds=1,
        half_precision=False,
        restore="labels",
    )
    modality = "MR" if str(config.get("modality", "CT")).upper().startswith("MR") else "CT"
    return Converted(
        name=path.parent.name if path.stem == "model" else path.stem,
        description=f"{path.parent.name}: Auto3DSeg SegResNetDS, {len(labels)} organs, converted.",
        modality=modality,
        architecture="monai_segresnet_ds",
        arguments={
            "filters": int(network["init_filters"]),
            "blocks_down": [int(blocks) for blocks in network["blocks_down"]],
            "norm": _NORMS[norm],
        },
        activation="softmax",
        labels=labels,
        original=original,
        orientation="RAS" if config.get("orientation_ras", True) else None,
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        patch_shape=(roi[0], roi[1], roi[2]),
        weights=(_weights(checkpoint, len(network["blocks_down"])),),
        license=NOT_STATED,
        licence_text="The file does not state the licence of its weights.",
        files=(path,),
        facts={"converted_from": "Auto3DSeg", "normalize_mode": str(config.get("normalize_mode"))},
    )


def _labels(config: Mapping[str, Any], channels: int, path: Path) -> tuple[str, ...]:
    names: dict[int, str] = {}
    for number, entry in enumerate(config["class_names"], start=1):
        name, value = (entry[0], entry[1]) if isinstance(entry, list) else (entry, number)
        if not isinstance(name, str) or not name.strip() or not name.isprintable():
            raise refused(path, f"The label of value {value} has no name.")
        names[int(value)] = name
    if sorted(names) != list(range(1, channels)) or channels > 256:
        raise refused(path, f"It has {channels} channels and labels of the values {sorted(names)}.")
    return tuple(names[value] for value in sorted(names))


def _intensity(config: Mapping[str, Any], path: Path) -> Intensity:
    mode = str(config.get("normalize_mode"))
    if mode in ("range", "ct"):
        low, high = (float(end) for end in config["intensity_bounds"])
        return Intensity("range_sigmoid", {"from_low": low, "from_high": high})
    if mode in ("meanstd", "mri"):
        return Intensity("zscore", {"masked": 1.0})
    if mode == "none":
        return Intensity("none", {})
    raise refused(path, f"It normalises by '{mode}', which is not supported.", _STAY)


def _weights(checkpoint: Checkpoint, levels: int) -> Weights:
    theirs = checkpoint.weights(checkpoint.tree["state_dict"])
    head = f"up_layers.{levels - 2}.head."
    return {
        f"head.{name.removeprefix(head)}" if name.startswith(head) else f"trunk.{name}": array
        for name, array in theirs.items()
        if name.startswith(head) or not (name.startswith("up_layers.") and ".head." in name)
    }
