"""Order DICOM slices and find the affine of their stack.

Source: DICOM PS3.3, section C.7.6.2 (Image Plane Module), equation C.7.6.2.1-1.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import VolumeWarning, check_spacing
from multiorganseg.volumes.volume import Affine

_SAME_PLACE_MM = 0.01
_SAME_DIRECTION = 1e-3
_UNEVEN = 0.05
_UNEVEN_MM = 0.1
_NAMED = 5


@dataclass(frozen=True, eq=False)
class Slice:
    """What the header of one DICOM image says.

    Attributes:
        file: The file.
        uid: Series Instance UID.
        description: Series Description.
        modality: CT, MR, …
        image_type: Image Type, values parted by backslashes, in capitals.
        inverted: Whether small values are meant to look bright (MONOCHROME1).
        columns: Voxels along i.
        rows: Voxels along j.
        frames: Images in the file.
        components: Components a voxel.
        position: Image Position (Patient): LPS of the first voxel in mm; NaN where the header is silent.
        orientation: Image Orientation (Patient): direction of i, then of j; NaN where the header is silent.
        spacing: Pixel Spacing in mm along j, then along i; NaN where the header is silent.
        number: Instance Number; None where the header is silent.
        announced: How many images the header says that the series has; None where it is silent.
        study: Study Instance UID.
        series_number: Series Number; None where the header is silent.
        syntax: Transfer Syntax UID; empty where the file has no meta information.
    """

    file: Path
    uid: str
    description: str
    modality: str
    image_type: str
    inverted: bool
    columns: int
    rows: int
    frames: int
    components: int
    position: NDArray[np.float64]
    orientation: NDArray[np.float64]
    spacing: NDArray[np.float64]
    number: int | None = None
    announced: int | None = None
    study: str = ""
    series_number: int | None = None
    syntax: str = ""

    @property
    def placed(self) -> bool:
        """Whether the header says where the image lies."""
        return bool(np.isfinite([*self.position, *self.orientation, *self.spacing]).all())

    @property
    def height(self) -> float:
        """Position along the slice's own normal in mm; NaN where the header is silent."""
        return float(self.position @ np.cross(self.orientation[:3], self.orientation[3:]))


def order_slices(slices: Sequence[Slice], same_pixels: Callable[[Slice, Slice], bool]) -> list[Slice]:
    """Sort slices along their normal.

    Localizers, identical doubles and, among placed slices, images without a place (captures) are dropped with
    a `VolumeWarning`.

    Args:
        slices: All slices of one series, in any order.
        same_pixels: Tells whether two slices at one place show the same.

    Returns:
        Slices of one size, orientation and pixel spacing, rising along row × column direction.

    Raises:
        VolumeError: Slices do not say where they lie, do not belong together, lie at one place but differ, or
            are missing at an end by their numbers.
    """
    kept = [piece for piece in slices if "LOCALIZER" not in piece.image_type] or list(slices)
    if len(kept) < len(slices):
        _warn(kept[0], f"{len(slices) - len(kept)} localizer image(s) were left out")
    placed = [piece for piece in kept if piece.placed]
    if len(kept) / 2 < len(placed) < len(kept):
        unplaced = [piece.file.name for piece in kept if not piece.placed]
        what = f"{len(unplaced)} image(s) that do not say where they lie were left out"
        _warn(kept[0], f"{what}: {_some(unplaced)}")
        kept = placed
    _check_together(kept)
    kept.sort(key=lambda piece: (piece.height, piece.file))
    ordered = kept[:1]
    for piece in kept[1:]:
        if piece.height - ordered[-1].height > _SAME_PLACE_MM:
            ordered.append(piece)
        elif not same_pixels(ordered[-1], piece):
            msg = f"Two slices of the series lie at one place ({piece.height:.2f} mm) but differ."
            raise VolumeError(
                msg,
                cause=f"{ordered[-1].file.name} and {piece.file.name}: several time points, phases or "
                "reconstructions share one series.",
                next_step="Export one of them into a folder of its own and pass that.",
            )
    if len(ordered) < len(kept):
        _warn(kept[0], f"{len(kept) - len(ordered)} doubled slice(s) were left out")
    _check_ends(ordered, slices)
    return ordered


def stack_affine(slices: Sequence[Slice]) -> Affine:
    """Affine of ordered slices; its column k is the step between positions, so a gantry tilt becomes shear.

    Args:
        slices: What `order_slices` gives.

    Raises:
        VolumeError: A single slice, missing slices or uneven spacing.
    """
    positions = np.array([piece.position for piece in slices])
    heights = np.array([piece.height for piece in slices])
    folder = slices[0].file.parent
    if len(slices) == 1:
        msg = f"The DICOM series in {folder} is a single slice."
        raise VolumeError(
            msg,
            next_step="Pass the folder that holds all slices of the series.",
        )
    steps = np.diff(heights)
    usual = float(np.median(steps))
    tolerance = min(max(_UNEVEN * usual, _UNEVEN_MM), usual / 4)
    counts = np.rint(steps / usual)
    gaps = np.flatnonzero((counts >= 2) & (np.abs(steps - counts * usual) <= tolerance * counts))
    if gaps.size:
        missing = [
            f"{counts[gap] - 1:.0f} between {heights[gap]:.2f} and {heights[gap + 1]:.2f}" for gap in gaps
        ]
        msg = f"{int((counts[gaps] - 1).sum())} slice(s) of the DICOM series in {folder} are missing."
        raise VolumeError(
            msg,
            cause=f"Along the slice normal, in mm: {_some(missing)}; the usual step is {usual:.2f}.",
            next_step="Export or copy the whole series again.",
        )
    step = (positions[-1] - positions[0]) / (len(slices) - 1)
    uneven = np.flatnonzero(np.abs(steps - steps.mean()) > tolerance)
    off_line = np.linalg.norm(positions - positions[0] - np.arange(len(slices))[:, None] * step, axis=1)
    if uneven.size or off_line.max() > tolerance:
        places = [
            f"{heights[index]:.2f}"
            for index in (uneven if uneven.size else np.flatnonzero(off_line > tolerance))
        ]
        msg = f"The slices of the DICOM series in {folder} are not evenly spaced."
        raise VolumeError(
            msg,
            cause=f"Steps run from {steps.min():.2f} to {steps.max():.2f} mm, or slices lie beside the line; "
            f"at {_some(places)} mm.",
            next_step="Choose a reconstruction with even spacing, or resample the series first.",
        )
    return _plane_affine(slices[0], step)


