"""The label table: the only thing that gives a label value a meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from multiorganseg.errors import OrganError


@dataclass(frozen=True)
class LabelTable:
    """Maps label values (1…65535; 0 is background) to organ keys, one to one.

    Attributes:
        organs: Organ key by label value, in ascending order of value.
    """

    organs: Mapping[int, str]

    def __post_init__(self) -> None:
        """Check the values and keys.

        Raises:
            OrganError: A value is out of range, or an organ key is blank or stands twice.
        """
        bad = [value for value in self.organs if not 0 < value < 65536]
        if bad:
            msg = f"Label values must lie in 1…65535, not {bad}."
            raise OrganError(
                msg,
                next_step="Keep 0 for background and number the organs from 1.",
            )
        keys = list(self.organs.values())
        nameless = [value for value, key in self.organs.items() if not key.strip()]
        if nameless:
            msg = f"The label table names no organ for {', '.join(map(str, nameless))}."
            raise OrganError(msg, next_step="Give each label value the key of its organ.")
        doubled = sorted({key for key in keys if keys.count(key) > 1})
        if doubled:
            msg = f"The label table names {', '.join(doubled)} more than once."
            raise OrganError(
                msg,
                next_step="Give each organ exactly one label value.",
            )
        object.__setattr__(self, "organs", dict(sorted(self.organs.items())))

    @classmethod
    def numbered(cls, keys: Iterable[str]) -> LabelTable:
        """Number organ keys from 1 in the given order."""
        return cls(dict(enumerate(keys, start=1)))

    @classmethod
    def from_json(cls, data: Mapping[str, str]) -> LabelTable:
        """Read the form `{"1": "spleen", …}` that bundles and projects use.

        Raises:
            OrganError: It is another form, or "1" and "01" both stand there.
        """
        try:
            values = [int(value) for value in data]
            if len(set(values)) < len(values):
                message = f"the value {max(values, key=values.count)} stands for several organs"
                raise ValueError(message)
            organs = dict(zip(values, data.values(), strict=True))
            strange = [value for value in data if value not in map(str, values)]
            strange += [key for key in organs.values() if not isinstance(key, str)]
            if strange:
                message = f"{strange[0]!r} stands where a number such as 1 or a key such as spleen must"
                raise ValueError(message)
            return cls(organs)
        except (ValueError, AttributeError, TypeError) as error:
            msg = "This is not a label table."
            raise OrganError(
                msg,
                cause=str(error),
                next_step='Write it as {"1": "spleen", "2": "liver"}.',
            ) from error

    def to_json(self) -> dict[str, str]:
        """Return the form that `from_json` reads."""
        return {str(value): key for value, key in self.organs.items()}

    @property
    def keys(self) -> tuple[str, ...]:
        """Organ keys in ascending order of label value."""
        return tuple(self.organs.values())

    def value(self, key: str) -> int:
        """Label value of an organ.

        Raises:
            OrganError: The table has no such organ.
        """
        for value, name in self.organs.items():
            if name == key:
                return value
        msg = f"No organ '{key}' here."
        raise OrganError(msg, next_step=f"Choose among: {', '.join(self.keys)}.")


def left_right_pairs(keys: Iterable[str]) -> list[tuple[str, str]]:
    """Return the organs on the left whose twin on the right is there too, each with that."""
    known = dict.fromkeys(keys)
    twins = {key: "_".join("right" if part == "left" else part for part in key.split("_")) for key in known}
    return [(left, right) for left, right in twins.items() if right != left and right in known]
