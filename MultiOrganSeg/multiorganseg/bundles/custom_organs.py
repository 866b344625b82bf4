"""Organs that only one bundle knows, made known beside those of the catalogue."""

from __future__ import annotations

from collections.abc import Mapping

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.organs.catalogue import Catalogue, Organ


def with_custom_organs(catalogue: Catalogue, custom: Mapping[str, CustomOrgan]) -> Catalogue:
    """Add a bundle's own organs to a catalogue; one that the catalogue has already stays as it is.

    They have no codes and no plausible volume, and all their components are kept.

    Raises:
        OrganError: A name is taken by another organ, or a key is not valid.
    """
    own = {key: as_organ(key, organ) for key, organ in custom.items() if key not in catalogue.organs}
    return Catalogue({**catalogue.organs, **own}) if own else catalogue


def as_organ(key: str, organ: CustomOrgan) -> Organ:
    """Return an own organ as the catalogue would have it.

    Raises:
        OrganError: The key is not valid.
    """
    return Organ(
        key=key,
        name=organ.name,
        category=None,
        type=None,
        modifier=None,
        color=organ.color,
        side=next((side for side in ("left", "right") if side in key.split("_")), None),
        components=None,
        volume_ml=None,
        within=None,
    )
