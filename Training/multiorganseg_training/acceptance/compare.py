"""Old against new network, organ by organ, on cases that trained neither of the new ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from multiorganseg.bundles import Bundle
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.errors import TrainingError
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.pictures import drawn
from multiorganseg.progress import Progress
from multiorganseg.projects.acceptance import FLOOR, MARGIN, AcceptanceReport, OrganVerdict, Verdict
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.acceptance.decide import decide_new, decide_old
from multiorganseg_training.acceptance.picture import Contours, draw_organ
from multiorganseg_training.acceptance.score import CaseScore, HeldOutCase, LabelMap, score_case

PICTURES = "pictures"
MOST_PICTURES = 8


@dataclass(frozen=True)
class CheckOptions:
    """How an acceptance check judges.

    Attributes:
        margin: By how much the mean Dice of an old organ may fall.
        floor: Mean Dice that a new organ must reach.
        quality: Of the segmentation, as the user's; see `multiorganseg.inference.segment.Options`.
        device: "auto", "cpu", "cuda" or "mps".
        folder: Of the run, where `pictures/` are drawn; None draws none.
        judged: Told the answer before the pictures are drawn, so that it is kept whatever becomes of them.
    """

    margin: float = MARGIN
    floor: float = FLOOR
    quality: str = "balanced"
    device: str = "auto"
    folder: Path | None = None
    judged: Callable[[AcceptanceReport], object] = lambda acceptance: None


def judge(
    base: Bundle,
    new: Bundle,
    cases: Sequence[HeldOutCase],
    new_organs: Sequence[str],
    options: CheckOptions | None = None,
    progress: Progress | None = None,
    *,
    training_cases: Mapping[str, int] | None = None,
) -> AcceptanceReport:
    """Judge a network on cases that were held out from its training.

    Args:
        base: The network to which organs were added.
        new: The network with more organs.
        cases: Held out; none of them gives an acceptance check that proves nothing.
        new_organs: Keys of the organs that `base` does not know.
        options: How to judge.
        progress: Reports each case.
        training_cases: See `AcceptanceReport.training_cases`.

    Raises:
        TrainingError: The new network lacks an organ, or image and labels of a case lie on different grids.
        VolumeError: A file cannot be read.
        ResourceError: The device does not exist.
    """
    how = "hold-out" if cases else "none"
    return _judged(base, [(new, cases)], new_organs, how, options, progress, training_cases)


def judge_folds(
    base: Bundle,
    folds: Sequence[tuple[Bundle, Sequence[HeldOutCase]]],
    new_organs: Sequence[str],
    options: CheckOptions | None = None,
    progress: Progress | None = None,
    *,
    training_cases: Mapping[str, int] | None = None,
) -> AcceptanceReport:
    """Judge by cross-validation: each network on the cases that were held out from its training.

    Args:
        base: The network to which organs were added.
        folds: Networks trained alike, and the cases that each has not seen.
        new_organs: As for `judge`.
        options: As for `judge`.
        progress: As for `judge`.
        training_cases: Of one of the networks.

    Raises:
        TrainingError: As `judge`.
        VolumeError: As `judge`.
        ResourceError: As `judge`.
    """
    return _judged(base, folds, new_organs, "cross-validation", options, progress, training_cases)


def _judged(
    base: Bundle,
    folds: Sequence[tuple[Bundle, Sequence[HeldOutCase]]],
    new_organs: Sequence[str],
    how: str,
    options: CheckOptions | None,
    progress: Progress | None,
    training_cases: Mapping[str, int] | None,
) -> AcceptanceReport:
    options, progress = options or CheckOptions(), progress or Progress()
    organs = (*base.metadata.labels.keys, *new_organs)
    for network, _ in folds:
        _require_organs(base, network, new_organs)
    catalogue = load_catalogue()
    for bundle in (base, *(network for network, _ in folds)):
        catalogue = with_custom_organs(catalogue, bundle.metadata.custom_organs)
    asked = Options(quality=options.quality, device=options.device)
    by_base = Segmenter(base, asked)
    count = sum(len(cases) for _, cases in folds)
    scores: list[CaseScore] = []
    with work_folder() as folder:
        results = _Results(folder)
        for network, cases in folds:
            by_new = Segmenter(network, asked)
            for case in cases:
                progress(f"judging {case.name}", len(results.cases) / count)
                quiet = Progress(token=progress.token)
                volume = read_volume(case.image)
                old, new = by_base.segment(volume, quiet), by_new.segment(volume, quiet)
                scores += _scored(case, volume, old, new, organs, catalogue)
                results.keep(case, old, new)
        verdicts = _verdicts(organs, new_organs, scores, options)
        acceptance = AcceptanceReport(
            base.metadata.name,
            base.metadata.version,
            base.digest,
            "" if options.folder is None else options.folder.absolute().name,
            tuple(results.cases),
            how,
            options.margin,
            options.floor,
            verdicts,
            dict(training_cases or {}),
        )
        options.judged(acceptance)
        if options.folder is not None:
            progress("drawing", 0.0)
            pictured = _with_pictures(verdicts, scores, results, catalogue, options.folder)
            acceptance = replace(acceptance, organs=pictured)
        progress("judging", 1.0)
        return acceptance


class _Results:
    """Label maps of the cases that were judged, kept on disk until the worst case of each organ is known."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cases: dict[str, HeldOutCase] = {}
        self._tables: dict[str, tuple[Segmentation, Segmentation]] = {}

    def keep(self, case: HeldOutCase, old: Segmentation, new: Segmentation) -> None:
        np.savez_compressed(self.folder / f"{len(self.cases)}.npz", old=old.labels, new=new.labels)
        self.cases[case.name] = case
        empty = np.zeros((0, 0, 0), np.uint8)
        self._tables[case.name] = (replace(old, labels=empty), replace(new, labels=empty))

    def maps(self, name: str) -> tuple[LabelMap, LabelMap]:
        """Results of the old and of the new network."""
        with np.load(self.folder / f"{list(self.cases).index(name)}.npz", allow_pickle=False) as arrays:
            old, new = self._tables[name]
            return LabelMap(arrays["old"], old.table), LabelMap(arrays["new"], new.table)


