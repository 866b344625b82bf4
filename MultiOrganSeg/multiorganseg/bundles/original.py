"""The steps of the program that a converted network comes from, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from multiorganseg.schema import Limits, SchemaError, line, one_of, read_as

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

MOST_CHANNELS = 16
MOST_FOLDS = 10
_SIDES = ({"L", "R"}, {"P", "A"}, {"S", "I"})

Number = Annotated[float, Limits(ge=-1e6, le=1e6)]
Axis = Annotated[int, Limits(ge=0, le=2)]
Share = Annotated[float, Limits(ge=0, le=0.9, description="a number in 0…0.9")]
Name = Annotated[str, line(100)]


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

    kind: Annotated[str, one_of(*INTENSITIES)]
    values: Mapping[str, Number]

    @classmethod
    def from_json(cls, data: Any) -> Intensity:
        """Read the kind and, beside it, the numbers.

        Raises:
            SchemaError: It is not valid.
        """
        if isinstance(data, Mapping):
            data = {"kind": data.get("kind"), "values": {k: v for k, v in data.items() if k != "kind"}}
        intensity = read_as(cls, data)
        if not intensity.is_consistent:
            names = ", ".join(INTENSITIES[intensity.kind]) or "nothing"
            message = f"the kind {intensity.kind} needs {names}, lower ends below upper ones, and std above 0"
            raise SchemaError([message])
        return intensity

    @property
    def is_consistent(self) -> bool:
        """Whether it has the numbers of its kind, and they fit each other."""
        numbers = self.values
        ends = [(numbers.get(f"{part}low", 0), numbers.get(f"{part}high", 1)) for part in ("", "from_")]
        return (
            set(numbers) == set(INTENSITIES[self.kind])
            and all(numbers.get(key, 0) in (0, 1) for key in ("masked", "clip"))
            and all(low < high for low, high in ends)
            and numbers.get("std", 1) > 0
        )


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

    program: Name
    orientation: str
    axes: Annotated[tuple[Axis, Axis, Axis], Limits(description="0, 1 and 2 in some order")]
    in_slices: bool
    channels: Annotated[
        tuple[Name, ...],
        Limits(min_length=1, max_length=MOST_CHANNELS, description=f"1 to {MOST_CHANNELS} names"),
    ]
    intensities: tuple[Intensity, ...]
    normalise_first: bool
    crop: Annotated[str, one_of("none", "nonzero", "positive")]
    margin: Annotated[int, Limits(ge=0, le=100, description="a whole number in 0…100")]
    resampling: Annotated[str, one_of("spline", "linear")]
    spacing_tolerance: Share
    step: Annotated[str, one_of("even", "fixed")]
    overlap: Share
    padding: Annotated[str, one_of("zero", "edge")]
    weights: Annotated[str, one_of("centred_delta", "gaussian", "constant")]
    mirrored: Annotated[tuple[Axis, ...], Limits(description="some of 0, 1 and 2, ascending")]
    folds: Annotated[int, Limits(ge=1, le=MOST_FOLDS, description=f"a whole number in 1…{MOST_FOLDS}")]
    half_precision: bool
    restore: Annotated[str, one_of("logits", "probabilities", "labels")]

    @classmethod
    def from_json(cls, data: Any) -> Original:
        """Read what `to_json` gives.

        Raises:
            SchemaError: It is not valid; everything found is listed.
        """
        original = read_as(cls, data)
        problems = []
        if original.orientation and not is_orientation(original.orientation):
            problems.append("'orientation' must be three letters such as RAS, or \"\"")
        if set(original.axes) != {0, 1, 2}:
            problems.append("'axes' must be 0, 1 and 2 in some order")
        if list(original.mirrored) != sorted(set(original.mirrored)):
            problems.append("'mirrored' must be some of 0, 1 and 2, ascending")
        if len(original.intensities) != len(original.channels):
            problems.append("there must be one intensity for each channel")
        if problems:
            raise SchemaError(problems)
        return original

    def to_json(self) -> dict[str, Any]:
        """Return lists and numbers by name."""
        fields = {
            key: list(value) if isinstance(value, tuple) else value for key, value in vars(self).items()
        }
        flat = [{"kind": entry.kind, **entry.values} for entry in self.intensities]
        return {**fields, "intensities": flat}


def is_orientation(value: Any) -> bool:
    """Whether it names a direction for each of three axes, such as "RAS"."""
    if not isinstance(value, str) or len(value) != 3:
        return False
    return all(any(letter in side for letter in value) for side in _SIDES) and len(set(value)) == 3
