"""Find the DICOM series of a folder and read one as a volume."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import DEFLATE_RATIO, Header, VolumeWarning, check_header, compact
from multiorganseg.volumes.dicom_geometry import Slice, order_slices, stack_affine
from multiorganseg.volumes.dicom_multiframe import read_multiframe
from multiorganseg.volumes.headers import unreadable
from multiorganseg.volumes.volume import Volume

_NOT_IMAGES = ("SEG", "RTDOSE", "RTPLAN", "RTSTRUCT", "SR", "PR", "KO")
_MAIN_MODALITIES = ("CT", "MR")
_MAIN_SLICES = 10
_PIXEL_DATA = b"\xe0\x7f\x10\x00"


@dataclass(frozen=True)
class SeriesInfo:
    """One DICOM series.

    Attributes:
        uid: Series Instance UID.
        description: Series Description, or an empty string.
        modality: CT, MR, SEG, …
        slices: Number of slices, counting the frames of multi-frame files.
        files: Its files, ordered along the slice normal where they say where they lie.
    """

    uid: str
    description: str
    modality: str
    slices: int
    files: tuple[Path, ...]

    def __str__(self) -> str:
        """Name the series for a message."""
        name = self.description or self.uid
        return f"'{name}' ({self.modality}, {self.slices} slices, {self.files[0].parent})"


def find_dicom_series(folder: Path) -> list[SeriesInfo]:
    """List the DICOM series in a folder and below it, the largest first; empty when there is none.

    Files that are not DICOM are passed over; DICOM files without an image, or damaged, are left out with a
    `VolumeWarning`.
    """
    slices, damaged = _scan(Path(folder).rglob("*"))
    if damaged:
        warnings.warn(
            f"{len(damaged)} damaged DICOM image(s) were left out: {', '.join(map(str, damaged[:3]))}",
            VolumeWarning,
            stacklevel=2,
        )
    return [_info(group) for group in _group(slices)]


def is_dicom(path: Path) -> bool:
    """Whether a file bears the mark of DICOM Part 10 (PS3.10, section 7.1)."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def dicom_files(path: Path) -> tuple[Path, ...]:
    """Files of the series that `read_volume` reads from `path`, in the order of the volume's axis k.

    Raises:
        VolumeError: As `read_dicom`.
    """
    slices = _choose_series(path)
    if slices[0].frames > 1:
        return tuple(piece.file for piece in slices)
    return tuple(piece.file for piece in order_slices(slices, _same_pixels))


def read_dicom(path: Path) -> Volume:
    """Read the series in a folder, or the series that a file belongs to.

    Each slice's own rescale slope and intercept are applied. A tilted gantry becomes a sheared affine;
    nothing is resampled.

    Raises:
        VolumeError: No series or no main one, or slices that are missing, doubled but different, unevenly
            spaced, of several sizes or orientations, or damaged.
        DependencyError: A multi-frame file, and highdicom is not installed.
    """
    slices = _choose_series(path)
    if slices[0].frames > 1:
        return replace(read_multiframe([piece.file for piece in slices]), modality=slices[0].modality)
    slices = order_slices(slices, _same_pixels)
    first = slices[0]
    header = Header(
        path=path,
        sizes=(first.columns, first.rows, len(slices)),
        dtype=np.dtype(np.int16),
        components=max(piece.components for piece in slices),
        affine=stack_affine(slices),
        capacity=DEFLATE_RATIO * sum(piece.file.stat().st_size for piece in slices),
    )
    check_header(header)
    return Volume(_stack(slices, header.shape), header.affine, str(path), first.modality)


def _choose_series(path: Path) -> list[Slice]:
    slices, damaged = _scan(path.parent.iterdir() if path.is_file() else path.rglob("*"))
    if path.is_file():
        own = next((piece for piece in slices if piece.file == path), None)
        if own is None or own.modality in _NOT_IMAGES:
            msg = f"{path.name} holds no image that can be read."
            raise VolumeError(
                msg,
                cause=f"Its modality is {own.modality}." if own else "It has no pixel data, or is damaged.",
                next_step="Pass the folder with the CT's slices.",
            )
        chosen = [piece for piece in slices if piece.uid == own.uid]
    else:
        chosen = _main_series([piece for piece in slices if piece.modality not in _NOT_IMAGES], path)
    folders = {piece.file.parent for piece in chosen}
    beside = [file.name for file in damaged if file.parent in folders]
    if beside:
        msg = f"{len(beside)} DICOM image(s) in {chosen[0].file.parent} are damaged."
        raise VolumeError(
            msg,
            cause=f"{', '.join(beside[:3])} cannot be read, perhaps cut off, and may belong to the series.",
            next_step="Copy or export the series again, or take these files away if they belong elsewhere.",
        )
    return chosen


