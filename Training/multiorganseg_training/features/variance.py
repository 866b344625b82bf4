"""How far the features of an organ spread, and how far labelled and unlabelled ones lie apart."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from multiorganseg.metrics.summary import mean_of
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.features.pixels import FOLD, LABELLED, UNLABELLED, Pixels

ALL = "all"
PARTS: Mapping[str, tuple[str, ...]] = {
    LABELLED: (LABELLED,),
    UNLABELLED: (UNLABELLED,),
    ALL: (LABELLED, UNLABELLED),
    FOLD: (FOLD,),
}


@dataclass(frozen=True)
class OrganSpread:
    """The features of one organ.

    Attributes:
        pixels: How many were looked at, by part: labelled, unlabelled, all, fold.
        intra: By part: mean squared distance of the organ's pixels to their mean; NaN without pixels.
        gap: 1 − cosine between the labelled and the unlabelled mean; NaN where either is missing.
    """

    pixels: Mapping[str, int]
    intra: Mapping[str, float]
    gap: float


@dataclass(frozen=True)
class Spread:
    """Intra-class and inter-class variance in the sense of LTUDA's Table 9, and the distribution gap.

    All on features f of unit length, with organs as classes; background is none of them. For the pixels of
    one part (labelled, unlabelled, all = both of these together, fold) let μ_c be the mean of f over the
    pixels of organ c, which is shorter than 1.

    Attributes:
        intra: By part: mean over the organs c of the mean of |f − μ_c|² over the pixels of c.
        inter: By part: mean over the pairs of organs of |μ_a − μ_b|²; NaN for fewer than two organs.
        gap: Mean over the organs of 1 − cos(labelled μ_c, unlabelled μ_c): what LTUDA is to close.
        relative_gap: Mean over the organs of |labelled μ_c − unlabelled μ_c|² / inter of all pixels, which
            compares between networks whose features spread differently.
        organs: By organ key.
    """

    intra: Mapping[str, float]
    inter: Mapping[str, float]
    gap: float
    relative_gap: float
    organs: Mapping[str, OrganSpread]


def measure_spread(features: NDArray[np.float32], pixels: Pixels, table: LabelTable) -> Spread:
    """Measure the features of pixels.

    Args:
        features: (pixels, width), of unit length.
        pixels: What they belong to.
        table: The network's channels.
    """
    exact = features.astype(np.float64)
    means: dict[str, dict[int, NDArray[np.float64]]] = {part: {} for part in PARTS}
    organs: dict[str, OrganSpread] = {}
    for channel, key in table.organs.items():
        counts, intra = {}, {}
        for part, groups in PARTS.items():
            own = exact[pixels.of(*groups, channel=channel)]
            counts[part], intra[part] = len(own), math.nan
            if len(own):
                means[part][channel] = own.mean(axis=0)
                intra[part] = float(np.square(own - means[part][channel]).sum(axis=1).mean())
        gap = _gap(means[LABELLED].get(channel), means[UNLABELLED].get(channel))
        organs[key] = OrganSpread(counts, intra, gap)
    inter = {part: _inter(list(of_part.values())) for part, of_part in means.items()}
    both = sorted(means[LABELLED].keys() & means[UNLABELLED].keys())
    apart = _mean([float(np.square(means[LABELLED][c] - means[UNLABELLED][c]).sum()) for c in both])
    return Spread(
        {part: _mean([organ.intra[part] for organ in organs.values()]) for part in PARTS},
        inter,
        _mean([organ.gap for organ in organs.values()]),
        apart / inter[ALL] if inter[ALL] else math.nan,
        organs,
    )


def _inter(means: list[NDArray[np.float64]]) -> float:
    return _mean([float(np.square(first - second).sum()) for first, second in combinations(means, 2)])


def _gap(labelled: NDArray[np.float64] | None, unlabelled: NDArray[np.float64] | None) -> float:
    if labelled is None or unlabelled is None:
        return math.nan
    lengths = float(np.linalg.norm(labelled) * np.linalg.norm(unlabelled))
    return 1 - float(labelled @ unlabelled) / lengths if lengths else math.nan


def _mean(values: list[float]) -> float:
    return mean_of(values).value
