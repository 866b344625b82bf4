"""Which prediction belongs to which reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.names import IMAGE_SUFFIXES, RESULT_SUFFIXES, case_name, volume_suffix

PREFERENCE = (*RESULT_SUFFIXES, *IMAGE_SUFFIXES)


@dataclass(frozen=True)
class CasePairs:
    """Files of two folders matched by case name.

    Attributes:
        matched: Prediction and reference by case name, sorted by name.
        without_prediction: Case names that only the reference has.
        without_reference: Case names that only the prediction has.
    """

    matched: dict[str, tuple[Path, Path]]
    without_prediction: tuple[str, ...]
    without_reference: tuple[str, ...]


def pair_cases(prediction: Path, reference: Path) -> CasePairs:
    """Match two files, or the label maps of two folders by name without suffix.

    When a folder holds one case in several formats, the first of `PREFERENCE` is taken: a segmentation by
    its name wins over a file that may be the image.

    Raises:
        VolumeError: A path does not exist, a file is set against a folder, or no case name is in both.
    """
    for path in (prediction, reference):
        if not path.exists():
            msg = f"{path} does not exist."
            raise VolumeError(msg, next_step="Check the path.")
    if prediction.is_dir() != reference.is_dir():
        msg = "One path is a file and the other a folder."
        raise VolumeError(
            msg,
            next_step="Give two label-map files, or two folders with files of the same names.",
        )
    if not prediction.is_dir():
        return CasePairs({case_name(reference.name): (prediction, reference)}, (), ())
    predicted, expected = _cases(prediction), _cases(reference)
    names = sorted(predicted.keys() & expected.keys())
    if not names:
        msg = f"No case name is in both {prediction} and {reference}."
        raise VolumeError(
            msg,
            cause=f"{_some(predicted)} against {_some(expected)}.",
            next_step="Name the files of one case alike; only the suffix may differ.",
        )
    return CasePairs(
        matched={name: (predicted[name], expected[name]) for name in names},
        without_prediction=tuple(sorted(expected.keys() - predicted.keys())),
        without_reference=tuple(sorted(predicted.keys() - expected.keys())),
    )


def _cases(folder: Path) -> dict[str, Path]:
    files = {path: volume_suffix(path.name).lower() for path in folder.iterdir() if path.is_file()}
    label_maps = [path for path, suffix in files.items() if suffix in PREFERENCE]
    label_maps.sort(key=lambda path: PREFERENCE.index(files[path]), reverse=True)
    return {case_name(path.name): path for path in label_maps}


def _some(cases: dict[str, Path]) -> str:
    if not cases:
        return "no label map"
    names = sorted(cases)
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
