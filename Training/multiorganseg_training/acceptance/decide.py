"""From figures of cases to a verdict on an organ."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from multiorganseg.projects.acceptance import OrganVerdict, Verdict
from multiorganseg.text import cases_text
from multiorganseg_training.acceptance.score import CaseScore

FEWEST_CASES = 3
DRAWS = 2000


def bootstrap_interval(values: Sequence[float], seed: int = 0) -> tuple[float, float] | None:
    """Return the 95 % percentile interval of a mean under resampling of cases (Efron 1979).

    For a comparison of two networks, `values` are the differences within each case, so that what makes a case
    easy or hard for both of them cancels out.

    Args:
        values: One for each case, without NaN.
        seed: Of the resampling.

    Returns:
        Lower and upper end; None with fewer than 3 cases.
    """
    if len(values) < FEWEST_CASES:
        return None
    generator = np.random.default_rng(seed)
    drawn = np.asarray(values, np.float64)[generator.integers(0, len(values), (DRAWS, len(values)))]
    low, high = np.percentile(drawn.mean(axis=1), (2.5, 97.5))
    return float(low), float(high)


AGREES, DISAGREES = 0.9, 0.7
"""Dice between both networks from which an old organ without annotations passes, and below which it fails."""

FALSE_POSITIVE_ML, FALSE_POSITIVE_SHARE = 1.0, 0.02
"""How much of an organ may be drawn where there is none, as a mean over cases without it: 1 ml (a sphere of
12 mm), or 2 % of the organ's mean volume in the annotated cases where that is more."""

_ROUNDING = 1e-9


def decide_old(scores: Sequence[CaseScore], margin: float) -> OrganVerdict:
    """Judge an organ of the base.

    It passes when the mean over the cases that hold it has not fallen by more than `margin`, and where it is
    absent no more of it is drawn than the base draws. Where it is annotated in no case, the agreement of the
    two networks decides: from 0.9 it passes, below 0.7 it fails, between it is unproven.

    Args:
        scores: Of this organ, one for each held-out case.
        margin: In Dice.
    """
    present = [score for score in scores if score.volume_ml_reference > 0]
    empty = [score for score in scores if score.volume_ml_reference == 0]
    if not present:
        return _by_agreement(scores, empty)
    losses = {score.case: score.dice_new - score.dice_old for score in present}
    difference = math.fsum(losses.values()) / len(losses)
    worst = min(losses, key=lambda case: losses[case])
    surplus = _surplus(empty)
    allowed = _allowed(present)
    said = f"Mean Dice {_change(difference)} over {cases_text(len(present))}"
    if difference < -margin - _ROUNDING:
        verdict, why = Verdict.FAIL, f"{said}; a fall of {margin:.3g} is allowed."
    elif surplus > allowed:
        verdict, why = (
            Verdict.FAIL,
            f"{said}. {_drawn(surplus, allowed, len(empty), ' more than by the base')}",
        )
    else:
        few = " Too few cases for an interval." if len(present) < FEWEST_CASES else ""
        verdict, why = Verdict.PASS, f"{said}.{few}"
    return OrganVerdict(
        role="old",
        reference="annotated",
        cases=len(present),
        dice_old=_mean([score.dice_old for score in present]),
        dice_new=_mean([score.dice_new for score in present]),
        nsd_old=_mean([score.nsd_old for score in present]),
        nsd_new=_mean([score.nsd_new for score in present]),
        volume_ml_old=_mean([score.volume_ml_old for score in present]),
        volume_ml_new=_mean([score.volume_ml_new for score in present]),
        difference=difference,
        confidence_interval=bootstrap_interval(list(losses.values())),
        verdict=verdict,
        why=why,
        worst_case=worst,
    )


