"""Names of organs from elsewhere as keys of the catalogue, or as organs of their own."""

from __future__ import annotations

import colorsys
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from multiorganseg.bundles.metadata import CustomOrgan
from multiorganseg.errors import OptionError, OrganError
from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.organs.table_file import known_key

LONGEST_KEY = 64
_KEY = re.compile(r"[a-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+)*")
_GOLDEN_ANGLE = 0.618033988749895
MOST_SUGGESTIONS = 3
SHORTEST_WORD = 3


@dataclass(frozen=True)
class NamedOrgan:
    """What became of a name.

    Attributes:
        name: In the source.
        key: Of the organ.
        own: Whether the catalogue does not know it.
        suggestions: Keys of organs in the catalogue that look alike, where it is an own one.
    """

    name: str
    key: str
    own: bool
    suggestions: tuple[str, ...] = ()


def match_organs(
    names: Sequence[str], chosen: Mapping[str, str], catalogue: Catalogue
) -> tuple[NamedOrgan, ...]:
    """Return every name an organ; two may be the same one until `require_distinct`.

    Args:
        names: In the source.
        chosen: Organ key by name, as the user says.
        catalogue: Organs that are known.

    Raises:
        OptionError: The user speaks of a name that is not there, or gives a key that is none.
    """
    strays = [name for name in chosen if name not in names]
    if strays:
        msg = f"There is no label '{strays[0]}' in the model."
        raise OptionError(msg, next_step=f"It has {', '.join(names)}.")
    organs: list[NamedOrgan] = []
    for name in names:
        known = chosen.get(name) or _known(name, catalogue)
        if known is not None:
            if not _KEY.fullmatch(known) or len(known) > LONGEST_KEY:
                msg = f"'{known}' is no key of an organ."
                raise OptionError(msg, next_step="A key is such as kidney_left: small letters, digits and _.")
            organs.append(NamedOrgan(name, known, known not in catalogue.organs))
            continue
        found = _alike(name, catalogue)
        organs.append(
            NamedOrgan(name, _own_key(name, {*catalogue.organs, *(o.key for o in organs)}), True, found)
        )
    return tuple(organs)


def require_distinct(organs: Sequence[NamedOrgan]) -> None:
    """Refuse one organ for two names.

    Raises:
        OrganError: There is such a one.
    """
    for organ in organs:
        same = [other.name for other in organs if other.key == organ.key]
        if len(same) > 1:
            msg = f"The labels {' and '.join(same)} would both be {organ.key}."
            raise OrganError(msg, next_step=f"Give one of them another organ: --label '{same[-1]}=KEY'.")


def custom_organs(organs: Sequence[NamedOrgan], catalogue: Catalogue) -> dict[str, CustomOrgan]:
    """Describe those that the catalogue does not know, each with a colour of its own."""
    taken = {organ.name for organ in catalogue.organs.values()}
    own = [organ for organ in organs if organ.own]
    found: dict[str, CustomOrgan] = {}
    for number, organ in enumerate(own):
        name = organ.name.replace("_", " ").strip()[:100]
        name = name[:1].upper() + name[1:]
        while name in taken:
            name += " (converted)"
        taken.add(name)
        red, green, blue = colorsys.hsv_to_rgb((number * _GOLDEN_ANGLE) % 1, 0.55, 0.85)
        found[organ.key] = CustomOrgan(name, (round(255 * red), round(255 * green), round(255 * blue)))
    return found


def _known(name: str, catalogue: Catalogue) -> str | None:
    """Return the key of the organ with this name, whatever the order of its words."""
    same = known_key(name, catalogue)
    if same is not None:
        return same
    words = _words(name)
    fitting = [key for key, organ in catalogue.organs.items() if words in (_words(key), _words(organ.name))]
    return fitting[0] if len(fitting) == 1 else None


def _alike(name: str, catalogue: Catalogue) -> tuple[str, ...]:
    """Return organs that hold all words of a name, or else the longest of them that any organ holds."""
    words = sorted((word for word in _words(name) if len(word) > SHORTEST_WORD), key=len, reverse=True)
    found = (catalogue.search(text) for text in (name, *words) if _words(text))
    organs = next((alike for alike in found if alike), [])
    return tuple(organ.key for organ in organs[:MOST_SUGGESTIONS])


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    words = re.findall(r"[^\W_]+", spaced.casefold())
    return sorted({"l": "left", "r": "right", "lt": "left", "rt": "right"}.get(word, word) for word in words)


def _own_key(name: str, taken: set[str]) -> str:
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    words = re.findall(r"[A-Za-z0-9]+", plain.casefold())
    if {"left", "right"} <= set(words):
        words = ["both" if word == "left" else word for word in words if word != "right"]
    if not words or not words[0][0].isalpha():
        words = ["organ", *words]
    key = "_".join(words)[: LONGEST_KEY - 4].rstrip("_")
    number, unique = 2, key
    while unique in taken:
        unique, number = f"{key}_{number}", number + 1
    return unique
