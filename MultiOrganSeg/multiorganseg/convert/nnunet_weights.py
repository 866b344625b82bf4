"""Names of nnU-Net's weights as those of our network; what stands there twice is dropped."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from multiorganseg.convert.read_checkpoint import Weights, refused

_RULES = tuple(
    (re.compile(pattern), ours)
    for pattern, ours in (
        (r"encoder\.stem\.convs\.(\d+)\.", r"stem.\1."),
        (r"encoder\.stages\.(\d+)\.0\.convs\.(\d+)\.", r"encoder.\1.\2."),
        (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv1\.", r"encoder.\1.\2.first."),
        (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.conv2\.", r"encoder.\1.\2.second."),
        (r"encoder\.stages\.(\d+)\.blocks\.(\d+)\.skip\.\d+\.", r"encoder.\1.\2.project."),
        (r"decoder\.transpconvs\.(\d+)\.", r"decoder.\1.enlarge."),
        (r"decoder\.stages\.(\d+)\.convs\.(\d+)\.", r"decoder.\1.level.\2."),
    )
)
_HEAD = re.compile(r"decoder\.seg_layers\.(\d+)\.(\w+)")
_AGAIN = re.compile(r"\.all_modules\.(\d+)\.")
_SAME = {"0": ".conv.", "1": ".norm."}


def our_weights(theirs: Weights, stages: int, path: Path) -> Weights:
    """Rename the weights of a checkpoint.

    Args:
        theirs: By nnU-Net's names.
        stages: Of the network; the last layer of the finest is kept, those for deep supervision are not.
        path: For messages.

    Raises:
        BundleError: Two names of one weight hold different numbers.
    """
    ours: Weights = {}
    for name, array in theirs.items():
        plain = _AGAIN.sub(lambda found: _SAME.get(found[1], found[0]), name.removeprefix("decoder.encoder."))
        if name.startswith("decoder.encoder."):
            plain = f"encoder.{plain}"
        if plain != name:
            first = theirs.get(plain)
            if first is None or (first is not array and not np.array_equal(first, array)):
                raise refused(path, f"The weights {name} and {plain} must be the same, but differ.")
            continue
        head = _HEAD.fullmatch(name)
        if head:
            if int(head[1]) == stages - 2:
                ours[f"head.{head[2]}"] = array
            continue
        ours[_renamed(name)] = array
    return ours


def _renamed(name: str) -> str:
    for pattern, ours in _RULES:
        found = pattern.match(name)
        if found:
            return found.expand(ours) + name[found.end() :]
    return name
