"""Stands for `slicer.parameterNodeWrapper`: typed attributes over a vtkMRMLScriptedModuleNode.

Offered is what the module uses: texts, texts with `Choice` and node references, bound to node selectors.
Names, rules and errors follow the real package, and what it has beyond that is refused here.
"""

from __future__ import annotations

import typing
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import slicer
import vtk

__all__ = ["Choice", "parameterNodeWrapper"]
_RESERVED = {
    *("AddObserver", "EndModify", "Modified", "RemoveObserver", "StartModify", "allParameters", "connectGui"),
    *("connectParametersToGui", "dataType", "default", "disconnectGui", "getValue", "isCached"),
    *("parameterNode", "setValue"),
}


@dataclass(frozen=True)
class Choice:
    """Annotation that refuses values which are not among the choices."""

    choices: Sequence[Any]


@dataclass(frozen=True)
class _Parameter:
    """One typed attribute: `kind` is `str` or a node class, `choices` is None where every text will do."""

    name: str
    kind: type
    choices: Sequence[Any] | None
    default: Any

    @property
    def is_node(self) -> bool:
        return issubclass(self.kind, slicer.vtkMRMLNode)

    def write(self, node: Any, value: Any) -> None:
        if value is None and not self.is_node:
            message = "Value must not be None"
            raise ValueError(message)
        if value is not None and not isinstance(value, self.kind):
            message = f"Value must be of type '{self.kind}', is type '{type(value)}' value '{value}'"
            raise TypeError(message)
        if self.choices is not None and value not in self.choices:
            message = f"Value is {value}, but must be in one of the following: {self.choices}"
            raise ValueError(message)
        node.SetParameter(self.name, "" if self.is_node else value)
        if self.is_node:
            node.SetNodeReferenceID(self.name, value.GetID() if value else None)

    def read(self, node: Any) -> Any:
        if not node.HasParameter(self.name):
            self.write(node, self.default)
        return node.GetNodeReference(self.name) if self.is_node else node.GetParameter(self.name)


class _NodeSelector:
    """Shows a node parameter in a qMRMLNodeComboBox."""

    def __init__(self, widget: Any, parameter: _Parameter) -> None:
        if not parameter.is_node or type(widget) is not slicer.qMRMLNodeComboBox:
            message = (
                f"Unable to create GUI connector from datatype '{parameter.kind}' to widget type "
                f"'{type(widget)}'"
            )
            raise RuntimeError(message)
        self.widget = widget
        self._callback: Callable[[], None] | None = None
        widget.nodeTypes = [parameter.kind.__name__]

    def on_changed(self, callback: Callable[[], None]) -> None:
        self._callback = callback
        self.widget.currentNodeChanged.connect(self._changed)

    def disconnect(self) -> None:
        self.widget.currentNodeChanged.disconnect(self._changed)
        self._callback = None

    def _changed(self, _node: Any) -> None:
        if self._callback:
            self._callback()


class _Wrapper:
    """The methods that every wrapper class gets."""

    allParameters: dict[str, _Parameter]

    def __init__(self, parameterNode: Any) -> None:
        self.parameterNode = parameterNode
        self._guis: dict[int, dict[str, _NodeSelector]] = {}
        self._tags = 0
        self._updating_gui = False
        for parameter in self.allParameters.values():
            parameter.read(parameterNode)
        self._observer = parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, _weakly(self._modified))

    def __del__(self) -> None:
        if "_observer" in self.__dict__:
            self.parameterNode.RemoveObserver(self._observer)

    def getValue(self, name: str) -> Any:
        """Return the value of a parameter; the default where the node lost it."""
        return self._parameter(name).read(self.parameterNode)

    def setValue(self, name: str, value: Any) -> None:
        """Check and set a parameter; observers see the new value.

        Raises:
            ValueError: There is no such parameter, or it does not take the value.
            TypeError: The value has another type.
        """
        parameter = self._parameter(name)
        with slicer.util.NodeModify(self.parameterNode):
            parameter.write(self.parameterNode, value)

    def connectGui(self, gui: Any) -> int:
        """Bind all widgets that name a parameter in the property SlicerParameterName.

        Args:
            gui: The object that `slicer.util.childWidgetVariables` gives.

        Returns:
            Tag for `disconnectGui`.

        Raises:
            ValueError: There is no such parameter.
            RuntimeError: The widget cannot show the parameter's type.
        """
        named = {widget.property("SlicerParameterName"): widget for widget in vars(gui).values()}
        selectors = {name: _NodeSelector(named[name], self._parameter(name)) for name in named if name}
        self._tags += 1
        self._guis[self._tags] = selectors
        for name, selector in selectors.items():
            selector.widget.setCurrentNode(self.getValue(name))
            selector.on_changed(self._from_gui(name, selector))
        return self._tags

    def disconnectGui(self, guiTag: int | None) -> None:
        """Release the widgets of one `connectGui`."""
        for selector in self._guis.pop(guiTag, {}).values():  # type: ignore[arg-type]
            selector.disconnect()

    @classmethod
    def _parameter(cls, name: str) -> _Parameter:
        if name not in cls.allParameters:
            message = f"Cannot find a param with the given name: {name}; found {list(cls.allParameters)}"
            raise ValueError(message)
        return cls.allParameters[name]

    def _modified(self) -> None:
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            with slicer.util.NodeModify(self.parameterNode):
                for selectors in list(self._guis.values()):
                    for name, selector in selectors.items():
                        selector.widget.setCurrentNode(self.getValue(name))
        finally:
            self._updating_gui = False

    def _from_gui(self, name: str, selector: _NodeSelector) -> Callable[[], None]:
        def write() -> None:
            if not self._updating_gui:
                self.setValue(name, selector.widget.currentNode())

        return write


def parameterNodeWrapper(classtype: type) -> type:
    """Class decorator: make parameters of a parameter node of the annotated attributes.

    Raises:
        TypeError: A parameter has a type or annotation that is not offered.
        ValueError: A parameter or attribute has a reserved name.
    """
    hints = typing.get_type_hints(classtype, include_extras=True)
    taken = _RESERVED & (set(hints) | set(vars(classtype)))
    if taken:
        message = f"Cannot use reserved name '{min(taken)}' in a parameterNodeWrapper"
        raise ValueError(message)
    parameters = {name: _described(name, hint, classtype) for name, hint in hints.items()}
    members = {name: _attribute(name) for name in parameters} | {"allParameters": parameters}
    return type(classtype.__name__, (classtype, _Wrapper), members)


def _described(name: str, annotated: Any, classtype: type) -> _Parameter:
    kind, *annotations = (
        typing.get_args(annotated) if typing.get_origin(annotated) is typing.Annotated else (annotated,)
    )
    if not isinstance(kind, type) or not (kind is str or issubclass(kind, slicer.vtkMRMLNode)):
        message = f"Unable to create serializer for member {name} of type {kind}"
        raise TypeError(message)
    unknown = [annotation for annotation in annotations if not isinstance(annotation, Choice)]
    if unknown:
        message = f"Unused annotation on {name}: {unknown[0]!r}"
        raise TypeError(message)
    choices = annotations[-1].choices if annotations else None
    return _Parameter(name, kind, choices, getattr(classtype, name, "" if kind is str else None))


def _attribute(name: str) -> property:
    return property(lambda self: self.getValue(name), lambda self, value: self.setValue(name, value))


def _weakly(method: Callable[[], None]) -> Callable[..., None]:
    reference = weakref.WeakMethod(method)

    def call(_caller: Any, _event: str) -> None:
        target = reference()
        if target is not None:
            target()

    return call
