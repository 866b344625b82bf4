"""What the panel calls things, and what it says of a volume and of a model."""

from __future__ import annotations

from typing import Any

from slicer.i18n import tr as _

from multiorganseg.bundles import Metadata
from multiorganseg.progress import Stage
from multiorganseg.projects.acceptance import Verdict
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.runs import RunState


def stage_text(stage: str) -> str:
    """Name a stage of the engine; one that is not known is given as it is."""
    return {
        "": _("Starting"),
        "starting": _("Starting"),
        Stage.READING: _("Reading the volume"),
        Stage.RESAMPLING: _("Resampling"),
        Stage.LOADING: _("Loading the network"),
        Stage.SEGMENTING: _("Segmenting"),
        Stage.CLEANING: _("Cleaning up"),
        Stage.RESTORING: _("Restoring the volume's grid"),
        Stage.MEASURING: _("Measuring"),
        Stage.WRITING: _("Writing the result"),
        "importing": _("Bringing the result into the scene"),
    }.get(stage, stage[:1].upper() + stage[1:])


def eta_text(seconds: float | None) -> str:
    """Return how long is left; empty when that is not known."""
    if seconds is None:
        return ""
    if seconds < 60:
        return _("about {seconds} s left").format(seconds=max(1, round(seconds)))
    return _("about {minutes} min left").format(minutes=max(1, round(seconds / 60)))


def flag_title(flag: str) -> str:
    """Name a quality flag in a few words."""
    return {
        "out_of_domain": _("unlike training"),
        "not_found": _("not found"),
        "left_right_inconsistent": _("sides swapped?"),
        "low_confidence": _("uncertain"),
        "fragmented": _("in pieces"),
        "volume_implausible": _("unusual volume"),
        "cut_by_field_of_view": _("cut off"),
        "corrected": _("corrected"),
        "beyond_training": _("cut where untaught"),
    }.get(flag, flag.replace("_", " "))


def flag_text(flag: str) -> str:
    """Explain a quality flag in a sentence."""
    return {
        "out_of_domain": _("The scan is unlike those that the network was trained on; see its warning."),
        "not_found": _("Not found in this image."),
        "left_right_inconsistent": _(
            "The left one does not lie to the left of the right one: sides may be swapped."
        ),
        "low_confidence": _("The network was uncertain; check the borders."),
        "fragmented": _("Fell into pieces; smaller pieces were removed."),
        "volume_implausible": _("The volume is outside the plausible range."),
        "cut_by_field_of_view": _("Reaches the edge of the image: incomplete, and the volume is too small."),
        "corrected": _("Corrected by hand and measured anew; the network's confidence no longer counts."),
        "beyond_training": _("Went on further up than the network was trained on; it is cut there."),
    }.get(flag, flag_title(flag))


def status_text(status: LabelStatus) -> str:
    """Name what is known of an organ in a case."""
    return {
        LabelStatus.ANNOTATED: _("annotated"),
        LabelStatus.ABSENT: _("absent"),
        LabelStatus.PSEUDO: _("by a model"),
        LabelStatus.UNKNOWN: _("unknown"),
    }[status]


def status_tip(status: LabelStatus) -> str:
    """Explain what is known of an organ in a case."""
    return {
        LabelStatus.ANNOTATED: _("Every voxel of the organ in this image is labelled."),
        LabelStatus.ABSENT: _("The image does not hold the organ."),
        LabelStatus.PSEUDO: _("Labelled by a model, and not checked by a person."),
        LabelStatus.UNKNOWN: _("Nobody has said anything of the organ in this image yet."),
    }[status]


def run_state_text(state: RunState) -> str:
    """Name the state of a training."""
    return {
        RunState.RUNNING: _("Running"),
        RunState.STOPPING: _("Saving and stopping"),
        RunState.PAUSED: _("Paused"),
        RunState.FINISHED: _("Finished"),
        RunState.FAILED: _("Failed"),
        RunState.INTERRUPTED: _("Interrupted"),
    }[state]


def verdict_text(verdict: Verdict) -> str:
    """Name the verdict on an organ."""
    return {
        Verdict.PASS: _("passed"),
        Verdict.FAIL: _("failed"),
        Verdict.UNPROVEN: _("not proven"),
    }[verdict]


def mean_dice(metadata: Metadata) -> str:
    """Mean Dice over the organs that were measured, with two decimals; a dash when none was."""
    dice = [measured["dice"] for measured in metadata.metrics.values() if "dice" in measured]
    return f"{sum(dice) / len(dice):.2f}" if dice else "–"


def volume_facts(node: Any) -> str:
    """Return size in voxels, spacing in mm and transform of a volume; a hint when there is none."""
    if node is None:
        return _("No CT at hand? Try one of these:")
    image = node.GetImageData()
    if image is None or image.GetNumberOfPoints() == 0:
        return _("This volume is empty.")
    size = " × ".join(str(length) for length in image.GetDimensions())
    spacing = " × ".join(f"{length:.3g}" for length in node.GetSpacing())
    facts = _("{size} voxels of {spacing} mm").format(size=size, spacing=spacing)
    transform = node.GetParentTransformNode()
    if transform is None:
        return facts
    sentence = (
        _("under the transform “{name}”, which is minded")
        if transform.IsTransformToWorldLinear()
        else _("under the non-linear transform “{name}”: harden it first")
    )
    return f"{facts}, {sentence.format(name=transform.GetName())}"
