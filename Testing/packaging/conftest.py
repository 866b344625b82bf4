"""The extension's package, made once by a stub of Slicer's CMake package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path += [str(ROOT / "Testing" / name) for name in ("packaging", "slicer")]
STUB = ROOT / "Testing" / "packaging" / "slicer_cmake"
LAUNCHER = ROOT / "Testing" / "host" / "launcher.py"
SOURCES = ("CMakeLists.txt", "MultiOrganSeg", "Resources", "Training", "README.md", "LICENSE")
REVISION, DATE = "0123456", "2025-01-31"
NO_COMPILER = [
    f"-DCMAKE_{language}_COMPILER{key}"
    for language in ("C", "CXX")
    for key in (f"={shutil.which('true')}", "_FORCED=1", "_ID_RUN=1")
]
"""CMake looks for compilers that an extension of Python files does not use."""


@dataclass(frozen=True)
class Package:
    """The extension after `cmake`, `cmake --build`, and `cpack`.

    Attributes:
        source: A copy of what the extension is built from, apart from the checkout.
        build: CMake's folder.
        archive: The package.
        unpacked: What was in it.
    """

    source: Path
    build: Path
    archive: Path
    unpacked: Path

    @property
    def module_folder(self) -> Path:
        """Where the module lies in the unpacked package."""
        return self.unpacked / "lib" / "Slicer-5.12" / "qt-scripted-modules"

    def install(self, prefix: Path) -> None:
        """Install the built extension under a folder."""
        _run(_tool("cmake"), "--install", self.build, "--prefix", prefix)

    def ctest(self) -> str:
        """Run the extension's own tests through the stand-in launcher and give the output."""
        built = self.build / self.module_folder.relative_to(self.unpacked)
        environment = {**os.environ, "PYTHONPATH": str(built)}
        return _run(
            *(_tool("ctest"), "--output-on-failure", "--no-tests=error", "--verbose"),
            cwd=self.build,
            environment=environment,
        )


def _run(*command: str | Path, cwd: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command and give its output; show the output if it fails."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def _tool(name: str) -> str:
    """Path of cmake, cpack or ctest, from the environment of this Python or from the system."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.is_file() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not installed: pip install -e .[slicer-test]")
    return found


def _configure(source: Path, build: Path) -> None:
    """Configure the extension in `source` against the stub."""
    _run(
        _tool("cmake"),
        f"-DSlicer_DIR={STUB}",
        f"-DSlicer_LAUNCHER_EXECUTABLE={sys.executable};{LAUNCHER}",
        f"-DMultiOrganSeg_WC_REVISION={REVISION}",
        f"-DMultiOrganSeg_BUILDDATE={DATE}",
        *NO_COMPILER,
        *("-S", source, "-B", build),
    )


@pytest.fixture
def configure() -> Callable[[Path, Path], None]:
    return _configure


@pytest.fixture(scope="session")
def package(tmp_path_factory) -> Package:
    folder = tmp_path_factory.mktemp("extension")
    source, build, unpacked = folder / "source", folder / "build", folder / "unpacked"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy2(ROOT / name, source / name)
    _configure(source, build)
    _run(_tool("cmake"), "--build", build)
    _run(_tool("cpack"), cwd=build)
    (archive,) = build.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(unpacked, filter="data")
    (inner,) = unpacked.iterdir()
    return Package(source, build, archive, inner)