def _main_series(slices: list[Slice], path: Path) -> list[Slice]:
    found = _group(slices)
    if not found:
        msg = f"No DICOM image series in {path}."
        raise VolumeError(
            msg,
            cause="None of its files is a DICOM file with an image that can be read.",
            next_step="Pass the folder that holds the CT's slices, or one NIfTI, NRRD or MetaImage file.",
        )
    infos = [_info(group) for group in found]
    main = [
        group
        for group, info in zip(found, infos, strict=True)
        if info.modality in _MAIN_MODALITIES and info.slices >= _MAIN_SLICES
    ]
    if len(found) > 1 and len(main) != 1:
        msg = f"{path} holds {len(found)} DICOM series."
        raise VolumeError(
            msg,
            cause="; ".join(map(str, infos)),
            next_step="Pass the folder of the wanted series alone, or one file of it, for example "
            f"{infos[0].files[0]}.",
        )
    return found[0] if len(found) == 1 else main[0]


def _scan(paths: Iterable[Path]) -> tuple[list[Slice], list[Path]]:
    """Give the headers of all DICOM images among `paths`, and the DICOM images that are damaged."""
    slices, damaged, imageless = [], [], []
    for path in sorted(paths):
        if not path.is_file() or path.name == "DICOMDIR" or not is_dicom(path):
            continue
        header = _read_header(path)
        if header is not None:
            slices.append(header)
        elif _PIXEL_DATA in path.read_bytes():
            damaged.append(path)
        else:
            imageless.append(path.name)
    if imageless:
        warnings.warn(
            f"{len(imageless)} DICOM file(s) without an image were left out: {', '.join(imageless[:3])}",
            VolumeWarning,
            stacklevel=2,
        )
    return slices, damaged


def _group(slices: Iterable[Slice]) -> list[list[Slice]]:
    groups: dict[str, list[Slice]] = defaultdict(list)
    for piece in slices:
        groups[piece.uid].append(piece)
    return sorted(groups.values(), key=lambda group: -sum(piece.frames for piece in group))


def _info(slices: list[Slice]) -> SeriesInfo:
    first = slices[0]
    ordered = sorted(slices, key=lambda piece: np.nan_to_num(piece.height))
    count = sum(piece.frames for piece in slices)
    files = tuple(piece.file for piece in ordered)
    return SeriesInfo(first.uid, first.description, first.modality, count, files)


def _reader(file: Path) -> sitk.ImageFileReader:
    reader = sitk.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    reader.SetFileName(str(file))
    return reader


def _read_header(file: Path) -> Slice | None:
    reader = _reader(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        return None

    def text(tag: str) -> str:
        raw = reader.GetMetaData(tag) if reader.HasMetaDataKey(tag) else ""
        data = raw.encode("utf-8", "surrogateescape")
        try:
            return data.decode("utf-8").strip()
        except UnicodeDecodeError:
            return data.decode("latin-1").strip()

    def numbers(tag: str, count: int) -> NDArray[np.float64]:
        try:
            values = [float(word) for word in text(tag).split("\\")]
        except ValueError:
            values = []
        return np.array(values if len(values) == count else [np.nan] * count)

    size = reader.GetSize()
    return Slice(
        file=file,
        uid=text("0020|000e"),
        description=text("0008|103e"),
        modality=text("0008|0060"),
        image_type=text("0008|0008").upper(),
        inverted=text("0028|0004") == "MONOCHROME1",
        columns=size[0],
        rows=size[1],
        frames=size[2] if len(size) > 2 else 1,
        components=reader.GetNumberOfComponents(),
        position=numbers("0020|0032", 3),
        orientation=numbers("0020|0037", 6),
        spacing=numbers("0028|0030", 2),
    )


def _pixels(piece: Slice) -> NDArray:
    try:
        image = _reader(piece.file).Execute()
    except RuntimeError as error:
        raise unreadable(piece.file, error) from error
    return compact(sitk.GetArrayFromImage(image)[0], narrow=True)


def _same_pixels(one: Slice, other: Slice) -> bool:
    return np.array_equal(_pixels(one), _pixels(other))


def _stack(slices: list[Slice], shape: tuple[int, ...]) -> NDArray:
    voxels = np.empty(shape, np.int16)
    for index, piece in enumerate(slices):
        pixels = _pixels(piece)
        if not np.can_cast(pixels.dtype, voxels.dtype):
            wider = np.result_type(pixels.dtype, voxels.dtype)
            voxels = voxels.astype(np.float32 if wider.kind == "f" else wider)
        voxels[index] = pixels
    return voxels
