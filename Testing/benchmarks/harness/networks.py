"""Bundles of the inference benchmark: the trained one, and one with as many classes as wanted."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, read_weights, write_bundle
from multiorganseg.networks.build import build_network
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.recipe.file import load_recipe

HEAD_WEIGHT, HEAD_BIAS = "head.weight", "head.bias"
SPLIT_SIZE = 0.05
LICENSE = "For benchmarks alone."

Weights = dict[str, NDArray[np.floating]]


def split_bundle(trained: Bundle, classes: int, folder: Path) -> Bundle:
    """Write a bundle with more classes whose label maps look like those of the trained one.

    Trunk and background are the trained ones; every organ is divided into several classes by small random
    directions in feature space, so that the total of organ voxels and their borders stay like real ones.

    Args:
        trained: The bundle to start from.
        classes: Number of organs wanted.
        folder: Where the new bundle goes; a bundle there is replaced.
    """
    weights: Weights = dict(read_weights(trained))
    weight, bias = weights[HEAD_WEIGHT].astype(np.float32), weights[HEAD_BIAS].astype(np.float32)
    parents = np.concatenate([[0], 1 + np.arange(classes) % (weight.shape[1] - 1)])
    directions = np.random.default_rng(0).standard_normal((weight.shape[0], classes + 1)).astype(np.float32)
    sizes = SPLIT_SIZE * np.linalg.norm(weight, axis=0).mean(axis=(1, 2, 3))[parents]
    directions *= sizes / np.linalg.norm(directions, axis=0)
    directions[:, 0] = 0
    weights[HEAD_WEIGHT] = weight[:, parents] + directions[:, :, None, None, None]
    weights[HEAD_BIAS] = bias[parents]
    return _write(trained.metadata, weights, classes, folder)


def random_bundle(recipe: Path, classes: int, folder: Path) -> Bundle:
    """Write a bundle with random weights and the network of a recipe.

    Args:
        recipe: A TOML file of the training package.
        classes: Number of organs wanted.
        folder: Where the bundle goes; a bundle there is replaced.
    """
    import torch

    loaded = load_recipe(recipe)
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "out_channels": classes + 1, **loaded.network.arguments}
    network = build_network(loaded.network.architecture, arguments)
    weights: Weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    head = weights[HEAD_WEIGHT]
    weights[HEAD_WEIGHT] = np.broadcast_to(head[..., :1, :1, :1], head.shape)
    metadata = Metadata(
        schema_version=1,
        name="random",
        version="1.0.0",
        description="Random weights, for benchmarks alone",
        modality=loaded.data.modality,
        architecture=loaded.network.architecture,
        arguments=loaded.network.arguments,
        activation="softmax",
        labels=LabelTable.numbered(loaded.data.table.keys),
        preprocessing=Preprocessing(loaded.preprocessing.spacing_mm, "window", loaded.preprocessing.window),
        patch_shape=loaded.network.patch_shape,
        feature_channels=loaded.network.arguments["filters"][0],
        license=LICENSE,
    )
    return _write(metadata, weights, classes, folder)


def _write(metadata: Metadata, weights: Weights, classes: int, folder: Path) -> Bundle:
    keys = metadata.labels.keys
    if classes != len(keys):
        organs = load_catalogue().organs.values()
        ranked = sorted(organs, key=lambda organ: (organ.key not in keys, organ.within is not None))
        keys = tuple(organ.key for organ in ranked[:classes])
    changed = replace(
        metadata,
        name=folder.name,
        arguments={name: value for name, value in metadata.arguments.items() if name != "out_channels"},
        labels=LabelTable.numbered(keys),
        metrics={},
        training={},
        custom_organs={},
    )
    return write_bundle(folder, changed, weights, "For benchmarks alone.", LICENSE, replace=True)
