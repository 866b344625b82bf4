"""`Original` from and to JSON, and what may stand there."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from multiorganseg.bundles.original import (
    CROPS,
    INTENSITIES,
    PADDINGS,
    RESAMPLINGS,
    RESTORINGS,
    STEPS,
    WEIGHTS,
    Intensity,
    Original,
)

MOST_CHANNELS = 16
MOST_FOLDS = 10
_SIDES = ({"L", "R"}, {"P", "A"}, {"S", "I"})


def original_from_json(data: Mapping[str, Any]) -> Original:
    """Build it from JSON in which `original_problems` finds nothing."""
    lists = {key: tuple(value) for key, value in data.items() if isinstance(value, list)}
    intensities = tuple(
        Intensity(entry["kind"], {key: float(value) for key, value in entry.items() if key != "kind"})
        for entry in data["intensities"]
    )
    return Original(**{**data, **lists, "intensities": intensities})


def original_to_json(original: Original) -> dict[str, Any]:
    """Return the JSON that `original_from_json` reads."""
    data = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in (
            (field.name, getattr(original, field.name)) for field in dataclasses.fields(original)
        )
    }
    return {
        **data,
        "intensities": [{"kind": entry.kind, **entry.values} for entry in original.intensities],
    }


def original_problems(data: Any) -> list[str]:
    """List what is wrong with it; empty when all is right."""
    if not isinstance(data, Mapping):
        return ["'original' must be an object"]
    problems = [f"'original' lacks '{key}'" for key in _RULES if key not in data]
    problems += [f"'original' has the unknown field '{key}'" for key in data if key not in _RULES]
    problems += [
        f"'original': '{key}' must be {wanted}"
        for key, (fits, wanted) in _RULES.items()
        if key in data and not fits(data[key])
    ]
    if not problems and len(data["intensities"]) != len(data["channels"]):
        problems.append("'original' needs one intensity for each channel")
    return problems


def is_orientation(value: Any) -> bool:
    """Whether it names a direction for each of three axes, such as "RAS"."""
    if not isinstance(value, str) or len(value) != 3:
        return False
    return all(any(letter in side for letter in value) for side in _SIDES) and len(set(value)) == 3


def _is_number(value: Any, low: float = -1e6, high: float = 1e6) -> bool:
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and math.isfinite(value)
        and low <= value <= high
    )


def _is_intensity(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("kind"), str):
        return False
    numbers = {key: number for key, number in value.items() if key != "kind"}
    if set(numbers) != set(INTENSITIES.get(value["kind"], ("?",))) or not all(
        map(_is_number, numbers.values())
    ):
        return False
    if any(numbers.get(key, 0) not in (0, 1) for key in ("masked", "clip")):
        return False
    ends = (
        (numbers.get("low", 0), numbers.get("high", 1)),
        (numbers.get("from_low", 0), numbers.get("from_high", 1)),
    )
    return all(low < high for low, high in ends) and numbers.get("std", 1) > 0


def _one_of(values: tuple[str, ...]) -> tuple[Callable[[Any], bool], str]:
    return (lambda value: value in values), "one of " + ", ".join(values)


def _are_axes(value: Any) -> bool:
    return (
        isinstance(value, list)
        and sorted(map(str, value)) == ["0", "1", "2"]
        and all(type(a) is int for a in value)
    )


def _are_mirrored(value: Any) -> bool:
    return isinstance(value, list) and value in ([a for a in range(3) if mask & 1 << a] for mask in range(8))


_TRUTH = (lambda value: isinstance(value, bool), "true or false")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "program": (lambda value: isinstance(value, str) and 0 < len(value) < 100, "a name"),
    "orientation": (lambda value: value == "" or is_orientation(value), 'three letters such as RAS, or ""'),
    "axes": (_are_axes, "0, 1 and 2 in some order"),
    "in_slices": _TRUTH,
    "channels": (
        lambda value: (
            isinstance(value, list)
            and 0 < len(value) <= MOST_CHANNELS
            and all(isinstance(name, str) and 0 < len(name) <= 100 for name in value)
        ),
        f"1 to {MOST_CHANNELS} names",
    ),
    "intensities": (
        lambda value: isinstance(value, list) and all(map(_is_intensity, value)),
        "a list of normalisations with their numbers",
    ),
    "normalise_first": _TRUTH,
    "crop": _one_of(CROPS),
    "margin": (lambda value: type(value) is int and 0 <= value <= 100, "a whole number in 0…100"),
    "resampling": _one_of(RESAMPLINGS),
    "spacing_tolerance": (lambda value: _is_number(value, 0, 0.9), "a number in 0…0.9"),
    "step": _one_of(STEPS),
    "overlap": (lambda value: _is_number(value, 0, 0.9), "a number in 0…0.9"),
    "padding": _one_of(PADDINGS),
    "weights": _one_of(WEIGHTS),
    "mirrored": (_are_mirrored, "some of 0, 1 and 2, ascending"),
    "folds": (
        lambda value: type(value) is int and 1 <= value <= MOST_FOLDS,
        f"a whole number in 1…{MOST_FOLDS}",
    ),
    "half_precision": _TRUTH,
    "restore": _one_of(RESTORINGS),
}
