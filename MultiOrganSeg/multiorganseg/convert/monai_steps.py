"""Preprocessing, windows and postprocessing of a MONAI Bundle as steps of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multiorganseg.bundles.original import Intensity
from multiorganseg.convert.monai_config import MonaiConfig, component
from multiorganseg.convert.read_checkpoint import refused
from multiorganseg.errors import BundleError

OVERLAP = 0.25
_IDLE = frozenset(
    {
        "LoadImaged",
        "EnsureChannelFirstd",
        "EnsureTyped",
        "ToTensord",
        "ToDeviced",
        "CastToTyped",
        "SaveImaged",
        "DeleteItemsd",
    }
)
"""Transforms that leave the numbers as they are."""
_STAY = "It stays usable with MONAI itself."


@dataclass(frozen=True)
class Steps:
    """What comes before the network; axes are (i, j, k) in the orientation."""

    orientation: str
    spacing_mm: tuple[float, float, float]
    intensity: Intensity
    normalise_first: bool
    crop: str
    margin: int


@dataclass(frozen=True)
class Windows:
    """How windows lie; axes are (i, j, k) in the orientation."""

    shape: tuple[int, int, int]
    overlap: float
    weights: str
    padding: str


def read_preprocessing(config: MonaiConfig) -> Steps:
    """Read `preprocessing`.

    Raises:
        BundleError: It holds a transform that is not supported.
        ValueError: A transform's arguments are not valid.
    """
    orientation, spacing = "", None
    intensity, normalise_first = Intensity("none", {}), False
    crop, margin = "none", 0
    for name, said in _transforms(config, "preprocessing"):
        if name in _IDLE:
            continue
        if name == "Orientationd":
            orientation = str(said["axcodes"])
        elif name == "Spacingd":
            _require(config, name, said, mode=("bilinear",), align_corners=(False, None), diagonal=(False,))
            spacing = tuple(_positive(size) for size in said["pixdim"])
            normalise_first = intensity.kind != "none"
        elif name == "CropForegroundd":
            _require(config, name, said, select_fn=(), channel_indices=(None,), allow_smaller=(True,))
            if spacing is not None or intensity.kind != "none":
                raise _unsupported(config, f"{name} after other steps")
            crop, margin = "positive", int(said.get("margin", 0))
        else:
            intensity = _intensity(config, name, said, intensity)
    if len(orientation) != 3 or spacing is None or len(spacing) != 3:
        raise _unsupported(config, "preprocessing without Orientationd or Spacingd")
    return Steps(orientation, (spacing[0], spacing[1], spacing[2]), intensity, normalise_first, crop, margin)


def _intensity(config: MonaiConfig, name: str, said: Mapping[str, Any], before: Intensity) -> Intensity:
    if name == "ScaleIntensityRanged" and before.kind == "none":
        numbers = {"from_low": said["a_min"], "from_high": said["a_max"], "to_low": said["b_min"]}
        numbers |= {"to_high": said["b_max"], "clip": bool(said.get("clip", False))}
        return Intensity("range", {key: float(value) for key, value in numbers.items()})
    if name == "NormalizeIntensityd" and before.kind == "none":
        _require(config, name, said, subtrahend=(None,), divisor=(None,), channel_wise=(False, True))
        return Intensity("zscore", {"masked": float(bool(said.get("nonzero", False)))})
    if name == "ScaleIntensityd" and before.kind in ("none", "zscore"):
        _require(config, name, said, factor=(None,), channel_wise=(False, True))
        ends = {"to_low": float(said.get("minv", 0.0)), "to_high": float(said.get("maxv", 1.0))}
        return Intensity("minmax" if before.kind == "none" else "zscore_minmax", {**before.values, **ends})
    raise _unsupported(config, name)


def read_inferer(config: MonaiConfig) -> Windows:
    """Read `inferer`.

    Raises:
        BundleError: It is not supported.
        ValueError: Its arguments are not valid.
    """
    name, said = component(config.part("inferer"))
    if name not in ("SlidingWindowInferer", "SlidingWindowInfererAdapt"):
        raise _unsupported(config, name)
    roi = said["roi_size"]
    roi = [roi] * 3 if isinstance(roi, int) else [int(size) for size in roi]
    overlap = float(said.get("overlap", OVERLAP))
    weights = {"gaussian": "gaussian", "constant": "constant"}.get(
        str(said.get("mode", "constant")).casefold()
    )
    padding = {"constant": "zero", "replicate": "edge"}.get(
        str(said.get("padding_mode", "constant")).casefold()
    )
    if weights is None or padding is None or said.get("cval", 0) or said.get("sigma_scale", 0.125) != 0.125:
        raise _unsupported(config, f"{name} with {said}")
    if len(roi) != 3 or min(roi) < 1 or not 0 <= overlap <= 0.9:
        message = f"roi_size {roi}, overlap {overlap}"
        raise ValueError(message)
    return Windows((roi[0], roi[1], roi[2]), overlap, weights, padding)


def read_postprocessing(config: MonaiConfig) -> str:
    """Read `postprocessing`, and say what is interpolated back onto the input's grid: see `Original.restore`.

    Raises:
        BundleError: It is not supported.
    """
    state, restored = "logits", ""
    for name, said in _transforms(config, "postprocessing"):
        if name in _IDLE:
            continue
        if name == "Activationsd" and said.get("softmax") is True and not said.get("sigmoid"):
            state = "probabilities"
        elif name == "AsDiscreted" and said.get("argmax") is True:
            state = "labels"
        elif name == "Invertd":
            nearest = said.get("nearest_interp", True)
            if nearest not in (True, False) or nearest != (state == "labels"):
                raise _unsupported(config, f"Invertd of {state} with nearest_interp {nearest}")
            restored = state
        else:
            raise _unsupported(config, name)
    if not restored or state != "labels":
        raise _unsupported(config, "postprocessing without Invertd or without AsDiscreted(argmax)")
    return restored


def _transforms(config: MonaiConfig, part: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the transforms of a part; what a transform refers to elsewhere is not followed."""
    found = []
    for entry in config.transforms(part):
        if isinstance(entry, Mapping) and entry.get("_disabled_") is True:
            continue
        name, said = component(entry)
        keep = {} if name in _IDLE else {key: item for key, item in said.items() if key not in _NAMES}
        found.append((name, {key: config.plain(item, (part, name, key)) for key, item in keep.items()}))
    return found


_NAMES = frozenset(
    {"keys", "transform", "orig_keys", "meta_keys", "source_key", "device", "to_tensor", "allow_missing_keys"}
)
"""Arguments that name items or other parts, or say where numbers lie."""


def _require(config: MonaiConfig, name: str, said: Mapping[str, Any], **allowed: tuple[Any, ...]) -> None:
    unusual = {key: said[key] for key, values in allowed.items() if key in said and said[key] not in values}
    if unusual:
        raise _unsupported(config, f"{name} with {unusual}")


def _unsupported(config: MonaiConfig, what: str) -> BundleError:
    return refused(config.path, f"It uses {what}, which is not supported.", _STAY)


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        message = f"a spacing of {value!r}"
        raise ValueError(message)
    return number
