"""Networks of MONAI as those of ours, with their weights under our names."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
    if name not in _READERS:
        listed = f"{', '.join(list(_READERS)[:-1])} and {list(_READERS)[-1]}"
        raise refused(checkpoint.path, f"Its network is {name}; supported are {listed}.", _STAY)
    if said.get("in_channels") != 1 or said.get("out_channels") != channels:
        cause = f"Its network has {said.get('in_channels')} channels in and {said.get('out_channels')} out"
        raise refused(checkpoint.path, f"{cause}; 1 and, for its labels, {channels} are supported.", _STAY)
    reader = _READERS[name](said)
    unusual = {
        key: value
        for key, value in said.items()
        if key not in ("in_channels", "out_channels")
        and (key not in reader.usual or value not in reader.usual[key])
    }
    if unusual:
        raise refused(checkpoint.path, f"Its {name} has what is not supported: {unusual}.", _STAY)
    theirs = checkpoint.weights(_state(checkpoint))
    return MonaiNetwork(reader.architecture, reader.arguments, reader.rename(theirs, checkpoint.path))


@dataclass(frozen=True, eq=False)
class _Reader:
    """What a definition says.

    Attributes:
        architecture: As `Metadata.architecture`.
        arguments: As `Metadata.arguments`.
        usual: By MONAI's argument, the values that are supported.
        rename: Gives weights our names, given the file for messages.
    """

    architecture: str
    arguments: dict[str, Any]
    usual: Mapping[str, Container[Any]]
    rename: Callable[[Weights, Path], Weights]


def _with_head(head: str) -> Callable[[Weights, Path], Weights]:
    """Rename weights of which those of the last layer begin with `head`."""

    def rename(theirs: Weights, _path: Path) -> Weights:
        return {
            f"head.{key.removeprefix(head)}" if key.startswith(head) else f"trunk.{key}": array
            for key, array in theirs.items()
        }

    return rename


class _Any:
    """Values that `arguments` takes over, or that change nothing."""

    def __contains__(self, value: object) -> bool:
        return True


_ANY = _Any()


def _segresnet(said: Mapping[str, Any]) -> _Reader:
    arguments: dict[str, Any] = {
        "filters": int(said.get("init_filters", 8)),
        "blocks_down": [int(n) for n in said.get("blocks_down", (1, 2, 2, 4))],
        "blocks_up": [int(n) for n in said.get("blocks_up", (1, 1, 1))],
    }
    blocks = (*arguments["blocks_down"], *arguments["blocks_up"])
    if not (1 <= arguments["filters"] <= 128 and len(blocks) <= 15 and all(1 <= n <= 16 for n in blocks)):
        message = f"{arguments}"
        raise ValueError(message)
    usual: dict[str, Container[Any]] = {
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
    return _Reader("monai_segresnet", arguments, usual, _with_head("conv_final.2."))


def _swin_unetr(said: Mapping[str, Any]) -> _Reader:
    arguments: dict[str, Any] = {
        "feature_size": int(said.get("feature_size", 24)),
        "depths": [int(n) for n in said.get("depths", (2, 2, 2, 2))],
        "num_heads": [int(n) for n in said.get("num_heads", (3, 6, 12, 24))],
    }
    if not 12 <= arguments["feature_size"] <= 96 or max(*arguments["depths"], *arguments["num_heads"]) > 48:
        message = f"{arguments}"
        raise ValueError(message)
    usual: dict[str, Container[Any]] = {
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
    return _Reader("monai_swin_unetr", arguments, usual, _with_head("out."))


def _unet(said: Mapping[str, Any]) -> _Reader:
    filters = [int(width) for width in said["channels"]]
    units = int(said.get("num_res_units", 0))
    arguments: dict[str, Any] = {
        "filters": filters,
        "strides": [_triple(stride) for stride in said["strides"]],
        "kernel": _single(said.get("kernel_size", 3)),
        "up_kernel": _single(said.get("up_kernel_size", 3)),
        "units": units,
        "norm": _norm(said.get("norm", "INSTANCE")),
        "activation": _activation(said.get("act", "PRELU")),
        "bias": bool(said.get("bias", True)),
    }
    usual: dict[str, Container[Any]] = dict.fromkeys(
        ("channels", "strides", "kernel_size", "up_kernel_size", "num_res_units", "norm", "act"), _ANY
    )
    usual |= {"spatial_dims": (3,), "dropout": _ANY, "bias": (True, False), "adn_ordering": ("NDA",)}
    last = "model.2.1.conv.unit0.conv." if units else "model.2.conv."

    def rename(theirs: Weights, _path: Path) -> Weights:
        ours = _with_head(last)(theirs, _path)
        weight = ours.get("head.weight")
        if weight is not None and weight.ndim == 5 and units:
            # ours is one convolution; theirs adds its input to its output
            sum_of_both = weight.copy()
            middle = tuple(size // 2 for size in weight.shape[2:])
            for channel in range(min(weight.shape[:2])):
                sum_of_both[(channel, channel, *middle)] += 1
            ours["head.weight"] = sum_of_both
        if weight is not None and not arguments["bias"]:
            ours.setdefault("head.bias", np.zeros(weight.shape[0 if units else 1], np.float32))
        return ours

    return _Reader("monai_unet", arguments, usual, rename)


def _dynunet(said: Mapping[str, Any]) -> _Reader:
    strides = [_triple(stride) for stride in said["strides"]]
    widths = said.get("filters") or [min(2 ** (5 + number), 320) for number in range(len(strides))]
    arguments: dict[str, Any] = {
        "filters": [int(width) for width in widths][: len(strides)],
        "kernels": [_triple(kernel) for kernel in said["kernel_size"]],
        "strides": strides,
        "norm": _norm(said.get("norm_name", ["INSTANCE", {"affine": True}])),
        "residual": bool(said.get("res_block", False)),
        "up_bias": bool(said.get("trans_bias", False)),
    }
    if [_triple(kernel) for kernel in said["upsample_kernel_size"]] != strides[1:]:
        message = f"upsample_kernel_size {said['upsample_kernel_size']}, strides {said['strides']}"
        raise ValueError(message)
    usual: dict[str, Container[Any]] = dict.fromkeys(
        ("kernel_size", "strides", "upsample_kernel_size", "filters", "norm_name", "dropout"), _ANY
    )
    usual |= dict.fromkeys(("deep_supervision", "deep_supr_num"), _ANY)
    usual |= {"spatial_dims": (3,), "res_block": (True, False), "trans_bias": (True, False)}
    slope = ({"inplace": True, "negative_slope": 0.01}, {"negative_slope": 0.01, "inplace": True})
    usual |= {"act_name": ("leakyrelu", *(["leakyrelu", said] for said in slope))}
    stages = len(strides)

    def rename(theirs: Weights, path: Path) -> Weights:
        plain: Weights = {}
        for name, array in theirs.items():
            first = _first_name(name, stages)
            if first is None:
                continue
            if not np.array_equal(plain.setdefault(first, array), array):
                raise refused(path, f"The weights {name} and {first} must be the same, but differ.")
        return _with_head("output_block.conv.conv.")(plain, path)

    return _Reader("monai_dynunet", arguments, usual, rename)


_SKIPS = re.compile(r"skip_layers\.((?:next_layer\.)*)(downsample|upsample|next_layer|super_head)\.(.+)")


def _first_name(name: str, stages: int) -> str | None:
    """Return under which name DynUNet keeps a weight first; None for one of the deep supervision alone.

    It holds each block twice: in a list, and in nested layers.
    """
    if name.startswith("deep_supervision_heads."):
        return None
    found = _SKIPS.fullmatch(name)
    if not found:
        return name
    level, part, rest = found[1].count("next_layer."), found[2], found[3]
    if part == "super_head":
        return None
    if part == "upsample":
        return f"upsamples.{stages - 2 - level}.{rest}"
    if part == "next_layer":
        return f"bottleneck.{rest}"
    return f"downsamples.{level - 1}.{rest}" if level else f"input_block.{rest}"


def _norm(said: Any) -> str:
    name, extra = (said[0], said[1]) if isinstance(said, (list, tuple)) else (said, {})
    known = {"INSTANCE": "instance", "INSTANCE_NVFUSER": "affine_instance", "BATCH": "batch"}
    norm = known[str(name).upper()]
    if extra not in ({}, {"affine": True}):
        message = f"the normalisation {said}"
        raise ValueError(message)
    return "affine_instance" if norm == "instance" and extra else norm


def _activation(said: Any) -> str:
    name, extra = (said[0], said[1]) if isinstance(said, (list, tuple)) else (said, {})
    if set(extra) - {"inplace"}:
        message = f"the activation {said}"
        raise ValueError(message)
    return str(name).upper()


def _triple(said: Any) -> list[int]:
    values = [said] * 3 if isinstance(said, int) else list(said)
    if len(values) != 3 or not all(type(value) is int for value in values):
        message = f"{said} for three axes"
        raise ValueError(message)
    return values


def _single(said: Any) -> int:
    values = set(_triple(said))
    if len(values) > 1:
        message = f"a kernel of {said}"
        raise ValueError(message)
    return values.pop()


_READERS: Mapping[str, Callable[[Mapping[str, Any]], _Reader]] = {
    "SegResNet": _segresnet,
    "UNet": _unet,
    "DynUNet": _dynunet,
    "SwinUNETR": _swin_unetr,
}


def _state(checkpoint: Checkpoint) -> Mapping[str, Any]:
    """Return the weights, which stand alone or under a name."""
    for name in ("model", "state_dict", "network"):
        inside = checkpoint.tree.get(name)
        if isinstance(inside, Mapping) and "tensor" not in inside:
            return inside
    return checkpoint.tree
