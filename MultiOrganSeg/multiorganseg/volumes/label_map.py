"""Whether a volume is evidently a label map and no image."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import MultiOrganSegError, VolumeError
from multiorganseg.volumes.headers import read_image_header
from multiorganseg.volumes.read import read_volume

MOST_VALUES = 256
MOST_VALUES_OF_SPECKS = 40
SMALLEST_EQUAL_SHARE = 0.8
VOXELS_SEEN = 4_000_000
SMALLEST_COMPRESSION = 8.0
_CHUNK = 1 << 18
_ALWAYS_READ = 1 << 22


def is_label_map(voxels: NDArray) -> bool:
    """Whether voxels (k, j, i) are evidently labels.

    They are when they are whole, not negative, of few values, and neighbours inside of what stands out from
    the commonest value are mostly alike: an image has noise there.
    """
    if voxels.min() < 0 or voxels.max() > np.iinfo(np.uint16).max:
        return False
    planes = max(1, VOXELS_SEEN // (voxels.shape[1] * voxels.shape[2]))
    seen = voxels[:: max(1, voxels.shape[0] // planes)]
    if seen.dtype.kind == "f" and not np.array_equal(seen, np.rint(seen)):
        return False
    values, counts = np.unique(seen, return_counts=True)
    if values.size > MOST_VALUES:
        return False
    one, other = seen[..., :-1], seen[..., 1:]
    background = values[counts.argmax()]
    inside = (one != background) & (other != background)
    pairs = np.count_nonzero(inside)
    if not pairs:
        return values.size <= MOST_VALUES_OF_SPECKS
    return bool(np.count_nonzero((one == other) & inside) >= SMALLEST_EQUAL_SHARE * pairs)


def refuse_label_map(voxels: NDArray, name: str) -> None:
    """Refuse a label map where an image is asked for.

    Raises:
        VolumeError: It is one.
    """
    if is_label_map(voxels):
        msg = f"{name} is a label map, not an image."
        raise VolumeError(
            msg,
            cause="It has few values, all whole, and neighbouring voxels are alike.",
            next_step="Name the CT or MR itself. To compare segmentations: multiorganseg evaluate.",
        )


def is_label_file(path: Path) -> bool:
    """Whether a file holds a label map; read in full only where it is compressed, or compresses, like one.

    A file that cannot be read is none: reading it as an image will say why.
    """
    try:
        return _compression(path) >= SMALLEST_COMPRESSION and is_label_map(read_volume(path).voxels)
    except (MultiOrganSegError, OSError):
        return False


def _compression(path: Path) -> float:
    """How many times smaller than its voxels a file is or, where they are not compressed, could be."""
    size = path.stat().st_size
    if size < 8:
        return 0.0
    with path.open("rb") as file:
        if path.name.lower().endswith(".gz"):
            file.seek(-4, 2)
            declared = struct.unpack("<I", file.read(4))[0]
            return SMALLEST_COMPRESSION if declared <= _ALWAYS_READ else float(declared / size)
        file.seek(size // 2)
        chunk = file.read(_CHUNK)
    declared = size if path.name.lower().endswith(".nii") else read_image_header(path)[0].nbytes
    if declared <= _ALWAYS_READ:
        return SMALLEST_COMPRESSION
    return max(1.0, declared / size) * len(chunk) / len(zlib.compress(chunk, 1))
