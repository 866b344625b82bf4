"""Packing a bundle into a zip file for sharing."""

from __future__ import annotations

import zipfile
from pathlib import Path

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles.bundle import load_bundle
from multiorganseg.bundles.manifest import bundle_files

_EPOCH = (1980, 1, 1, 0, 0, 0)


def pack_bundle(folder: Path | str, zip_path: Path | str) -> Path:
    """Verify a bundle and write it as a zip file that `install_bundle` takes; equal bundles give equal bytes.

    Returns:
        The path of the zip file.

    Raises:
        BundleError: Something is wrong with the bundle.
        ResourceError: The zip file cannot be written.
    """
    bundle, zip_path = load_bundle(folder), Path(zip_path)
    with (
        atomic_path(zip_path) as partial,
        zipfile.ZipFile(partial, "w", zipfile.ZIP_STORED) as archive,
    ):
        for name in sorted(bundle_files(bundle.folder)):
            entry = zipfile.ZipInfo(f"{bundle.metadata.name}/{name}", date_time=_EPOCH)
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, (bundle.folder / name).read_bytes())
    return zip_path