def _scored(
    case: HeldOutCase,
    volume: Volume,
    old: Segmentation,
    new: Segmentation,
    organs: Sequence[str],
    catalogue: Catalogue,
) -> list[CaseScore]:
    return score_case(
        case.name,
        LabelMap(old.labels, old.table),
        LabelMap(new.labels, new.table),
        LabelMap(case.reference(volume.grid), case.table),
        case.absent,
        volume.grid,
        organs,
        catalogue,
    )


def _verdicts(
    organs: Sequence[str], new_organs: Sequence[str], scores: Sequence[CaseScore], options: CheckOptions
) -> dict[str, OrganVerdict]:
    verdicts = {}
    for organ in organs:
        own = [score for score in scores if score.organ == organ]
        verdicts[organ] = (
            decide_new(own, options.floor) if organ in new_organs else decide_old(own, options.margin)
        )
    return verdicts


def _with_pictures(
    verdicts: dict[str, OrganVerdict],
    scores: Sequence[CaseScore],
    results: _Results,
    catalogue: Catalogue,
    folder: Path,
) -> dict[str, OrganVerdict]:
    pictured = dict(verdicts)
    for organ in organs_to_draw(verdicts):
        verdict = verdicts[organ]
        if verdict.worst_case is None:
            continue
        case, path = results.cases[verdict.worst_case], f"{PICTURES}/{organ}.png"
        score = next(score for score in scores if (score.case, score.organ) == (case.name, organ))
        draw = partial(_draw, case, score, results, catalogue, folder / path)
        if drawn(f"The picture of {organ}", draw):
            pictured[organ] = replace(verdict, picture=path)
    return pictured


def _draw(case: HeldOutCase, score: CaseScore, results: _Results, catalogue: Catalogue, path: Path) -> None:
    volume = read_volume(case.image)
    old, new = results.maps(case.name)
    reference = LabelMap(case.reference(volume.grid), case.table)
    organ = score.organ
    contours = Contours(
        reference.mask(organ, catalogue) if organ in case.known else None,
        old.mask(organ, catalogue) if organ in old.table.keys else None,
        new.mask(organ, catalogue),
    )
    draw_organ(volume, contours, score, catalogue.get(organ).name, path)


def organs_to_draw(verdicts: Mapping[str, OrganVerdict]) -> list[str]:
    """Choose the organs that a reader wants to see: the new ones, those that fail, and the weakest old one.

    At most `MOST_PICTURES`, failing ones with the largest loss first; the unproven are among them.
    """
    new = [key for key, organ in verdicts.items() if organ.role == "new"]
    failing = sorted(
        (key for key, organ in verdicts.items() if organ.verdict is Verdict.FAIL),
        key=lambda key: verdicts[key].difference or 0.0,
    )
    unproven = [key for key, organ in verdicts.items() if organ.verdict is Verdict.UNPROVEN]
    measured = [key for key, organ in verdicts.items() if organ.difference is not None]
    weakest = sorted(measured, key=lambda key: verdicts[key].difference or 0.0)[:1]
    return list(dict.fromkeys((*new, *failing, *unproven, *weakest)))[:MOST_PICTURES]


def _require_organs(base: Bundle, network: Bundle, new_organs: Sequence[str]) -> None:
    known, offered = set(base.metadata.labels.keys), set(network.metadata.labels.keys)
    wrong = sorted(known & set(new_organs))
    missing = sorted((known | set(new_organs)) - offered)
    if wrong or missing:
        msg = f"{network.metadata.name} cannot be judged against {base.metadata.name}."
        raise TrainingError(
            msg,
            cause=f"It lacks: {', '.join(missing)}." if missing else f"Not new: {', '.join(wrong)}.",
            next_step="Judge a network that was made from this base.",
        )
