"""Short facts about models."""

from __future__ import annotations

from multiorganseg.bundles import Metadata


def mean_dice(metadata: Metadata) -> str:
    """Mean Dice over the organs that were measured, with two decimals; a dash when none was."""
    dice = [measured["dice"] for measured in metadata.metrics.values() if "dice" in measured]
    return f"{sum(dice) / len(dice):.2f}" if dice else "–"
