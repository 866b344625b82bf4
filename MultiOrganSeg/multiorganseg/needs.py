"""What each entry point needs of Python packages: the one list, which whoever starts it asks before.

Packages stand by the names of their distributions. What 3D Slicer brings is not named: numpy, scipy,
SimpleITK, pydicom, highdicom, packaging, requests and Pillow. Tests compare the list with what is imported,
with `Resources/requirements.txt` of the extension and with `pyproject.toml`.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterable

from multiorganseg.errors import DependencyError

TORCH = "torch"
_COMMAND_LINE = ("typer", "rich", "psutil")
BUNDLES = ("msgspec", "platformdirs")
"""For reading models and projects, which an open module lists once they are there."""

_NETWORK = (TORCH, "monai", "safetensors", "connected-components-3d", *BUNDLES)
_TOML = () if sys.version_info >= (3, 11) else ("tomli",)

OPEN, DEVICE, SEGMENT, SERVER = "open", "device", "segment", "server"
ADD_ORGAN, TRAIN = "add_organ", "train"

NEEDS: dict[str, tuple[str, ...]] = {
    OPEN: (),
    DEVICE: (*_NETWORK, "psutil"),
    SEGMENT: (*_NETWORK, *_COMMAND_LINE),
    SERVER: (*_COMMAND_LINE, "connected-components-3d"),
    ADD_ORGAN: (*_NETWORK, *_COMMAND_LINE, "filelock", *_TOML),
    TRAIN: (*_NETWORK, *_COMMAND_LINE, "filelock", *_TOML),
}
"""By entry point: "open" the module, show results, load the phantom or the sample CT; ask for the "device";
"segment"; let a "server" do so; "add_organ", a project's short commands; "train" and compare old with new."""

PICTURES = ("matplotlib",)
"""For previews, and for the pictures of a report. Without them the rest is written all the same."""

_IMPORT_NAMES = {"connected-components-3d": "cc3d"}


def import_name(package: str) -> str:
    """The name by which a package is imported."""
    return _IMPORT_NAMES.get(package, package)


def every_package() -> tuple[str, ...]:
    """All packages of all entry points, PyTorch first."""
    return tuple(dict.fromkeys([*(name for needed in NEEDS.values() for name in needed), *PICTURES]))


def missing(packages: Iterable[str]) -> list[str]:
    """Return those that are not installed, in their order; none is imported."""
    return [name for name in packages if importlib.util.find_spec(import_name(name)) is None]


def require(packages: Iterable[str]) -> None:
    """Refuse to go on without packages; none is imported.

    Raises:
        DependencyError: One is not installed.
    """
    lacking = missing(packages)
    if lacking:
        message = f"Python packages are missing: {', '.join(lacking)}."
        raise DependencyError(
            message,
            cause="Without them no model and no project is read.",
            next_step="In 3D Slicer press Install in the module's panel; elsewhere: "
            f"pip install {' '.join(lacking)}",
        )
