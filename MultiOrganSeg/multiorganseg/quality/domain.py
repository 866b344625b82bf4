"""Whether a scan is like those that a network was trained on, and what is said where it is not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles.metadata import Domain, Metadata
from multiorganseg.geometry.body import AIR_SHARE_OF_WINDOW
from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.flags import LOW_CONFIDENCE, NOT_FOUND, VOLUME_IMPLAUSIBLE
from multiorganseg.quality.statistics import OrganStatistics

LIVER = "liver"
LEAST_LIVER_ML = 400.0
LEAST_AREA_MM2 = 2000.0
LEAST_TOP_MM2 = 200.0
LEAST_ORGAN_VOXELS = 50
SHORTEST = 0.6
WIDENED_BY = 0.7
ORGANS_WIDENED_BY = 0.4
FEWEST_UNLIKE_ORGANS = 2
SLACK: Mapping[str, float] = {
    "width_mm": 15.0,
    "depth_mm": 15.0,
    "cut_share": 0.1,
    "fat_share": 0.03,
    "soft_share": 0.1,
    "bright_share": 0.03,
}
"""Least that each measure may lie outside the range of the training scans."""

ORGAN_SLACK_HU = 12.0
SLENDER = 0.7
DROPPED = "The body in it is too slender for a trunk: what looked like organs is dropped."
UNRELIABLE_SHARE = 0.5
FEWEST_ORGANS = 5
MOST_SAID = 3
ABOVE_SLACK_MM = 15.0
FAT_HU, SOFT_HU, BRIGHT_HU = (-115.0, -40.0), (0.0, 100.0), 200.0

_SAID = {
    "length_mm": ("It shows {:.0f} mm along the body", "{:.0f} to {:.0f} mm"),
    "width_mm": ("The body in it is {:.0f} mm wide", "{:.0f} to {:.0f} mm"),
    "depth_mm": ("The body in it is {:.0f} mm deep", "{:.0f} to {:.0f} mm"),
    "cut_share": ("The field of view cuts {:.0%} of the body's outline off", "{:.0%} to {:.0%}"),
    "fat_share": ("{:.0%} of it is fat", "{:.0%} to {:.0%}"),
    "soft_share": ("{:.0%} of it is soft tissue", "{:.0%} to {:.0%}"),
    "bright_share": ("{:.0%} of it is bone or as bright as bone", "{:.0%} to {:.0%}"),
}


@dataclass(frozen=True)
class Judgement:
    """What is unlike the training scans.

    Attributes:
        reasons: Sentences for the user; none where the scan is like them.
        wrong_kind: Whether the only reason is that of `modality_warning`.
        another_part: Whether it evidently shows another part of the body, so that nothing found is an organ.
    """

    reasons: tuple[str, ...] = ()
    wrong_kind: bool = False
    another_part: bool = False

    def messages(self, model: str) -> tuple[str, ...]:
        """Return the one warning, or none."""
        if self.wrong_kind or not self.reasons:
            return self.reasons
        return (
            f"This scan is unlike those that the model {model} was trained on, so do not trust its result "
            f"unseen. {' '.join(self.reasons)}",
        )


def scan_measures(
    image: NDArray[np.floating], spacing: tuple[float, float, float], window: tuple[float, float]
) -> dict[str, float]:
    """Measure what tells a region of the body, a field of view and a scale of intensities.

    Args:
        image: (k, j, i) on the network's grid, the window mapped to [−1, 1].
        spacing: In mm along (k, j, i).
        window: HU of −1 and 1.

    Returns:
        By name: length along k, width and depth of the body in mm; in [0, 1] the share of
        the body's outline that lies on the image's edge in-plane and the shares of fat, soft tissue and bone
        in the body. Nothing where no plane shows 20 cm² of a body.
    """
    body = image > -1 + 2 * AIR_SHARE_OF_WINDOW
    planes = body.sum(axis=(1, 2)) * spacing[1] * spacing[2] >= LEAST_AREA_MM2
    if not planes.any():
        return {}
    inside = body[planes]
    width, depth = (
        float(np.median(inside.any(axis=axis).sum(axis=1))) * step
        for axis, step in ((1, spacing[2]), (2, spacing[1]))
    )
    edge = [inside[:, 0], inside[:, -1], inside[:, :, 0], inside[:, :, -1]]
    on_edge = sum(int(face.sum()) for face in edge)
    outline = 2 * (inside.any(axis=1).sum() + inside.any(axis=2).sum())
    low, high = window
    hu = (image[body].astype(np.float32) + 1) * ((high - low) / 2) + low
    return {
        "length_mm": float(planes.sum()) * spacing[0],
        "width_mm": width,
        "depth_mm": depth,
        "cut_share": float(on_edge / outline),
        "fat_share": _share(hu, *FAT_HU),
        "soft_share": _share(hu, *SOFT_HU),
        "bright_share": _share(hu, BRIGHT_HU, np.inf),
    }


def organ_intensities(
    image: NDArray[np.floating],
    labels: NDArray[np.unsignedinteger],
    table: LabelTable,
    window: tuple[float, float],
) -> dict[str, float]:
    """Return the median HU of each organ of at least some voxels, on the network's grid."""
    low, high = window
    medians = {}
    for value, key in table.organs.items():
        inside = image[labels == value]
        if inside.size >= LEAST_ORGAN_VOXELS:
            medians[key] = float((np.median(inside) + 1) * ((high - low) / 2) + low)
    return medians


