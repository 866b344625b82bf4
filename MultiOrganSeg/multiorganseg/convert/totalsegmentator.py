"""Models of TotalSegmentator: nnU-Net folders whose orientation and licence are known.

Wasserthal et al. 2023. Numbers of data sets and what needs a licence: its `map_tasks_config.py`, of 2026.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from multiorganseg.convert.converted import Converted
from multiorganseg.errors import BundleError

APACHE = "Apache-2.0"
NEEDS_LICENCE = "TotalSegmentator licence number: free for non-commercial use alone"
NON_COMMERCIAL = "CC BY-NC 4.0"
ORIENTATION = "RAS"

_BOUND = {
    301: "heart",
    303: "face",
    304: "appendicular",
    305: "vertebra",
    409: "neuro|brain",
    481: "tissue",
    485: "tissue",
    507: "coronary",
    509: "coronary",
    803: "vertebra",
    855: "appendicular",
    856: "face",
    857: "thigh|shoulder",
    920: "aort",
    925: "tissue",
}
"""By number of the data set, what its name holds."""
_NON_COMMERCIAL = {615: "aneurysm"}
_OPEN = re.compile(r"total_?seg|_\d{3,4}subj", re.IGNORECASE)
_NUMBER = re.compile(r"Dataset(\d{3})_(.+)")


@dataclass(frozen=True)
class Task:
    """What is known of a model of TotalSegmentator.

    Attributes:
        dataset: Name of its data set.
        license: Of its weights.
        bound: Whether it may not be used by everybody for everything.
    """

    dataset: str
    license: str
    bound: bool


def recognise_task(dataset: str) -> Task | None:
    """Recognise by the name of its data set, such as "Dataset297_TotalSegmentator_total_3mm_1559subj"."""
    found = _NUMBER.fullmatch(dataset)
    if not found:
        return None
    number, name = int(found[1]), found[2]
    for numbers, licence in ((_BOUND, NEEDS_LICENCE), (_NON_COMMERCIAL, NON_COMMERCIAL)):
        if number in numbers and re.search(numbers[number], name, re.IGNORECASE):
            return Task(dataset, licence, bound=True)
    return Task(dataset, APACHE, bound=False) if _OPEN.search(name) else None


def as_task(converted: Converted, task: Task, stated: str) -> Converted:
    """Add what is known of a task.

    Args:
        converted: From `convert_nnunet`.
        task: Which one it is.
        stated: Licence under which the user says to have it; empty when nothing was said.

    Raises:
        BundleError: It needs a licence and the user did not say under which one the weights are used.
    """
    if task.bound and not stated:
        msg = f"{task.dataset} was not converted: its weights may not be used freely."
        raise BundleError(
            msg,
            cause=f"The licence of this task of TotalSegmentator is: {task.license}.",
            next_step="If you have the right to use them, say under which licence: --licence 'TEXT'. It will "
            "stand in the bundle, which you may then not pass on.",
        )
    return replace(
        converted,
        description=converted.description.replace("nnU-Net", "TotalSegmentator, nnU-Net", 1),
        orientation=ORIENTATION,
        license=task.license,
        licence_text=f"The licence of these weights of TotalSegmentator: {task.license}.",
        facts={**converted.facts, "converted_from": "TotalSegmentator"},
    )
