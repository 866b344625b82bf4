"""Metadata from and to the JSON of a MONAI Bundle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from multiorganseg.bundles.json_text import sorted_keys
from multiorganseg.bundles.metadata import CustomOrgan, Domain, Metadata, Preprocessing
from multiorganseg.bundles.original_json import original_from_json, original_to_json
from multiorganseg.earlier import training_facts_of_now
from multiorganseg.organs.labels import LabelTable


def metadata_from_json(data: Mapping[str, Any]) -> Metadata:
    """Build the metadata from JSON in which `metadata_problems` finds nothing."""
    preprocessing = data["preprocessing"]
    window = preprocessing["window"]
    return Metadata(
        schema_version=data["schema_version"],
        name=data["name"],
        version=data["version"],
        description=data["description"],
        modality=data["modality"],
        architecture=data["architecture"],
        arguments=data["arguments"],
        activation=data["activation"],
        labels=LabelTable.from_json(data["labels"]),
        preprocessing=Preprocessing(
            spacing_mm=_triple(preprocessing["spacing_mm"], float),
            intensity=preprocessing["intensity"],
            window=None if window is None else (float(window[0]), float(window[1])),
            original=original_from_json(preprocessing["original"]) if "original" in preprocessing else None,
        ),
        patch_shape=_triple(data["patch_shape"], int),
        feature_channels=data["feature_channels"],
        license=data["license"],
        metrics=data.get("metrics", {}),
        training=training_facts_of_now(data["training"]),
        custom_organs={
            key: CustomOrgan(organ["name"], _triple(organ["color"], int))
            for key, organ in data.get("custom_organs", {}).items()
        },
        domain=_domain(data["domain"]) if data.get("domain") else None,
    )


def metadata_to_json(metadata: Metadata) -> dict[str, Any]:
    """Return the JSON that `metadata_from_json` reads, with the fields of MONAI's schema before ours.

    MONAI's schema is "meta_schema_20240725.json". Its version fields name the oldest releases that run the
    bundle, so that the bytes do not depend on the computer that writes them.
    """
    preprocessing = metadata.preprocessing
    original = preprocessing.original
    ours = {
        "schema_version": metadata.schema_version,
        "name": metadata.name,
        "version": metadata.version,
        "description": metadata.description,
        "modality": metadata.modality,
        "architecture": metadata.architecture,
        "arguments": sorted_keys(metadata.arguments),
        "activation": metadata.activation,
        "labels": metadata.labels.to_json(),
        "preprocessing": {
            "spacing_mm": [float(size) for size in preprocessing.spacing_mm],
            "intensity": preprocessing.intensity,
            "window": None if preprocessing.window is None else [float(end) for end in preprocessing.window],
            **({"original": original_to_json(original)} if original else {}),
        },
        "patch_shape": list(metadata.patch_shape),
        "feature_channels": metadata.feature_channels,
        "license": metadata.license,
        "metrics": sorted_keys(metadata.metrics),
        "training": sorted_keys(metadata.training),
        "custom_organs": {
            key: {"name": organ.name, "color": list(organ.color)}
            for key, organ in sorted(metadata.custom_organs.items())
        },
    }
    if metadata.domain:
        ours["domain"] = {
            "scan": _ranges_to_json(metadata.domain.scan),
            "organs_hu": _ranges_to_json(metadata.domain.organs_hu),
            "above_liver_mm": sorted_keys(metadata.domain.above_liver_mm),
        }
    return {**_monai_fields(metadata), **ours}


def _domain(data: Mapping[str, Any]) -> Domain:
    scan, organs = ({key: _range(ends) for key, ends in data[part].items()} for part in ("scan", "organs_hu"))
    return Domain(scan, organs, {key: float(height) for key, height in data["above_liver_mm"].items()})


def _range(ends: Any) -> tuple[float, float]:
    low, high = ends
    return float(low), float(high)


def _ranges_to_json(ranges: Mapping[str, tuple[float, float]]) -> dict[str, list[float]]:
    return {key: [float(low), float(high)] for key, (low, high) in sorted(ranges.items())}


def _monai_fields(metadata: Metadata) -> dict[str, Any]:
    names = metadata.labels.keys
    if metadata.activation == "softmax":
        names = ("background", *names)
    original = metadata.preprocessing.original
    channels = original.channels if original else ("image",)
    common = {"type": "image", "spatial_shape": list(metadata.patch_shape), "dtype": "float32"}
    return {
        "schema": "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/"
        "meta_schema_20240725.json",
        "monai_version": "1.5.0",
        "pytorch_version": "2.4.0",
        "numpy_version": "1.26.0",
        "required_packages_version": {"safetensors": "0.4.0"},
        "task": "Multi-organ segmentation",
        "authors": "The MultiOrganSeg project",
        "copyright": f"Licensed under {metadata.license}",
        "network_data_format": {
            "inputs": {
                "image": {
                    **common,
                    "format": "hounsfield" if metadata.modality == "CT" else "magnitude",
                    "modality": metadata.modality,
                    "num_channels": metadata.in_channels,
                    "value_range": [-1, 1] if metadata.preprocessing.intensity == "window" else [],
                    "is_patch_data": True,
                    "channel_def": {str(channel): name for channel, name in enumerate(channels)},
                }
            },
            "outputs": {
                "pred": {
                    **common,
                    "format": "logits",
                    "num_channels": metadata.channels,
                    "value_range": [],
                    "is_patch_data": True,
                    "channel_def": {str(channel): name for channel, name in enumerate(names)},
                }
            },
        },
    }


def _triple(values: Any, kind: type) -> Any:
    first, second, third = values
    return (kind(first), kind(second), kind(third))
