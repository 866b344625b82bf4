"""The class decorator that turns annotations into parameters of a parameter node."""

from __future__ import annotations

import typing
import weakref
from collections.abc import Callable
from typing import Any

import slicer
import vtk
from slicer.parameterNodeWrapper.connectors import GuiConnector, createGuiConnector
from slicer.parameterNodeWrapper.serializers import Parameter, make_parameter

SlicerParameterNamePropertyName = "SlicerParameterName"


def parameterNodeWrapper(classtype: type | None = None) -> Any:
    """Make a wrapper class of an annotated class.

    Raises:
        TypeError: A parameter has a type or annotation that is not known.
        ValueError: A parameter or attribute has a reserved name.
    """
    return _process_class if classtype is None else _process_class(classtype)


def isParameterNodeWrapper(classOrObj: Any) -> bool:
    """Whether it is a wrapper class or an object of one."""
    return getattr(classOrObj, "_is_parameter_node_wrapper", False)


def findChildWidgetForParameter(widget: Any, parameter: str) -> Any:
    """The child widget that is bound to a parameter, or None."""
    import qt

    for child in widget.findChildren(qt.QWidget):
        if child.property(SlicerParameterNamePropertyName) == parameter:
            return child
    return None


class _Wrapper:
    """The methods that every wrapper class gets."""

    allParameters: dict[str, Parameter]
    _is_parameter_node_wrapper = True

    def __init__(self, parameterNode: Any, prefix: str | None = None) -> None:
        if prefix is not None:
            message = "prefixes are not offered by the host"
            raise TypeError(message)
        self.parameterNode = parameterNode
        self._values: dict[str, Any] = {}
        self._guis: dict[int, dict[str, GuiConnector]] = {}
        self._next_tag = 0
        self._writing = False
        self._updating_gui = False
        for parameter in self.allParameters.values():
            if not parameter.serializer.is_in(parameterNode, parameter.name):
                parameter.write(parameterNode, parameter.default)
        self._read_all()
        self._observer = parameterNode.AddObserver(vtk.vtkCommand.ModifiedEvent, _call_weakly(self._modified))

    def __del__(self) -> None:
        if "_observer" in self.__dict__:
            self.parameterNode.RemoveObserver(self._observer)

    def default(self, paramName: str) -> Any:
        """The default of a parameter, in an object with `value`."""
        from slicer.parameterNodeWrapper.serializers import Default

        return Default(self._parameter(paramName).default)

    def isCached(self, paramName: str) -> bool:
        """Whether values are cached; those of all types here are."""
        self._parameter(paramName)
        return True

    @classmethod
    def dataType(cls, paramName: str) -> Any:
        """The type of a parameter as it was written."""
        return cls._parameter(paramName).annotated_type

    def getValue(self, name: str) -> Any:
        """The value of a parameter."""
        self._parameter(name)
        return self._values[name]

    def setValue(self, name: str, value: Any) -> None:
        """Check and set a parameter; observers see the new value."""
        parameter = self._parameter(name)
        self._writing = True
        try:
            with slicer.util.NodeModify(self.parameterNode):
                parameter.write(self.parameterNode, value)
                self._values[name] = parameter.read(self.parameterNode)
        finally:
            self._writing = False

    def connectGui(self, gui: Any) -> int:
        """Bind all widgets that name a parameter in the property SlicerParameterName.

        Args:
            gui: A widget, or the object that `slicer.util.childWidgetVariables` gives.

        Returns:
            Tag for `disconnectGui`.
        """
        import qt

        is_widget = getattr(gui, "isWidgetType", lambda: False)()
        widgets = gui.findChildren(qt.QWidget) if is_widget else gui.__dict__.values()
        named = {widget.property(SlicerParameterNamePropertyName): widget for widget in widgets}
        return self.connectParametersToGui({name: widget for name, widget in named.items() if name})

    def connectParametersToGui(self, mapping: dict[str, Any]) -> int:
        """Bind parameters to widgets or connectors.

        Raises:
            ValueError: There is no such parameter.
            RuntimeError: The widget cannot show the parameter's type.
        """
        for name in mapping:
            self._parameter(name)
        connectors = {
            name: widget
            if isinstance(widget, GuiConnector)
            else createGuiConnector(widget, self.dataType(name))
            for name, widget in mapping.items()
        }
        tag = self._next_tag
        self._next_tag += 1
        self._guis[tag] = connectors
        for name, connector in connectors.items():
            connector.write(self.getValue(name))
            connector.onChanged(self._from_gui(name, connector))
        return tag

    def disconnectGui(self, guiTag: int | None) -> None:
        """Release the widgets of one `connectGui`."""
        for connector in self._guis.pop(guiTag, {}).values():  # type: ignore[arg-type]
            connector.onChanged(None)

    def StartModify(self) -> int:
        """Hold events of the node back."""
        return self.parameterNode.StartModify()

    def EndModify(self, wasModified: int) -> int:
        """Let held events go."""
        return self.parameterNode.EndModify(wasModified)

    def AddObserver(self, event: Any, callback: Callable[..., Any], priority: float = 0.0) -> int:
        """Observe the parameter node."""
        return self.parameterNode.AddObserver(event, callback, priority)

    def RemoveObserver(self, tag: int) -> None:
        """Stop observing."""
        self.parameterNode.RemoveObserver(tag)

    def Modified(self) -> None:
        """Tell the observers that something changed."""
        self.parameterNode.Modified()

    @classmethod
    def _parameter(cls, name: str) -> Parameter:
        if name not in cls.allParameters:
            message = f"Cannot find a param with the given name: {name}; found {list(cls.allParameters)}"
            raise ValueError(message)
        return cls.allParameters[name]

    def _read_all(self) -> None:
        self._values = {name: p.read(self.parameterNode) for name, p in self.allParameters.items()}

    def _modified(self) -> None:
        if not self._writing:
            self._read_all()
        if self._updating_gui:
            return
        self._updating_gui = True
        try:
            with slicer.util.NodeModify(self):
                for connectors in list(self._guis.values()):
                    for name, connector in connectors.items():
                        connector.write(self.getValue(name))
        finally:
            self._updating_gui = False

    def _from_gui(self, name: str, connector: GuiConnector) -> Callable[[], None]:
        def write() -> None:
            if not self._updating_gui:
                with slicer.util.NodeModify(self):
                    self.setValue(name, connector.read())

        return write


def _call_weakly(method: Callable[[], None]) -> Callable[..., None]:
    reference = weakref.WeakMethod(method)

    def call(caller: Any, event: str) -> None:
        target = reference()
        if target is not None:
            target()

    return call


def _process_class(classtype: type) -> type:
    reserved = {name for name in vars(_Wrapper) if not name.startswith("__")}
    taken = reserved & (set(vars(classtype)) | set(vars(classtype).get("__annotations__", {})))
    if taken:
        message = f"Cannot use reserved name '{min(taken)}' in a parameterNodeWrapper"
        raise ValueError(message)
    parameters = {}
    for name, annotated in typing.get_type_hints(classtype, include_extras=True).items():
        class_default = (getattr(classtype, name),) if hasattr(classtype, name) else ()
        parameters[name] = make_parameter(name, annotated, *class_default)
    for name, value in vars(_Wrapper).items():
        if name in ("__init__", "__del__") or not name.startswith("__"):
            setattr(classtype, name, value)
    classtype.allParameters = parameters  # type: ignore[attr-defined]
    for name in parameters:
        setattr(classtype, name, _property(name))
    return classtype


def _property(name: str) -> property:
    return property(
        lambda self: self.getValue(name),
        lambda self, value: self.setValue(name, value),
    )
