"""`configs/inference.json`: the network in MONAI's configuration language, for users of MONAI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from multiorganseg.bundles.metadata import Metadata

_NETWORK = "multiorganseg.networks.build.build_network"
_INFERER = "monai.inferers.SlidingWindowInferer"


def inference_config(metadata: Metadata) -> dict[str, Any]:
    """Describe the network and its window; axes are (k, j, i)."""
    return {
        "network_def": {
            "_target_": _NETWORK,
            "architecture": metadata.architecture,
            "arguments": dict(metadata.arguments),
        },
        "inferer": {
            "_target_": _INFERER,
            "roi_size": list(metadata.patch_shape),
            "sw_batch_size": 1,
            "overlap": 0.5,
            "mode": "gaussian",
        },
    }


def inference_problems(config: Mapping[str, Any]) -> list[str]:
    """List what would let MONAI's parser run code: expressions, file macros, constructors not ours.

    The engine itself builds the network from the metadata and never executes this file.
    """
    problems = []
    for key, value in _leaves(config):
        if value.startswith(("$", "%")):
            problems.append(f"inference.json holds an expression: {value[:60]}")
        elif key == "_target_" and value not in (_NETWORK, _INFERER):
            problems.append(f"inference.json calls something that is not allowed: {value[:60]}")
    return problems


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield "", name
            yield from _leaves(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, str):
        yield key, value
