"""Read a dataset of whichever supported kind."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path

from multiorganseg.errors import TrainingError
from multiorganseg.progress import Progress
from multiorganseg.scratch import work_folder
from multiorganseg_training.project.dataset import DATASET_FILE, Dataset, read_dataset_file
from multiorganseg_training.project.read_dicom_seg import has_dicom_seg, read_dicom_seg
from multiorganseg_training.project.read_msd import read_msd
from multiorganseg_training.project.read_nnunet import read_nnunet


class DatasetFormat(str, Enum):
    """Kinds of datasets.

    Attributes:
        NNUNET: An nnU-Net v2 dataset folder.
        MSD: A folder of the Medical Segmentation Decathlon.
        DICOM_SEG: DICOM SEG objects and their series.
    """

    NNUNET = "nnunet"
    MSD = "msd"
    DICOM_SEG = "dicom-seg"


def format_of(folder: Path) -> DatasetFormat:
    """Tell what kind of dataset a folder holds.

    Raises:
        TrainingError: It holds none.
    """
    if (folder / DATASET_FILE).is_file():
        data = read_dataset_file(folder)
        return DatasetFormat.NNUNET if "channel_names" in data else DatasetFormat.MSD
    if folder.is_dir() and has_dicom_seg(folder):
        return DatasetFormat.DICOM_SEG
    msg = f"{folder} is no dataset."
    raise TrainingError(
        msg,
        cause=f"It holds neither a {DATASET_FILE} nor a DICOM SEG.",
        next_step="Name an nnU-Net v2 or Decathlon folder, or one with DICOM SEG and their images.",
    )


@contextmanager
def open_dataset(
    folder: Path,
    kind: DatasetFormat | None = None,
    *,
    described: bool = False,
    unlabelled: bool = False,
    modality: str | None = None,
    progress: Progress | None = None,
) -> Iterator[Dataset]:
    """Give a dataset; files that had to be converted are there for the length of the block.

    Args:
        folder: Of the dataset.
        kind: What it is; None to find out.
        described: Whether labels and names of cases are enough, so that nothing is converted.
        unlabelled: Whether images without labels are taken too.
        modality: "CT" or "MR"; None to let the dataset tell.
        progress: Told while DICOM is read.

    Raises:
        TrainingError: It is no dataset, or one that is not supported.
        VolumeError: See `read_dicom_seg`.
    """
    kind = kind or format_of(folder)
    if kind is DatasetFormat.NNUNET:
        yield read_nnunet(folder, modality=modality, unlabelled=unlabelled)
    elif kind is DatasetFormat.MSD:
        yield read_msd(folder, modality=modality, unlabelled=unlabelled)
    else:
        with work_folder() as work:
            place = None if described else work
            yield read_dicom_seg(folder, place, modality=modality, progress=progress)
