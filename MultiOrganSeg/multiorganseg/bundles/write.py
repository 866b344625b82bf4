"""Writing a bundle."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import put_in_place
from multiorganseg.bundles.bundle import (
    CARD,
    INFERENCE,
    LICENSE,
    METADATA,
    WEIGHTS,
    Bundle,
    load_bundle,
    verify_bundle,
    weights_names,
)
from multiorganseg.bundles.folders import scratch_folder
from multiorganseg.bundles.inference_config import inference_config
from multiorganseg.bundles.json_text import format_json, sorted_keys
from multiorganseg.bundles.manifest import MANIFEST, build_manifest
from multiorganseg.bundles.metadata import Metadata
from multiorganseg.bundles.metadata_json import metadata_to_json
from multiorganseg.errors import BundleError


def write_bundle(
    folder: Path | str,
    metadata: Metadata,
    state_dict: Mapping[str, NDArray[np.floating[Any]]],
    card: str,
    license_text: str,
    *,
    further_folds: Sequence[Mapping[str, NDArray[np.floating[Any]]]] = (),
    exact: bool = False,
    replace: bool = False,
) -> Bundle:
    """Write and verify a bundle beside `folder`, then rename it; equal arguments give equal bytes.

    Args:
        folder: Where the bundle shall lie; its last part should be the bundle's name.
        metadata: What the bundle says about its network.
        state_dict: Floating-point arrays by parameter name; stored as float16 unless `exact`.
        card: The model card in Markdown.
        license_text: Full text of the weights' licence.
        further_folds: Arrays of the other networks, where `Metadata.folds` says that there are several.
        exact: Whether weights are stored as float32.
        replace: Whether a bundle that lies there already is replaced.

    Raises:
        BundleError: The folder is taken, the metadata does not fit the schema, or a weight is no finite
            float16 number.
        ResourceError: The folder cannot be written or the disk is full.
    """
    from safetensors.numpy import save

    folder = Path(folder).absolute()
    if folder.exists() and not (replace and (folder / MANIFEST).is_file()):
        message = f"Cannot write a bundle to {folder}."
        raise BundleError(
            message,
            cause="Something lies there already." if not replace else "What lies there is no bundle.",
            next_step="Choose another folder.",
        )
    kind = "<f4" if exact else "<f2"
    folds = [
        {key: _stored(key, array, kind) for key, array in sorted(state.items())}
        for state in (state_dict, *further_folds)
    ]
    texts = {CARD: card.rstrip() + "\n", LICENSE: license_text.rstrip() + "\n", **_configs(metadata)}
    with scratch_folder(folder) as scratch:
        partial = scratch / folder.name
        for name, text in texts.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(text.encode("utf-8"))
        (partial / WEIGHTS).parent.mkdir()
        for name, weights in zip(weights_names(len(folds)), folds, strict=True):
            (partial / name).write_bytes(save(weights))
        (partial / MANIFEST).write_bytes(format_json(build_manifest(partial)).encode("utf-8"))
        verify_bundle(partial)
        put_in_place(partial, folder, scratch)
    return load_bundle(folder)


def _configs(metadata: Metadata) -> dict[str, str]:
    in_order = {key: metadata.metrics[key] for key in metadata.labels.keys if key in metadata.metrics}
    strays = set(metadata.metrics) - set(in_order)
    if strays:
        raise _unfit(metadata, f"Metrics of organs that it does not label: {', '.join(sorted(strays))}.")
    metadata = dataclasses.replace(metadata, metrics=in_order)
    try:
        return {
            METADATA: format_json(metadata_to_json(metadata)),
            INFERENCE: format_json(sorted_keys(inference_config(metadata))),
        }
    except (TypeError, ValueError) as error:
        raise _unfit(metadata, str(error)) from error


def _stored(name: str, array: NDArray[np.floating[Any]], kind: str) -> NDArray[np.floating[Any]]:
    if not np.issubdtype(np.asarray(array).dtype, np.floating):
        message = f"The weight {name} cannot be stored."
        raise BundleError(
            message,
            cause=f"It is of type {np.asarray(array).dtype}.",
            next_step="Keep only floating-point weights; leave counters and optimiser state out.",
        )
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(array, dtype=kind).reshape(np.shape(array))
    if not np.isfinite(stored).all():
        message = f"The weight {name} cannot be stored."
        raise BundleError(
            message,
            cause=f"It holds a NaN, an infinity or a value beyond ±{np.finfo(kind).max:g}.",
            next_step="Check whether the training diverged.",
        )
    return stored


def _unfit(metadata: Metadata, cause: str) -> BundleError:
    return BundleError(
        f"The metadata of {metadata.name} cannot be written.",
        cause=cause,
        next_step="Use only finite numbers, texts, lists and mappings with text keys.",
    )