def tops_above_liver(
    labels: NDArray[np.unsignedinteger], table: LabelTable, spacing: tuple[float, float, float]
) -> dict[str, float]:
    """Return how far in mm the highest voxel of each organ lies above the liver's dome.

    Nothing where no liver is found that is large enough to be one.
    """
    dome = liver_dome(labels, table, spacing)
    if dome is None:
        return {}
    tops = {}
    for value, key in table.organs.items():
        planes = np.flatnonzero((labels == value).any(axis=(1, 2)))
        if planes.size:
            tops[key] = float(planes[-1] - dome) * spacing[0]
    return tops


def drop_untaught(
    labels: NDArray[np.unsignedinteger],
    table: LabelTable,
    spacing: tuple[float, float, float],
    domain: Domain,
) -> tuple[NDArray[np.unsignedinteger], frozenset[str]]:
    """Remove what is called an organ further above the liver than the training showed it.

    Args:
        labels: (k, j, i) on the network's grid, k towards the head.
        table: What they mean.
        spacing: In mm along (k, j, i).
        domain: Of the bundle.

    Returns:
        The labels, and the organs of which something was removed.
    """
    dome = liver_dome(labels, table, spacing)
    cut = set()
    if dome is None:
        return labels, frozenset()
    kept = labels.copy()
    for value, key in table.organs.items():
        if key not in domain.above_liver_mm:
            continue
        first = dome + 1 + int(np.ceil((max(domain.above_liver_mm[key], 0) + ABOVE_SLACK_MM) / spacing[0]))
        above = kept[max(first, 0) :]
        untaught = above == value
        if untaught.any():
            above[untaught] = 0
            cut.add(key)
    return kept, frozenset(cut)


def judge(
    metadata: Metadata,
    image: NDArray[np.floating],
    labels: NDArray[np.unsignedinteger],
    statistics: tuple[OrganStatistics, ...],
) -> Judgement:
    """Compare a scan and what was found in it with the scans of the training.

    Args:
        metadata: Of the bundle; without a `domain` only what its window and its organs tell is judged.
        image: (k, j, i) on the network's grid, normalised.
        labels: (k, j, i) on the network's grid.
        statistics: Of the organs, on the input's grid.
    """
    window = metadata.preprocessing.window
    if window is None:
        return Judgement()
    spacing = metadata.preprocessing.spacing_mm
    found = scan_measures(image, spacing, window)
    if not found:
        return Judgement(("It shows no body: nowhere 20 cm² brighter than air.",))
    reasons = []
    if metadata.domain is None:
        reasons += _smaller_than_window(found, metadata)
    else:
        reasons += _unlike_scans(found, metadata.domain)
        reasons += _unlike_organs(organ_intensities(image, labels, metadata.labels, window), metadata.domain)
    unreliable = _unreliable(statistics) if metadata.patch_shape[0] > 1 else []
    if unreliable and metadata.domain and _is_slender(found, metadata.domain):
        return Judgement((*reasons, *unreliable, DROPPED), another_part=True)
    return Judgement((*reasons, *unreliable))


