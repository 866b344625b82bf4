"""What can be noticed about an organ without a reference, and how it is said to people."""

from __future__ import annotations

from collections.abc import Mapping

OUT_OF_DOMAIN = "out_of_domain"
NOT_FOUND = "not_found"
LEFT_RIGHT_INCONSISTENT = "left_right_inconsistent"
LOW_CONFIDENCE = "low_confidence"
FRAGMENTED = "fragmented"
VOLUME_IMPLAUSIBLE = "volume_implausible"
CUT_BY_FIELD_OF_VIEW = "cut_by_field_of_view"
CORRECTED = "corrected"
BEYOND_TRAINING = "beyond_training"

TEXTS: Mapping[str, str] = {
    OUT_OF_DOMAIN: "The scan is unlike those that the network was trained on; see its warning.",
    NOT_FOUND: "Not found in this image.",
    LEFT_RIGHT_INCONSISTENT: "The left one does not lie to the left of the right one: sides may be swapped.",
    LOW_CONFIDENCE: "The network was uncertain; check the borders.",
    FRAGMENTED: "Fell into pieces; smaller pieces were removed.",
    VOLUME_IMPLAUSIBLE: "The volume is outside the plausible range.",
    CUT_BY_FIELD_OF_VIEW: "Reaches the edge of the image: incomplete, and the volume is too small.",
    BEYOND_TRAINING: "Went on further up than the network was trained on; it is cut there.",
    CORRECTED: "Corrected by hand and measured anew; the network's confidence no longer counts.",
}
"""Text for users by flag, worst first."""


def worst_first(flags: set[str]) -> tuple[str, ...]:
    """Sort flags by the order of `TEXTS`."""
    return tuple(flag for flag in TEXTS if flag in flags)
