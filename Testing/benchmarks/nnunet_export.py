"""Time nnU-Net v2's export of logits: back to full resolution, argmax, cropping undone.

Run by the Python of an environment that has nnU-Net, never by the project's own; started by `inference.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from harness.stages import Recorder


def main() -> None:
    """Export random logits; the first argument is a JSON object.

    Its keys: `events` (path), `classes` (without background), `shape` and `spacing` of the network's grid,
    `target_shape` and `target_spacing` of the CT, all (k, j, i), and `threads`.
    """
    task = json.loads(sys.argv[1])
    recorder = Recorder(Path(task["events"]))

    import torch
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as export,
    )
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    plans = PlansManager(_plans(task["spacing"]))
    labels = {"background": 0, **{f"organ_{number + 1}": number + 1 for number in range(task["classes"])}}
    target = task["target_shape"]
    properties = {
        "spacing": task["target_spacing"],
        "shape_before_cropping": target,
        "shape_after_cropping_and_before_resampling": target,
        "bbox_used_for_cropping": [[0, size] for size in target],
    }
    with recorder.stage("make logits"):
        generator = torch.Generator().manual_seed(0)
        logits = torch.empty((len(labels), *task["shape"]), dtype=torch.half)
        for channel in logits:
            channel.copy_(torch.randn(channel.shape, generator=generator))
    with recorder.stage("export"):
        result = export(
            logits,
            plans,
            plans.get_configuration("3d_fullres"),
            plans.get_label_manager({"labels": labels}),
            properties,
            num_threads_torch=task["threads"],
        )
    recorder.facts(
        shape=list(result.shape), labels=len(labels), backend="numpy and scikit-image, fp16 logits"
    )


def _plans(spacing: list[float]) -> dict:
    """The parts of a plans file that the export reads, with the planner's default resampling."""
    configuration = {
        "spacing": spacing,
        "architecture": {},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {
            "is_seg": False,
            "order": 1,
            "order_z": 0,
            "force_separate_z": None,
        },
    }
    return {
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "label_manager": "LabelManager",
        "configurations": {"3d_fullres": configuration},
    }


if __name__ == "__main__":
    main()
