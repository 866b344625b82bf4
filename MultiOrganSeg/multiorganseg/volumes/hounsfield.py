"""Whether a CT is in Hounsfield units, by its voxels; brought there where that is certain.

Air is −1000 HU and water 0 HU by definition; fat lies near −100 HU and soft tissue near 50 HU. Files lose
that scale by a rescale that was dropped or applied twice, by signed values read as unsigned, and by export of
a window in grey levels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.check import compact
from multiorganseg.volumes.modality import (
    AIR_HU,
    SMALLEST_AIR_SHARE,
    SMALLEST_TISSUE_SHARE,
    TISSUE_HU,
    apparent_modality,
    sample_voxels,
    share,
)
from multiorganseg.volumes.volume import Volume

BODY_ABOVE_HU = -700.0
VALLEY_HU = (-700.0, -250.0)
LARGEST_VALLEY_SHARE_OF_BODY = 0.15
SMALLEST_TISSUE_SHARE_OF_BODY = 0.6
CROPPED_BODY_HU = (-250.0, 350.0)
SMALLEST_CROPPED_SHARE = 0.9
SMALLEST_EXTENT = 50.0
LARGEST_DENSE_SHARE = 0.01
SMALLEST_CLIPPED_SHARE = 0.005
SIGNED_LIMIT: Final = 1 << 15
NOT_IN_HU = "The CT is not in Hounsfield units"
MENDED = "The CT was not in Hounsfield units"


@dataclass(frozen=True)
class _Remedy:
    """One way in which the scale gets lost, and back.

    Attributes:
        what: What was done about it, as part of a sentence.
        apply: Gives voxels in HU.
        fits: Whether voxels can have lost their scale in this way.
        without_air: Whether soft tissue alone is enough to tell.
    """

    what: str
    apply: Callable[[NDArray], NDArray]
    fits: Callable[[NDArray], bool]
    without_air: bool


def _less(offset: int) -> Callable[[NDArray], NDArray]:
    def apply(voxels: NDArray) -> NDArray:
        wide = voxels.astype(np.int32) if voxels.dtype.kind in "iu" else voxels
        return wide - offset

    return apply


def _as_signed(voxels: NDArray) -> NDArray:
    wide = voxels.astype(np.int32) if voxels.dtype.kind in "iu" else voxels
    return np.where(wide >= SIGNED_LIMIT, wide - 2 * SIGNED_LIMIT, wide)


_REMEDIES = (
    *(
        _Remedy(f"{offset} was subtracted", _less(offset), lambda voxels: True, without_air=True)
        for offset in (1024, 2048, 8192, SIGNED_LIMIT)
    ),
    _Remedy(
        "1024, which had been subtracted twice, was added",
        _less(-1024),
        lambda voxels: share(voxels, (0.0, np.inf)) <= LARGEST_DENSE_SHARE,
        without_air=False,
    ),
    _Remedy(
        "its values, written without a sign, were read with one",
        _as_signed,
        lambda voxels: bool(voxels.max() >= SIGNED_LIMIT),
        without_air=False,
    ),
)


def to_hounsfield(volume: Volume, window: tuple[float, float] | None = None) -> Volume:
    """Bring a CT to Hounsfield units where its voxels tell how; else say what is wrong with them.

    Voxels with air near −1000 HU and soft tissue near 0 HU are left alone. Where a known shift gives both,
    with hardly anything between lung and fat and most of the body in soft tissue, the shift is undone. Voxels
    that are all positive, span less than 50 or have hardly any soft tissue are no HU, but which ones they are
    cannot be told. A copy clipped to a window of HU is legitimate: it is reported only where it is narrower
    than what the network sees. An image that is evidently no CT is left alone.

    Args:
        volume: What is taken for a CT.
        window: Lower and upper end of what the network sees, in HU.

    Returns:
        The volume, in HU where it could be mended; what was done or is wrong comes first in its `warnings`.
    """
    if volume.modality not in ("", "CT", "OT", "SC"):
        return volume
    seen = sample_voxels(volume.voxels)
    if _has_air_and_tissue(seen):
        return volume
    for remedy in _REMEDIES:
        if remedy.fits(seen) and _is_evident_ct(remedy.apply(seen), remedy.without_air):
            voxels = compact(remedy.apply(volume.voxels), narrow=True)
            message = f"{MENDED}: air and soft tissue lay elsewhere in its values; {remedy.what}."
            return _with_warning(replace(volume, voxels=voxels), message)
    appearance = apparent_modality(volume)
    if appearance is not None and appearance.modality != "CT":
        return volume
    problem = _problem(seen)
    if problem:
        return _with_warning(
            volume, f"{NOT_IN_HU}: {problem}. The result cannot be trusted; export the CT again in HU."
        )
    cut = _cut(seen, window) if window else ""
    return _with_warning(volume, cut) if cut else volume


def _problem(seen: NDArray) -> str:
    low, high = (float(value) for value in np.percentile(seen, (0.1, 99.9)))
    if high - low < SMALLEST_EXTENT:
        return f"nearly all values lie between {low:g} and {high:g}, as after scaling"
    if seen.min() >= 0:
        return f"no value is negative, while fat and air are (values {low:g} to {high:g}, as in a picture)"
    if share(seen, TISSUE_HU) < SMALLEST_TISSUE_SHARE:
        return f"hardly any value lies between {TISSUE_HU[0]:g} and {TISSUE_HU[1]:g}, where soft tissue is"
    return ""


def _cut(seen: NDArray, window: tuple[float, float]) -> str:
    """Return a note that the voxels were clipped within the network's window; empty when they were not."""
    low, high = float(seen.min()), float(seen.max())
    below = low > window[0] and share(seen, (low, low)) >= SMALLEST_CLIPPED_SHARE
    above = high < window[1] and share(seen, (high, high)) >= SMALLEST_CLIPPED_SHARE
    if not (below or above):
        return ""
    return f"The CT was clipped to {low:g}…{high:g} HU; the model sees {window[0]:g}…{window[1]:g} HU."


def _has_air_and_tissue(seen: NDArray) -> bool:
    """Whether both are there; a small body in much air or padding has tissue for most of what is no air."""
    tissue, body = share(seen, TISSUE_HU), share(seen, (BODY_ABOVE_HU, np.inf))
    enough = tissue >= SMALLEST_TISSUE_SHARE or 0 < SMALLEST_TISSUE_SHARE_OF_BODY * body <= tissue
    return share(seen, AIR_HU) >= SMALLEST_AIR_SHARE and enough


def _is_evident_ct(seen: NDArray, without_air: bool) -> bool:
    if without_air and share(seen, CROPPED_BODY_HU) >= SMALLEST_CROPPED_SHARE:
        return True
    body = share(seen, (BODY_ABOVE_HU, np.inf))
    return (
        _has_air_and_tissue(seen)
        and share(seen, VALLEY_HU) <= LARGEST_VALLEY_SHARE_OF_BODY * body
        and share(seen, TISSUE_HU) >= SMALLEST_TISSUE_SHARE_OF_BODY * body
    )


def _with_warning(volume: Volume, message: str) -> Volume:
    if message in volume.warnings:
        return volume
    return replace(volume, warnings=(message, *volume.warnings))
