"""`plans.json` of nnU-Net 2, in its old and its new form, as arguments and steps of ours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiorganseg.bundles.original import Intensity, Original
from multiorganseg.convert.nnunet_labels import DatasetLabels
from multiorganseg.convert.read_checkpoint import refused
from multiorganseg.networks.nnunet_arguments import NnUNetArguments

PLAIN, RESIDUAL = "PlainConvUNet", "ResidualEncoderUNet"
OVERLAP = 0.5
REORIENTING = ("NibabelIOWithReorient", "SimpleITKIOWithReorient")
READERS = ("SimpleITKIO", "NibabelIO", *REORIENTING)
_RESAMPLE = "resample_data_or_seg_to_shape"
_DATA = {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None}
_SCORES = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
_STAY = "It stays usable with nnU-Net itself."
_WRONG = (KeyError, TypeError, ValueError, AttributeError, IndexError)


@dataclass(frozen=True)
class Plan:
    """One configuration of a plans file.

    Attributes:
        arguments: Of `multiorganseg.networks.nnunet.NnUNet`, channels apart.
        original: The steps; the mirrored axes and folds are to be filled in.
        orientation: "RAS" where its reader turns images; None where they stay as they are stored.
        spacing_mm: Along the network's axes.
        patch_shape: Along the network's axes; 1 first for slices.
    """

    arguments: Mapping[str, Any]
    original: Original
    orientation: str | None
    spacing_mm: tuple[float, float, float]
    patch_shape: tuple[int, int, int]


def configuration_of(plans: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """Return a configuration with all that it inherits.

    Raises:
        BundleError: There is none of that name, it inherits in a circle, or it is one of a cascade.
    """
    configurations = plans.get("configurations")
    if not isinstance(configurations, Mapping) or name not in configurations:
        known = ", ".join(configurations) if isinstance(configurations, Mapping) else "none"
        raise refused(path, f"It has no configuration '{name}'; it has {known}.")
    merged: dict[str, Any] = {}
    seen: list[str] = []
    wanted: Any = name
    while wanted is not None:
        if wanted in seen or wanted not in configurations or not isinstance(configurations[wanted], Mapping):
            raise refused(path, f"The configuration '{name}' inherits from '{wanted}', which cannot be.")
        seen.append(wanted)
        merged = {**configurations[wanted], **merged}
        wanted = configurations[wanted].get("inherits_from")
    if merged.get("previous_stage"):
        raise refused(
            path,
            f"'{name}' is the second step of a cascade: it needs the result of '{merged['previous_stage']}'.",
            f"Convert the configuration '{merged['previous_stage']}', or '3d_fullres'.",
        )
    return merged


def read_plan(plans: Mapping[str, Any], configuration: str, labels: DatasetLabels, path: Path) -> Plan:
    """Read one configuration.

    Args:
        plans: Contents of `plans.json`.
        configuration: Such as "3d_fullres".
        labels: Of the data set.
        path: For messages.

    Raises:
        BundleError: It is not valid, or asks for what is not supported; the cause says which.
    """
    said = configuration_of(plans, configuration, path)
    try:
        return _read(plans, said, configuration, labels, path)
    except _WRONG as error:
        raise refused(path, f"Its configuration '{configuration}' is not valid: {error!r}.") from error


def _read(
    plans: Mapping[str, Any], said: Mapping[str, Any], configuration: str, labels: DatasetLabels, path: Path
) -> Plan:
    patch = [_whole(size) for size in said["patch_size"]]
    if len(patch) not in (2, 3):
        message = f"patch_size {patch}"
        raise ValueError(message)
    spacing = [_positive(size) for size in said["spacing"]]
    flat = len(patch) == 2
    if flat and len(spacing) == 2:
        spacing = [_positive(plans["original_median_spacing_after_transp"][0]), *spacing]
    axes = [_whole(axis) for axis in plans["transpose_forward"]]
    if sorted(axes) != [0, 1, 2]:
        message = f"transpose_forward {axes}"
        raise ValueError(message)
    _check_steps(said, configuration, path)
    reader = plans.get("image_reader_writer", READERS[0])
    if reader not in READERS:
        raise refused(path, f"Its images are read by {reader}: they are no volumes of a patient.", _STAY)
    arguments = _old_architecture(said, path) if "architecture" not in said else _architecture(said, path)
    checked = NnUNetArguments(len(labels.channels), len(labels.names) + 1, **arguments)
    full = [1, *patch] if flat else patch
    if checked.dims != len(patch) or any(n % d for n, d in zip(full, checked.divisor, strict=True)):
        message = f"patch_size {patch} does not fit the strides"
        raise ValueError(message)
    original = Original(
        program="nnU-Net 2",
        orientation="",
        axes=(axes[0], axes[1], axes[2]),
        in_slices=flat,
        channels=labels.channels,
        intensities=_intensities(plans, said, len(labels.channels), path),
        normalise_first=True,
        crop="nonzero",
        margin=0,
        resampling="spline",
        spacing_tolerance=0.0,
        step="even",
        overlap=OVERLAP,
        padding="zero",
        weights="centred_delta",
        mirrored=(),
        folds=1,
        half_precision=True,
        restore="logits",
    )
    return Plan(
        arguments,
        original,
        "RAS" if reader in REORIENTING else None,
        (spacing[0], spacing[1], spacing[2]),
        (full[0], full[1], full[2]),
    )


def _check_steps(said: Mapping[str, Any], configuration: str, path: Path) -> None:
    preprocessor = said.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise refused(path, f"'{configuration}' prepares images by {preprocessor}, code of its own.", _STAY)
    for part, wanted in (("data", _DATA), ("probabilities", _SCORES)):
        name = said.get(f"resampling_fn_{part}", _RESAMPLE)
        given = said.get(f"resampling_fn_{part}_kwargs", wanted)
        if name != _RESAMPLE or {**wanted, **given} != wanted:
            raise refused(
                path, f"'{configuration}' resamples by {name} {given}, which is not supported.", _STAY
            )


def _intensities(
    plans: Mapping[str, Any], said: Mapping[str, Any], count: int, path: Path
) -> tuple[Intensity, ...]:
    schemes = said["normalization_schemes"]
    masks = said.get("use_mask_for_norm", [False] * count)
    if len(schemes) != count or len(masks) != count:
        raise refused(path, f"It normalises {len(schemes)} channels; the data set has {count}.")
    by_channel = plans.get("foreground_intensity_properties_per_channel") or plans.get(
        "foreground_intensity_properties_by_modality", {}
    )
    found = []
    for number, (scheme, masked) in enumerate(zip(schemes, masks, strict=True)):
        if scheme == "CTNormalization":
            measured = by_channel[str(number)]
            low, high = float(measured["percentile_00_5"]), float(measured["percentile_99_5"])
            values = {
                "low": low,
                "high": high,
                "mean": float(measured["mean"]),
                "std": _positive(measured["std"]),
            }
            if not low < high:
                message = f"a range of intensities from {low} to {high}"
                raise ValueError(message)
            found.append(Intensity("clip_zscore", values))
        elif scheme == "ZScoreNormalization":
            found.append(Intensity("zscore", {"masked": float(bool(masked))}))
        elif scheme == "RescaleTo01Normalization":
            found.append(Intensity("minmax", {"to_low": 0.0, "to_high": 1.0}))
        elif scheme == "RGBTo01Normalization":
            found.append(Intensity("scale", {"factor": 1 / 255}))
        elif scheme == "NoNormalization":
            found.append(Intensity("none", {}))
        else:
            raise refused(path, f"It normalises by {scheme}, code of its own.", _STAY)
    return tuple(found)


def _architecture(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Read the form that names a class and its arguments."""
    name = str(said["architecture"]["network_class_name"])
    given = dict(said["architecture"]["arch_kwargs"])
    kind = name.rpartition(".")[2]
    if not name.startswith("dynamic_network_architectures.") or kind not in (PLAIN, RESIDUAL):
        raise refused(
            path, f"Its network is {name}, code of its own.", f"Supported are {PLAIN} and {RESIDUAL}. {_STAY}"
        )
    stages = _whole(given.pop("n_stages"))
    convolution = str(given.pop("conv_op"))
    dims = {"Conv2d": 2, "Conv3d": 3}.get(convolution.rpartition(".")[2], 0)
    encoder = given.pop("n_blocks_per_stage" if kind == RESIDUAL else "n_conv_per_stage")
    arguments: dict[str, Any] = {
        "filters": [_whole(width) for width in given.pop("features_per_stage")],
        "kernels": _per_stage(given.pop("kernel_sizes"), stages, dims),
        "strides": _per_stage(given.pop("strides"), stages, dims),
        "encoder": _counts(encoder, stages),
        "decoder": _counts(given.pop("n_conv_per_stage_decoder"), stages - 1),
        "residual": kind == RESIDUAL,
    }
    if len(arguments["filters"]) != stages:
        message = f"{len(arguments['filters'])} widths do not fit {stages} stages"
        raise ValueError(message)
    given.pop("deep_supervision", None)
    norm = str(given.pop("norm_op")).rpartition(".")[2]
    wanted = {
        "conv_bias": (True,),
        "norm_op_kwargs": ({"eps": 1e-5, "affine": True},),
        "dropout_op": (None,),
        "dropout_op_kwargs": (None, {}),
        "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
        "nonlin_kwargs": ({"inplace": True}, {"inplace": True, "negative_slope": 0.01}),
    }
    unusual = [f"{key} = {value}" for key, value in given.items() if value not in wanted.get(key, ())]
    unusual += [f"{key} is missing" for key in ("conv_bias", "nonlin") if key not in given]
    if norm != f"InstanceNorm{dims}d" or unusual:
        cause = f"Its network has what is not supported: {', '.join([norm, *unusual])}."
        raise refused(path, cause, _STAY)
    return arguments


