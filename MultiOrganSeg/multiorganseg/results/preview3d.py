"""Surfaces of the organs from the front, rendered in a child process.

VTK ends the whole process where no graphics library is installed, so the parent never imports it.
Run by `multiorganseg.children.module_command` with the arguments IN.npz OUT.png.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from multiorganseg.children import run_module
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.results.segments import present_values
from multiorganseg.scratch import work_folder
from multiorganseg.volumes.volume import Affine

TIMEOUT_SECONDS = 90
LARGEST_SIDE = 288
logger = logging.getLogger(__name__)


def render_in_child(
    segmentation: Segmentation,
    colors: Mapping[int, tuple[float, float, float]],
    size: tuple[int, int],
    *,
    timeout: float = TIMEOUT_SECONDS,
) -> NDArray[np.float32] | None:
    """Render the organs from the front in a child process.

    Args:
        segmentation: Labels; large ones are thinned to 288 voxels a side.
        colors: Colour (r, g, b) in [0, 1] of each label value to show.
        size: Width and height of the picture in pixels.
        timeout: Seconds after which the child is ended.

    Returns:
        Array (row, column, 3) in [0, 1], or None when there is nothing to show or rendering is not possible
        here; then the reason is logged.
    """
    from matplotlib.image import imread

    filled = _box(segmentation.labels)
    if filled is None:
        return None
    labels, affine = _thinned(segmentation.labels, segmentation.affine, filled)
    present = present_values(labels)
    values = [value for value in colors if value in present]
    with work_folder() as folder:
        scene, picture = folder / "scene.npz", folder / "picture.png"
        np.savez(
            scene,
            labels=labels,
            affine=affine,
            values=np.array(values),
            colors=np.array([colors[value] for value in values]),
            size=np.array(size),
        )
        reason = _run_child(scene, picture, timeout)
        if reason:
            logger.warning("The preview has no 3D view: %s", reason)
            return None
        return np.asarray(imread(picture)[..., :3], dtype=np.float32)


def _run_child(scene: Path, picture: Path, timeout: float) -> str:
    """Run the child and say why it failed; empty when the picture is there."""
    arguments = [str(scene), str(picture)]
    try:
        child = run_module("multiorganseg.results.preview3d", arguments, scene.parent, seconds=timeout)
    except subprocess.TimeoutExpired:
        return f"rendering took more than {timeout:g} s."
    except OSError as error:
        return str(error)
    if child.returncode or not picture.is_file():
        lines = child.stderr.strip().splitlines()
        return f"the renderer ended with code {child.returncode}: {lines[-1] if lines else 'no message'}"
    return ""


def _box(labels: NDArray[np.unsignedinteger]) -> tuple[slice, slice, slice] | None:
    flat = labels.any(axis=0)
    lines = (labels.any(axis=(1, 2)), np.any(flat, axis=1), np.any(flat, axis=0))
    indices = [np.flatnonzero(line) for line in lines]
    if not indices[0].size:
        return None
    k, j, i = (slice(int(found[0]), int(found[-1]) + 1) for found in indices)
    return k, j, i


def _thinned(
    labels: NDArray[np.unsignedinteger], affine: Affine, box: tuple[slice, slice, slice]
) -> tuple[NDArray[np.unsignedinteger], Affine]:
    cropped = labels[box]
    steps = [-(-size // LARGEST_SIDE) for size in cropped.shape]
    start = np.array([part.start for part in box[::-1]], dtype=float)
    step = np.array(steps[::-1], dtype=float)
    moved = affine.copy()
    moved[:3, :3] = affine[:3, :3] * step
    moved[:3, 3] += affine[:3, :3] @ (start - step)
    return np.pad(cropped[:: steps[0], :: steps[1], :: steps[2]], 1), moved


def main(arguments: list[str]) -> None:
    """Render the scene file into the picture file; any failure ends the process with a non-zero code."""
    from multiorganseg.results.surfaces import render_surfaces

    scene, picture = Path(arguments[0]), Path(arguments[1])
    with np.load(scene) as parts:
        width, height = (int(side) for side in parts["size"])
        render_surfaces(
            parts["labels"],
            parts["affine"],
            dict(zip(parts["values"].tolist(), parts["colors"].tolist(), strict=True)),
            (width, height),
            picture,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
