"""The acceptance check's answer in plain words."""

from __future__ import annotations

from collections.abc import Mapping

from multiorganseg.organs.catalogue import Catalogue
from multiorganseg.projects.acceptance import AcceptanceReport, OrganVerdict, Verdict
from multiorganseg_training.acceptance.decide import (
    AGREES,
    DISAGREES,
    FALSE_POSITIVE_ML,
    FALSE_POSITIVE_SHARE,
)

REPORT_FILE = "report.md"

_MARKS = {Verdict.PASS: "✓ passes", Verdict.FAIL: "✗ fails", Verdict.UNPROVEN: "? unproven"}
_HOW = {
    "hold-out": "The network was tried on cases that it never saw in training.",
    "cross-validation": "There are too few annotated cases to keep some aside for good. So the training was "
    "repeated, each time without one patient, and each of these networks was tried on the patient that it "
    "had "
    "not seen. The network to be published learned from all of them; it was trained in the same way, but "
    "it is "
    "not itself one of the networks that were measured.",
    "none": "Nothing could be kept aside: with a single annotated case there is none left to try the network "
    "on. Nothing below is measured.",
}


def report_text(acceptance: AcceptanceReport, catalogue: Catalogue) -> str:
    """Write the report in Markdown; pictures are linked relative to the run's folder.

    Args:
        acceptance: The answer.
        catalogue: Gives the names of the organs; an organ that it lacks is called by its key.
    """
    names = {key: catalogue.organs[key].name if key in catalogue.organs else key for key in acceptance.organs}
    learned = ", ".join(names[key] for key in acceptance.with_role("new"))
    lines = [
        f"# Old against new: {acceptance.base_name} {acceptance.base_version}"
        + (f", with {learned}" if learned else ""),
        "",
        f"**{_headline(acceptance, names)}**",
        "",
        *_advice(acceptance, names),
        "",
        "## Organ by organ",
        "",
        _HOW[acceptance.how] + (f" Cases: {', '.join(acceptance.cases)}." if acceptance.cases else ""),
        "",
        *_table(acceptance, names),
        "",
        *_pictures(acceptance, names),
        "## How to read this",
        "",
        *_glossary(acceptance),
    ]
    return "\n".join(lines) + "\n"


def _headline(acceptance: AcceptanceReport, names: Mapping[str, str]) -> str:
    by_verdict = {
        verdict: [names[key] for key, organ in acceptance.organs.items() if organ.verdict is verdict]
        for verdict in Verdict
    }
    if acceptance.passed:
        unproven = by_verdict[Verdict.UNPROVEN]
        remark = f" Unproven, so look at these yourself: {', '.join(unproven)}." if unproven else ""
        good = "The new organs are good enough, and no" if acceptance.with_role("new") else "No"
        return f"Passed. {good} old organ was lost.{remark}"
    if by_verdict[Verdict.FAIL]:
        return f"Not passed. Not good enough: {', '.join(by_verdict[Verdict.FAIL])}."
    missing = [
        names[key]
        for key, organ in (acceptance.with_role("new") or acceptance.organs).items()
        if organ.verdict is not Verdict.PASS
    ]
    return f"Not passed, because it could not be shown. Unproven: {', '.join(missing)}."


def _advice(acceptance: AcceptanceReport, names: Mapping[str, str]) -> list[str]:
    lines = ["What to do:", ""]
    if acceptance.passed:
        lines.append(
            f"- Publish it: `multiorganseg-train project publish PROJECT {acceptance.run or 'RUN'}`."
        )
    remedies: dict[str, list[str]] = {}
    for key, organ in acceptance.organs.items():
        if organ.verdict is not Verdict.PASS:
            remedies.setdefault(_remedy(organ), []).append(names[key])
    lines += [f"- {', '.join(organs)}: {remedy}" for remedy, organs in remedies.items()]
    if not acceptance.passed:
        lines.append(
            "- Until then the old network stays in use; nothing of it was changed. Publishing all the same "
            "needs `--force` with a reason, which is written into the model card."
        )
    return lines


