"""How far a mean over few cases can be trusted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

FEWEST_CASES = 3
DRAWS = 2000


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """Give the 95 % percentile interval of a mean under resampling of cases (Efron 1979).

    For a comparison of two networks, `values` are the differences within each case, so that what makes a case
    easy or hard for both of them cancels out.

    Args:
        values: One for each case, without NaN.
        seed: Of the resampling.

    Returns:
        Lower and upper end; None with fewer than 3 cases.
    """
    if len(values) < FEWEST_CASES:
        return None
    generator = np.random.default_rng(seed)
    drawn = np.asarray(values, np.float64)[generator.integers(0, len(values), (DRAWS, len(values)))]
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)
