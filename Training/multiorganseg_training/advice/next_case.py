"""Which case to annotate next: where the network is uncertain, and what it has seen least of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from multiorganseg.bundles import Bundle
from multiorganseg.errors import TrainingError
from multiorganseg.progress import Progress
from multiorganseg.projects.matrix import LabelStatus
from multiorganseg.projects.project import Project
from multiorganseg_training.advice.network_view import Viewer

UNUSUAL = 0.75
"""Rank from which a fact is reported as the reason."""


@dataclass(frozen=True)
class CaseFacts:
    """What speaks for annotating a case.

    Attributes:
        case: Its name.
        uncertainty: Mean uncertainty of the network in [0, 1]; NaN when it found none of the organs.
        distance: Mean cosine distance in [0, 2] to the prototypes of the annotated cases; NaN without any.
        missed: Whether the network knows the organ and finds none of it here.
    """

    case: str
    uncertainty: float
    distance: float
    missed: bool = False


@dataclass(frozen=True)
class RankedCase:
    """A case in the order in which to annotate.

    Attributes:
        facts: What the rank stands on.
        score: In [0, 1]: mean of the normalised ranks of uncertainty and distance; 1 is the most wanted.
        reason: For people.
    """

    facts: CaseFacts
    score: float
    reason: str


def next_cases(
    project: Project,
    bundle: Bundle,
    organ: str,
    cache: Path,
    *,
    device: str = "auto",
    progress: Progress | None = None,
) -> list[RankedCase]:
    """Rank the cases in which an organ is unknown or only pseudo-labelled, the most wanted first.

    Args:
        project: Holds the cases.
        bundle: The network to ask. When it knows the organ, its uncertainty of the organ counts, else its
            mean uncertainty over all organs that it finds.
        organ: Organ key of the project.
        cache: Folder that keeps what the network said of images.
        device: "auto", "cpu", "cuda" or "mps".
        progress: Reports each case.

    Raises:
        TrainingError: The project has no such organ, or it is known in every case.
        BundleError: The network cannot be loaded.
        VolumeError: An image cannot be read.
    """
    progress = progress or Progress()
    matrix = project.matrix
    wanted = [
        case
        for case in project.cases
        if matrix.status(case, organ) in (LabelStatus.UNKNOWN, LabelStatus.PSEUDO)
    ]
    if not wanted:
        msg = f"No case lacks an annotation of '{organ}'."
        raise TrainingError(msg, next_step="Add cases: multiorganseg-train project add --help")
    annotated = [case for case in project.cases if matrix.status(case, organ) is LabelStatus.ANNOTATED]
    viewer = Viewer(bundle, device, cache)
    views = {}
    for number, case in enumerate((*annotated, *wanted)):
        progress(f"looking at {case}", number / (len(annotated) + len(wanted)))
        views[case] = viewer.look(project.image_path(case), progress)
    progress("looking at cases", 1.0)
    prototypes = mean_prototypes([views[case].prototypes for case in annotated])
    knows = organ in bundle.metadata.labels.keys
    facts = []
    for case in wanted:
        view = views[case]
        said = view.uncertainty
        chosen = [said[organ]] if knows and organ in said else [] if knows else list(said.values())
        facts.append(
            CaseFacts(
                case,
                math.fsum(chosen) / len(chosen) if chosen else float("nan"),
                prototype_distance(view.prototypes, prototypes),
                missed=knows and organ not in said,
            )
        )
    return rank_cases(facts)


def rank_cases(facts: Sequence[CaseFacts]) -> list[RankedCase]:
    """Order cases by the mean of their normalised ranks in uncertainty and in distance.

    A fact that a case lacks counts as its middle rank, except that an organ that the network does not find at
    all counts as the most uncertain: it may be missed. Equal cases stay in their order.
    """
    uncertain = _ranks([1.0 if each.missed else each.uncertainty for each in facts])
    strange = _ranks([each.distance for each in facts])
    ranked = [
        RankedCase(each, float(score), _reason(each, first, second))
        for each, score, first, second in zip(
            facts, (uncertain + strange) / 2, uncertain, strange, strict=True
        )
    ]
    return sorted(ranked, key=lambda case: -case.score)


def mean_prototypes(cases: Sequence[Mapping[str, NDArray[np.float32]]]) -> dict[str, NDArray[np.float32]]:
    """Average prototypes (features,) of length 1 over cases, class by class."""
    found: dict[str, list[NDArray[np.float32]]] = {}
    for case in cases:
        for key, prototype in case.items():
            found.setdefault(key, []).append(_unit(prototype))
    return {key: np.mean(each, axis=0) for key, each in found.items()}


def prototype_distance(
    case: Mapping[str, NDArray[np.float32]], prototypes: Mapping[str, NDArray[np.float32]]
) -> float:
    """Return the mean cosine distance in [0, 2] over the classes that both have; NaN when there is none."""
    distances = [1.0 - float(_unit(case[key]) @ _unit(prototypes[key])) for key in case if key in prototypes]
    return math.fsum(distances) / len(distances) if distances else float("nan")


def _unit(vector: NDArray[np.float32]) -> NDArray[np.float32]:
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def _ranks(values: Sequence[float]) -> NDArray[np.float64]:
    """Ranks in [0, 1], 1 for the largest; 0.5 for NaN, and for all where they are equal or one alone."""
    array = np.asarray(values, np.float64)
    ranks = np.full(len(array), 0.5)
    known = np.flatnonzero(~np.isnan(array))
    if len(known) > 1:
        ranks[known] = (rankdata(array[known]) - 1) / (len(known) - 1)
    return ranks


def _reason(facts: CaseFacts, uncertain: float, strange: float) -> str:
    reasons = []
    if facts.missed:
        reasons.append("the network finds none of it")
    elif uncertain >= UNUSUAL and not math.isnan(facts.uncertainty):
        reasons.append("the network is less certain than in the others")
    if strange >= UNUSUAL and not math.isnan(facts.distance):
        reasons.append("less like the annotated cases than the others")
    if reasons:
        return " and ".join(reasons)
    if math.isnan(facts.distance):
        return "no annotated case to compare with"
    return (
        "more certain and more like the annotated cases than the others"
        if uncertain + strange < 2 * (1 - UNUSUAL)
        else "in the middle"
    )
