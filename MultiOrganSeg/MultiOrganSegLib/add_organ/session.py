"""The project that is open: what it holds, its base model, and commands that change it."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import slicer
from slicer.i18n import tr as _

from multiorganseg.bundles import Bundle
from multiorganseg.earlier import SLICER_NAMES
from multiorganseg.errors import BundleError, MultiOrganSegError
from multiorganseg.needs import ADD_ORGAN
from multiorganseg.projects.file import is_project, load_project
from multiorganseg.projects.project import Project
from MultiOrganSegLib.add_organ.trainer import Command, CommandQueue
from MultiOrganSegLib.dependencies import ensure_dependencies, missing_packages, readable_bundles

_FOLDER = "MultiOrganSeg/Project"
_BASES = "MultiOrganSeg/BaseModels"
DEFAULT_BASE = "abdomen-ct"


class Session:
    """One project at a time; which one, and its base model, is remembered in the application's settings.

    Attributes:
        project: As it was read last; None while none is open.
        bundles: Models of this computer by name; the user's own before the bundled ones.
        base: Name of the base model.
        queue: Commands under way.
    """

    def __init__(self) -> None:
        self.project: Project | None = None
        self.bundles: dict[str, Bundle] = {}
        self.base = DEFAULT_BASE
        self.queue = CommandQueue()

    @property
    def new_organs(self) -> tuple[str, ...]:
        """Organs of the project that the base lacks."""
        bundle = self.bundles.get(self.base)
        known = bundle.metadata.labels.keys if bundle else ()
        return tuple(key for key in (self.project.keys if self.project else ()) if key not in known)

    def base_bundle(self) -> Bundle:
        """The base model.

        Raises:
            BundleError: It is not installed here.
        """
        if self.base in self.bundles:
            return self.bundles[self.base]
        raise BundleError(
            _("The base model {name} is not installed here.").format(name=self.base),
            next_step=_("Choose another one, or install it in the section Models."),
        )

    def ensure_readable(self) -> None:
        """Install what reading models and projects needs, after a question.

        Raises:
            DependencyError: It is not there, and was not installed.
        """
        if missing_packages(ADD_ORGAN):
            ensure_dependencies(entry=ADD_ORGAN)
            self.reload_bundles()

    def reload_bundles(self) -> None:
        """Read the models of this computer anew; damaged ones are left out."""
        found: dict[str, Bundle] = {}
        for entry in readable_bundles():
            if isinstance(entry, Bundle):
                found.setdefault(entry.folder.name, entry)
        self.bundles = found
        if self.base not in found and self.project is None and found:
            self.base = next(iter(found))

    def reopen(self) -> None:
        """Open the project that was open last, if it is still there.

        Raises:
            TrainingError: It is there, but cannot be used.
        """
        last = _setting(_FOLDER)
        if last and is_project(Path(last)):
            self.open(Path(last))

    def open(self, folder: Path) -> None:
        """Open a project and remember it.

        Raises:
            TrainingError: There is none, or it cannot be used; what was open stays open.
        """
        self.project = load_project(folder.absolute())
        slicer.app.userSettings().setValue(_FOLDER, str(self.project.folder))
        known = _bases().get(str(self.project.folder))
        self.base = known or self._likely_base()

    def reload(self) -> None:
        """Read the open project anew.

        Raises:
            TrainingError: It is gone or damaged; what was read before stays.
        """
        if self.project is not None:
            self.project = load_project(self.project.folder)

    def choose_base(self, name: str) -> None:
        """Take another base model, and remember it for this project."""
        self.base = name
        if self.project is not None:
            bases = {**_bases(), str(self.project.folder): name}
            slicer.app.userSettings().setValue(_BASES, json.dumps(bases))

    def command(
        self,
        text: str,
        arguments: Sequence[str],
        done: Callable[[Sequence[str]], None] = lambda warnings: None,
        finally_: Callable[[], None] = lambda: None,
    ) -> None:
        """Let a command change the project; `done` gets its warnings, after the project was read anew."""

        def reread(warnings: Sequence[str]) -> None:
            self.reload()
            done(warnings)

        self.queue.add(Command(text, arguments, reread, finally_))

    def poll(self) -> MultiOrganSegError | None:
        """Take what has ended and start what waits; gives the error of a command that failed."""
        try:
            self.queue.poll()
        except MultiOrganSegError as error:
            return error
        return None

    def _likely_base(self) -> str:
        """The largest model of organs that the project has, first one that lacks some; else the default."""
        keys = set(self.project.keys) if self.project else set()
        ranks = {
            name: (organs < keys, len(organs))
            for name, bundle in self.bundles.items()
            if (organs := set(bundle.metadata.labels.keys)) <= keys
        }
        return max(ranks, key=lambda name: ranks[name], default=DEFAULT_BASE)


def _setting(name: str) -> str:
    settings = slicer.app.userSettings()
    return str(settings.value(name, "") or settings.value(SLICER_NAMES[name], "") or "")


def _bases() -> dict[str, str]:
    try:
        data = json.loads(_setting(_BASES) or "{}")
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
