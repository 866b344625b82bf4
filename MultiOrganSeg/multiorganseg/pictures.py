"""Pictures are drawn last, and one that fails costs nothing but itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable

from multiorganseg.errors import Cancelled


class PictureWarning(UserWarning):
    """A picture could not be drawn; everything else was written."""


def drawn(what: str, draw: Callable[[], object]) -> bool:
    """Draw a picture; whatever hinders it, such as a missing package, is a `PictureWarning`.

    Args:
        what: The picture, for people.
        draw: Draws it.

    Returns:
        Whether it is there.

    Raises:
        Cancelled: The user cancelled.
    """
    try:
        draw()
    except Cancelled:
        raise
    except Exception as error:
        message = f"{what} could not be drawn: {type(error).__name__}: {error}"
        warnings.warn(message, PictureWarning, stacklevel=2)
        return False
    return True
