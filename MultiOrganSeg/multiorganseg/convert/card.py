"""The card of a converted bundle: where it comes from, and what is known of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from multiorganseg.convert.converted import Converted
from multiorganseg.convert.flips import Check
from multiorganseg.convert.organ_names import NamedOrgan

_CODE_SIGNS = str.maketrans({"`": "'", "\n": " ", "|": "/", "<": "(", ">": ")"})


def converted_card(
    converted: Converted,
    organs: Sequence[NamedOrgan],
    hashes: Mapping[str, str],
    licence: str,
    orientation: str,
    check: Check | None,
) -> str:
    """Write the card in Markdown.

    Args:
        converted: What was read.
        organs: In the order of its channels.
        hashes: Sha256 of each file that was read.
        licence: As it stands in the metadata.
        orientation: Of its images; "" where they are taken as stored.
        check: Against a case with labels, where one was given.
    """
    original = converted.original
    lines = [
        f"# {_said(converted.description)}",
        "",
        f"Converted from {original.program}. Its weights were trained by others; MultiOrganSeg did not "
        "measure them. **All figures that a bundle like this one shows are its source's own.**",
        "",
        f"- Licence of the weights: {_said(licence)}",
        f"- Images run to: {orientation or 'as they are stored (the source does not say it)'}",
        f"- Networks: {original.folds}, mirrored along {len(original.mirrored)} axes in faithful mode",
        *(f"- {key.replace('_', ' ')}: {_said(str(value))}" for key, value in converted.facts.items()),
        "",
        "## Organs",
        "",
        "| label | organ | name in the source | Dice that the source states |",
        "|---|---|---|---|",
        *(
            f"| {number} | `{organ.key}`{' (own)' if organ.own else ''} | {_said(organ.name)} | "
            f"{_figure(converted.dice.get(organ.name))} |"
            for number, organ in enumerate(organs, start=1)
        ),
        "",
    ]
    if converted.activation == "regions":
        lines += ["Its organs overlap: a voxel has the label of the last of them that is there.", ""]
    if check is not None:
        lines += ["## Checked on one case", "", *_checked(check), ""]
    lines += ["## Files that were read", "", "| file | sha256 |", "|---|---|"]
    lines += [f"| {_said(name)} | `{digest}` |" for name, digest in hashes.items()]
    return "\n".join(lines) + "\n"


def _checked(check: Check) -> list[str]:
    rows = [f"| {way or 'as stored'} | {dice:.3f} |" for way, dice in check.dice.items()]
    return [
        "Mean Dice against its labels, faithful mode without mirroring:",
        "",
        "| images run to | Dice |",
        "|---|---|",
        *rows,
        "",
        f"Fast against faithful mode: mean Dice {check.fast:.3f}, {check.seconds[1]:.1f} s instead of "
        f"{check.seconds[0]:.1f} s.",
    ]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _said(text: str) -> str:
    return "".join(c if c.isprintable() else "�" for c in text.translate(_CODE_SIGNS))
