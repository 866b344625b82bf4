"""Stands for `slicer.i18n`: texts go through the application's translator."""

from __future__ import annotations

import inspect
from pathlib import Path


def translate(context: str, text: str) -> str:
    """The text in the application's language."""
    import slicer

    if not isinstance(text, str):
        message = f"only text can be translated, not {text!r}"
        raise TypeError(message)
    return slicer.app.translate(context, text)


def tr(text: str) -> str:
    """The text in the application's language; the context is the calling file's name."""
    caller = inspect.currentframe().f_back  # type: ignore[union-attr]
    return translate(getContext(caller.f_code.co_filename), text)  # type: ignore[union-attr]


def getContext(sourceFile: str) -> str:
    """Translation context of a file: its name, after the package's name where there is a package."""
    path = Path(sourceFile)
    if (path.parent / "__init__.py").is_file():
        return f"{path.parent.name}.{path.stem}"
    return path.stem
