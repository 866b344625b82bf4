"""Read a folder of DICOM SEG and RTSTRUCT, and the series that they were drawn on, as a dataset."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import MultiOrganSegError, TrainingError, VolumeError
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.privacy import no_more_readable_than
from multiorganseg.progress import Progress
from multiorganseg.projects.matrix import LabelStatus, LabelStatusMatrix
from multiorganseg.volumes.check import VolumeWarning, compact
from multiorganseg.volumes.dicom_header import LeftOut, Why, damage_as_typed, open_dicom, read_whole_dicom
from multiorganseg.volumes.dicom_scan import SeriesInfo, files_below, scan_series
from multiorganseg.volumes.names import case_name
from multiorganseg.volumes.read import read_dicom_series
from multiorganseg.volumes.volume import Grid, Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project import dicom_seg, rtstruct
from multiorganseg_training.project.dataset import Dataset, DatasetCase, modality_of
from multiorganseg_training.project.dicom_seg import DicomSegment, SegmentCodes, described
from multiorganseg_training.project.organs import BACKGROUND
from multiorganseg_training.project.patients import patient_of

if TYPE_CHECKING:
    import pydicom

_KINDS = ("SEG", "RTSTRUCT")
_NAMED = 10


@dataclass(frozen=True, eq=False)
class Drawing:
    """One file with segments or regions.

    Attributes:
        path: The file.
        data: Its content.
    """

    path: Path
    data: pydicom.Dataset

    @property
    def is_contours(self) -> bool:
        """Whether it is an RTSTRUCT."""
        return str(self.data.get("Modality", "")) == "RTSTRUCT"

    @property
    def series(self) -> str:
        """Series Instance UID of its images; empty when it does not say."""
        with damage_as_typed(self.path.name, "DICOM SEG or RTSTRUCT"):
            named = rtstruct.region_series if self.is_contours else dicom_seg.referenced_series
            return named(self.data)

    @property
    def frame(self) -> str:
        """Frame of Reference UID; empty when it does not say."""
        with damage_as_typed(self.path.name, "DICOM SEG or RTSTRUCT"):
            return rtstruct.region_frame(self.data)

    def segments(self, catalogue: Catalogue) -> list[DicomSegment]:
        """List what is drawn; see `dicom_seg.segments` and `rtstruct.regions`."""
        with damage_as_typed(self.path.name, "DICOM SEG or RTSTRUCT"):
            listed = rtstruct.regions if self.is_contours else dicom_seg.segments
            return listed(self.data, catalogue)

    def masks(self, grid: Grid) -> dict[int, NDArray[np.bool_]]:
        """Return the masks by number; see `dicom_seg.segment_masks` and `rtstruct.region_masks`."""
        with damage_as_typed(self.path.name, "DICOM SEG or RTSTRUCT"):
            filled = rtstruct.region_masks if self.is_contours else dicom_seg.segment_masks
            return filled(self.data, grid, self.path)

    def lies_on(self, grid: Grid) -> bool:
        """Whether all of it lies on the slices of a grid."""
        with damage_as_typed(self.path.name, "DICOM SEG or RTSTRUCT"):
            return (rtstruct.lies_on if self.is_contours else dicom_seg.lies_on)(self.data, grid)


def read_drawing(path: Path) -> Drawing:
    """Read a DICOM SEG or RTSTRUCT.

    Raises:
        DependencyError: pydicom is not installed.
        VolumeError: It is neither, or damaged.
    """
    data = read_whole_dicom(path)
    with damage_as_typed(path.name):
        modality = str(data.get("Modality", ""))
    if modality not in _KINDS:
        msg = f"{path.name} holds no annotation."
        raise VolumeError(
            msg,
            cause=f"It is a DICOM file of the modality {modality or 'that it does not say'}.",
            next_step="Give a DICOM SEG or an RTSTRUCT.",
        )
    return Drawing(path, data)


@dataclass(eq=False)
class _Series:
    info: SeriesInfo

    @cached_property
    def grid(self) -> Grid | None:
        """Of its volume; None where it is none."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", VolumeWarning)
                return read_dicom_series(self.info, "").grid
        except MultiOrganSegError:
            return None

    @cached_property
    def frame(self) -> str:
        """Frame of Reference UID; empty when it does not say."""
        header = open_dicom(self.info.files[0])
        return str(header.get("FrameOfReferenceUID") or "") if header is not None else ""


