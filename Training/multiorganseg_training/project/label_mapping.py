"""Map the label names of a dataset to organ keys, by rules that a person gives."""

from __future__ import annotations

import re
from collections.abc import Mapping

from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import Catalogue

BACKGROUND = "background"
"""On the right side of a rule: the label counts as no organ."""

_TUMOUR_WORDS = frozenset(
    {"cancer", "carcinoma", "lesion", "mass", "masses", "tumor", "tumors", "tumour", "tumours"}
)


def map_labels(
    names: Mapping[int, str], rules: Mapping[str, str], catalogue: Catalogue
) -> dict[int, str | None]:
    """Give each label value of a dataset its organ key.

    A tumour is never given to its organ unasked: "cancer=liver" makes it part of the liver,
    "cancer=liver_tumor" an organ of its own and "cancer=background" no organ. Several labels may become one
    organ. A label that needs no rule is one that is spelt exactly as an organ key.

    Args:
        names: Name by label value, without background.
        rules: Organ key or "background" by label name, or by label value written as text.
        catalogue: Knows the organ keys.

    Returns:
        Organ key by label value; None for labels that count as background.

    Raises:
        TrainingError: A label has no rule or two, or a rule names no label.
        OrganError: A rule's organ is not in the catalogue; the error names keys that look alike.
    """
    by_value: dict[int, str] = {}
    for left, key in rules.items():
        for value in _values(left, names):
            if by_value.setdefault(value, key) != key:
                msg = f"The label '{names[value]}' is given to {by_value[value]} and to {key}."
                raise TrainingError(msg, next_step="Keep one of the two rules.")
    for key in by_value.values():
        if key != BACKGROUND:
            catalogue.get(key)
    by_value = {**{value: name for value, name in names.items() if name in catalogue.organs}, **by_value}
    missing = {value: name for value, name in names.items() if value not in by_value}
    if missing:
        msg = "Labels of the dataset are not mapped to organs."
        keys = [key for key in by_value.values() if key != BACKGROUND]
        raise TrainingError(
            msg,
            cause=f"Without a rule: {', '.join(f'{name} ({value})' for value, name in missing.items())}.",
            next_step="Add a rule for each, such as "
            + "; ".join(" or ".join(_suggested(name, keys, catalogue)) for name in missing.values())
            + ".",
        )
    return {value: None if by_value[value] == BACKGROUND else by_value[value] for value in names}


def _values(left: str, names: Mapping[int, str]) -> list[int]:
    found = [value for value, name in names.items() if name.casefold() == left.strip().casefold()]
    if not found and left.strip().isdecimal() and int(left) in names:
        found = [int(left)]
    if not found:
        msg = f"The dataset has no label '{left}'."
        known = ", ".join(f"{name} ({value})" for value, name in names.items())
        raise TrainingError(msg, next_step=f"It has: {known}.")
    return found


def _suggested(name: str, mapped: list[str], catalogue: Catalogue) -> list[str]:
    keys = [organ.key for organ in catalogue.search(name)[:3]] if name.strip() else []
    if _TUMOUR_WORDS & set(re.findall(r"[a-z]+", name.casefold())):
        tumours = [organ.key for organ in catalogue.search("tumor") if organ.within in mapped]
        keys = [*mapped[:3], *tumours[:3], *keys]
    return [f"'{name}={key}'" for key in dict.fromkeys([*keys, BACKGROUND])]
