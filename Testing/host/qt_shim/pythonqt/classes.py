"""The Qt classes under PythonQt's manners, each a Python subclass of PySide6's class."""

from __future__ import annotations

from typing import Any

from PySide6 import QtCore, QtGui, QtWidgets

from pythonqt import connections, properties

_MODULES = (QtCore, QtGui, QtWidgets)
_UNTOUCHED = {"QCoreApplication", "QGuiApplication", "QApplication"}
_find_children, _find_child = QtCore.QObject.findChildren, QtCore.QObject.findChild
_made: dict[str, type] = {}


def _is_instance(cls: type, instance: Any) -> bool:
    return type.__instancecheck__(cls, instance) or isinstance(instance, cls.__dict__.get("qt_class", ()))


def _is_subclass(cls: type, derived: type) -> bool:
    return type.__subclasscheck__(cls, derived) or issubclass(derived, cls.__dict__.get("qt_class", ()))


def _adopt(cls: type) -> None:
    """PySide6 looks `connect` up in the class itself and not in its bases: each class gets its own."""
    cls.connect, cls.disconnect = connections.connect, connections.disconnect  # type: ignore[attr-defined]


def _set_attribute(qt_class: Any) -> Any:
    def set_attribute(self: Any, name: str, value: Any) -> None:
        is_own = name.startswith("_") or not type(self).__dict__.get("is_stand_in")
        if not is_own and not hasattr(type(self), name):
            message = f"{type(self).__name__} has no attribute {name}"
            raise AttributeError(message)
        qt_class.__setattr__(self, name, value)

    return set_attribute


def _underlying(qt_class: Any) -> Any:
    return qt_class.__dict__.get("qt_class", qt_class) if isinstance(qt_class, type) else qt_class


def _all_children(self: Any, qt_class: Any = QtCore.QObject, *rest: Any) -> Any:
    return _find_children(self, _underlying(qt_class), *rest)


def _one_child(self: Any, qt_class: Any = QtCore.QObject, *rest: Any) -> Any:
    return _find_child(self, _underlying(qt_class), *rest)


def manners(qt_class: type) -> dict[str, Any]:
    """Class attributes that give a Qt class the manners of PythonQt."""
    return {
        "connect": connections.connect,
        "disconnect": connections.disconnect,
        "__init_subclass__": classmethod(_adopt),
        "findChildren": _all_children,
        "findChild": _one_child,
        "__setattr__": _set_attribute(qt_class),
        "is_stand_in": True,
        "qt_class": qt_class,
    }


def stand_in(cls: type) -> type:
    """Class decorator: a stand-in for a C++ widget class, to which Python code can add no attributes."""
    cls.is_stand_in = True  # type: ignore[attr-defined]
    return cls


def exported_names() -> dict[str, Any]:
    """Everything that `import qt` offers."""
    names: dict[str, Any] = {}
    for module in _MODULES:
        names.update({name: getattr(module, name) for name in dir(module) if not name.startswith("_")})
    names.update(_classes())
    return names


def _classes() -> dict[str, type]:
    if not _made:
        found = _object_classes()
        for qt_class in found.values():
            properties.show_properties(qt_class)
        properties.show_name(QtCore.QObject)
        # Siblings in Python that are base and derived class in Qt; a metaclass of our own would make
        # PySide6 skip its check for deleted objects, so the one it has learns it.
        meta: Any = type(QtCore.QObject)
        meta.__instancecheck__, meta.__subclasscheck__ = _is_instance, _is_subclass
        for name, qt_class in found.items():
            try:
                _made[name] = meta(name, (qt_class,), manners(qt_class))
            except TypeError:
                continue
    return _made


def _object_classes() -> dict[str, type]:
    found = {}
    for module in _MODULES:
        for name in dir(module):
            value = getattr(module, name)
            if isinstance(value, type) and issubclass(value, QtCore.QObject) and name not in _UNTOUCHED:
                found[name] = value
    return found