def read_dicom_seg(
    folder: Path,
    work: Path | None,
    *,
    modality: str | None = None,
    catalogue: Catalogue | None = None,
    rules: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> Dataset:
    """Read every DICOM SEG and RTSTRUCT below a folder; all those of one series are one case.

    A file belongs to the series that it names. Where it names none, or one that is not there, it belongs to
    the only series on whose slices it lies, in its frame of reference where it says one; a `VolumeWarning`
    reports it. A segment is annotated in its case and unknown in others. Segments are named by organ keys
    where category, type, modifiers and region are those of organs of the catalogue, else by their labels;
    where one label has several codes, by the label with the codes in words. Where a structure overlaps the
    organ that it lies within, it keeps the voxels.

    Args:
        folder: Holds the annotations and their series, in any arrangement.
        work: Empty folder into which images and label maps are written; None to read descriptions alone, and
            then the paths of the cases are those that would be written.
        modality: "CT" or "MR"; None to take that of the series.
        catalogue: By default MultiOrganSeg's own.
        rules: Organ key or "background" by label, see `map_labels`: segments of the background, and those of
            one organ, may overlap.
        progress: Reports once a case.

    Raises:
        TrainingError: There is no annotation.
        VolumeError: A series is missing or damaged, several fit, segments overlap, two files of one series
            draw an organ differently, a frame or contour lies on no slice, or a frame is of no
            listed segment.
        DependencyError: pydicom is not installed.
        ResourceError: `work` cannot be written.
    """
    catalogue, progress = catalogue or load_catalogue(), progress or Progress()
    found = _by_series(folder)
    names = _case_names(found)
    listed = _listed([drawing for drawings, _ in found for drawing in drawings], catalogue)
    known = tuple(dict.fromkeys(each.name for entries in listed.values() for each in entries))
    values = {name: value for value, name in enumerate(known, start=1)}
    base = work or folder
    cases, rows = [], {}
    for number, ((drawings, series), name) in enumerate(zip(found, names, strict=True)):
        progress("reading DICOM", number / len(found))
        image_file, label_file = (base / kind / f"{name}.nii.gz" for kind in ("images", "labels"))
        case = DatasetCase(name, image_file, label_file, patient_of(drawings[0].data))
        rows[name] = {
            each.name: LabelStatus.ANNOTATED for drawing in drawings for each in listed[drawing.path]
        }
        cases.append(case)
        if work is not None and case.labels is not None:
            image = read_dicom_series(series, str(series.files[0].parent))
            masks = _masks(drawings, listed, image.grid)
            labels = compose(masks, values, catalogue, rules or {}, image.grid)
            with no_more_readable_than(*(drawing.path for drawing in drawings), *series.files):
                write_volume(Volume(compact(image.voxels), image.affine), case.image)
                write_volume(Volume(labels, image.affine), case.labels)
    return Dataset(
        name=folder.resolve().name,
        modality=modality_of(found[0][1].modality, modality),
        labels={value: name for name, value in values.items()},
        cases=tuple(cases),
        status=LabelStatusMatrix(known, rows),
    )


def has_dicom_seg(folder: Path) -> bool:
    """Whether there is a DICOM SEG or RTSTRUCT below a folder."""
    found, left_out = scan_series(files_below(folder))
    return bool(_annotation_files(found, left_out))


def compose(
    masks: Mapping[str, NDArray[np.bool_]],
    values: Mapping[str, int],
    catalogue: Catalogue,
    rules: Mapping[str, str],
    grid: Grid,
) -> NDArray[np.uint16]:
    """Lay masks over one another as one label map; what lies within an organ keeps its voxels.

    Args:
        masks: Mask (k, j, i) by name.
        values: Label value by name.
        catalogue: Says what lies within what.
        rules: Organ key or "background" by name, or by value written as text; others stand for themselves.
        grid: Of the masks.

    Raises:
        VolumeError: Two masks overlap, and neither lies within the other.
    """
    organs = {name: rules.get(name, rules.get(str(values[name]), name)) for name in masks}
    around = {name: _containers(organ, catalogue) for name, organ in organs.items()}
    labels, owner = np.zeros(grid.shape, np.uint16), dict[int, str]()
    for name in sorted(masks, key=lambda name: len(around[name])):
        if organs[name] == BACKGROUND:
            continue
        mask = masks[name]
        for value in np.unique(labels[mask]):
            other = owner.get(int(value), name)
            if organs[other] not in (organs[name], *around[name]):
                msg = f"{other} and {name} overlap."
                raise VolumeError(
                    msg,
                    cause="A label map has one organ a voxel, and neither lies within the other.",
                    next_step=f"Leave one out (--label '{name}=background'), or erase where they overlap.",
                )
        labels[mask] = values[name]
        owner[values[name]] = name
    return labels


def _containers(organ: str, catalogue: Catalogue) -> list[str]:
    """List the organs that an organ lies within, the innermost first."""
    found: list[str] = []
    entry = catalogue.organs.get(organ)
    while entry is not None and entry.within:
        found.append(entry.within)
        entry = catalogue.organs.get(entry.within)
    return found


def _masks(
    drawings: Sequence[Drawing], listed: Mapping[Path, list[DicomSegment]], grid: Grid
) -> dict[str, NDArray[np.bool_]]:
    """Return the masks of all files of a series, by name."""
    masks: dict[str, NDArray[np.bool_]] = {}
    drawn_in: dict[str, Path] = {}
    for drawing in drawings:
        own: dict[str, NDArray[np.bool_]] = {}
        filled = drawing.masks(grid)
        for each in listed[drawing.path]:
            mask = filled.get(each.number, np.zeros(grid.shape, np.bool_))
            own[each.name] = own[each.name] | mask if each.name in own else mask
        for name, mask in own.items():
            if name in masks and not np.array_equal(masks[name], mask):
                msg = f"{drawn_in[name].name} and {drawing.path.name} draw {name} differently."
                raise VolumeError(
                    msg,
                    cause="Both are annotations of one series.",
                    next_step="Take one of them out of the folder.",
                )
            masks[name] = mask
            drawn_in.setdefault(name, drawing.path)
    return masks


def _by_series(folder: Path) -> list[tuple[list[Drawing], SeriesInfo]]:
    scanned, left_out = scan_series(files_below(folder))
    series = {info.uid: _Series(info) for info in scanned if info.is_image}
    found: dict[str, list[Drawing]] = {}
    for path in _annotation_files(scanned, left_out):
        drawing = read_drawing(path)
        found.setdefault(_series_of(drawing, series, folder), []).append(drawing)
    if not found:
        msg = f"{folder} holds no DICOM SEG and no RTSTRUCT."
        raise TrainingError(msg, next_step="Name the folder with the annotations and their images.")
    return [(drawings, series[uid].info) for uid, drawings in found.items()]


def _series_of(drawing: Drawing, series: Mapping[str, _Series], folder: Path) -> str:
    """Find the series of a file by its reference, else by its place."""
    stated = drawing.series
    if stated in series:
        return stated
    frame = drawing.frame
    alike = {uid: each for uid, each in series.items() if not frame or each.frame in ("", frame)}
    fitting = [uid for uid, each in alike.items() if each.grid is not None and drawing.lies_on(each.grid)]
    if len(fitting) == 1:
        message = (
            f"{drawing.path.name} names {'a series that is not there' if stated else 'no series'}; "
            f"it lies on the slices of {series[fitting[0]].info} alone, and was taken as drawn on it."
        )
        warnings.warn(message, VolumeWarning, stacklevel=2)
        return fitting[0]
    if fitting:
        msg = f"{drawing.path.name} fits {len(fitting)} series."
        raise VolumeError(
            msg,
            cause="; ".join(str(series[uid].info) for uid in fitting[:_NAMED]),
            next_step="Put it into a folder with the series that it was drawn on, and import that.",
        )
    msg = f"The series of {drawing.path.name} is not in {folder}."
    raise VolumeError(
        msg,
        cause=f"It refers to the series {stated or 'of no name'}, and lies on the slices of no other.",
        next_step="Put the images that were segmented into the folder too.",
    )


def _annotation_files(found: Sequence[SeriesInfo], left_out: Sequence[LeftOut]) -> list[Path]:
    """List the DICOM SEG and RTSTRUCT; these have no pixels."""
    whole = [file for info in found if info.modality in _KINDS for file in info.files]
    empty = [entry.file for entry in left_out if entry.why is Why.IMAGELESS and entry.detail in _KINDS]
    return sorted([*whole, *empty])


def _listed(drawings: Sequence[Drawing], catalogue: Catalogue) -> dict[Path, list[DicomSegment]]:
    """List the segments of each file; structures of several codes under one name get names of their own."""
    listed = {drawing.path: drawing.segments(catalogue) for drawing in drawings}
    codes: dict[str, set[SegmentCodes | None]] = {}
    for each in (each for entries in listed.values() for each in entries):
        codes.setdefault(each.name, set()).add(each.codes)
    return {
        path: [
            replace(each, name=described(each.name, each.codes))
            if each.codes and len(codes[each.name]) > 1
            else each
            for each in entries
        ]
        for path, entries in listed.items()
    }


def _case_names(found: Sequence[tuple[list[Drawing], SeriesInfo]]) -> list[str]:
    """Name cases by their files, else by folders, else by numbers, whichever tells them apart."""
    stems = [
        case_name(drawings[0].path.name).removesuffix(".seg").removesuffix(".rtstruct")
        if len(drawings) == 1
        else series.files[0].parent.name
        for drawings, series in found
    ]
    folders = [drawings[0].path.parent.name for drawings, _ in found]
    for names in (stems, folders, [series.files[0].parent.name for _, series in found]):
        if len({name.casefold() for name in names}) == len(names):
            return names
    return [f"case_{number}" for number in range(1, len(found) + 1)]
