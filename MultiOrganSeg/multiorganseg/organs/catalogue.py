"""The organ catalogue: the one place that says what an organ key means."""

from __future__ import annotations

import difflib
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from multiorganseg.errors import OrganError
from multiorganseg.folders import resources_dir
from multiorganseg.organs.labels import LabelTable

SCHEMA_VERSION = 1

_KEY = re.compile(r"[a-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*")
_WORD = re.compile(r"\w+")
_SIDES = {"7771000": "left", "24028007": "right"}
_EXACT, _PREFIX, _CONTAINS, _SIMILAR = 4, 3, 2, 1
_MEND = "Correct the organ catalogue, or reinstall MultiOrganSeg to get its own back."


@dataclass(frozen=True)
class Code:
    """One coded concept.

    Attributes:
        scheme: Coding scheme designator of DICOM; "SCT" is SNOMED CT.
        value: The code.
        meaning: What a reader sees.
    """

    scheme: str
    value: str
    meaning: str


@dataclass(frozen=True)
class Organ:
    """One structure that can be segmented.

    Attributes:
        key: Name in label tables and file names, such as `kidney_right`.
        name: Name for people, such as "Right kidney".
        category: DICOM segmented property category.
        type: DICOM segmented property type; None where no code could be sourced.
        modifier: DICOM segmented property type modifier, such as Right.
        color: Red, green and blue, each in 0…255.
        side: "left", "right" or None.
        components: How many connected components are kept, largest first; None keeps all.
        volume_ml: Smallest and largest plausible volume of the whole organ in an adult, in millilitres;
            None when unknown.
        within: Key of the organ that contains this one, such as `liver` for `liver_tumor`.
    """

    key: str
    name: str
    category: Code | None
    type: Code | None
    modifier: Code | None
    color: tuple[int, int, int]
    side: str | None
    components: int | None
    volume_ml: tuple[float, float] | None
    within: str | None

    def __post_init__(self) -> None:
        """Check what can be checked without the other organs.

        Raises:
            OrganError: A value is out of its range, or the side contradicts the key or the modifier.
        """
        problem = _problem(self)
        if problem:
            msg = f"The organ '{self.key}' is not valid."
            raise OrganError(msg, cause=problem, next_step=_MEND)


@dataclass(frozen=True)
class Catalogue:
    """All organs that are known.

    Attributes:
        organs: Organ by key, in the order of the file.
    """

    organs: Mapping[str, Organ]

    def __post_init__(self) -> None:
        """Check the organs against each other.

        Raises:
            OrganError: A name or a set of codes stands twice, or `within` names no organ or a circle.
        """
        _refuse_doubled("name", (organ.name for organ in self.organs.values()))
        _refuse_doubled("code", (_concept(organ) for organ in self.organs.values() if organ.type))
        for organ in self.organs.values():
            self._check_containers(organ)

    def _check_containers(self, organ: Organ) -> None:
        seen = [organ.key]
        while organ.within is not None:
            if organ.within not in self.organs or organ.within in seen:
                msg = f"The organ '{organ.key}' lies within '{organ.within}', which cannot be."
                raise OrganError(
                    msg,
                    cause="It is contained in itself." if organ.within in seen else "There is no such organ.",
                    next_step=_MEND,
                )
            seen.append(organ.within)
            organ = self.organs[organ.within]

    def get(self, key: str) -> Organ:
        """Organ with this key.

        Raises:
            OrganError: There is none; the error names the keys that look alike.
        """
        if key in self.organs:
            return self.organs[key]
        alike = difflib.get_close_matches(key, self.organs, n=5)
        msg = f"No organ '{key}' in the catalogue."
        raise OrganError(
            msg,
            next_step=f"Did you mean {', '.join(alike)}?"
            if alike
            else f"Add it to the catalogue, or choose among its {len(self.organs)} keys.",
        )

    def innermost(self, key: str, among: Collection[str]) -> str | None:
        """Return the organ, or the innermost one around it, that is among some; None where none is.

        A voxel of a tumour in the liver is in the liver where nothing is said of tumours.

        Args:
            key: Of an organ; one that is not in the catalogue lies within no other.
            among: Organ keys.
        """
        inner: str | None = key
        while inner is not None and inner not in among:
            inner = self.organs[inner].within if inner in self.organs else None
        return inner

    def values_of(self, table: LabelTable, key: str) -> tuple[int, ...]:
        """Return the label values of an organ and of those that lie within it, such as its tumour.

        Args:
            table: What the values mean.
            key: Of the organ.
        """
        return tuple(value for value, part in table.organs.items() if self.innermost(part, {key}))

    def search(self, text: str) -> list[Organ]:
        """Organs whose name and key hold every word of the text, whole or in part, best first.

        Upper and lower case are the same, and so are a blank and an underscore. When nothing holds the words,
        organs with words spelt alike are given. An empty text gives all organs.
        """
        wanted = _words(text)
        if not wanted:
            return list(self.organs.values())
        ranked = []
        for position, organ in enumerate(self.organs.values()):
            words = _words(f"{organ.name} {organ.key}")
            scores = [max(_likeness(word, other) for other in words) for word in wanted]
            if all(scores):
                whole = wanted in (_words(organ.name), _words(organ.key))
                ranked.append((_SIMILAR in scores, not whole, -sum(scores), len(set(words)), position, organ))
        ranked.sort(key=lambda entry: entry[:-1])
        held = [entry for entry in ranked if not entry[0]]
        return [entry[-1] for entry in held or ranked]


