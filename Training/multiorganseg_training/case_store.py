"""Where prepared cases are kept: private, by the content of their files, and no more than a bound."""

from __future__ import annotations

import functools
import hashlib
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import OptionError, VolumeError
from multiorganseg.guarded import guarded_folder, make_folders

DEFAULT_GIB = 20.0
BOUND_VARIABLE = "MULTIORGANSEG_CACHE_GIB"
_ENTRY = re.compile(r"[0-9a-f]{40}\.npz|.*-[0-9a-f]{16}\.npz")
"""Names of entries; the second form is that of earlier releases."""

_DETACHED = (".nhdr", ".mhd")
_CHUNK = 2**20


def content_digest(path: Path) -> str:
    """Give a hash of all bytes of an image or label file; computed once in a process while the file stays.

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
    """Give how many bytes a cache may take.

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
