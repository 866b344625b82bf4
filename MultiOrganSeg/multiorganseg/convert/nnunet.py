"""A model folder of nnU-Net 2: plans, data set and folds."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from multiorganseg.convert.converted import Converted
from multiorganseg.convert.nnunet_labels import DatasetLabels, dataset_labels
from multiorganseg.convert.nnunet_plans import configuration_of, read_plan
from multiorganseg.convert.nnunet_weights import our_weights
from multiorganseg.convert.read_checkpoint import Checkpoint, Weights, read_checkpoint, refused
from multiorganseg.convert.source_json import read_source_json
from multiorganseg.errors import OptionError

CHECKPOINTS = ("checkpoint_final.pth", "checkpoint_best.pth")
NOT_STATED = "not stated by its source"
_FOLD = re.compile(r"fold_(\d+|all)")
_COMPARED = ("foreground_intensity_properties_per_channel", "transpose_forward", "image_reader_writer")


@dataclass(frozen=True)
class Fold:
    """One trained network of a folder.

    Attributes:
        name: "0", "1" … or "all".
        checkpoint: Its file.
    """

    name: str
    checkpoint: Path


def model_folders(root: Path) -> list[Path]:
    """Find the folders with a `plans.json` in or up to three levels below a folder."""
    if (root / "plans.json").is_file():
        return [root]
    return sorted(path.parent for depth in (1, 2, 3) for path in root.glob("*/" * depth + "plans.json"))


def choose_folder(folders: Sequence[Path], wanted: str, path: Path) -> Path:
    """Choose among several models.

    Args:
        folders: At least one.
        wanted: Name of a folder, or of its configuration such as "3d_fullres"; empty for none.
        path: For messages.

    Raises:
        OptionError: Several are left, or none.
    """
    names = {folder: folder.name for folder in folders}
    if len({folder.name for folder in folders}) < len(folders):
        names = {folder: f"{folder.parent.name}/{folder.name}" for folder in folders}
    fitting = [f for f in folders if not wanted or wanted in (names[f], f.name, f.name.rpartition("__")[2])]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(names[folder] for folder in folders)
    msg = f"Which model of {path.name} is to be converted?" if fitting else f"There is no model '{wanted}'."
    raise OptionError(
        msg,
        cause=f"It holds {listed}.",
        next_step=f"Say which one, for example: --configuration {names[(fitting or folders)[0]]}",
    )


def find_folds(folder: Path, wanted: str) -> list[Fold]:
    """Find the folds of a model.

    Args:
        folder: With `plans.json`.
        wanted: Names separated by commas; empty for all that are numbered, or else "all".

    Raises:
        BundleError: There is none.
        OptionError: One that is wanted is not there.
    """
    found: dict[str, Fold] = {}
    for entry in sorted(folder.iterdir()):
        name = _FOLD.fullmatch(entry.name)
        files = [entry / file for file in CHECKPOINTS if (entry / file).is_file()]
        if name and files:
            found[name[1]] = Fold(name[1], files[0])
    if not found:
        raise refused(
            folder,
            f"It holds no fold with a trained network: no fold_0/{CHECKPOINTS[0]}, no fold_all.",
            "Give the folder that nnU-Net's training wrote, with its fold_… folders.",
        )
    if wanted:
        names = [name.strip().removeprefix("fold_") for name in wanted.split(",")]
        missing = [name for name in names if name not in found]
        if missing:
            msg = f"There is no fold {', '.join(missing)} in {folder.name}."
            raise OptionError(msg, next_step=f"Choose among: {', '.join(found)}.")
        return [found[name] for name in dict.fromkeys(names)]
    return [fold for fold in found.values() if fold.name != "all"] or list(found.values())


def convert_nnunet(folder: Path, folds: str = "") -> Converted:
    """Read a model folder.

    Args:
        folder: With `plans.json`, `dataset.json` and folds.
        folds: As for `find_folds`.

    Raises:
        BundleError: Something is not valid, does not fit the rest, or is not supported.
        OptionError: A fold that is wanted is not there.
    """
    chosen = find_folds(folder, folds)
    plans, dataset = (read_source_json(folder / name) for name in ("plans.json", "dataset.json"))
    labels = dataset_labels(dataset, folder / "dataset.json")
    first = read_checkpoint(chosen[0].checkpoint)
    configuration = _configuration(folder, first)
    plan = read_plan(plans, configuration, labels, folder / "plans.json")
    checkpoints = [first, *(read_checkpoint(fold.checkpoint) for fold in chosen[1:])]
    weights, mirrored = [], []
    for checkpoint in checkpoints:
        _check_same(checkpoint, plans, dataset, configuration)
        weights.append(_weights(checkpoint, plan.arguments, labels))
        mirrored.append(_mirrored(checkpoint, plan.original.in_slices))
    if len(set(mirrored)) > 1:
        raise refused(folder, f"Its folds allow different mirroring: {sorted(set(mirrored))}.")
    title = re.sub(r"^Dataset\d+_", "", str(plans.get("dataset_name") or folder.parent.name))
    trainer = str(first.tree.get("trainer_name") or folder.name.partition("__")[0])
    licence = str(dataset.get("licence") or dataset.get("license") or NOT_STATED)
    names = [fold.name for fold in chosen]
    return Converted(
        name=f"{title}-{configuration}",
        description=f"{title}: nnU-Net {configuration}, {len(labels.names)} organs, converted.",
        modality=_modality(labels, plan.original.intensities[0].kind),
        architecture="nnunet",
        arguments=plan.arguments,
        activation=labels.activation,
        labels=labels.names,
        original=replace(plan.original, mirrored=mirrored[0], folds=len(weights)),
        orientation=plan.orientation,
        spacing_mm=plan.spacing_mm,
        patch_shape=plan.patch_shape,
        weights=tuple(weights),
        license=licence[:200],
        licence_text=f"The licence of these weights, as dataset.json states it: {licence}.",
        files=(folder / "plans.json", folder / "dataset.json", *(fold.checkpoint for fold in chosen)),
        facts={
            "converted_from": "nnU-Net 2",
            "dataset": str(plans.get("dataset_name", "")),
            "plans": str(plans.get("plans_name", "")),
            "configuration": configuration,
            "trainer": trainer,
            "folds": names,
            "label_values": dict(zip(labels.names, labels.values, strict=True)),
        },
        dice=_source_dice(folder, chosen, labels),
    )


def _configuration(folder: Path, checkpoint: Checkpoint) -> str:
    said = checkpoint.tree.get("init_args")
    inside = said.get("configuration") if isinstance(said, Mapping) else None
    outside = folder.name.rpartition("__")[2] if folder.name.count("__") == 2 else None
    if inside and outside and inside != outside:
        raise refused(folder, f"The folder says {outside}, but its network was trained as {inside}.")
    if not (inside or outside):
        raise refused(
            folder,
            "Neither its name nor its checkpoint says which configuration it is.",
            "Name it as nnU-Net does: TRAINER__PLANS__CONFIGURATION.",
        )
    return str(inside or outside)


def _check_same(
    checkpoint: Checkpoint, plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str
) -> None:
    """Refuse plans or labels that are not those that the network was trained with."""
    said = checkpoint.tree.get("init_args")
    if not isinstance(said, Mapping) or not isinstance(said.get("plans"), Mapping):
        return
    inside = said["plans"]
    path = checkpoint.path
    ours, theirs = configuration_of(plans, configuration, path), configuration_of(inside, configuration, path)
    unlike = [key for key in sorted({*ours, *theirs}) if _plain(ours.get(key)) != _plain(theirs.get(key))]
    unlike += [key for key in _COMPARED if key in inside and _plain(plans.get(key)) != _plain(inside[key])]
    trained = said.get("dataset_json")
    if isinstance(trained, Mapping):
        keys = ("labels", "channel_names", "regions_class_order")
        unlike += [key for key in keys if _plain(dataset.get(key)) != _plain(trained.get(key))]
    if unlike:
        cause = f"plans.json and dataset.json are not those that it was trained with: {', '.join(unlike)}."
        raise refused(path, cause, "Put back the files that nnU-Net's training wrote.")


def _plain(value: Any) -> str:
    return json.dumps(value, sort_keys=False)


def _weights(checkpoint: Checkpoint, arguments: Mapping[str, Any], labels: DatasetLabels) -> Weights:
    entries = checkpoint.tree.get("network_weights")
    if not isinstance(entries, Mapping):
        raise refused(checkpoint.path, "It holds no network of nnU-Net 2.")
    weights = our_weights(checkpoint.weights(entries), len(arguments["filters"]), checkpoint.path)
    first = weights.get("stem.0.conv.weight" if arguments["residual"] else "encoder.0.0.conv.weight")
    if first is not None and first.ndim > 1 and first.shape[1] != len(labels.channels):
        cause = f"The network takes {first.shape[1]} channels, dataset.json names {len(labels.channels)}."
        raise refused(checkpoint.path, cause)
    return weights


def _mirrored(checkpoint: Checkpoint, in_slices: bool) -> tuple[int, ...]:
    axes = checkpoint.tree.get("inference_allowed_mirroring_axes") or []
    limit = 2 if in_slices else 3
    if not isinstance(axes, list) or not all(type(axis) is int and 0 <= axis < limit for axis in axes):
        raise refused(checkpoint.path, f"It mirrors along the axes {axes}, which cannot be.")
    return tuple(sorted({axis + in_slices for axis in axes}))


def _modality(labels: DatasetLabels, kind: str) -> str:
    ct = kind == "clip_zscore" or any(name.casefold() == "ct" for name in labels.channels)
    return "CT" if ct else "MR"


def _source_dice(folder: Path, folds: Sequence[Fold], labels: DatasetLabels) -> dict[str, float]:
    """Return the means over folds of the Dice that the source's own validation found, where it is there."""
    found: dict[str, list[float]] = {}
    for fold in folds:
        path = fold.checkpoint.parent / "validation" / "summary.json"
        if not path.is_file():
            continue
        mean = read_source_json(path).get("mean", {})
        for name, value in zip(labels.names, labels.values, strict=True):
            entry = mean.get(str(value), {}) if isinstance(mean, Mapping) else {}
            dice = entry.get("Dice") if isinstance(entry, Mapping) else None
            if labels.activation == "softmax" and isinstance(dice, (int, float)) and 0 <= dice <= 1:
                found.setdefault(name, []).append(float(dice))
    return {name: sum(values) / len(values) for name, values in found.items() if len(values) == len(folds)}