def _check_ends(ordered: Sequence[Slice], series: Sequence[Slice]) -> None:
    """Refuse a series that lacks slices at an end, as far as its own numbers tell.

    Numbers tell when they run without a gap along the stack, and begin above 1: fewer missing numbers than
    slices are a loss, more may be a way of numbering and are a `VolumeWarning`.
    """
    folder = ordered[0].file.parent
    announced = max(piece.announced or 0 for piece in series)
    found = {piece.number for piece in series}
    along = [piece.number for piece in ordered if piece.number is not None]
    runs = len(along) == len(ordered) > 1 and set(np.diff(along)) in ({1}, {-1})
    missing = [number for number in range(1, min(along)) if number not in found] if runs else []
    if announced > len(series):
        cause = f"Their headers announce {announced} images; {len(series)} are there."
    elif missing:
        which = f"{missing[0]} to {missing[-1]}" if len(missing) > 1 else str(missing[0])
        cause = f"Their numbers run from {min(along)} to {max(along)} without a gap; {which} is not there."
    else:
        return
    if announced <= len(series) and len(missing) >= len(ordered):
        _warn(ordered[0], f"its first number is {min(along)}; if it should begin earlier, images are missing")
        return
    msg = f"The DICOM series in {folder} is not complete: slices are missing at an end."
    raise VolumeError(
        msg,
        cause=cause,
        next_step="Export or copy the whole series again. If it was cut on purpose, convert it to NIfTI.",
    )


def _plane_affine(first: Slice, step: NDArray[np.float64]) -> Affine:
    row, column = first.orientation[:3], first.orientation[3:]
    affine = np.eye(4)
    affine[:3, 0] = row / np.linalg.norm(row) * first.spacing[1]
    affine[:3, 1] = column / np.linalg.norm(column) * first.spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = first.position
    return affine


def _check_together(slices: Sequence[Slice]) -> None:
    first = slices[0]
    for piece in slices:
        if not piece.placed:
            msg = f"{piece.file.name} does not say where it lies in the patient."
            raise VolumeError(
                msg,
                cause="Image Position, Image Orientation or Pixel Spacing is missing or not a number.",
                next_step="Export the original series from the archive, not screenshots or derived images.",
            )
        check_spacing(piece.spacing.tolist(), piece.file)
        axes = piece.orientation.reshape(2, 3)
        if not np.allclose(axes @ axes.T, np.eye(2), atol=0.01):
            msg = f"{piece.file.name} has an impossible orientation."
            raise VolumeError(
                msg,
                cause="The directions of its rows and columns are not perpendicular unit vectors.",
                next_step="Export the series again.",
            )
        if piece.inverted:
            msg = f"{piece.file.name} is stored inverted (MONOCHROME1)."
            raise VolumeError(
                msg,
                cause="Its voxel values cannot be taken as Hounsfield units.",
                next_step="Export the series as MONOCHROME2.",
            )
    sizes = Counter(f"{piece.columns} × {piece.rows} voxels" for piece in slices)
    spacings = Counter("{:.3f} × {:.3f} mm".format(*piece.spacing) for piece in slices)
    odd = [piece for piece in slices if np.abs(piece.orientation - first.orientation).max() > _SAME_DIRECTION]
    for kind, groups in (("sizes", sizes), ("pixel spacings", spacings)):
        if len(groups) > 1:
            raise _mixed(first, kind, _some([f"{count} of {name}" for name, count in groups.most_common()]))
    if odd:
        raise _mixed(
            first, "orientations", f"{len(odd)} differ from {first.file.name}, as {odd[0].file.name}"
        )


def _mixed(first: Slice, kind: str, cause: str) -> VolumeError:
    return VolumeError(
        f"The slices of the DICOM series in {first.file.parent} have several {kind}.",
        cause=cause,
        next_step="Export the axial series alone, without localizers and reformatted images.",
    )


def _some(items: Sequence[str]) -> str:
    more = f" and {len(items) - _NAMED} more" if len(items) > _NAMED else ""
    return ", ".join(items[:_NAMED]) + more


def _warn(piece: Slice, what: str) -> None:
    warnings.warn(f"DICOM series in {piece.file.parent}: {what}.", VolumeWarning, stacklevel=2)
