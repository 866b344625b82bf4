"""The bundles of this computer: the bundled ones and those in the user's folder."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from pathlib import Path

from multiorganseg import needs
from multiorganseg.bundles.bundle import Bundle, load_bundle
from multiorganseg.bundles.folders import delete_folder, visible_folders
from multiorganseg.errors import BundleError
from multiorganseg.folders import resources_dir, user_data_dir


@dataclass(frozen=True)
class BundleProblem:
    """A folder among the bundles that is none, or a damaged one.

    Attributes:
        folder: Where it lies.
        error: What is wrong with it.
    """

    folder: Path
    error: BundleError


def user_models_dir() -> Path:
    """Folder of the bundles that the user installed; it need not exist.

    The environment variable MULTIORGANSEG_MODELS wins; else it lies in the platform's folder for user data.
    """
    override = os.environ.get("MULTIORGANSEG_MODELS")
    if override:
        return Path(override).absolute()
    return user_data_dir() / "models"


def list_bundles(*, hashed: bool = True) -> list[Bundle | BundleProblem]:
    """Load the user's bundles and then the bundled ones, each by name.

    Args:
        hashed: See `load_bundle`.

    Raises:
        DependencyError: A package is missing without which no bundle is read.
        ResourceError: The resources folder is not found.
    """
    return [_load_or_problem(folder, hashed) for folder in _folders()]


def find_bundle(name_or_path: str | Path, *, hashed: bool = True) -> Bundle:
    """Load a bundle by name or path; of equal names the user's comes before the bundled one.

    Args:
        name_or_path: A path must lead to the bundle's folder.
        hashed: See `load_bundle`.

    Raises:
        BundleError: There is none, or it is damaged; a damaged one is never skipped for another.
        ResourceError: The resources folder is not found.
    """
    folders = _folders()
    if isinstance(name_or_path, str):
        for folder in folders:
            if folder.name == name_or_path:
                return _load_named(folder, hashed)
    path = Path(name_or_path)
    if path.is_dir():
        return load_bundle(path, hashed=hashed)
    if path.is_file():
        message = f"{path} is a file, not a bundle's folder."
        raise BundleError(
            message,
            next_step=f'Install it first: multiorganseg models install "{path}".',
        )
    raise _unknown(str(name_or_path), [folder.name for folder in folders])


def remove_bundle(name: str) -> None:
    """Delete a bundle from the user's folder.

    Raises:
        BundleError: There is no bundle of that name, or it came with MultiOrganSeg.
        ResourceError: The folder cannot be deleted.
    """
    own = {folder.name: folder for folder in visible_folders(user_models_dir())}
    if name in own:
        delete_folder(own[name])
        return
    if name in {folder.name for folder in _folders()}:
        message = f"The bundle {name} came with MultiOrganSeg and is not removed."
        raise BundleError(
            message,
            cause="Only bundles in the user's folder can be removed.",
            next_step="Install another bundle beside it, or a newer version of the same name.",
        )
    raise _unknown(name, list(own))


def _folders() -> list[Path]:
    needs.require(needs.BUNDLES)
    return visible_folders(user_models_dir()) + visible_folders(resources_dir() / "Models")


def _load_or_problem(folder: Path, hashed: bool) -> Bundle | BundleProblem:
    try:
        return _load_named(folder, hashed)
    except BundleError as error:
        return BundleProblem(folder, error)


def _load_named(folder: Path, hashed: bool) -> Bundle:
    bundle = load_bundle(folder, hashed=hashed)
    if bundle.metadata.name != folder.name:
        message = f"The folder {folder.name} holds the bundle {bundle.metadata.name}."
        raise BundleError(
            message,
            cause="A bundle's folder must have the bundle's name.",
            next_step=f"Rename the folder to {bundle.metadata.name}.",
        )
    return bundle


def _unknown(name: str, names: list[str]) -> BundleError:
    close = difflib.get_close_matches(name.lower(), names, n=1)
    return BundleError(
        f"There is no bundle '{name}'.",
        cause="There are: " + ", ".join(sorted(set(names))) + "." if names else "No bundle is installed.",
        next_step=f"Did you mean '{close[0]}'?" if close else "See `multiorganseg models list`.",
    )
