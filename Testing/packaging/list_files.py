"""Writes MultiOrganSeg/files.cmake, the list of all files of the extension's package: `make package-list`."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = "MultiOrganSeg"
SHARED = ("Resources/Models", "Resources/Organs", "Training/multiorganseg_training", "Training/recipes")
TARGET = Path(MODULE) / "files.cmake"
BUILD_FILES = frozenset({"CMakeLists.txt", TARGET.name})
HEADER = "# Written by `make package-list`: every file of the package. Do not edit.\n"


def list_package(root: Path) -> dict[str, list[str]]:
    """Return the package's files: scripts and resources from the module's folder, shared ones from `root`.

    Compiled Python, hidden files and CMake's own files do not count.
    """
    module = [path for path in _files(root / MODULE) if path not in BUILD_FILES]
    return {
        "MODULE_SCRIPTS": [path for path in module if path.endswith(".py")],
        "MODULE_RESOURCES": [path for path in module if not path.endswith(".py")],
        "SHARED_RESOURCES": [f"{folder}/{path}" for folder in SHARED for path in _files(root / folder)],
    }


def package_list_text(root: Path) -> str:
    """Return the text that files.cmake should have."""
    blocks = [
        "\n".join([f"set({name}", *(f"  {path}" for path in paths), "  )\n"])
        for name, paths in list_package(root).items()
    ]
    return "\n".join([HEADER, *blocks])


def _files(folder: Path) -> list[str]:
    relative = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    return sorted(
        path.as_posix()
        for path in relative
        if not any(part == "__pycache__" or part.startswith(".") for part in path.parts)
    )


if __name__ == "__main__":
    (ROOT / TARGET).write_text(package_list_text(ROOT), encoding="utf-8", newline="\n")
