"""Types and ranges of `configs/metadata.json`."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from multiorganseg.bundles.metadata import CONVERTED_SCHEMA_VERSION, SCHEMA_VERSION
from multiorganseg.bundles.original_json import original_problems
from multiorganseg.networks.names import ARCHITECTURES

NAME_PATTERN = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?")
_VERSION_PATTERN = re.compile(r"(?:0|[1-9]\d{0,5})(?:\.(?:0|[1-9]\d{0,5})){2}", re.ASCII)
_ORGAN_PATTERN = re.compile(r"(?=.{1,64}$)[a-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")
_FRACTIONS = ("dice", "nsd")

MONAI_KEYS = frozenset(
    {
        "schema",
        "changelog",
        "monai_version",
        "pytorch_version",
        "numpy_version",
        "optional_packages_version",
        "required_packages_version",
        "task",
        "authors",
        "copyright",
        "references",
        "intended_use",
        "data_source",
        "data_type",
        "image_classes",
        "label_classes",
        "pred_classes",
        "eval_metrics",
        "supported_apps",
        "network_data_format",
    }
)
"""Fields of MONAI's own schema that may stand beside ours; the engine does not read them."""


def metadata_problems(data: Mapping[str, Any]) -> list[str]:
    """List what is wrong with the contents of `metadata.json`; empty when all is right."""
    version = data.get("schema_version")
    if _is_whole(version, 1, 10**6) and version not in VERSIONS:
        known = " and ".join(map(str, VERSIONS))
        return [f"metadata.json has schema version {version}; this MultiOrganSeg reads {known}"]
    problems = [f"metadata.json lacks '{key}'" for key in _RULES if key not in data and key not in _OPTIONAL]
    problems += [
        f"metadata.json has the unknown field '{key}'"
        for key in data
        if key not in _RULES and key not in MONAI_KEYS
    ]
    wrong = [key for key, (fits, _) in _RULES.items() if key in data and not fits(data[key])]
    problems += [f"metadata.json: '{key}' must be {_RULES[key][1]}" for key in wrong]
    return problems or _inconsistencies(data)


def _inconsistencies(data: Mapping[str, Any]) -> list[str]:
    organs = set(data["labels"].values())
    domain = data.get("domain") or {}
    by_organ = {
        **{field: data.get(field, {}) for field in ("metrics", "custom_organs")},
        **{f"domain.{part}": domain.get(part, {}) for part in ("organs_hu", "above_liver_mm")},
    }
    problems = _version_problems(data)
    problems += [
        f"metadata.json: '{field}' names '{key}', which is not in the label table"
        for field, named in by_organ.items()
        for key in named
        if key not in organs
    ]
    channels = len(organs) + (data["activation"] == "softmax")
    declared = data["arguments"].get("out_channels", channels)
    if declared != channels:
        problems.append(
            f"metadata.json: the network has {declared} output channels, the label table asks for {channels}"
        )
    if data["arguments"].get("in_channels", 1) != 1:
        problems.append("metadata.json: the network has more input channels than one")
    return problems


def _version_problems(data: Mapping[str, Any]) -> list[str]:
    """List what only the other version of the schema has."""
    if data["schema_version"] == CONVERTED_SCHEMA_VERSION:
        if "original" not in data["preprocessing"]:
            return ["metadata.json: 'preprocessing' lacks 'original'"]
        return [
            f"metadata.json: {problem}" for problem in original_problems(data["preprocessing"]["original"])
        ]
    newer = "original" in data["preprocessing"] or data["activation"] == "regions"
    return [f"metadata.json: schema version {CONVERTED_SCHEMA_VERSION} is needed"] if newer else []


def _is_number(value: Any, low: float, high: float) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and low <= value <= high


def _is_whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_text(value: Any, longest: int) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value.strip()) <= len(value) <= longest
        and all(character.isprintable() for character in value)
    )


