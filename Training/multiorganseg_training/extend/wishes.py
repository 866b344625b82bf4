"""What a user asks of an extension."""

from __future__ import annotations

import re
from dataclasses import dataclass

from multiorganseg.errors import OptionError

PRESETS = {"10m": 600.0, "1h": 3600.0, "overnight": 8 * 3600.0}
"""Seconds of training by preset."""

UNITS = {"m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Wishes:
    """What to learn, from what, and for how long.

    Attributes:
        base: Name or folder of the bundle that is extended.
        organs: Keys of the organs that it does not know.
        seconds: Of training, all folds together.
        iterations: Of each training, instead of `seconds`; None measures.
        seed: Of all randomness.
    """

    base: str
    organs: tuple[str, ...]
    seconds: float = PRESETS["1h"]
    iterations: int | None = None
    seed: int = 0


def parse_seconds(text: str) -> float:
    """Read a preset, or a number of minutes or hours such as "90m" or "2.5h".

    Raises:
        OptionError: It is neither, or not above 0.
    """
    if text in PRESETS:
        return PRESETS[text]
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([mh])", text.strip())
    seconds = float(found[1]) * UNITS[found[2]] if found else 0.0
    if not seconds:
        msg = f"'{text}' is not a time."
        raise OptionError(msg, next_step=f"Give one of {', '.join(PRESETS)}, or such as 90m or 2.5h.")
    return seconds
