"""`dataset.json` of nnU-Net: channels, labels and regions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from multiorganseg.convert.read_checkpoint import refused

LARGEST_VALUE = 255
_KEPT = "Segmenting with nnU-Net itself stays possible."


@dataclass(frozen=True)
class DatasetLabels:
    """What the network's channels mean.

    Attributes:
        channels: Names of the input channels.
        names: Organs in the order of the output channels, without background.
        values: Their label values in the source.
        activation: "softmax" or "regions".
    """

    channels: tuple[str, ...]
    names: tuple[str, ...]
    values: tuple[int, ...]
    activation: str


def dataset_labels(dataset: Mapping[str, Any], path: Path) -> DatasetLabels:
    """Read `dataset.json`.

    Args:
        dataset: Its contents.
        path: For messages.

    Raises:
        BundleError: It is not valid, or asks for what is not supported; the cause says which.
    """
    channels = _channels(dataset.get("channel_names", dataset.get("modality")), path)
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping) or not labels:
        raise refused(path, "It has no labels.")
    for name, value in labels.items():
        if not name.strip() or not name.isprintable() or len(name) > 100:
            raise refused(path, f"The label of value {value} has no name.", "Name it in dataset.json.")
        if not _is_value(value):
            raise refused(path, f"The label '{name}' has the value {value}, which is none.")
    if "ignore" in labels:
        raise refused(
            path,
            "It was trained with an ignore label, whose meaning only its training knows.",
            f"{_KEPT} A network trained without it can be converted.",
        )
    if labels.get("background") not in (0, [0]):
        raise refused(path, "Its label 0 is not 'background'.")
    foreground = {name: value for name, value in labels.items() if name != "background"}
    if not foreground:
        raise refused(path, "It labels nothing but background.")
    if any(isinstance(value, list) and len(value) > 1 for value in labels.values()):
        return _regions(dataset, channels, foreground, path)
    values = {name: value[0] if isinstance(value, list) else value for name, value in foreground.items()}
    _check_count(len(values), path)
    if sorted(values.values()) != list(range(1, len(values) + 1)):
        raise refused(path, f"Its label values are {sorted(values.values())}, not 1 to {len(values)}.")
    names = tuple(sorted(values, key=lambda name: values[name]))
    return DatasetLabels(channels, names, tuple(values[name] for name in names), "softmax")


def _regions(
    dataset: Mapping[str, Any], channels: tuple[str, ...], foreground: Mapping[str, Any], path: Path
) -> DatasetLabels:
    order = dataset.get("regions_class_order")
    _check_count(len(foreground), path)
    if (
        not isinstance(order, list)
        or len(order) != len(foreground)
        or len(set(map(str, order))) != len(order)
        or not all(type(value) is int and 0 < value <= LARGEST_VALUE for value in order)
    ):
        cause = f"It has {len(foreground)} regions, but the order in which they are painted is {order}."
        raise refused(path, cause, "Each region needs a label value of its own in regions_class_order.")
    return DatasetLabels(channels, tuple(foreground), tuple(order), "regions")


def _channels(channels: Any, path: Path) -> tuple[str, ...]:
    if not isinstance(channels, Mapping) or set(channels) != {str(n) for n in range(len(channels))}:
        raise refused(path, "Its channel_names are not numbered from 0.")
    names = tuple(str(channels[str(number)]) for number in range(len(channels)))
    if not names or not all(0 < len(name) <= 100 and name.isprintable() for name in names):
        raise refused(path, "A channel has no name.")
    return names


def _check_count(count: int, path: Path) -> None:
    if count > LARGEST_VALUE:
        raise refused(path, f"It has {count} labels; at most {LARGEST_VALUE} are supported.")


def _is_value(value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return bool(values) and all(type(number) is int and 0 <= number < 1 << 16 for number in values)
