"""How many more cases to annotate, and which one next."""

from multiorganseg_training.advice.learning_curve import (
    CasesNeeded,
    CurvePoint,
    LearningCurve,
    cases_needed,
    collect_points,
    draw_curve,
    fit_curve,
)
from multiorganseg_training.advice.next_case import CaseFacts, RankedCase, next_cases, rank_cases

__all__ = [
    "CaseFacts",
    "CasesNeeded",
    "CurvePoint",
    "LearningCurve",
    "RankedCase",
    "cases_needed",
    "collect_points",
    "draw_curve",
    "fit_curve",
    "next_cases",
    "rank_cases",
]
