"""Where the voxels of a NRRD or MetaImage file lie, and how they are read; all bounded first."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from multiorganseg.errors import VolumeError
from multiorganseg.volumes.check import DEFLATE_RATIO, compact

MAX_FILES = 100_000
_NUMBERED = re.compile(r"([^%]*)%(0?)(\d{0,2})[diu]([^%\s]*)\s+(\d{1,9})\s+(\d{1,9})\s+(\d{1,9})(?:\s+\d+)?")
_ZLIB_OR_GZIP = 47
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Stored:
    """Where voxels lie.

    Attributes:
        files: In order; each holds an equal share.
        encoding: "raw", "deflate" (gzip or zlib), "text" or "hex".
        offset: Bytes of each file before its data; -1 when the data end with the file.
        lines: Lines to pass over after `offset`.
        skip: Bytes to pass over after that, of the decompressed data.
    """

    files: tuple[Path, ...]
    encoding: str
    offset: int = 0
    lines: int = 0
    skip: int = 0

    def capacity(self, itemsize: int) -> int:
        """The most bytes of voxels that the files can hold, decompressed."""
        there = sum(max(file.stat().st_size - max(self.offset, 0), 0) for file in self.files)
        if self.encoding in ("text", "hex"):
            return (there + 1) // 2 * (itemsize if self.encoding == "text" else 1)
        return there * (DEFLATE_RATIO if self.encoding == "deflate" else 1)


def data_files(path: Path, data: str, listed: Iterable[str]) -> tuple[Path, ...]:
    """Name the files that a header says its voxels are in.

    Args:
        path: The header.
        data: "LIST", a numbered name such as `ct%03d.raw 1 40 1`, or a name.
        listed: The names after a "LIST".

    Raises:
        VolumeError: There are none or too many, one is missing, or a numbered name is of an unknown form.
    """
    if data.upper().split()[:1] == ["LIST"]:
        names = [name.strip() for name in listed if name.strip()]
    elif "%" in data and not (path.parent / data).is_file():
        names = _numbered(path, data)
    else:
        names = [data]
    if not 0 < len(names) <= MAX_FILES:
        raise damaged(path, f"It lists {len(names):,} data files; 1 to {MAX_FILES:,} are possible.")
    files = tuple(path.parent / name for name in names)
    missing = next((file for file in files if "\0" in file.name or not file.is_file()), None)
    if missing is not None:
        msg = f"A data file of {path.name} is missing."
        raise VolumeError(
            msg,
            cause=f"{missing.name[:200]} is not there.",
            next_step="Keep the header and its data files together in one folder.",
        )
    return files


def read_stored(stored: Stored, shape: tuple[int, ...], dtype: np.dtype, path: Path) -> NDArray:
    """Read voxels, after `check_header` has found that the files can hold them.

    Returns:
        Array of `shape` in the machine's own byte order.

    Raises:
        VolumeError: The data are damaged, or there are fewer than the header says.
    """
    voxels = np.empty(shape, dtype)
    buffer = voxels.reshape(-1).view(np.uint8)
    share, rest = divmod(buffer.size, len(stored.files))
    if rest:
        raise damaged(path, f"Its {len(stored.files)} data files cannot hold equal parts of the voxels.")
    for number, file in enumerate(stored.files):
        part = buffer[number * share : (number + 1) * share]
        try:
            filled = _fill(part, file, stored, dtype)
        except (EOFError, zlib.error, ValueError, OverflowError) as error:
            raise damaged(path, str(error)) from error
        if filled != share:
            raise damaged(path, f"Of {share:,} bytes in {file.name} only {filled:,} are there.")
    return native(voxels)


def native(voxels: NDArray) -> NDArray:
    """Bring voxels into the machine's own byte order, in place."""
    if voxels.dtype.isnative:
        return voxels
    return voxels.byteswap(inplace=True).view(voxels.dtype.newbyteorder("="))


def damaged(path: Path, cause: str) -> VolumeError:
    """Make the error for a header or data that cannot be used."""
    return VolumeError(
        f"{path.name} cannot be read.", cause=cause[:500], next_step="Copy or export the file again."
    )


def not_opened(path: Path, error: OSError) -> VolumeError:
    """Make the error for a file that the system does not open."""
    return VolumeError(
        f"{path} cannot be opened.",
        cause=str(error),
        next_step="Check that it is there and that you may read it.",
    )


def _numbered(path: Path, data: str) -> list[str]:
    match = _NUMBERED.fullmatch(data)
    if match is None:
        raise damaged(path, f"'{data[:100]}' is no numbered name such as ct%03d.raw 1 40 1.")
    before, zero, width, after = match.groups()[:4]
    first, last, step = map(int, match.groups()[4:7])
    count = (last - first) // step + 1 if step else 0
    if not 0 < count <= MAX_FILES:
        raise damaged(path, f"It numbers {count:,} data files; 1 to {MAX_FILES:,} are possible.")
    form = f"{zero}{width}d"
    return [f"{before}{number:{form}}{after}" for number in range(first, last + 1, step)]


def _fill(part: NDArray[np.uint8], path: Path, stored: Stored, dtype: np.dtype) -> int:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - part.size, 0) if stored.offset < 0 else stored.offset)
        for _ in range(stored.lines):
            file.readline()
        if stored.encoding in ("text", "hex"):
            return _fill_from_text(part, file.read(), stored, dtype)
        if stored.encoding == "raw":
            file.seek(stored.skip, 1)
            return file.readinto(part.data) or 0
        filled, skip = 0, stored.skip
        for chunk in _inflated(file):
            data = np.frombuffer(chunk, np.uint8)[skip:]
            skip = max(skip - len(chunk), 0)
            data = data[: part.size - filled]
            part[filled : filled + data.size] = data
            filled += data.size
        return filled


def _fill_from_text(part: NDArray[np.uint8], text: bytes, stored: Stored, dtype: np.dtype) -> int:
    if stored.encoding == "hex":
        data = np.frombuffer(bytes.fromhex(text.decode("ascii")), np.uint8)[: part.size]
    else:
        words = text.replace(b",", b" ").split()[: part.size // dtype.itemsize]
        data = np.array([word.decode("ascii") for word in words], dtype).view(np.uint8)
    part[: data.size] = data
    return data.size


def _inflated(file: IO[bytes]) -> Iterator[bytes]:
    machine = zlib.decompressobj(_ZLIB_OR_GZIP)
    while chunk := file.read(_CHUNK):
        while chunk:
            yield machine.decompress(chunk, 4 * _CHUNK)
            chunk = machine.unconsumed_tail
            if machine.eof:
                chunk = machine.unused_data.lstrip(b"\0")
                if not chunk:
                    continue
                machine = zlib.decompressobj(_ZLIB_OR_GZIP)
    if not machine.eof:
        message = "Its compressed data end too early."
        raise EOFError(message)


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
