"""Which widget shows which type, and how its value is read and written."""

from __future__ import annotations

import enum
import pathlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import slicer
from slicer.parameterNodeWrapper.serializers import split_annotations
from slicer.parameterNodeWrapper.validators import Choice, Maximum, Minimum, WithinRange

_registered: list[type[GuiConnector]] = []


@dataclass(frozen=True)
class Decimals:
    """Annotation for the number of decimals that a widget shows."""

    value: int


@dataclass(frozen=True)
class SingleStep:
    """Annotation for the step of a spin box or slider."""

    value: float


class GuiConnector(ABC):
    """Base of connectors; a derived class says which pairs it serves and does the reading and writing."""

    signal = ""

    @staticmethod
    @abstractmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        """Whether this connector serves the pair."""

    @classmethod
    def create(cls, widget: Any, datatype: Any) -> GuiConnector:
        """Make the connector for the pair."""
        return cls(widget, datatype)

    def __init__(self, widget: Any, datatype: Any) -> None:
        self._widget = widget
        self._callback: Callable[[], None] | None = None

    def onChanged(self, callback: Callable[[], None] | None) -> None:
        """Call back at each change of the widget; None ends that."""
        signal = getattr(self._widget, self.signal)
        if callback is not None:
            signal.connect(self.changed)
        elif self._callback is not None:
            signal.disconnect(self.changed)
        self._callback = callback

    def changed(self, *arguments: Any) -> None:
        """The widget's slot."""
        if self._callback:
            self._callback()

    def widget(self) -> Any:
        """The widget."""
        return self._widget

    @abstractmethod
    def read(self) -> Any:
        """The widget's value."""

    @abstractmethod
    def write(self, value: Any) -> None:
        """Show a value."""


def parameterNodeGuiConnector(classtype: type[GuiConnector] | None = None) -> Any:
    """Class decorator: use this connector from now on.

    Raises:
        TypeError: It is no GuiConnector.
    """
    if classtype is None:
        return parameterNodeGuiConnector
    if not issubclass(classtype, GuiConnector):
        message = "Must be a GuiConnector subclass"
        raise TypeError(message)
    _registered.append(classtype)
    return classtype


def createGuiConnector(widget: Any, datatype: Any) -> GuiConnector:
    """The connector for a widget and a possibly annotated type.

    Raises:
        RuntimeError: No connector serves the pair.
    """
    for connector in _registered:
        if connector.canRepresent(widget, datatype):
            return connector.create(widget, datatype)
    message = f"Unable to create GUI connector from datatype '{datatype}' to widget type '{type(widget)}'"
    raise RuntimeError(message)


def _bare(datatype: Any) -> Any:
    return split_annotations(datatype)[0]


def _annotation(datatype: Any, kind: type) -> Any:
    return next((a for a in split_annotations(datatype)[1] if isinstance(a, kind)), None)


def _is(widget: Any, *names: str) -> bool:
    import ctk
    import qt

    for name in names:
        module = ctk if name.startswith("ctk") else slicer if name.startswith("qMRML") else qt
        if type(widget) is getattr(module, name):
            return True
    return False


class _PropertyConnector(GuiConnector):
    """Reads and writes one property of the widget."""

    attribute = ""

    def read(self) -> Any:
        return getattr(self._widget, self.attribute)

    def write(self, value: Any) -> None:
        setattr(self._widget, self.attribute, value)


@parameterNodeGuiConnector
class _CheckBox(_PropertyConnector):
    signal, attribute = "stateChanged", "checked"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _bare(datatype) is bool and _is(widget, "QCheckBox")


@parameterNodeGuiConnector
class _PushButton(_PropertyConnector):
    signal, attribute = "toggled", "checked"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _bare(datatype) is bool and _is(widget, "QPushButton")

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        widget.checkable = True