def _matches(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_labels(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and 0 < len(value) < 1024
        and set(value) == {str(number) for number in range(1, len(value) + 1)}
        and all(map(_matches(_ORGAN_PATTERN), value.values()))
        and len(set(value.values())) == len(value)
    )


def _is_preprocessing(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) - {"original"} != {"spacing_mm", "intensity", "window"}:
        return False
    spacing, window = value["spacing_mm"], value["window"]
    if not (isinstance(spacing, list) and len(spacing) == 3 and all(_is_number(s, 0.1, 20) for s in spacing)):
        return False
    if ("original" in value) != (value["intensity"] == "original"):
        return False
    if value["intensity"] in ("zscore", "original"):
        return window is None
    return (
        value["intensity"] == "window"
        and isinstance(window, list)
        and len(window) == 2
        and all(_is_number(end, -1e5, 1e5) for end in window)
        and window[0] < window[1]
    )


def _is_patch_shape(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 3
        and (_is_whole(value[0], 8, 1024) or value[0] == 1)
        and all(_is_whole(size, 8, 1024) for size in value[1:])
        and math.prod(value) <= 512**3
    )


def _is_metrics(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(measured, Mapping)
        and all(_is_number(number, 0, 1 if key in _FRACTIONS else 1e9) for key, number in measured.items())
        for measured in value.values()
    )


def _is_custom_organs(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(organ, Mapping)
        and set(organ) == {"name", "color"}
        and _is_text(organ["name"], 100)
        and isinstance(organ["color"], list)
        and len(organ["color"]) == 3
        and all(_is_whole(part, 0, 255) for part in organ["color"])
        for organ in value.values()
    )


def _is_domain(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"scan", "organs_hu", "above_liver_mm"}:
        return False
    parts = [value[name] for name in ("scan", "organs_hu")]
    if not all(isinstance(part, Mapping) for part in (*parts, value["above_liver_mm"])):
        return False
    ranges = [ends for part in parts for ends in part.values()]
    return all(
        isinstance(ends, list)
        and len(ends) == 2
        and all(_is_number(end, -1e5, 1e5) for end in ends)
        and ends[0] <= ends[1]
        for ends in ranges
    ) and all(_is_number(height, -1e5, 1e5) for height in value["above_liver_mm"].values())


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


VERSIONS = (SCHEMA_VERSION, CONVERTED_SCHEMA_VERSION)
"""Versions of the schema that are read."""

_OPTIONAL = ("metrics", "custom_organs", "domain")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "schema_version": (lambda value: _is_whole(value, 1, 10**6), " or ".join(map(str, VERSIONS))),
    "name": (_matches(NAME_PATTERN), "1–64 lower-case letters, digits, '.', '_' or '-'"),
    "version": (_matches(_VERSION_PATTERN), "three numbers such as 1.0.0"),
    "description": (lambda value: _is_text(value, 2000), "one line of at most 2000 characters"),
    "modality": (lambda value: value in ("CT", "MR"), '"CT" or "MR"'),
    "architecture": (lambda value: value in ARCHITECTURES, "one of " + ", ".join(ARCHITECTURES)),
    "arguments": (_is_object, "an object with the network's arguments"),
    "activation": (
        lambda value: value in ("softmax", "sigmoid", "regions"),
        '"softmax", "sigmoid" or "regions"',
    ),
    "labels": (_is_labels, "an object from label values, numbered 1 to at most 1023, to distinct organ keys"),
    "preprocessing": (
        _is_preprocessing,
        'spacing_mm (three numbers in 0.1…20), intensity ("window", "zscore" or "original") and window '
        "(lower and upper HU; null for the others)",
    ),
    "patch_shape": (
        _is_patch_shape,
        "three whole numbers in 8…1024, the first may be 1 (single slices), together at most 512³ voxels",
    ),
    "feature_channels": (lambda value: _is_whole(value, 1, 4096), "a whole number in 1…4096"),
    "license": (lambda value: _is_text(value, 200), "one line of at most 200 characters"),
    "metrics": (_is_metrics, "an object of non-negative numbers by organ; dice and nsd at most 1"),
    "training": (_is_object, "an object"),
    "custom_organs": (_is_custom_organs, "an object of name and color (three numbers in 0…255) by organ"),
    "domain": (
        _is_domain,
        "scan and organs_hu (objects of lowest and highest number) and above_liver_mm (an object of numbers)",
    ),
}
