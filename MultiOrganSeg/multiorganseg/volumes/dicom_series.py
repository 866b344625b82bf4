"""Find the DICOM series of a folder and read one as a volume."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import DEFLATE_RATIO, Header, VolumeWarning, check_header
from multiorganseg.volumes.dicom_geometry import order_slices, stack_affine
from multiorganseg.volumes.dicom_header import LeftOut, Why, is_dicom, unsupported_syntax
from multiorganseg.volumes.dicom_multiframe import read_multiframe
from multiorganseg.volumes.dicom_pixels import same_pixels, stack_pixels
from multiorganseg.volumes.dicom_scan import (
    SeriesInfo,
    files_below,
    is_dicomdir,
    listed_images,
    scan_series,
    tell_left_out,
)
from multiorganseg.volumes.volume import Volume

__all__ = ["SeriesInfo", "dicom_files", "find_dicom_series", "is_dicom", "read_dicom", "read_series"]

_MAIN_MODALITIES = ("CT", "MR")
_MAIN_SLICES = 10
_FEWEST_LONE_SLICES = 3


def find_dicom_series(folder: Path) -> list[SeriesInfo]:
    """List the DICOM series in a folder and below it, the largest first; empty when there is none.

    Every file that is left out is reported with a `VolumeWarning`.

    Raises:
        DependencyError: pydicom is not installed.
    """
    found, left_out = scan_series(files_below(Path(folder)))
    tell_left_out(left_out, Path(folder))
    return found


def dicom_files(path: Path) -> tuple[Path, ...]:
    """Files of the series that `read_volume` reads from `path`, in the order of the volume's axis k.

    Raises:
        VolumeError: As `read_dicom`.
    """
    return series_files(_choose_series(path))


def series_files(series: SeriesInfo) -> tuple[Path, ...]:
    """Files of a series in the order of the volume's axis k.

    Raises:
        VolumeError: As `read_series`.
    """
    if series.headers[0].frames > 1:
        return series.files
    return tuple(piece.file for piece in order_slices(series.headers, same_pixels))


def read_dicom(path: Path) -> Volume:
    """Read the main series in a folder or DICOMDIR, or the series that a file belongs to.

    Whatever is left out of a folder is reported with a `VolumeWarning`.

    Raises:
        VolumeError: No series or no main one, or as `read_series`.
        DependencyError: pydicom is not installed, or as `read_series`.
    """
    return read_series(_choose_series(path), str(path))


def read_series(series: SeriesInfo, source: str = "") -> Volume:
    """Read one series.

    Each slice's own rescale slope and intercept are applied. A tilted gantry becomes a sheared affine;
    nothing is resampled.

    Args:
        series: As `find_dicom_series` gives it.
        source: Becomes the volume's source; by default the folder of the first file.

    Raises:
        VolumeError: Slices that are missing, doubled but different, unevenly spaced, of several sizes or
            orientations, damaged, or compressed in a way that cannot be decoded.
        DependencyError: A multi-frame file, and highdicom is not installed.
    """
    folder = series.files[0].parent
    _refuse_lost(series, folder)
    _refuse_syntax(series)
    tell_left_out(series.left_out, folder)
    first = series.headers[0]
    if first.frames > 1:
        volume = read_multiframe(series.files)
    else:
        slices = order_slices(series.headers, same_pixels)
        first = slices[0]
        header = Header(
            path=folder,
            sizes=(first.columns, first.rows, len(slices)),
            dtype=np.dtype(np.int16),
            components=max(piece.components for piece in slices),
            affine=stack_affine(slices),
            capacity=DEFLATE_RATIO * sum(piece.file.stat().st_size for piece in slices),
        )
        check_header(header)
        volume = Volume(stack_pixels(slices), header.affine)
    return replace(volume, source=source or str(folder), modality=first.modality)


def main_series(found: Sequence[SeriesInfo], left_out: Sequence[LeftOut], path: Path) -> list[SeriesInfo]:
    """Choose the series worth segmenting: the one there is, or every CT and MR of at least ten slices.

    Raises:
        VolumeError: There is none, or several and none stands out; the error names them.
    """
    images = [info for info in found if info.is_image]
    if not images:
        raise _no_series(found, left_out, path)
    main = [info for info in images if is_main_series(info)]
    if main or len(images) == 1:
        return main or images
    if are_torn_apart(images):
        msg = f"Each of the {len(images)} images in {path} is a series of its own."
        raise VolumeError(
            msg,
            cause="They have one study, size and direction but a Series Instance UID each: the program that "
            "made them anonymous or exported them gave every image a new one.",
            next_step="Export them again with one Series Instance UID for all, or convert them to NIfTI.",
        )
    raise _several(images, path)


def is_main_series(series: SeriesInfo) -> bool:
    """Whether a series is a CT or MR of at least ten slices."""
    return series.modality in _MAIN_MODALITIES and series.slices >= _MAIN_SLICES


def tell_other_series(others: Sequence[SeriesInfo], path: Path) -> None:
    """Name with a `VolumeWarning` the series that were not chosen."""
    if others:
        warnings.warn(
            f"{path}: {len(others)} other series were left out: {'; '.join(map(str, others))}.",
            VolumeWarning,
            stacklevel=2,
        )


def _choose_series(path: Path) -> SeriesInfo:
    if path.is_file() and not is_dicomdir(path):
        found, left_out = scan_series(sorted(file for file in path.parent.iterdir() if file.is_file()))
        own = next((info for info in found if path in info.files), None)
        if own is None or not own.is_image:
            reason = next((entry for entry in left_out if entry.file == path), None)
            cause = (
                f"It is {reason.why.value}: {reason.detail}."
                if reason and reason.detail
                else (f"Its modality is {own.modality}." if own else "It has no pixel data, or is damaged.")
            )
            msg = f"{path.name} holds no image that can be read."
            raise VolumeError(msg, cause=cause, next_step="Pass the folder with the CT's slices.")
        return own
    found, left_out = scan_series(files_of(path))
    main = main_series(found, left_out, path)
    if len(main) > 1:
        raise _several([info for info in found if info.is_image], path)
    tell_other_series([info for info in found if info is not main[0]], path)
    return main[0]


def files_of(path: Path) -> list[Path]:
    """List the files of a folder, or of the medium that a DICOMDIR describes.

    A DICOMDIR that is damaged or lists nothing that is there stands for the folder in which it lies.
    """
    if path.is_dir():
        return files_below(path)
    listed = [file for file, _ in listed_images(path) if file.is_file()]
    return [path, *listed] if listed else files_below(path.parent)


def _no_series(found: Sequence[SeriesInfo], left_out: Sequence[LeftOut], path: Path) -> VolumeError:
    details = [f"{entry.file.name}, {entry.why.value} ({entry.detail})" for entry in left_out if entry.detail]
    others = [f"a series of the modality {info.modality}" for info in found]
    reasons = [*others, *details][:3]
    return VolumeError(
        f"No DICOM image series in {path}.",
        cause=f"It holds {'; '.join(reasons)}."
        if reasons
        else "None of its files is a DICOM file with an image that can be read.",
        next_step="Pass the folder that holds the CT's slices, or one NIfTI, NRRD or MetaImage file.",
    )


def _several(infos: Sequence[SeriesInfo], path: Path) -> VolumeError:
    return VolumeError(
        f"{path} holds {len(infos)} DICOM series.",
        cause="; ".join(map(str, infos)),
        next_step="Pass the folder of the wanted series alone, or one file of it, for example "
        f"{infos[0].files[0]}.",
    )


def are_torn_apart(images: Sequence[SeriesInfo]) -> bool:
    """Whether the slices of one stack have a Series Instance UID each."""
    pieces = [info.headers[0] for info in images]
    first = pieces[0]
    return (
        len(images) >= _FEWEST_LONE_SLICES
        and all(info.slices == 1 for info in images)
        and all(
            piece.placed
            and (piece.study, piece.rows, piece.columns) == (first.study, first.rows, first.columns)
            and np.allclose(piece.orientation, first.orientation, atol=1e-3)
            for piece in pieces
        )
    )


def _refuse_lost(series: SeriesInfo, folder: Path) -> None:
    lost = [entry for entry in series.left_out if entry.why in (Why.DAMAGED, Why.MISSING)]
    if lost:
        named = [f"{entry.file.name} ({entry.detail or entry.why.value})" for entry in lost[:3]]
        msg = f"{len(lost)} DICOM image(s) in {folder} are damaged or missing."
        raise VolumeError(
            msg,
            cause=f"{', '.join(named)}: each may belong to the series.",
            next_step="Copy or export the series again, or take these files away if they belong elsewhere.",
        )


def _refuse_syntax(series: SeriesInfo) -> None:
    for piece in series.headers:
        name = unsupported_syntax(piece.syntax)
        if name:
            msg = f"{piece.file.name} is compressed in a way that cannot be decoded here."
            raise VolumeError(
                msg,
                cause=f"Its transfer syntax is {name} ({piece.syntax}).",
                next_step="Export the series uncompressed (Explicit VR Little Endian) or as JPEG 2000.",
            )
