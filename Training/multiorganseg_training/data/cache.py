"""Cases on the network's grid, prepared once and kept on disk: private, by content, within a bound."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import OptionError, VolumeError
from multiorganseg.guarded import guarded_folder, make_folders
from multiorganseg.inference.prepare import prepare
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.data.cases import Case
from multiorganseg_training.project.case_files import on_image_grid
from multiorganseg_training.recipe.recipe import PreprocessingSpec

DEFAULT_GIB = 20.0
BOUND_VARIABLE = "MULTIORGANSEG_CACHE_GIB"
_ENTRY = re.compile(r"[0-9a-f]{40}\.npz|.*-[0-9a-f]{16}\.npz")
"""Names of entries; the second form is that of earlier releases."""

_DETACHED = (".nhdr", ".mhd")
_CHUNK = 2**20


def content_digest(path: Path) -> str:
    """Return a hash of all bytes of an image or label file; computed once in a process while the file stays.

    A header whose voxels lie in other files stands for all files of its folder.

    Raises:
        VolumeError: It cannot be read.
    """
    try:
        files = [path]
        if path.name.lower().endswith(_DETACHED):
            files += sorted(entry for entry in path.parent.iterdir() if entry.is_file() and entry != path)
        digests = "".join(_digest_now(file) for file in files)
    except OSError as error:
        msg = f"{path} cannot be read."
        raise VolumeError(msg, cause=str(error), next_step="Check that the dataset is complete.") from error
    return hashlib.blake2b(digests.encode(), digest_size=20).hexdigest()


def load_entry(path: Path) -> dict[str, NDArray] | None:
    """Read the arrays of an entry and mark it as used; None where there is none, or a damaged one."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            content = {name: arrays[name] for name in arrays.files}
        os.utime(path)
    except Exception:  # whatever is wrong with it, it is made anew
        return None
    return content


def save_entry(path: Path, arrays: Mapping[str, NDArray]) -> None:
    """Write an entry that only its owner can read, in a folder of that kind, and keep to the bound.

    Raises:
        ResourceError: It cannot be written.
        OptionError: The variable MULTIORGANSEG_CACHE_GIB is no number.
    """
    bound = bound_bytes()
    if not path.parent.exists():
        make_folders(path.parent)
        path.parent.chmod(0o700)
    with guarded_folder(path.parent), atomic_path(path, private=True) as partial:
        np.savez(partial, **arrays)  # type: ignore[arg-type]
    shrink(path.parent, bound, keep=path)