@parameterNodeGuiConnector
class _LineEdit(_PropertyConnector):
    signal, attribute = "textChanged", "text"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _bare(datatype) is str and _is(widget, "QLineEdit")


@parameterNodeGuiConnector
class _TextEdit(_PropertyConnector):
    signal, attribute = "textChanged", "plainText"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        return _bare(datatype) is str and _is(widget, "QTextEdit")


@parameterNodeGuiConnector
class _Number(_PropertyConnector):
    """Spin boxes and sliders, which take their range from the annotations."""

    signal, attribute = "valueChanged", "value"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        if _bare(datatype) is int:
            return _is(widget, "QSpinBox", "QSlider")
        return _bare(datatype) is float and _is(widget, "QDoubleSpinBox", "ctkSliderWidget")

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        for kind, name in ((Decimals, "decimals"), (SingleStep, "singleStep")):
            annotation = _annotation(datatype, kind)
            if annotation is not None:
                setattr(widget, name, annotation.value)
        limits = _annotation(datatype, WithinRange)
        low = limits or _annotation(datatype, Minimum)
        high = limits or _annotation(datatype, Maximum)
        if _is(widget, "QSlider", "ctkSliderWidget") and not (low and high):
            message = "Cannot have a connection to a slider where the type is unbounded."
            raise RuntimeError(message)
        is_integer = _bare(datatype) is int
        widget.minimum = low.minimum if low else (-(2**31) if is_integer else float("-inf"))
        widget.maximum = high.maximum if high else (2**31 - 1 if is_integer else float("inf"))


@parameterNodeGuiConnector
class _ComboBox(GuiConnector):
    """Fills the box with the choices as text, or with the names of an enumeration."""

    signal = "currentIndexChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        bare = _bare(datatype)
        is_enum = isinstance(bare, type) and issubclass(bare, enum.Enum)
        return _is(widget, "QComboBox") and (is_enum or bare in (int, float, str, bool))

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        bare = _bare(datatype)
        if issubclass(bare, enum.Enum):
            self._choices: Sequence[Any] = list(bare)
            label = getattr(bare, "label", lambda member: member.name)
        else:
            choice = _annotation(datatype, Choice)
            if choice is None:
                message = "ComboBoxToStringableConnector requires the Choice annotation to be used."
                raise RuntimeError(message)
            self._choices, label = choice.choices, str
        widget.clear()
        for item in self._choices:
            widget.addItem(label(item))

    def read(self) -> Any:
        return self._choices[self._widget.currentIndex]

    def write(self, value: Any) -> None:
        if value not in self._choices:
            message = f"Unable to find value {value} in choices {self._choices}"
            raise ValueError(message)
        self._widget.currentIndex = list(self._choices).index(value)


class _Path(_PropertyConnector):
    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        self._type = _bare(datatype)

    def read(self) -> Any:
        return self._type(super().read())

    def write(self, value: Any) -> None:
        super().write(str(value))


@parameterNodeGuiConnector
class _PathLineEdit(_Path):
    signal, attribute = "currentPathChanged", "currentPath"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        bare = _bare(datatype)
        is_path = isinstance(bare, type) and issubclass(bare, pathlib.PurePath)
        return is_path and _is(widget, "ctkPathLineEdit")


@parameterNodeGuiConnector
class _NodeComboBox(GuiConnector):
    signal = "currentNodeChanged"

    @staticmethod
    def canRepresent(widget: Any, datatype: Any) -> bool:
        bare = _bare(datatype)
        is_node = isinstance(bare, type) and issubclass(bare, slicer.vtkMRMLNode)
        return is_node and _is(widget, "qMRMLNodeComboBox")

    def __init__(self, widget: Any, datatype: Any) -> None:
        super().__init__(widget, datatype)
        widget.nodeTypes = [_bare(datatype).__name__]

    def read(self) -> Any:
        return self._widget.currentNode()

    def write(self, value: Any) -> None:
        self._widget.setCurrentNode(value)
