"""Name and colour of organs in tables and pictures."""

from __future__ import annotations

from multiorganseg.organs.catalogue import load_catalogue

OTHER_COLOR = (0.6, 0.6, 0.6)


def organ_name(key: str) -> str:
    """Give the catalogue's name; the key of an organ that it lacks."""
    organ = load_catalogue().organs.get(key)
    return organ.name if organ else key


def organ_color(key: str) -> tuple[float, float, float]:
    """Give the catalogue's colour, each value in 0…1; grey for an organ that it lacks."""
    organ = load_catalogue().organs.get(key)
    if organ is None:
        return OTHER_COLOR
    red, green, blue = (value / 255 for value in organ.color)
    return red, green, blue
