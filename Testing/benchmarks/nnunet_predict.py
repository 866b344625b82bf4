"""A network of nnU-Net v2 with random weights, and its own prediction with it, stage by stage.

Run by the Python of an environment that has nnU-Net, never by the project's own; started by `foreign.py`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from harness.stages import Recorder

BACKGROUND_BIAS = 3.0
"""So that most voxels are background, as in a scan; random weights alone would label each voxel by chance."""
HEAD_DEVIATION = 0.25


def main() -> None:
    """Do what the first argument asks, a JSON object: `make` or `predict`."""
    task = json.loads(sys.argv[1])
    recorder = Recorder(Path(task["events"]))
    (make if task["what"] == "make" else predict)(task, recorder)


def make(task: dict[str, Any], recorder: Recorder) -> None:
    """Write a model folder.

    Keys of the task: `plans` (file), `configuration`, `classes` (with background), `folder`.
    """
    import torch
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans

    plans = json.loads(Path(task["plans"]).read_text(encoding="utf-8"))
    architecture = plans["configurations"][task["configuration"]]["architecture"]
    labels = {"background": 0, **{f"organ {number}": number for number in range(1, task["classes"])}}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    torch.manual_seed(0)
    network = get_network_from_plans(
        architecture["network_class_name"],
        architecture["arch_kwargs"],
        architecture["_kw_requires_import"],
        1,
        task["classes"],
        deep_supervision=False,
    )
    with torch.no_grad():
        head = network.decoder.seg_layers[-1]
        head.weight.normal_(0.0, HEAD_DEVIATION)
        head.bias.zero_()
        head.bias[0] = BACKGROUND_BIAS
    folder = Path(task["folder"])
    (folder / "fold_0").mkdir(parents=True, exist_ok=True)
    for name, content in (("plans.json", plans), ("dataset.json", dataset)):
        (folder / name).write_text(json.dumps(content), encoding="utf-8")
    checkpoint = {
        "network_weights": network.state_dict(),
        "init_args": {
            "plans": plans,
            "configuration": task["configuration"],
            "fold": 0,
            "dataset_json": dataset,
        },
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    parameters = sum(parameter.numel() for parameter in network.parameters())
    recorder.facts(parameters=parameters, size=(folder / "fold_0" / "checkpoint_final.pth").stat().st_size)


def predict(task: dict[str, Any], recorder: Recorder) -> None:
    """Segment an image as `nnUNetv2_predict` does, in one process on the CPU.

    Keys of the task: `folder`, `image`, `output`, `mirroring`.
    """
    import torch
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.export_prediction import (
        convert_predicted_logits_to_segmentation_with_correct_shape as export,
    )
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    predictor = nnUNetPredictor(
        tile_step_size=0.5,
        use_gaussian=True,
        use_mirroring=task["mirroring"],
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    with recorder.stage("load network"):
        predictor.initialize_from_trained_model_folder(task["folder"], (0,), "checkpoint_final.pth")
    plans, configuration = predictor.plans_manager, predictor.configuration_manager
    with recorder.stage("read"):
        image, properties = SimpleITKIO().read_images([task["image"]])
    with recorder.stage("resample"):
        data, _, properties = configuration.preprocessor_class(verbose=False).run_case_npy(
            image, None, properties, plans, configuration, predictor.dataset_json
        )
    with recorder.stage("network"):
        logits = predictor.predict_logits_from_preprocessed_data(torch.as_tensor(data))
    with recorder.stage("restore"):
        labels = export(
            logits,
            plans,
            configuration,
            predictor.label_manager,
            properties,
            num_threads_torch=torch.get_num_threads(),
        )
    with recorder.stage("write"):
        SimpleITKIO().write_seg(labels, task["output"], properties)
    recorder.facts(backend="torch, cpu, fp32", grid=list(data.shape))


if __name__ == "__main__":
    main()
