"""`manifest.json`: the sha256 and the size of every other file of a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.bundles.safe_names import clashes, is_litter, kind_problem, name_problem
from multiorganseg.schema import Count, read_as

MANIFEST = "manifest.json"
_CHUNK = 1024 * 1024


@dataclass(frozen=True)
class _Entry:
    sha256: str
    size: Count


@dataclass(frozen=True)
class _Manifest:
    schema_version: Literal[1]
    files: Mapping[str, _Entry]


def file_digest(path: Path) -> str:
    """Return the sha256 of a file in hexadecimal.

    Raises:
        OSError: The file cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def build_manifest(folder: Path) -> dict[str, Any]:
    """Return the contents of the manifest for the files that lie in a folder.

    Raises:
        OSError: A file cannot be read.
    """
    files = {
        name: {"sha256": file_digest(folder / name), "size": (folder / name).stat().st_size}
        for name in sorted(bundle_files(folder))
        if name != MANIFEST
    }
    return {"schema_version": 1, "files": files}


def bundle_files(folder: Path) -> list[str]:
    """List the files below a folder as relative paths with "/", without what operating systems leave there.

    Symbolic links are listed as files and not followed.
    """
    names = []
    for entry in folder.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            names += [f"{entry.name}/{name}" for name in bundle_files(entry)]
        elif not is_litter(entry.name):
            names.append(entry.name)
    return names


def manifest_problems(folder: Path, hashed: bool = True) -> list[str]:
    """Compare a folder with its manifest; empty when every file is there, unchanged, and no other.

    Args:
        folder: The bundle's folder.
        hashed: Whether every byte is read, not only every file's size.

    Raises:
        OSError: A file cannot be read.
    """
    try:
        listed = _listed_files(read_json_object(folder / MANIFEST))
    except FileNotFoundError:
        return [f"{MANIFEST} is missing"]
    except ValueError as error:
        return [f"{MANIFEST} is not valid: {error}"]
    present = set(bundle_files(folder)) - {MANIFEST}
    problems = [f"{name} {reason}" for name in listed if (reason := name_problem(name) or kind_problem(name))]
    problems += [f"{name} clashes with another file" for name in clashes(listed)]
    problems += [f"{name} is missing" for name in sorted(set(listed) - present)]
    problems += [f"{name} is not in {MANIFEST}" for name in sorted(present - set(listed))]
    for name in sorted(present & set(listed)):
        path = folder / name
        if path.is_symlink() or not path.is_file():
            problems.append(f"{name} is a link or a special file")
        elif path.stat().st_size != listed[name].size:
            problems.append(f"{name} has {path.stat().st_size} bytes instead of {listed[name].size}")
        elif hashed and file_digest(path) != listed[name].sha256:
            problems.append(f"{name} was changed: its sha256 does not match")
    return problems


def listed_digest(folder: Path, name: str) -> str:
    """Return the sha256 that the manifest states for a file.

    Raises:
        ValueError: The manifest is not valid.
        OSError: The manifest cannot be read.
        KeyError: The manifest does not list the file.
    """
    return _listed_files(read_json_object(folder / MANIFEST))[name].sha256


def _listed_files(data: Mapping[str, Any]) -> Mapping[str, _Entry]:
    return read_as(_Manifest, data).files
