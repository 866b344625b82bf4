"""Metadata from and to the JSON of a MONAI Bundle."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from multiorganseg.bundles.json_text import sorted_keys
from multiorganseg.bundles.metadata import CONVERTED_SCHEMA_VERSION, SCHEMA_VERSION, Domain, Metadata
from multiorganseg.earlier import training_facts_of_now
from multiorganseg.networks.names import ARCHITECTURES
from multiorganseg.schema import SchemaError, read_as

VERSIONS = (SCHEMA_VERSION, CONVERTED_SCHEMA_VERSION)
"""Versions of the schema that are read."""

MONAI_KEYS = frozenset(
    {
        *("schema", "changelog", "monai_version", "pytorch_version", "numpy_version", "task", "authors"),
        *("optional_packages_version", "required_packages_version", "copyright", "references"),
        *("intended_use", "data_source", "data_type", "image_classes", "label_classes", "pred_classes"),
        *("eval_metrics", "supported_apps", "network_data_format"),
    }
)
"""Fields of MONAI's own schema that may stand beside ours; the engine does not read them."""

_ORGAN_PATTERN = re.compile(r"(?=.{1,64}\Z)[a-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")
_FRACTIONS = ("dice", "nsd")
_MOST_VOXELS = 512**3
_NO_DOMAIN = Domain({}, {}, {})


def metadata_from_json(data: Mapping[str, Any]) -> Metadata:
    """Read what `metadata_to_json` gives.

    Raises:
        SchemaError: It is not valid; everything found is listed.
    """
    version = data.get("schema_version")
    if type(version) is int and 0 < version < 10**6 and version not in VERSIONS:
        message = f"has schema version {version}; this MultiOrganSeg reads {' and '.join(map(str, VERSIONS))}"
        raise SchemaError([message])
    metadata = read_as(Metadata, {key: value for key, value in data.items() if key not in MONAI_KEYS})
    problems = list(_inconsistencies(metadata))
    if problems:
        raise SchemaError(problems)
    return dataclasses.replace(metadata, training=training_facts_of_now(metadata.training))


def _inconsistencies(said: Metadata) -> Iterator[str]:
    """Yield what each field alone does not show."""
    organs, prepared = said.labels.organs, said.preprocessing
    if not 0 < len(organs) < 1024 or list(organs) != list(range(1, len(organs) + 1)):
        yield "'labels' must be numbered from 1 to at most 1023"
    if not all(map(_ORGAN_PATTERN.fullmatch, organs.values())):
        yield "'labels' must map to organ keys: letters and digits, joined by '_'"
    if said.architecture not in ARCHITECTURES:
        yield f"'architecture' must be one of {', '.join(ARCHITECTURES)}"
    texts = {"description": said.description, "license": said.license}
    texts |= {f"custom_organs.{key}.name": organ.name for key, organ in said.custom_organs.items()}
    for field, text in texts.items():
        if not text.strip() or not text.isprintable():
            yield f"'{field}' must be one line of printable text"
    if (prepared.window is not None) != (prepared.intensity == "window"):
        yield "'preprocessing.window' must be there for the intensity window, and null for the others"
    if (prepared.original is not None) != (prepared.intensity == "original"):
        yield "'preprocessing' lacks 'original', or has it with another intensity"
    converted = prepared.original is not None or said.activation == "regions"
    if said.schema_version == CONVERTED_SCHEMA_VERSION and prepared.original is None:
        yield "'preprocessing' lacks 'original'"
    if said.schema_version != CONVERTED_SCHEMA_VERSION and converted:
        yield f"schema version {CONVERTED_SCHEMA_VERSION} is needed"
    first, *others = said.patch_shape
    if 1 < first < 8 or min(others) < 8 or math.prod(said.patch_shape) > _MOST_VOXELS:
        yield (
            "'patch_shape' must be three whole numbers in 8…1024, the first may be 1 (single slices), "
            "together at most 512³ voxels"
        )
    if any(measured.get(key, 0) > 1 for measured in said.metrics.values() for key in _FRACTIONS):
        yield "'metrics' must have dice and nsd of at most 1"
    if prepared.window and prepared.window[0] >= prepared.window[1]:
        yield "'preprocessing.window' must rise"
    domain = said.domain or _NO_DOMAIN
    if any(low > high for low, high in (*domain.scan.values(), *domain.organs_hu.values())):
        yield "'domain' must have ranges from the lowest to the highest number"
    by_organ = {"metrics": said.metrics, "custom_organs": said.custom_organs}
    by_organ |= {f"domain.{part}": getattr(domain, part) for part in ("organs_hu", "above_liver_mm")}
    for field, named in by_organ.items():
        for key in set(named) - set(organs.values()):
            yield f"'{field}' names '{key}', which is not in the label table"
    declared = said.arguments.get("out_channels", said.channels)
    if declared != said.channels:
        yield f"the network has {declared} output channels, the label table asks for {said.channels}"
    if said.arguments.get("in_channels", 1) != 1:
        yield "the network has more input channels than one"


def metadata_to_json(metadata: Metadata) -> dict[str, Any]:
    """Return the JSON that `metadata_from_json` reads, with the fields of MONAI's schema before ours.

    MONAI's schema is "meta_schema_20240725.json". Its version fields name the oldest releases that run the
    bundle, so that the bytes do not depend on the computer that writes them.
    """
    prepared = metadata.preprocessing
    ours = {
        **{field.name: getattr(metadata, field.name) for field in dataclasses.fields(metadata)},
        **{name: sorted_keys(getattr(metadata, name)) for name in ("arguments", "metrics", "training")},
        "labels": metadata.labels.to_json(),
        "preprocessing": {
            "spacing_mm": [float(size) for size in prepared.spacing_mm],
            "intensity": prepared.intensity,
            "window": None if prepared.window is None else [float(end) for end in prepared.window],
            **({"original": prepared.original.to_json()} if prepared.original else {}),
        },
        "custom_organs": {
            key: dataclasses.asdict(organ) for key, organ in sorted(metadata.custom_organs.items())
        },
        "domain": {name: sorted_keys(part) for name, part in vars(metadata.domain or _NO_DOMAIN).items()},
    }
    if not metadata.domain:
        del ours["domain"]
    return {**_monai_fields(metadata), **ours}


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
