"""Networks of MONAI as those of ours, with their weights under our names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from multiorganseg.convert.read_checkpoint import Checkpoint, Weights, refused

_STAY = "It stays usable with MONAI itself."


@dataclass(frozen=True, eq=False)
class MonaiNetwork:
    """A network, read.

    Attributes:
        architecture: As `Metadata.architecture`.
        arguments: As `Metadata.arguments`.
        weights: By our names.
    """

    architecture: str
    arguments: Mapping[str, Any]
    weights: Weights


def read_monai_network(
    name: str, said: Mapping[str, Any], checkpoint: Checkpoint, channels: int
) -> MonaiNetwork:
    """Read a network from its definition and its weights.

    Args:
        name: Of MONAI's class.
        said: Its arguments.
        checkpoint: The file of its weights.
        channels: Of its output, by its labels.

    Raises:
        BundleError: It is not supported.
        ValueError: Its arguments are not valid.
    """
    readers = {"SegResNet": _segresnet, "SwinUNETR": _swin_unetr}
    if name not in readers:
        raise refused(
            checkpoint.path, f"Its network is {name}; supported are {' and '.join(readers)}.", _STAY
        )
    if said.get("in_channels") != 1 or said.get("out_channels") != channels:
        cause = f"Its network has {said.get('in_channels')} channels in and {said.get('out_channels')} out"
        raise refused(checkpoint.path, f"{cause}; 1 and, for its labels, {channels} are supported.", _STAY)
    architecture, arguments, usual, head = readers[name](said)
    unusual = {
        key: value
        for key, value in said.items()
        if key not in ("in_channels", "out_channels") and key in usual and value not in usual[key]
    }
    unusual |= {key: said[key] for key in said if key not in (*usual, "in_channels", "out_channels")}
    if unusual:
        raise refused(checkpoint.path, f"Its {name} has what is not supported: {unusual}.", _STAY)
    theirs = checkpoint.weights(_state(checkpoint))
    weights = {
        f"head.{key.removeprefix(head)}" if key.startswith(head) else f"trunk.{key}": array
        for key, array in theirs.items()
    }
    return MonaiNetwork(architecture, arguments, weights)


_ANY = type("_Any", (), {"__contains__": lambda self, value: True})()
"""Values that `arguments` takes over."""


def _segresnet(said: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any], str]:
    arguments: dict[str, Any] = {
        "filters": int(said.get("init_filters", 8)),
        "blocks_down": [int(n) for n in said.get("blocks_down", (1, 2, 2, 4))],
        "blocks_up": [int(n) for n in said.get("blocks_up", (1, 1, 1))],
    }
    blocks = (*arguments["blocks_down"], *arguments["blocks_up"])
    if not (1 <= arguments["filters"] <= 128 and len(blocks) <= 15 and all(1 <= n <= 16 for n in blocks)):
        message = f"{arguments}"
        raise ValueError(message)
    usual = {
        "spatial_dims": (3,),
        "init_filters": _ANY,
        "blocks_down": _ANY,
        "blocks_up": _ANY,
        "dropout_prob": _ANY,
        "act": (["RELU", {"inplace": True}], "RELU", "relu"),
        "norm": (["GROUP", {"num_groups": 8}],),
        "norm_name": ("",),
        "num_groups": (8,),
        "use_conv_final": (True,),
        "upsample_mode": ("nontrainable",),
    }
    return "monai_segresnet", arguments, usual, "conv_final.2."


def _swin_unetr(said: Mapping[str, Any]) -> tuple[str, dict[str, Any], dict[str, Any], str]:
    arguments: dict[str, Any] = {
        "feature_size": int(said.get("feature_size", 24)),
        "depths": [int(n) for n in said.get("depths", (2, 2, 2, 2))],
        "num_heads": [int(n) for n in said.get("num_heads", (3, 6, 12, 24))],
    }
    if not 12 <= arguments["feature_size"] <= 96 or max(*arguments["depths"], *arguments["num_heads"]) > 48:
        message = f"{arguments}"
        raise ValueError(message)
    usual = {
        "spatial_dims": (3,),
        "img_size": _ANY,
        "feature_size": _ANY,
        "depths": _ANY,
        "num_heads": _ANY,
        "use_checkpoint": _ANY,
        "drop_rate": _ANY,
        "attn_drop_rate": _ANY,
        "dropout_path_rate": _ANY,
        "norm_name": ("instance",),
        "normalize": (True,),
        "downsample": ("merging",),
        "use_v2": (False,),
    }
    return "monai_swin_unetr", arguments, usual, "out."


def _state(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the weights, which stand alone or under a name."""
    for name in ("model", "state_dict", "network"):
        inside = checkpoint.tree.get(name)
        if isinstance(inside, Mapping) and "tensor" not in inside:
            return inside
    return checkpoint.tree
