"""Qt properties as Python attributes, as PythonQt shows them."""

from __future__ import annotations

from typing import Any

_STATIC_NAMES = {("QTimer", "singleShot")}


def show_properties(qt_class: type) -> None:
    """Replace the getters of a class' own Qt properties by read-write Python properties."""
    meta = qt_class.staticMetaObject  # type: ignore[attr-defined]
    for index in range(meta.propertyOffset(), meta.propertyCount()):
        qt_property = meta.property(index)
        name = qt_property.name()
        if (qt_class.__name__, name) in _STATIC_NAMES:
            continue
        setattr(qt_class, name, _attribute(qt_class, name, qt_property.isWritable()))


def show_name(qt_object_class: type) -> None:
    """Return all objects `name` for `objectName` and the method `className`."""
    qt_object_class.name = property(  # type: ignore[attr-defined]
        lambda self: self.property("objectName"),
        lambda self, value: self.setProperty("objectName", value),
    )
    qt_object_class.className = lambda self: self.metaObject().className()  # type: ignore[attr-defined]


def _attribute(qt_class: type, name: str, writable: bool) -> property:
    capital = name[0].upper() + name[1:]
    own = vars(qt_class)
    candidates = (own.get(key) for key in (name, f"is{capital}", f"get{capital}"))
    getter = next((found for found in candidates if found and not isinstance(found, property)), None)
    setter = own.get(f"set{capital}")

    def read(self: Any) -> Any:
        return getter(self) if callable(getter) else self.property(name)

    def write(self: Any, value: Any) -> None:
        if not writable:
            message = f"property {name} of {type(self).__name__} cannot be written"
            raise AttributeError(message)
        if callable(setter):
            setter(self, value)
        elif not self.setProperty(name, value):
            message = f"property {name} of {type(self).__name__} does not take {value!r}"
            raise TypeError(message)

    return property(read, write)