def _is_slender(found: Mapping[str, float], domain: Domain) -> bool:
    """Distinguish a neck, a head or a leg, seen whole, from a trunk and from a small field of view of one."""
    if not {"width_mm", "depth_mm", "cut_share"} <= domain.scan.keys():
        return False
    low, high = domain.scan["cut_share"]
    whole = found["cut_share"] <= high + max(SLACK["cut_share"], WIDENED_BY * (high - low))
    return whole and any(found[key] < SLENDER * domain.scan[key][0] for key in ("width_mm", "depth_mm"))


def _unlike_scans(found: Mapping[str, float], domain: Domain) -> list[str]:
    reasons = []
    for name, value in found.items():
        if name not in domain.scan or name not in _SAID:
            continue
        low, high = domain.scan[name]
        slack = max(SLACK.get(name, 0.0), WIDENED_BY * (high - low))
        lowest, longest = (SHORTEST * low, np.inf) if name == "length_mm" else (low - slack, high + slack)
        if not lowest <= value <= longest:
            said, trained = _SAID[name]
            reasons.append(f"{said.format(value)} (trained on {trained.format(low, high)}).")
    return reasons


def _unlike_organs(found: Mapping[str, float], domain: Domain) -> list[str]:
    unlike: dict[str, float] = {}
    for key, value in found.items():
        if key not in domain.organs_hu:
            continue
        low, high = domain.organs_hu[key]
        slack = max(ORGAN_SLACK_HU, ORGANS_WIDENED_BY * (high - low))
        if not low - slack <= value <= high + slack:
            text = f"{key} {value:.0f} HU ({low:.0f} to {high:.0f})"
            unlike[text] = max(low - value, value - high)
    if len(unlike) < FEWEST_UNLIKE_ORGANS:
        return []
    worst = sorted(unlike, key=lambda text: -unlike[text])[:MOST_SAID]
    return [
        f"Organs are brighter or darker than those it was trained on, such as {', '.join(worst)}: another "
        "contrast phase, or intensities that are no HU."
    ]


def _smaller_than_window(found: Mapping[str, float], metadata: Metadata) -> list[str]:
    depth = metadata.patch_shape[0] * metadata.preprocessing.spacing_mm[0]
    if metadata.patch_shape[0] == 1 or found["length_mm"] >= depth:
        return []
    return [
        f"It shows {found['length_mm']:.0f} mm along the body; the network looks at {depth:.0f} mm at once."
    ]


def _unreliable(statistics: tuple[OrganStatistics, ...]) -> list[str]:
    bad = {NOT_FOUND, VOLUME_IMPLAUSIBLE, LOW_CONFIDENCE}
    unreliable = [row.key for row in statistics if bad & set(row.flags)]
    if len(statistics) < FEWEST_ORGANS or len(unreliable) <= UNRELIABLE_SHARE * len(statistics):
        return []
    return [
        f"{len(unreliable)} of {len(statistics)} organs are not found, of an implausible volume or "
        "uncertain: it may show another part of the body."
    ]


def liver_dome(
    labels: NDArray[np.unsignedinteger], table: LabelTable, spacing: tuple[float, float, float]
) -> int | None:
    """Return the highest plane with 2 cm² of liver; None without a liver that is large enough to be one.

    Args:
        labels: (k, j, i), k towards the head.
        table: What they mean.
        spacing: In mm along (k, j, i).
    """
    if LIVER not in table.keys:
        return None
    areas = (labels == table.value(LIVER)).sum(axis=(1, 2)) * (spacing[1] * spacing[2])
    if areas.sum() * spacing[0] < LEAST_LIVER_ML * 1000:
        return None
    planes = np.flatnonzero(areas >= LEAST_TOP_MM2)
    return int(planes[-1]) if planes.size else None


def _share(hu: NDArray[np.floating], low: float, high: float) -> float:
    return float(np.count_nonzero((hu >= low) & (hu <= high)) / hu.size)