def _old_architecture(said: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Read the form of before nnU-Net 2.4, in which widths follow from a rule."""
    kind = said["UNet_class_name"]
    if kind not in (PLAIN, RESIDUAL):
        raise refused(
            path, f"Its network is {kind}, code of its own.", f"Supported are {PLAIN} and {RESIDUAL}. {_STAY}"
        )
    kernels = said["conv_kernel_sizes"]
    base, widest = _whole(said["UNet_base_num_features"]), _whole(said["unet_max_num_features"])
    stages, dims = len(kernels), len(said["patch_size"])
    return {
        "filters": [min(base * 2**stage, widest) for stage in range(stages)],
        "kernels": _per_stage(kernels, stages, dims),
        "strides": _per_stage(said["pool_op_kernel_sizes"], stages, dims),
        "encoder": _counts(said["n_conv_per_stage_encoder"], stages),
        "decoder": _counts(said["n_conv_per_stage_decoder"], stages - 1),
        "residual": kind == RESIDUAL,
    }


def _per_stage(values: Any, stages: int, dims: int) -> list[list[int]]:
    whole = [values] * stages if isinstance(values, int) else values
    return [[_whole(v) for v in ([value] * dims if isinstance(value, int) else value)] for value in whole]


def _counts(values: Any, stages: int) -> list[int]:
    counts: Sequence[Any] = [values] * stages if isinstance(values, int) else values
    return [_whole(count) for count in counts]


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value != int(value):
        message = f"{value!r} is no whole number"
        raise ValueError(message)
    return int(value)


def _positive(value: Any) -> float:
    number = float(value)
    if not (math.isfinite(number) and number > 0):
        message = f"{value!r} is no positive number"
        raise ValueError(message)
    return number
