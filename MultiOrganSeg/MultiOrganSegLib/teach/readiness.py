"""Whether a project is ready for a training."""

from __future__ import annotations

from html import escape

from slicer.i18n import tr as _

from multiorganseg.errors import TrainingError
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from MultiOrganSegLib.teach.training_run import TrainingRun


def readiness(project: Project, organs: tuple[str, ...], base: str) -> str:
    """Say in HTML how many cases there are to learn each organ from."""
    if not organs:
        return _("The base model {base} knows all organs of the project: add one in step 1.").format(
            base=base
        )
    parts = []
    for key in organs:
        counts = project.matrix.counts(key)
        parts.append(
            _("<b>{organ}</b>: {annotated} annotated, {absent} absent, {unknown} unknown").format(
                organ=escape(project.catalogue.get(key).name),
                annotated=counts[LabelStatus.ANNOTATED],
                absent=counts[LabelStatus.ABSENT],
                unknown=counts[LabelStatus.UNKNOWN] + counts[LabelStatus.PSEUDO],
            )
        )
    return "<br>".join(parts)


def require_annotated(project: Project, organs: tuple[str, ...]) -> None:
    """Refuse a training without an organ, or with one that is annotated nowhere.

    Raises:
        TrainingError: It is so.
    """
    if not organs:
        raise TrainingError(
            _("There is no organ to teach."), next_step=_("Add one that the base model lacks, in step 1.")
        )
    for key in organs:
        if not project.matrix.count(key, LabelStatus.ANNOTATED):
            raise TrainingError(
                _("{organ} is annotated in no case.").format(organ=project.catalogue.get(key).name),
                next_step=_(
                    "Annotate it in step 2: three cases for a first try, five to ten for a good model."
                ),
            )


def not_started_here(run: TrainingRun) -> TrainingError:
    """The error for a training whose options are not known."""
    return TrainingError(
        _("{run} was not started in Slicer.").format(run=run.name),
        cause=_("The options that it was started with are not known here."),
        next_step=_("Go on with it by the command that started it, or discard it and train anew."),
    )
