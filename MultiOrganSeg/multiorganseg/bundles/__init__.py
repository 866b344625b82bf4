"""Bundles: trained networks as verified folders in MONAI Bundle layout."""

from multiorganseg.bundles.bundle import Bundle, load_bundle, read_weights, verify_bundle
from multiorganseg.bundles.install import AlreadyInstalledError, install_bundle, install_folder
from multiorganseg.bundles.metadata import CustomOrgan, Metadata, Preprocessing
from multiorganseg.bundles.pack import pack_bundle
from multiorganseg.bundles.registry import (
    BundleProblem,
    find_bundle,
    list_bundles,
    remove_bundle,
    user_models_dir,
)
from multiorganseg.bundles.write import write_bundle

__all__ = [
    "AlreadyInstalledError",
    "Bundle",
    "BundleProblem",
    "CustomOrgan",
    "Metadata",
    "Preprocessing",
    "find_bundle",
    "install_bundle",
    "install_folder",
    "list_bundles",
    "load_bundle",
    "pack_bundle",
    "read_weights",
    "remove_bundle",
    "user_models_dir",
    "verify_bundle",
    "write_bundle",
]
