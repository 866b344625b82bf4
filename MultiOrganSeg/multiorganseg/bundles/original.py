"""The steps of the program that a converted network comes from, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

INTENSITIES: Mapping[str, tuple[str, ...]] = {
    "clip_zscore": ("low", "high", "mean", "std"),
    "zscore": ("masked",),
    "minmax": ("to_low", "to_high"),
    "zscore_minmax": ("masked", "to_low", "to_high"),
    "range": ("from_low", "from_high", "to_low", "to_high", "clip"),
    "range_sigmoid": ("from_low", "from_high"),
    "scale": ("factor",),
    "none": (),
}
"""By kind of normalisation, the numbers that it needs; `masked` and `clip` are 0 or 1."""

VOLUME_INTENSITIES = frozenset({"zscore", "minmax", "zscore_minmax"})
"""Those that depend on the voxels of the whole volume."""

CROPS = ("none", "nonzero", "positive")
RESAMPLINGS = ("spline", "linear")
STEPS = ("even", "fixed")
PADDINGS = ("zero", "edge")
WEIGHTS = ("centred_delta", "gaussian", "constant")
RESTORINGS = ("logits", "probabilities", "labels")


@dataclass(frozen=True)
class Intensity:
    """How one channel is normalised.

    Attributes:
        kind: A key of `INTENSITIES`: "clip_zscore" clips to low…high, subtracts mean and divides by std;
            "zscore" does so with the channel's own mean and deviation, where `masked` of the nonzero voxels
            alone; "minmax" maps the channel's own extremes to to_low…to_high; "zscore_minmax" is both in
            turn; "range" maps from_low…from_high to to_low…to_high; "range_sigmoid" maps it to −1…1 without
            clipping, then through the sigmoid; "scale" multiplies.
        values: The numbers by name.
    """

    kind: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class Original:
    """What the program does that trained a network, so that the same can be done here.

    Axes are those of the network's own array: the stored array (k, j, i), turned to `orientation` and then
    transposed by `axes`. `Preprocessing.spacing_mm` and `Metadata.patch_shape` are along them.

    Attributes:
        program: Its name.
        orientation: Where the axes (i, j, k) of its images run to, such as "RAS" or "LPS"; "" when it takes
            every image as it is stored.
        axes: Axis of the stored array (k, j, i) that each axis of the network's array is.
        in_slices: Whether the network sees slices along its first axis, whose spacing stays as it is.
        channels: Names of the input channels.
        intensities: Of each channel.
        normalise_first: Whether intensities are normalised before the resampling.
        crop: "none"; "nonzero": to the box of what is not 0 in any channel; "positive": of what is above 0.
        margin: Voxels that the crop leaves around.
        resampling: "spline": cubic, and slice by slice where slices are three times as far apart as pixels;
            "linear": aligned at the first voxel.
        spacing_tolerance: Share by which the spacing along an axis may differ without being resampled.
        step: "even": windows spread evenly; "fixed": a constant step, the last window moved in.
        overlap: Share of a window that neighbours share.
        padding: What stands around an image that is smaller than a window: "zero", or its border, "edge".
        weights: Of a window's voxels: "centred_delta": a Gaussian of an eighth about voxel n // 2;
            "gaussian": the same about the centre; "constant".
        mirrored: Axes along which the network also sees the mirrored window, and both are averaged.
        folds: Networks whose logits are averaged.
        half_precision: Whether weighted sums of logits, and what is interpolated from them, are rounded to
            half precision.
        restore: What is interpolated back onto the input's grid: "logits", "probabilities" or "labels".
    """

    program: str
    orientation: str
    axes: tuple[int, int, int]
    in_slices: bool
    channels: tuple[str, ...]
    intensities: tuple[Intensity, ...]
    normalise_first: bool
    crop: str
    margin: int
    resampling: str
    spacing_tolerance: float
    step: str
    overlap: float
    padding: str
    weights: str
    mirrored: tuple[int, ...]
    folds: int
    half_precision: bool
    restore: str
