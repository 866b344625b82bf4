"""The model card of a bundle that was extended from another."""

from __future__ import annotations

from multiorganseg.bundles import Metadata
from multiorganseg_training.gate.gate import Gate


def extension_card(metadata: Metadata, gate: Gate, force: str) -> str:
    """Write the card of a bundle that was extended from another, in Markdown.

    It claims the figures alone that the gate measured against annotations, and names no case, whose name may
    be that of a patient.

    Args:
        metadata: Of the bundle.
        gate: That it went through.
        force: Why it was published although it did not pass; empty when it did.
    """
    learned = ", ".join(f"{key} ({_annotated(gate, key)})" for key in gate.with_role("new"))
    lines = [
        f"# {metadata.name} {metadata.version}",
        "",
        f"{metadata.description}. Extended from {gate.base_name} {gate.base_version} (sha256 "
        f"{gate.base_sha256[:12]}…), {metadata.training['iterations']} iterations. Learned: {learned}.",
        "",
        f"Licence of the weights: {metadata.license}, inherited from {gate.base_name}, whose text is "
        f"enclosed. "
        "Whether the images and annotations that it learned from allow it to be passed on is for their owner "
        "to say.",
        "",
        f"What the card of {gate.base_name} {gate.base_version} says of its data, intended use and limits "
        f"holds "
        "here too. Its figures do not: below is what was measured anew.",
        "",
    ]
    if not gate.passed:
        lines += [f"**Published without having passed the gate.** Reason given: {_one_line(force)}", ""]
    return "\n".join([*lines, *_judged_table(gate)]) + "\n"


def _annotated(gate: Gate, organ: str) -> str:
    count = gate.training_cases.get(organ)
    return "" if count is None else f"from {count} annotated {'case' if count == 1 else 'cases'}"


def _judged_table(gate: Gate) -> list[str]:
    how = {
        "hold-out": "cases that were kept out of training",
        "cross-validation": "cases, each with a network that had not seen it; the network here, trained "
        "alike "
        "on all of them, was not itself measured",
        "none": "cases: none could be kept out of training",
    }[gate.how]
    lines = [
        f"## Old against new on {len(gate.cases)} {how}",
        "",
        f"An old organ passes when its mean Dice falls by no more than {gate.margin:g}, a new one from "
        f"{gate.floor:g}. NSD at 2 mm. Organs without figures were annotated in none of these cases.",
        "",
        "| organ | | verdict | cases | Dice before | Dice | NSD |",
        "|---|---|---|---|---|---|---|",
    ]
    for key, organ in gate.organs.items():
        measured = organ.reference == "annotated" and organ.dice_new is not None
        figures = (organ.dice_old, organ.dice_new, organ.nsd_new) if measured else (None, None, None)
        before, dice, nsd = ("–" if value is None else f"{value:.3f}" for value in figures)
        lines.append(
            f"| {key} | {organ.role} | {organ.verdict.value} | {organ.cases if measured else 0} "
            f"| {before} | {dice} | {nsd} |"
        )
    return lines


def _one_line(text: str) -> str:
    return " ".join(text.split())
