"""The Python packages that Slicer does not bring: which are missing, and getting them after one question."""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import slicer
from slicer.i18n import tr as _

from multiorganseg import needs
from multiorganseg.errors import DependencyError
from multiorganseg.needs import TORCH

if TYPE_CHECKING:
    from multiorganseg.bundles import Bundle, BundleProblem

REQUIREMENTS = Path(__file__).resolve().parents[1] / "Resources" / "requirements.txt"
TORCH_VERSION = ">=2.4"
DICOM_EXPORT = "highdicom"
LEAST_PYDICOM = 3
WHEELS = "multiorganseg-wheels"
_KEPT = (
    *("torch", "torchvision", "torchaudio", "numpy", "scipy", "SimpleITK", "pydicom", "highdicom", "pillow"),
    *("vtk", "requests"),
)
"""What pip must leave as it is: the PyTorch build for the graphics card, and what Slicer itself runs with."""


def missing_packages(entry: str | None = None) -> list[str]:
    """Return the missing packages that an entry point needs, PyTorch first; imports none of them.

    Args:
        entry: A key of `multiorganseg.needs.NEEDS`; None for all that the extension needs.
    """
    return needs.missing(needs.every_package() if entry is None else needs.NEEDS[entry])


def ensure_dependencies(ask: bool = True, entry: str | None = None) -> None:
    """Install everything that is missing, after one question, if an entry point lacks anything.

    PyTorch comes by the extension of that name, which chooses the build for the graphics card; it comes
    first, since other packages would bring a build of their own choice.

    Args:
        ask: Whether the user is asked before.
        entry: What is about to be done, a key of `multiorganseg.needs.NEEDS`; None for all.

    Raises:
        DependencyError: The user declined, the network or a package does not answer, or Slicer runs tests,
            in which nothing is installed. The next step says how to get the packages without a network.
    """
    if not missing_packages(entry):
        return
    missing = missing_packages()
    _confirm(missing, ask)
    if TORCH in missing:
        _install(_install_torch, missing)
    others = [name for name in missing if name != TORCH]
    if others:
        _install(lambda: _pip_install(others), missing)
    importlib.invalidate_caches()
    left = missing_packages(entry)
    if left:
        raise _not_installed(left, _("The installation ended, but these packages are still not there."))


def ensure_dicom_export(ask: bool = True) -> None:
    """Install what exporting DICOM SEG needs beyond segmenting.

    Raises:
        DependencyError: As for `ensure_dependencies`; or Slicer's own pydicom is too old, which would have
            to be replaced under Slicer's DICOM modules.
    """
    if not needs.missing([DICOM_EXPORT]):
        return
    from importlib.metadata import version

    pydicom = version("pydicom")
    if int(pydicom.split(".")[0]) < LEAST_PYDICOM:
        raise DependencyError(
            _("DICOM SEG cannot be exported from this version of Slicer."),
            cause=_("It brings pydicom {version}; version {least} is needed.").format(
                version=pydicom, least=LEAST_PYDICOM
            ),
            next_step=_("Update to Slicer 5.12, or export a .seg.nrrd file."),
        )
    _confirm([DICOM_EXPORT], ask)
    _install(lambda: _pip_install([DICOM_EXPORT]), [DICOM_EXPORT])
    importlib.invalidate_caches()


def readable_bundles() -> list[Bundle | BundleProblem]:
    """Return the models of this computer, weights unread; none while packages for that are missing."""
    from multiorganseg.bundles import list_bundles

    return [] if needs.missing(needs.BUNDLES) else list_bundles(hashed=False)


def offline_steps(packages: Sequence[str]) -> str:
    """Return how to get packages onto a computer without a network: what to type, and where."""
    names = " ".join(f'"{TORCH}{TORCH_VERSION}"' if name == TORCH else name for name in packages)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    return _(
        "Without a network: on a connected computer with the same operating system run\n"
        "  python -m pip download --only-binary=:all: --python-version {version} --dest {folder} {names}\n"
        "copy the folder {folder} to this computer, and type in Slicer's Python console\n"
        "  slicer.util.pip_install('--no-index --find-links \"<path of {folder}>\" {names}')"
    ).format(version=version, folder=WHEELS, names=names)


def _confirm(packages: Sequence[str], ask: bool) -> None:
    if slicer.app.testingEnabled():
        raise _not_installed(packages, _("Slicer runs tests, in which nothing is installed."))
    if not ask:
        return
    question = _("MultiOrganSeg needs these Python packages, once: {packages}.\n\nDownload and install them?")
    agreed = slicer.util.confirmOkCancelDisplay(
        question.format(packages=", ".join(packages)), windowTitle=_("MultiOrganSeg: install packages")
    )
    if not agreed:
        raise _not_installed(packages, _("You declined the installation."))


def _install(install: Callable[[], None], packages: Sequence[str]) -> None:
    try:
        install()
    except (RuntimeError, OSError, ImportError, ValueError, subprocess.CalledProcessError) as error:
        raise _not_installed(packages, str(error)) from error


def _install_torch() -> None:
    try:
        from PyTorchUtils import PyTorchUtilsLogic
    except ImportError as error:
        raise DependencyError(
            _("PyTorch cannot be installed."),
            cause=_("The extension PyTorch, which chooses the build for your graphics card, is not there."),
            next_step=_("Install the extension PyTorch in the Extensions Manager, and restart Slicer.")
            + "\n"
            + offline_steps(missing_packages()),
        ) from error
    PyTorchUtilsLogic().installTorch(
        askConfirmation=False, forceComputationBackend=None, torchVersionRequirement=TORCH_VERSION
    )


def _pip_install(packages: Sequence[str]) -> None:
    """Through `slicer.packaging`, which Slicer has from 5.12 on and which shows progress; else plain pip."""
    with _constraints() as kept:
        if importlib.util.find_spec("slicer.packaging"):
            from slicer import packaging

            wanted = [line for line in packaging.load_requirements(REQUIREMENTS) if line.name in packages]
            packaging.pip_ensure(
                wanted or list(packages), constraints=kept, prompt_install=False, requester="MultiOrganSeg"
            )
        else:
            slicer.util.pip_install([*packages, "--constraint", str(kept)])


@contextmanager
def _constraints() -> Iterator[Path]:
    """Return a file of pip constraints that keep the installed versions of `_KEPT`."""
    from importlib.metadata import PackageNotFoundError, version

    lines = []
    for name in _KEPT:
        try:
            lines.append(f"{name}=={version(name)}\n")
        except PackageNotFoundError:
            continue
    with tempfile.TemporaryDirectory(prefix="multiorganseg-pip-") as folder:
        path = Path(folder) / "constraints.txt"
        path.write_text("".join(lines), encoding="utf-8")
        yield path


def _not_installed(packages: Sequence[str], cause: str) -> DependencyError:
    return DependencyError(
        _("Python packages are missing: {packages}.").format(packages=", ".join(packages)),
        cause=cause,
        next_step=_("Try again with a network.") + "\n" + offline_steps(packages),
    )
