"""Where a network of another program lies: in a folder, or in a zip file that nobody has vouched for."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from multiorganseg.bundles.safe_names import is_litter, name_problem
from multiorganseg.convert.read_checkpoint import refused

WANTED = frozenset(
    {
        "plans.json",
        "dataset.json",
        "checkpoint_final.pth",
        "checkpoint_best.pth",
        "summary.json",
        "inference.json",
        "metadata.json",
        "model.pt",
        "model.ts",
        "labels.csv",
        "LICENSE",
    }
)
"""Names of the files that are unpacked; the others are left in the zip file."""
MOST_ENTRIES = 20_000
LARGEST = 16 << 30
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, NotImplementedError)


def is_torch_file(path: Path) -> bool:
    """Whether a zip file is one that PyTorch wrote."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.count("/") == 1 and name.endswith("/data.pkl") for name in archive.namelist())
    except (OSError, *_DAMAGED):
        return False


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Return the folder of a network; a zip file is unpacked for the length of the block.

    Raises:
        BundleError: There is nothing, or the zip file is damaged or unsafe.
        ResourceError: It cannot be unpacked for lack of space.
    """
    if not path.exists():
        raise refused(path, "It does not exist.", "Check the path; put quotes around spaces.")
    if path.is_dir() or not zipfile.is_zipfile(path) or is_torch_file(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="multiorganseg-") as name:
        root = Path(name) / path.stem
        root.mkdir()
        _unpack(path, root)
        yield root


def _unpack(path: Path, root: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = [entry for entry in archive.infolist() if not is_litter(entry.filename)]
            problems = [
                f"'{entry.filename}' {problem}"
                for entry in entries
                if (problem := name_problem(entry.orig_filename.rstrip("/")))
            ]
            if problems:
                raise refused(path, f"It is unsafe: {problems[0]}.")
            chosen = [entry for entry in entries if PurePosixPath(entry.filename).name in WANTED]
            if len(entries) > MOST_ENTRIES or sum(entry.file_size for entry in chosen) > LARGEST:
                raise refused(
                    path, f"It has {len(entries)} entries, or unpacks to more than {LARGEST >> 30} GiB."
                )
            for entry in chosen:
                target = root / entry.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, target.open("xb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
    except _DAMAGED as error:
        raise refused(path, f"It is damaged: {error}.") from error
