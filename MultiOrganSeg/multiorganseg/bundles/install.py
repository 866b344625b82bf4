"""Installing a bundle: from a zip file that nobody has vouched for, or from a folder."""

from __future__ import annotations

import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from multiorganseg.atomic import put_in_place
from multiorganseg.bundles.bundle import Bundle, load_bundle
from multiorganseg.bundles.folders import scratch_folder
from multiorganseg.bundles.manifest import MANIFEST
from multiorganseg.bundles.registry import user_models_dir
from multiorganseg.bundles.safe_names import clashes, is_litter, kind_problem, name_problem
from multiorganseg.errors import BundleError, MultiOrganSegError

_ALWAYS_BYTES = 512 << 20
_MAX_BYTES = 32 << 30
_MAX_GROWTH = 4
_MAX_RATIO = 200
_MAX_ENTRIES = 200
_CHUNK = 1024 * 1024
_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)


class AlreadyInstalledError(BundleError):
    """A bundle of that name lies there already, as new or damaged; it can be replaced on request."""


def install_bundle(zip_path: Path | str, into: Path | str | None = None, *, replace: bool = False) -> Bundle:
    """Install a bundle from a zip file; it appears only when all of it was unpacked and verified.

    An older version of the same name is replaced. The bundle may lie at the root of the zip file or in one
    folder.

    Args:
        zip_path: The zip file: unpacked at most 512 MiB or four times its own size, and 32 GiB; 200 entries,
            and 200-fold compression of an entry. Weights shrink little: large bundles have large zip files.
        into: Folder of bundles; the user's when None.
        replace: Whether the same version, a newer one or a damaged bundle of that name is replaced.

    Raises:
        BundleError: The zip file is unsafe or holds no valid bundle.
        AlreadyInstalledError: The bundle is there already, and `replace` is false.
        ResourceError: The folder cannot be written or the disk is full.
    """
    zip_path = Path(zip_path)
    parent = Path(into).absolute() if into is not None else user_models_dir()
    with scratch_folder(parent / zip_path.stem) as scratch:
        root = scratch / "bundle"
        unpack_zip(zip_path, root, _refused, _most_bytes(zip_path))
        try:
            bundle = load_bundle(root)
        except BundleError as error:
            raise _refused(zip_path, error.cause) from error
        target = parent / bundle.metadata.name
        if not replace:
            _check_newer(bundle, target)
        put_in_place(root, target, scratch)
    return load_bundle(target)


def install_folder(folder: Path | str, into: Path | str | None = None, *, replace: bool = False) -> Bundle:
    """Install a copy of a bundle's folder, whatever that is called; it appears only when it was verified.

    Args:
        folder: Of the bundle; it stays as it is.
        into: As for `install_bundle`.
        replace: As for `install_bundle`.

    Raises:
        BundleError: The folder holds no valid bundle.
        AlreadyInstalledError: As `install_bundle`.
        ResourceError: As `install_bundle`.
    """
    bundle = load_bundle(folder)
    target = (Path(into).absolute() if into is not None else user_models_dir()) / bundle.metadata.name
    with scratch_folder(target) as scratch:
        copy = scratch / "bundle"
        shutil.copytree(bundle.folder, copy)
        load_bundle(copy)
        if not replace:
            _check_newer(bundle, target)
        put_in_place(copy, target, scratch)
    return load_bundle(target)


def _most_bytes(zip_path: Path) -> int:
    size = zip_path.stat().st_size if zip_path.is_file() else 0
    return min(max(_ALWAYS_BYTES, _MAX_GROWTH * size), _MAX_BYTES)


Refused = Callable[[Path, str], MultiOrganSegError]