def decide_new(scores: Sequence[CaseScore], floor: float) -> OrganVerdict:
    """Judge an organ that was learned.

    It passes when its mean Dice over the cases that hold it reaches `floor`, and where it is absent not more
    than `FALSE_POSITIVE_ML` (or `FALSE_POSITIVE_SHARE`) of it is drawn. Without a case that holds it, it is
    unproven.

    Args:
        scores: Of this organ, one for each held-out case.
        floor: Smallest mean Dice.
    """
    present = [score for score in scores if score.volume_ml_reference > 0]
    empty = [score for score in scores if score.volume_ml_reference == 0]
    drawn = _mean([score.volume_ml_new for score in empty]) or 0.0
    allowed = _allowed(present)
    dice = _mean([score.dice_new for score in present])
    if drawn > allowed:
        verdict, why = Verdict.FAIL, _drawn(drawn, allowed, len(empty), "")
    elif not present:
        verdict, why = Verdict.UNPROVEN, "No held-out case holds it and has it annotated."
    elif dice is not None and dice < floor - _ROUNDING:
        verdict = Verdict.FAIL
        why = (
            f"Mean Dice {dice:.4f} over {cases_text(len(present))}, below the {floor:.3g} that is asked for."
        )
    else:
        few = " Too few cases for an interval." if len(present) < FEWEST_CASES else ""
        verdict, why = Verdict.PASS, f"Mean Dice {dice:.3f} over {cases_text(len(present))}.{few}"
    by_dice = {score.case: score.dice_new for score in present}
    by_volume = {score.case: -score.volume_ml_new for score in empty}
    ranked = by_volume if drawn > allowed else by_dice
    return OrganVerdict(
        role="new",
        reference="annotated",
        cases=len(present),
        dice_old=None,
        dice_new=dice,
        nsd_old=None,
        nsd_new=_mean([score.nsd_new for score in present]),
        volume_ml_old=None,
        volume_ml_new=_mean([score.volume_ml_new for score in present]),
        difference=None,
        confidence_interval=bootstrap_interval([score.dice_new for score in present]),
        verdict=verdict,
        why=why,
        worst_case=min(ranked, key=lambda case: ranked[case]) if ranked else None,
    )


def _by_agreement(scores: Sequence[CaseScore], empty: Sequence[CaseScore]) -> OrganVerdict:
    unknown = [score for score in scores if math.isnan(score.volume_ml_reference)]
    compared = [score for score in unknown if not math.isnan(score.agreement)]
    agreement = _mean([score.agreement for score in compared])
    surplus = _surplus(empty)
    allowed = _allowed(())
    if surplus > allowed:
        verdict, why = Verdict.FAIL, _drawn(surplus, allowed, len(empty), " more than by the base")
    elif agreement is None:
        verdict = Verdict.UNPROVEN
        why = "No held-out case has it annotated, and neither network finds it in one."
    else:
        verdict, why = _by_dice(agreement, len(compared))
    agreements = {score.case: score.agreement for score in compared}
    return OrganVerdict(
        role="old",
        reference="base",
        cases=len(compared),
        dice_old=None,
        dice_new=agreement,
        nsd_old=None,
        nsd_new=_mean([score.agreement_nsd for score in compared]),
        volume_ml_old=_mean([score.volume_ml_old for score in compared]),
        volume_ml_new=_mean([score.volume_ml_new for score in compared]),
        difference=None,
        confidence_interval=bootstrap_interval(list(agreements.values())),
        verdict=verdict,
        why=why,
        worst_case=min(agreements, key=lambda case: agreements[case]) if agreements else None,
    )


def _by_dice(agreement: float, cases: int) -> tuple[Verdict, str]:
    said = f"Not annotated in a held-out case; old and new result agree with Dice {agreement:.3f}"
    if agreement >= AGREES:
        return Verdict.PASS, f"{said} over {cases_text(cases)}."
    if agreement < DISAGREES:
        return Verdict.FAIL, f"{said}, less than {DISAGREES}."
    return Verdict.UNPROVEN, f"{said}: one of them is wrong somewhere, and no annotation says which."


def _surplus(empty: Sequence[CaseScore]) -> float:
    return _mean([score.volume_ml_new - score.volume_ml_old for score in empty]) or 0.0


def _allowed(present: Sequence[CaseScore]) -> float:
    volume = _mean([score.volume_ml_reference for score in present]) or 0.0
    return max(FALSE_POSITIVE_ML, FALSE_POSITIVE_SHARE * volume)


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None


def _change(difference: float) -> str:
    if abs(difference) < 0.0005:
        return "unchanged"
    return f"{'risen' if difference > 0 else 'fallen'} by {abs(difference):.3f}"


def _drawn(volume: float, allowed: float, cases: int, compared: str) -> str:
    return (
        f"Where it is absent ({cases_text(cases)}), {volume:.1f} ml of it are drawn on average{compared}; "
        f"{allowed:.1f} ml are allowed."
    )
