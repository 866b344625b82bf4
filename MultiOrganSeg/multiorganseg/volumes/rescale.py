"""From stored to true values, without a copy wider than the result."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from multiorganseg.volumes.check import compact


def rescaled(voxels: NDArray, slope: float = 1.0, intercept: float = 0.0) -> NDArray:
    """Return `voxels × slope + intercept` in the types that the engine works with.

    Integers with a whole intercept stay integers, in the narrowest signed type of at least their width that
    holds them; they are turned in place where the width stays.

    Args:
        voxels: Any real array in the machine's byte order; it may be overwritten.
        slope: Factor, not 0.
        intercept: Added after the factor.
    """
    if (slope, intercept) == (1.0, 0.0):
        return compact(voxels)
    whole = voxels.dtype.kind in "iu" and slope == 1 and float(intercept).is_integer()
    if whole and voxels.dtype.itemsize < 8 and voxels.size:
        low, high = int(voxels.min()) + int(intercept), int(voxels.max()) + int(intercept)
        width = 8 * max(voxels.dtype.itemsize, 2)
        for dtype in (np.dtype(f"i{bits // 8}") for bits in (16, 32) if bits >= width):
            if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
                return _shifted(voxels, int(intercept), dtype)
    scaled = voxels.astype(np.float32)
    scaled *= np.float32(slope)
    scaled += np.float32(intercept)
    return scaled


def _shifted(voxels: NDArray, intercept: int, dtype: np.dtype) -> NDArray:
    same_width = voxels.dtype.itemsize == dtype.itemsize and voxels.flags.writeable
    result = voxels.view(dtype) if same_width else np.empty(voxels.shape, dtype)
    for plane, target in zip(voxels, result, strict=True):
        target[...] = plane.astype(np.int64) + intercept
    return result
