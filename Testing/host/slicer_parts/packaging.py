"""Stands for `slicer.packaging`: decides and asks as the real one, but records instead of installing."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

Requirements = str | Requirement | Sequence[str | Requirement]

ensured: list[dict[str, Any]] = []
installed: list[list[str]] = []
_absent: set[str] = set()
_failure: list[BaseException] = []


def clear_records() -> None:
    """Forget what was asked for, which packages are hidden and which failure waits."""
    for record in (ensured, installed, _absent, _failure):
        record.clear()


def pretend_absent(*names: str) -> None:
    """Let `pip_check` find these packages missing, for a test."""
    _absent.update(names)


def fail_next_install(error: BaseException) -> None:
    """Let the next installation raise this, for a test."""
    _failure.append(error)


def load_requirements(path: str | Path) -> list[Requirement]:
    """Requirements of a file; comments and pip options are skipped."""
    lines = (line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines())
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pip_check(requirements: Requirements) -> bool:
    """Whether all requirements are met."""
    return all(_is_met(requirement) for requirement in _as_list(requirements))


def pip_ensure(
    requirements: Requirements,
    constraints: str | Path | None = None,
    skip_packages: list[str] | None = None,
    prompt_install: bool = True,
    prompt_restart: bool = True,
    requester: str | None = None,
    skip_in_testing: bool = True,
    show_progress: bool = True,
) -> None:
    """Ask for and "install" what is missing.

    Raises:
        RuntimeError: The user declined.
    """
    import slicer

    ensured.append({"requirements": [str(r) for r in _as_list(requirements)], "requester": requester})
    missing = [str(requirement) for requirement in _as_list(requirements) if not _is_met(requirement)]
    if not missing or (skip_in_testing and slicer.app.testingEnabled()):
        return
    if prompt_install:
        question = f"{len(missing)} Python packages need to be installed."
        title = f"{requester} - Install Python Packages" if requester else "Install Python Packages"
        if not slicer.util.confirmOkCancelDisplay(question, title, detailedText="\n".join(missing)):
            message = "User declined package installation"
            raise RuntimeError(message)
    pip_install(missing, constraints=constraints, requester=requester, show_progress=show_progress)


def pip_install(
    requirements: str | list[str],
    constraints: str | Path | None = None,
    no_deps_requirements: str | list[str] | None = None,
    skip_packages: list[str] | None = None,
    blocking: bool = True,
    show_progress: bool = True,
    requester: str | None = None,
    parent: Any = None,
    logCallback: Any = None,
    completedCallback: Any = None,
) -> None:
    """Record what would be installed; afterwards `pip_check` finds it."""
    wanted = requirements.split() if isinstance(requirements, str) else list(requirements)
    installed.append(wanted)
    if _failure:
        raise _failure.pop(0)
    _absent.difference_update(Requirement(text).name for text in wanted if not text.startswith("-"))


def pip_uninstall(requirements: str | list[str]) -> None:
    """Refused: no test may change the environment."""
    message = f"the host uninstalls nothing: {requirements}"
    raise RuntimeError(message)


def _as_list(requirements: Requirements) -> list[Requirement]:
    if isinstance(requirements, str | Requirement):
        requirements = [requirements]
    return [Requirement(item) if isinstance(item, str) else item for item in requirements]


def _is_met(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    if requirement.name in _absent:
        return False
    try:
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except PackageNotFoundError:
        return False
