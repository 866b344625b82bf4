"""What the runs of a project tell about an organ and the number of its annotated cases."""

from __future__ import annotations

from pathlib import Path

from multiorganseg_training.advice.learning_curve import CurvePoint
from multiorganseg_training.gate.gate_json import GATE_FILE, load_gate

RUNS = "runs"


def collect_points(project_folder: Path) -> dict[str, list[CurvePoint]]:
    """Read every gate.json of a project.

    Args:
        project_folder: With `runs/`.

    Returns:
        By organ key, one point for each run that learned the organ and measured it on held-out cases, fewest
        cases first.

    Raises:
        TrainingError: A gate.json is damaged.
    """
    points: dict[str, list[CurvePoint]] = {}
    for path in sorted((project_folder / RUNS).glob(f"*/{GATE_FILE}")):
        gate = load_gate(path.parent)
        if gate is None:
            continue
        for key, organ in gate.with_role("new").items():
            count = gate.training_cases.get(key, 0)
            if organ.dice_new is not None and count > 0:
                points.setdefault(key, []).append(CurvePoint(count, organ.dice_new, path.parent.name))
    return {key: sorted(found, key=lambda point: point.cases) for key, found in points.items()}
