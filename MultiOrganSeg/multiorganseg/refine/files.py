"""From files to a session of correction, and back."""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg import __version__
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.geometry.lattice import shared_lattice
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import read_table_file
from multiorganseg.quality.measure import measure
from multiorganseg.refine.session import Session
from multiorganseg.results.nifti import read_label_table
from multiorganseg.results.seg_nrrd import read_seg_nrrd_authors
from multiorganseg.results.segmentation import Author, Segmentation
from multiorganseg.results.write import write_results
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.read import read_labels
from multiorganseg.volumes.volume import Grid

NEW_COLOURS = ((230, 120, 40), (70, 170, 220), (190, 90, 200), (120, 190, 70), (220, 200, 60))


def read_start(
    path: Path, table_file: Path | None, grid: Grid
) -> tuple[LabelTable, NDArray[np.unsignedinteger], dict[str, Author]]:
    """Read a segmentation onto an image's grid, without interpolation.

    Args:
        path: A label map or a segmentation.
        table_file: Its label table; the one that comes with it when None.
        grid: Of the image.

    Returns:
        The label table, labels (k, j, i), and who drew each organ.

    Raises:
        VolumeError: It cannot be read, or does not lie on the grid.
        OrganError: A label value has no name.
    """
    table = read_table_file(table_file) if table_file else read_label_table(path)
    read = read_labels(path)
    lattice = shared_lattice(read.grid, grid)
    if lattice is None:
        shapes = [" × ".join(map(str, one.shape)) for one in (read.grid, grid)]
        msg = f"{path.name} does not lie on the image's grid."
        raise VolumeError(
            msg,
            cause=f"It has {shapes[0]} voxels (k, j, i), the image {shapes[1]}."
            if shapes[0] != shapes[1]
            else "It has another place, spacing or direction.",
            next_step="Name the image that was segmented, or resample the segmentation onto this one.",
        )
    placed, lost = lattice.place(read.voxels)
    if lost:
        msg = f"{path.name} has {lost:,} labelled voxels outside the image."
        raise VolumeError(msg, next_step="Check that image and segmentation belong together.")
    unnamed = sorted(set(np.unique(placed).tolist()) - {0, *table.organs})
    if unnamed:
        msg = f"{path.name} has label values without a name: {', '.join(map(str, unnamed))}."
        raise OrganError(msg, next_step="Name them in a label table: --labels TABLE.json")
    if not lattice.covers_target:
        warnings.warn(
            f"{path.name} covers a part of the image; the rest counts as background.",
            VolumeWarning,
            stacklevel=2,
        )
    authors = {} if table_file else read_seg_nrrd_authors(path) if path.name.lower().endswith(".nrrd") else {}
    return table, placed, {key: authors.get(key, Author.PEOPLE) for key in table.keys}


def catalogue_with(keys: Collection[str], names: Mapping[str, str] | None = None) -> Catalogue:
    """Return the catalogue, and beside it organs that it lacks.

    Args:
        keys: Keys of organs.
        names: Display names of those whose key does not say it.

    Raises:
        OrganError: A key is not valid, or a name is taken.
    """
    known = load_catalogue()
    strangers = [key for key in dict.fromkeys(keys) if key not in known.organs]
    custom = {
        key: CustomOrgan(
            (names or {}).get(key) or key.replace("_", " ").capitalize(),
            NEW_COLOURS[number % len(NEW_COLOURS)],
        )
        for number, key in enumerate(strangers)
    }
    return with_custom_organs(known, custom)


def write_corrected(
    session: Session,
    out: Path,
    formats: Collection[str],
    catalogue: Catalogue,
    authors: Mapping[str, Author],
    provenance: Mapping[str, Any],
) -> list[Path]:
    """Measure a session's labels and write them, with what was said of them.

    Args:
        session: Its organs that lost or gained voxels by prompts count as corrected.
        out: See `plan_outputs`.
        formats: See `write_results`.
        catalogue: Knows all organs of the session.
        authors: Who drew each organ before.
        provenance: Further facts.

    Raises:
        ResourceError: As `write_results`.
    """
    volume = session.volume
    result = Segmentation(
        session.labels,
        volume.affine,
        session.table,
        measure(session.labels, volume, session.table, {}, catalogue),
        {
            "software": f"MultiOrganSeg {__version__}",
            "input": volume.source,
            "corrections": session.to_json(),
            "messages": list(volume.warnings),
            **provenance,
        },
        authors={**authors, **dict.fromkeys(session.touched, Author.CORRECTED)},
    )
    return write_results(result, volume, out, formats=frozenset(formats), preview=False, catalogue=catalogue)
