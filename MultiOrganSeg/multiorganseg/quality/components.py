"""Keep an organ's largest connected pieces and drop what is left over."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import cc3d
import numpy as np
from numpy.typing import NDArray

from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.organs.labels import LabelTable

SPECK_ML = 0.05
CONNECTIVITY: Final = 26


@dataclass(frozen=True)
class Fragmentation:
    """How an organ's voxels were spread before cleaning.

    Attributes:
        surplus_pieces: Connected components of at least the speck volume that were dropped.
        kept_share: Share of the organ's voxels in the pieces that were kept, in (0, 1].
    """

    surplus_pieces: int
    kept_share: float


@dataclass(frozen=True, eq=False)
class CleanedLabels:
    """Labels after `keep_components`.

    Attributes:
        labels: Array (k, j, i) of the input's dtype.
        fragmentation: By organ key; organs without voxels are not in it.
    """

    labels: NDArray[np.unsignedinteger]
    fragmentation: Mapping[str, Fragmentation]


def keep_components(
    labels: NDArray[np.unsignedinteger],
    table: LabelTable,
    catalogue: Catalogue,
    *,
    voxel_volume: float,
    speck_ml: float = SPECK_ML,
) -> CleanedLabels:
    """Keep of every organ as many of its largest components as the catalogue allows.

    All organs are labelled in one pass (cc3d, 26-connected, so that thin organs that move diagonally from
    slice to slice hold together). Components under `speck_ml` go too, except an organ's largest one.
    Removed voxels become background; none is given to a neighbour. An organ that encloses others of the
    table (`Organ.within`) is judged together with them, so that a tumour does not cut its organ in two.

    Args:
        labels: Label values (k, j, i).
        table: What they mean; values outside the table are left alone.
        catalogue: Where `Organ.components` is said: a number, or None for all.
        voxel_volume: Volume of one voxel in mm³.
        speck_ml: Volume in millilitres under which a component is dropped.

    Returns:
        New labels and each organ's fragmentation. The input is not changed.

    Raises:
        OrganError: An organ of the table is not in the catalogue.
    """
    cleaned = labels.copy()
    fragmentation: dict[str, Fragmentation] = {}
    smallest = speck_ml * 1000.0 / voxel_volume
    for merged, judged in _passes(labels, table, catalogue):
        components, count = cc3d.connected_components(merged, connectivity=CONNECTIVITY, return_N=True)
        sizes = np.asarray(cc3d.statistics(components, no_slice_conversion=True)["voxel_counts"])
        values = np.zeros(count + 1, dtype=labels.dtype)
        values[components] = merged
        dropped = np.zeros(count + 1, dtype=bool)
        for value in judged:
            own = np.flatnonzero(values == value)
            if own.size == 0:
                continue
            key = table.organs[value]
            own = own[np.argsort(-sizes[own].astype(np.int64), kind="stable")]
            kept = _kept(sizes[own], catalogue.get(key).components, smallest)
            dropped[own[~kept]] = True
            fragmentation[key] = Fragmentation(
                surplus_pieces=int(np.count_nonzero(sizes[own[~kept]] >= smallest)),
                kept_share=float(sizes[own[kept]].sum() / sizes[own].sum()),
            )
        removed = dropped[components]
        if merged is not labels:
            removed &= np.isin(labels, list(judged))
        cleaned[removed] = 0
    return CleanedLabels(cleaned, {key: fragmentation[key] for key in table.keys if key in fragmentation})


def _kept(descending_sizes: NDArray[np.integer], limit: int | None, smallest: float) -> NDArray[np.bool_]:
    kept = descending_sizes >= smallest
    kept[0] = True
    if limit is not None:
        kept[limit:] = False
    return kept


def _passes(
    labels: NDArray[np.unsignedinteger], table: LabelTable, catalogue: Catalogue
) -> Iterator[tuple[NDArray[np.unsignedinteger], Iterable[int]]]:
    """The label maps to part into components, each with the label values that it decides on."""
    enclosed: dict[int, list[int]] = {}
    for value, key in table.organs.items():
        for container in _containers(key, catalogue):
            if container in table.keys:
                enclosed.setdefault(table.value(container), []).append(value)
    yield labels, [value for value in table.organs if value not in enclosed]
    for container_value, inner in enclosed.items():
        lookup = np.zeros(np.iinfo(labels.dtype).max + 1, dtype=labels.dtype)
        lookup[[container_value, *inner]] = container_value
        yield lookup[labels], [container_value]


def _containers(key: str, catalogue: Catalogue) -> Iterator[str]:
    while (container := catalogue.get(key).within) is not None:
        yield container
        key = container
