"""Which organ to add: one of the catalogue, or one of the user's own."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Container
from dataclasses import dataclass

from slicer.i18n import tr as _

from multiorganseg.bundles.custom_organs import as_organ
from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OrganError
from multiorganseg.organs.catalogue import Catalogue, Organ


@dataclass(frozen=True)
class Offer:
    """An organ that can be added to a project.

    Attributes:
        organ: With its key, name and colour.
        is_own: Whether it is new, and not of the catalogue.
    """

    organ: Organ
    is_own: bool


def offers(
    words: str, catalogue: Catalogue, taken: Container[str], color: tuple[int, int, int]
) -> list[Offer]:
    """Organs of the catalogue that match, then an own organ of that name, unless the catalogue has it.

    Args:
        words: What the user typed.
        catalogue: Of all organs.
        taken: Keys that the project has already.
        color: For an own organ.
    """
    found = [Offer(organ, is_own=False) for organ in catalogue.search(words) if organ.key not in taken]
    name = " ".join(words.split())
    same = {organ.name.casefold() for organ in catalogue.organs.values()}
    key = own_key(name)
    if not key or name.casefold() in same or key in catalogue.organs or key in taken:
        return found
    try:
        own = as_organ(key, CustomOrgan(name, color))
    except OrganError:
        return found
    return [*found, Offer(own, is_own=True)]


def own_key(name: str) -> str:
    """Organ key for a name: `Meckel's diverticulum` → `meckels_diverticulum`; empty when none can be made.

    Sides come last, as in the catalogue: `Left atrial appendage` → `atrial_appendage_left`.
    """
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode().lower().replace("'", "")
    words = re.findall(r"[a-z0-9]+", plain)
    sides = [word for word in words if word in ("left", "right")]
    if len(sides) > 1:
        return ""
    words = [word for word in words if word not in sides] + sides
    key = "_".join(words)
    return key if key[:1].isalpha() and key not in ("left", "right", "none", "all") else ""


def already_there(name: str) -> OrganError:
    """The error for an organ that a project has already."""
    return OrganError(
        _("{name} is already an organ of this project.").format(name=name),
        next_step=_("Go on to the cases and annotate it there."),
    )