def _remedy(organ: OrganVerdict) -> str:
    if organ.role == "new":
        if organ.verdict is Verdict.UNPROVEN:
            return "annotate it in further cases, so that some can be kept aside, and train again."
        if "absent" in organ.why:
            return (
                "it is drawn where there is none. Mark further cases without it as absent, and train again."
            )
        return (
            "annotate further cases, or train longer. `multiorganseg-train project learning-curve` estimates "
            "how many cases are missing, `project next` says which to take."
        )
    if organ.verdict is Verdict.UNPROVEN:
        return "look at the picture; to have it measured, annotate it in one of the held-out cases."
    if organ.reference == "base":
        return (
            "the new network draws it differently, and no annotation says which is right. Annotate it in a "
            "held-out case and repeat the acceptance check."
        )
    return "the new network lost part of it. Train longer, or annotate it in some of the training cases."


def _table(acceptance: AcceptanceReport, names: Mapping[str, str]) -> list[str]:
    lines = [
        "| organ | verdict | Dice old | Dice new | change (95 % interval) | NSD old | NSD new | volume "
        "old → new "
        "| cases | worst case |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for key in (*acceptance.with_role("new"), *acceptance.with_role("old")):
        organ = acceptance.organs[key]
        role = "**new** " if organ.role == "new" else ""
        dice_new = _number(organ.dice_new) + (" ᵃ" if organ.reference == "base" and organ.cases else "")
        lines.append(
            f"| {role}{names[key]} | {_MARKS[organ.verdict]} | {_number(organ.dice_old)} | {dice_new} "
            f"| {_change(organ)} | {_number(organ.nsd_old)} | {_number(organ.nsd_new)} "
            f"| {_volume(organ.volume_ml_old)} → {_volume(organ.volume_ml_new)} ml | {organ.cases} "
            f"| {organ.worst_case or '–'} |"
        )
    reasons = [
        f"- {names[key]}: {organ.why}" for key, organ in acceptance.organs.items() if _needs_words(organ)
    ]
    lines += ["", *reasons] if reasons else []
    if any(organ.reference == "base" and organ.cases for organ in acceptance.organs.values()):
        lines += [
            "",
            "ᵃ Not annotated in the held-out cases: agreement of the new result with the old one, which "
            "shows a "
            "change but not who is right.",
        ]
    return lines


def _needs_words(organ: OrganVerdict) -> bool:
    """Whether the table does not tell all by itself."""
    plain_fall = organ.difference is not None and "absent" not in organ.why
    return organ.role == "new" or (organ.verdict is not Verdict.PASS and not plain_fall)


def _pictures(acceptance: AcceptanceReport, names: Mapping[str, str]) -> list[str]:
    drawn = {key: organ for key, organ in acceptance.organs.items() if organ.picture}
    if not drawn:
        return []
    lines = [
        "## Pictures",
        "",
        "Each shows the case that came out worst, through the middle of the organ.",
        "",
    ]
    for key, organ in drawn.items():
        lines += [f"### {names[key]}, {organ.worst_case}", "", f"![{names[key]}]({organ.picture})", ""]
    return lines


def _glossary(acceptance: AcceptanceReport) -> list[str]:
    return [
        "- **Dice**: how much of the drawn and of the true organ overlap. 1 is all, 0 is nothing. Small "
        "and thin "
        "organs reach lower values than large ones even between two experts.",
        "- **NSD**: which share of the organ's surface lies within 2 mm of where it should be.",
        "- **change**: new minus old, in the same cases. The interval says where the change would lie in "
        "95 of "
        "100 repetitions with other cases like these; with fewer than 3 cases there is none. For a new "
        "organ it "
        "is the interval of its Dice.",
        f"- **passes**: an old organ whose Dice fell by no more than {acceptance.margin:g} on average; a new "
        f"one with "
        f"at least {acceptance.floor:g}. Where an organ is absent, no more than {FALSE_POSITIVE_ML:g} ml (or "
        f"{100 * FALSE_POSITIVE_SHARE:g} % of its usual volume) may be drawn on average.",
        f"- **unproven**: an old organ that is annotated in no held-out case, and on which old and new "
        f"result "
        f"agree with a Dice between {DISAGREES:g} and {AGREES:g}, or a new organ that no held-out case "
        f"shows.",
        "- A few cases say little about rare anatomy. Check every contour.",
    ]


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _volume(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def _change(organ: OrganVerdict) -> str:
    interval = organ.confidence_interval
    if organ.difference is None:
        return "–" if interval is None else f"({interval[0]:.3f} … {interval[1]:.3f})"
    between = "" if interval is None else f" ({interval[0]:+.3f} … {interval[1]:+.3f})"
    return f"{organ.difference:+.3f}{between}"
