"""How values of each type lie in the parameter node."""

from __future__ import annotations

import enum
import pathlib
import typing
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.parameterNodeWrapper.validators import IsInstance, NotNone, Validator

_PATH_TYPES = (pathlib.Path, pathlib.PurePath)


class Default:
    """Annotation that gives a parameter's default value."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


class Serializer:
    """Writes and reads a value as text; other storages override."""

    def __init__(self, python_type: Any, default: Any) -> None:
        self.python_type = python_type
        self.default = default

    def is_in(self, node: Any, name: str) -> bool:
        """Whether the node has the parameter."""
        return bool(node.HasParameter(name))

    def write(self, node: Any, name: str, value: Any) -> None:
        """Keep the value in the node."""
        node.SetParameter(name, str(value))

    def read(self, node: Any, name: str) -> Any:
        """The value in the node."""
        return self.python_type(node.GetParameter(name))


class _Bool(Serializer):
    def read(self, node: Any, name: str) -> Any:
        return node.GetParameter(name) == "True"


class _Enum(Serializer):
    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, value.name)

    def read(self, node: Any, name: str) -> Any:
        return self.python_type[node.GetParameter(name)]


class _Node(Serializer):
    def write(self, node: Any, name: str, value: Any) -> None:
        node.SetParameter(name, "")
        node.SetNodeReferenceID(name, value.GetID() if value is not None else None)

    def read(self, node: Any, name: str) -> Any:
        return node.GetNodeReference(name)


@dataclass(frozen=True)
class Parameter:
    """One typed attribute of a wrapper class.

    Attributes:
        name: Name of attribute and parameter.
        annotated_type: The type as it was written, with its annotations.
        serializer: Stores the value.
        validators: Checked before each write.
        default: Written when the node lacks the parameter.
    """

    name: str
    annotated_type: Any
    serializer: Serializer
    validators: tuple[Validator, ...]
    default: Any

    def write(self, node: Any, value: Any) -> None:
        """Check and keep a value.

        Raises:
            ValueError: A validator refuses the value.
            TypeError: The value has another type.
        """
        for validator in self.validators:
            validator.validate(value)
        self.serializer.write(node, self.name, value)

    def read(self, node: Any) -> Any:
        """The value; the default where the node lost it."""
        if not self.serializer.is_in(node, self.name):
            self.serializer.write(node, self.name, self.default)
        return self.serializer.read(node, self.name)


def split_annotations(annotated: Any) -> tuple[Any, tuple[Any, ...]]:
    """The bare type and the annotations of a possibly annotated type."""
    if typing.get_origin(annotated) is typing.Annotated:
        bare, *annotations = typing.get_args(annotated)
        return bare, tuple(annotations)
    return annotated, ()


def make_parameter(name: str, annotated: Any, *class_default: Any) -> Parameter:
    """Describe one attribute.

    Args:
        name: Attribute name.
        annotated: Its type.
        class_default: The value given in the class body, if there is one.

    Raises:
        TypeError: The type cannot be kept in a parameter node, or an annotation is unknown.
    """
    bare, annotations = split_annotations(annotated)
    serializer, own_validators = _serializer(name, bare)
    default, validators = serializer.default, list(own_validators)
    for annotation in annotations:
        if isinstance(annotation, Validator):
            validators.append(annotation)
        elif isinstance(annotation, Default):
            default = annotation.value
        elif type(annotation).__name__ not in ("Decimals", "SingleStep"):
            message = f"Unused annotation on {name}: {annotation!r}"
            raise TypeError(message)
    return Parameter(name, annotated, serializer, tuple(validators), *(class_default or (default,)))


def _serializer(name: str, bare: Any) -> tuple[Serializer, tuple[Validator, ...]]:
    if isinstance(bare, type):
        if issubclass(bare, slicer.vtkMRMLNode):
            return _Node(bare, None), (IsInstance(bare),)
        if issubclass(bare, enum.Enum):
            return _Enum(bare, next(iter(bare))), (NotNone(), IsInstance(bare))
        if bare is bool:
            return _Bool(bool, False), (NotNone(), IsInstance(bool))
        if bare is float:
            return Serializer(float, 0.0), (NotNone(), IsInstance((int, float)))
        if bare in (int, str) or issubclass(bare, _PATH_TYPES):
            return Serializer(bare, bare()), (NotNone(), IsInstance(bare))
    message = f"Unable to create serializer for member {name} of type {bare}"
    raise TypeError(message)