def entries(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """List the entries of a cache, that used longest ago first."""
    found = []
    for path in folder.glob("*.npz") if folder.is_dir() else ():
        with suppress(OSError):
            if _ENTRY.fullmatch(path.name) and not path.is_symlink():
                found.append((path, path.stat()))
    return sorted(found, key=lambda entry: entry[1].st_mtime_ns)


def shrink(folder: Path, bound: float, keep: Path | None = None) -> int:
    """Delete the entries used longest ago until the rest takes no more than `bound` bytes.

    Args:
        folder: Of the cache.
        bound: Bytes; 0 empties it.
        keep: An entry that stays in any case.

    Returns:
        The bytes that were set free.
    """
    found = entries(folder)
    total = sum(about.st_size for _, about in found)
    freed = 0
    for path, about in found:
        if total - freed <= bound:
            break
        if path != keep:
            with suppress(OSError):  # in use by another program, on Windows
                path.unlink()
                freed += about.st_size
    return freed


def bound_bytes() -> float:
    """Return how many bytes a cache may take.

    Raises:
        OptionError: The variable MULTIORGANSEG_CACHE_GIB is no number.
    """
    text = os.environ.get(BOUND_VARIABLE, "")
    try:
        gib = float(text) if text else DEFAULT_GIB
    except ValueError:
        gib = -1.0
    if not gib >= 0:
        msg = f"{BOUND_VARIABLE} is '{text}'."
        raise OptionError(msg, next_step="Set it to a number of GiB, such as 20.")
    return gib * 2**30


def _digest_now(path: Path) -> str:
    found = path.stat()
    return _digest(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@functools.lru_cache(maxsize=65536)
def _digest(path: Path, *_identity: int) -> str:
    digest = hashlib.blake2b(digest_size=20)
    with path.open("rb") as source:
        while chunk := source.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


FORMAT = 4


@dataclass(frozen=True, eq=False)
class PreparedCase:
    """A case on the network's grid.

    Attributes:
        name: Of the case.
        image: float16 (k, j, i), normalised.
        labels: uint8 (k, j, i), network channels; 0 is background or not annotated.
        known: Channels of which every voxel of the case is known, annotated or absent.
    """

    name: str
    image: NDArray[np.float16]
    labels: NDArray[np.uint8]
    known: frozenset[int]

    def hide_all_but(self, known: frozenset[int]) -> PreparedCase:
        """Return the case as if only these channels were annotated."""
        kept = np.where(np.isin(self.labels, list(known)), self.labels, 0)
        return replace(self, labels=kept.astype(np.uint8), known=known & self.known)


def prepare_cases(
    cases: list[Case],
    folder: Path,
    preprocessing: PreprocessingSpec,
    progress: Progress,
) -> list[PreparedCase]:
    """Load cases from the cache in `folder`, preparing those that are not there yet.

    An entry is found by the content of image and labels and by the preprocessing, not by names or times.

    Labels of channels that a case does not know are left out.

    Args:
        cases: What to prepare.
        folder: Of the cache; several recipes may share it.
        preprocessing: Spacing and window.
        progress: Reports once a case.

    Raises:
        TrainingError: Image and labels of a case lie on different grids.
        VolumeError: A file cannot be read.
    """
    prepared = []
    for number, case in enumerate(cases):
        progress("preparing cases", number / len(cases))
        path = folder / f"{_fingerprint(case, preprocessing)}.npz"
        arrays = load_entry(path)
        if arrays is None or not _is_whole(arrays):
            made = prepare_case(case, preprocessing)
            arrays = {"image": made.image, "labels": made.labels}
            save_entry(path, arrays)
        whole = PreparedCase(case.name, arrays["image"], arrays["labels"], case.known)
        prepared.append(whole.hide_all_but(case.known))
    progress("preparing cases", 1.0)
    return prepared


def to_channels(labels: NDArray[np.integer], channels: Mapping[int, int]) -> NDArray[np.uint8]:
    """Return the network's channels (k, j, i) of a file's label values; values not in `channels` give 0."""
    lookup = np.zeros(max(int(labels.max(initial=0)), 0, *channels) + 1, np.uint8)
    lookup[list(channels)] = list(channels.values())
    return lookup[labels]


def _fingerprint(case: Case, preprocessing: PreprocessingSpec) -> str:
    digests = [None if path is None else content_digest(path) for path in (case.image, case.labels)]
    window = preprocessing.for_bundle().window
    said = [FORMAT, digests, preprocessing.spacing_mm, window, sorted(case.channels.items())]
    text = json.dumps([*said, preprocessing.original] if preprocessing.original else said)
    return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()


def _is_whole(arrays: Mapping[str, NDArray]) -> bool:
    if not {"image", "labels"} <= arrays.keys():
        return False
    image, labels = arrays["image"], arrays["labels"]
    return (image.dtype, labels.dtype) == (np.float16, np.uint8) and image.shape == labels.shape


def prepare_case(case: Case, preprocessing: PreprocessingSpec) -> PreparedCase:
    """Bring a case onto the network's grid, with all labels that its file has.

    Raises:
        TrainingError: The labels lie on another grid; see `on_image_grid`.
        VolumeError: A file cannot be read.
    """
    volume = read_volume(case.image)
    read = None if case.labels is None else read_labels(case.labels)
    reference = None if read is None else on_image_grid(case.name, volume.grid, read)
    canonical, image = prepare(volume, preprocessing.for_bundle())
    if reference is None:
        nothing = np.zeros(image.shape, np.uint8)
        return PreparedCase(case.name, image.astype(np.float16), nothing, case.known)
    channels = to_channels(reference.voxels, case.channels)
    labels = canonical.apply_labels(channels)
    return PreparedCase(case.name, image.astype(np.float16), labels, case.known)
