"""What a parameter's value must hold; every validator raises on a value that does not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


class Validator(ABC):
    """Base of all validators."""

    @abstractmethod
    def validate(self, value: Any) -> None:
        """Raise ValueError or TypeError if the value is not allowed."""


@dataclass(frozen=True)
class NotNone(Validator):
    """Refuses None."""

    def validate(self, value: Any) -> None:
        """See the base class."""
        _require(value is not None, "Value must not be None")


@dataclass(frozen=True)
class IsInstance(Validator):
    """Refuses values of other types; lets None pass."""

    classtype: Any

    def validate(self, value: Any) -> None:
        """See the base class."""
        if value is not None and not isinstance(value, self.classtype):
            message = f"Value must be of type '{self.classtype}', is type '{type(value)}' value '{value}'"
            raise TypeError(message)


@dataclass(frozen=True)
class WithinRange(Validator):
    """Refuses values outside [minimum, maximum]."""

    minimum: float
    maximum: float

    def validate(self, value: Any) -> None:
        """See the base class."""
        _require(
            self.minimum <= value <= self.maximum,
            f"Value must be within range [{self.minimum}, {self.maximum}], is {value}",
        )


@dataclass(frozen=True)
class Minimum(Validator):
    """Refuses values below the minimum."""

    minimum: float

    def validate(self, value: Any) -> None:
        """See the base class."""
        _require(value >= self.minimum, f"Value must not be less than {self.minimum}, is {value}")


@dataclass(frozen=True)
class Maximum(Validator):
    """Refuses values above the maximum."""

    maximum: float

    def validate(self, value: Any) -> None:
        """See the base class."""
        _require(value <= self.maximum, f"Value must not be greater than {self.maximum}, is {value}")


@dataclass(frozen=True)
class Choice(Validator):
    """Refuses values that are not among the choices."""

    choices: Sequence[Any]

    def validate(self, value: Any) -> None:
        """See the base class."""
        _require(
            value in self.choices, f"Value is {value}, but must be in one of the following: {self.choices}"
        )


@dataclass(frozen=True)
class Exclude(Validator):
    """Refuses values that are among the excluded ones."""

    excludedValues: Sequence[Any]

    def validate(self, value: Any) -> None:
        """See the base class."""
        _require(
            value not in self.excludedValues,
            f"Value is {value}, but must not be an excluded value: excluded values {self.excludedValues}",
        )


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
