"""`connect` and `disconnect` by signature text."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from typing import Any

from PySide6.QtCore import QMetaObject, QObject

_connect_in_pyside: Any = QObject.connect
_disconnect_in_pyside: Any = QObject.disconnect
_normal: Any = QMetaObject.normalizedSignature
_VTK_POINTER = re.compile(r"vtk\w+\s*\*")


def normal_signature(signature: str) -> str:
    """The signature as Qt writes it."""
    return bytes(_normal(signature).data()).decode()


def signal_of(sender: Any, signature: str) -> tuple[Any, int]:
    """The bound signal and the number of arguments that the signature names.

    Raises:
        ValueError: The object has no signal of that signature.
    """
    plain = _VTK_POINTER.sub("PyObject", signature)
    normal = normal_signature(plain)
    if sender.metaObject().indexOfSignal(normal) < 0:
        message = f"{type(sender).__name__} has no signal {signature}"
        raise ValueError(message)
    name, arguments = normal.rstrip(")").split("(", 1)
    return getattr(sender, name), len(arguments.split(",")) if arguments else 0


def connect(self: Any, signal: Any, *receiver: Any) -> Any:
    """Call a Python function, or a method of an object given with its slot name, at each signal.

    PySide6 comes here too, from `object.signal.connect(slot)`, with a sender or a coded signal first.

    Raises:
        ValueError: The object has no signal of that signature.
        TypeError: The receiver cannot be called.
    """
    if not isinstance(signal, str):
        return _connect_in_pyside(signal, *receiver)
    if signal[:1].isdigit():
        return _connect_in_pyside(self, signal, *receiver)
    bound, count = signal_of(self, signal)
    slot = receiver[0] if len(receiver) == 1 else getattr(receiver[0], receiver[1].split("(")[0])
    if not callable(slot):
        message = f"{slot!r} cannot be connected to {signal}: it is not callable"
        raise TypeError(message)
    call = _with_arguments(count, slot, min(count, _arguments_taken(slot)))
    self.__dict__.setdefault("_pythonqt_slots", []).append((signal, slot, call))
    bound.connect(call)
    return True


def disconnect(self: Any, signal: Any, *receiver: Any) -> Any:
    """End a connection, or all of a signal; whether there was one."""
    if not isinstance(signal, str):
        return _disconnect_in_pyside(signal, *receiver)
    if signal[:1].isdigit():
        return _disconnect_in_pyside(self, signal, *receiver)
    bound, _ = signal_of(self, signal)
    slots = self.__dict__.get("_pythonqt_slots", [])
    wanted = receiver[0] if len(receiver) == 1 else None
    if len(receiver) == 2:
        wanted = getattr(receiver[0], receiver[1].split("(")[0])
    ended = [entry for entry in slots if entry[0] == signal and wanted in (None, entry[1])]
    for entry in ended:
        bound.disconnect(entry[2])
        slots.remove(entry)
    return bool(ended)


def _with_arguments(count: int, slot: Callable[..., Any], taken: int) -> Callable[..., None]:
    """A function of exactly `count` arguments, by which PySide6 chooses among signals with defaults."""
    forms: list[Callable[..., None]] = [
        lambda: slot(),
        lambda a: slot(*(a,)[:taken]),
        lambda a, b: slot(*(a, b)[:taken]),
        lambda a, b, c: slot(*(a, b, c)[:taken]),
        lambda a, b, c, d: slot(*(a, b, c, d)[:taken]),
    ]
    return forms[count]


def _arguments_taken(slot: Callable[..., Any]) -> int:
    try:
        parameters = inspect.signature(slot).parameters.values()
    except (TypeError, ValueError):
        return 0
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return 99
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(parameter.kind in positional for parameter in parameters)