def load_catalogue(path: Path | None = None) -> Catalogue:
    """Read and check an organ catalogue; the same file is read once.

    Args:
        path: A catalogue in JSON; by default the one that MultiOrganSeg brings along.

    Raises:
        OrganError: The file cannot be read, or an organ in it is not valid.
        ResourceError: No path is given and MultiOrganSeg's own catalogue is not found.
    """
    return _load((path or resources_dir() / "Organs" / "organs.json").resolve())


@lru_cache(maxsize=8)
def _load(path: Path) -> Catalogue:
    try:
        data = json.loads(path.read_bytes())
        version = data["schema_version"]
        if version != SCHEMA_VERSION:
            msg = f"The organ catalogue {path} has schema version {version}, not {SCHEMA_VERSION}."
            raise OrganError(
                msg,
                next_step="Use the catalogue of this release of MultiOrganSeg.",
            )
        organs = [_organ(entry) for entry in data["organs"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        msg = f"The organ catalogue {path} cannot be read."
        raise OrganError(
            msg,
            cause=f"{type(error).__name__}: {error}",
            next_step=_MEND,
        ) from error
    _refuse_doubled("key", (organ.key for organ in organs))
    return Catalogue({organ.key: organ for organ in organs})


def _organ(entry: Mapping[str, Any]) -> Organ:
    volume = entry["volume_ml"]
    return Organ(
        **{
            **entry,
            **{name: _code(entry[name]) for name in ("category", "type", "modifier")},
            "color": tuple(entry["color"]),
            "volume_ml": None if volume is None else tuple(volume),
        }
    )


def _code(entry: Mapping[str, str] | None) -> Code | None:
    return None if entry is None else Code(**entry)


def _problem(organ: Organ) -> str:
    sides = {word for word in organ.key.split("_") if word in ("left", "right")}
    modifier = organ.modifier.value if organ.modifier else ""
    if not _KEY.fullmatch(organ.key):
        return "A key is words of letters and digits joined by underscores, and begins with a small letter."
    if not organ.name.strip():
        return "It has no name."
    if len(organ.color) != 3 or not all(type(value) is int and 0 <= value <= 255 for value in organ.color):
        return f"Its color {organ.color} is not three whole numbers in 0…255."
    if organ.side not in (None, "left", "right"):
        return f"Its side is '{organ.side}', not left, right or empty."
    if organ.side is not None and sides != {organ.side}:
        return f"Its side is {organ.side}, but its key does not say so."
    if organ.side is None and organ.key.endswith(("_left", "_right")):
        return "Its key ends with a side, but it has none."
    if modifier in _SIDES and _SIDES[modifier] != organ.side:
        return f"Its modifier is a side, but its side is {organ.side}."
    if organ.type is not None and organ.category is None:
        return "It has a type, but no category."
    if organ.components is not None and (type(organ.components) is not int or organ.components < 1):
        return f"It keeps {organ.components} components; keep 1 or more, or leave it empty for all."
    if organ.volume_ml is not None and not (
        len(organ.volume_ml) == 2 and 0 < organ.volume_ml[0] < organ.volume_ml[1]
    ):
        return f"Its plausible volume {organ.volume_ml} is not a smallest and a larger largest one above 0."
    return ""


def _concept(organ: Organ) -> str:
    codes = [f"{code.scheme} {code.value}" for code in (organ.type, organ.modifier) if code]
    return f"{' with '.join(codes)} within {organ.within or 'the body'}"


def _refuse_doubled(what: str, values: Iterable[object]) -> None:
    doubled = [value for value, count in Counter(values).items() if count > 1]
    if doubled:
        msg = f"The organ catalogue has a {what} more than once."
        raise OrganError(
            msg,
            cause=", ".join(str(value) for value in doubled),
            next_step=_MEND,
        )


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("_", " "))


def _likeness(wanted: str, word: str) -> int:
    if wanted == word:
        return _EXACT
    if word.startswith(wanted):
        return _PREFIX
    if wanted in word:
        return _CONTAINS
    return _SIMILAR if len(wanted) > 3 and difflib.SequenceMatcher(None, wanted, word).ratio() >= 0.8 else 0