def unpack_zip(
    zip_path: Path,
    root: Path,
    refused: Refused,
    most_bytes: int = _ALWAYS_BYTES,
    most_entries: int = _MAX_ENTRIES,
) -> None:
    """Unpack a zip file with a manifest that nobody has vouched for; what it holds is not compared with it.

    Args:
        zip_path: The zip file.
        root: Folder for its files.
        refused: Makes the error for an unsafe or damaged file.
        most_bytes: Unpacked.
        most_entries: How many files.

    Raises:
        MultiOrganSegError: As `refused` makes it.
    """
    try:
        archive = zipfile.ZipFile(zip_path)
    except OSError as error:
        raise refused(zip_path, f"It cannot be read: {error}") from error
    except _DAMAGED as error:
        raise refused(zip_path, f"It is no zip file: {error}") from error
    with archive:
        entries = archive.infolist()
        if len(entries) > most_entries:
            raise refused(zip_path, f"It has {len(entries)} entries; {most_entries} are allowed.")
        files = [entry for entry in entries if not is_litter(entry.filename)]
        problems = [problem for entry in files for problem in _entry_problems(entry)]
        files = [entry for entry in files if not entry.is_dir()]
        problems += [f"{name} clashes with another entry" for name in clashes(e.filename for e in files)]
        if sum(entry.file_size for entry in files) > most_bytes:
            problems.append(f"Unpacked it exceeds {most_bytes // 2**20} MiB.")
        if sum(entry.compress_size for entry in files) > zip_path.stat().st_size:
            problems.append("Its entries overlap.")
        if problems:
            raise refused(zip_path, "\n".join(problems))
        prefix = _prefix([entry.filename for entry in files])
        if prefix is None:
            raise refused(zip_path, f"It has no {MANIFEST}, neither at its root nor in a single folder.")
        for entry in files:
            try:
                _extract(archive, entry, root / entry.filename.removeprefix(prefix))
            except _DAMAGED as error:
                raise refused(zip_path, f"{entry.filename} is damaged: {error}") from error


def _entry_problems(entry: zipfile.ZipInfo) -> list[str]:
    name = entry.orig_filename
    problem = name_problem(name.rstrip("/") if entry.is_dir() and not name.startswith("/") else name)
    if problem is None and not entry.is_dir():
        problem = kind_problem(name)
    if problem is None and stat.S_IFMT(entry.external_attr >> 16) not in (0, stat.S_IFREG, stat.S_IFDIR):
        problem = "is a symbolic link or a special file"
    if problem is None and entry.flag_bits & 0x1:
        problem = "is encrypted"
    if problem is None and entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        problem = "is compressed with an unusual method"
    if problem is None and entry.file_size > _MAX_RATIO * max(entry.compress_size, 1):
        problem = f"is compressed more than {_MAX_RATIO}-fold"
    return [] if problem is None else [f"{name!a} {problem}"]


def _prefix(names: list[str]) -> str | None:
    if MANIFEST in names:
        return ""
    tops = {PurePosixPath(name).parts[0] for name in names}
    if len(tops) == 1 and f"{(top := tops.pop())}/{MANIFEST}" in names:
        return f"{top}/"
    return None


def _extract(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    written = 0
    with archive.open(entry) as source, path.open("xb") as sink:
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > entry.file_size:
                message = "it unpacks to more than it declares"
                raise ValueError(message)
            sink.write(chunk)


def _check_newer(bundle: Bundle, target: Path) -> None:
    if not target.exists():
        return
    name, version = bundle.metadata.name, bundle.metadata.version
    try:
        present = load_bundle(target).metadata
    except BundleError as error:
        message = f"A damaged bundle {name} lies at {target}."
        raise AlreadyInstalledError(
            message,
            cause=error.cause,
            next_step="Replace it with --replace, or remove it with `multiorganseg models remove`.",
        ) from error
    if bundle.metadata.version_numbers <= present.version_numbers:
        message = f"The bundle {name} {present.version} is installed already."
        raise AlreadyInstalledError(
            message,
            cause=f"Version {version}, which was to be installed, is not newer.",
            next_step="Use --replace to install it all the same.",
        )


def _refused(zip_path: Path, cause: str) -> BundleError:
    return BundleError(
        f"{zip_path.name} was not installed.",
        cause=cause,
        next_step="Get the zip file again from its source; make one with `multiorganseg models pack`.",
    )
