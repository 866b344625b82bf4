from __future__ import annotations

import json

import numpy as np
import torch

from multiorganseg.bundles import load_bundle, read_weights
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import dice
from multiorganseg.progress import Progress
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.acceptance.publish import Publication, publish
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.fit import RESULT_FILE, Place, fit

FLAT = {
    "architecture": "slice_unet",
    "arguments": {"filters": [8, 16, 16]},
    "activation": "sigmoid",
    "patch_shape": [1, 48, 64],
}
KNOWN = {"case_a": ["liver"], "case_b": ["spleen"]}
OPTIMISATION = {"iterations": 40, "batch_size": 4, "learning_rate": 0.02, "head_factor": 1.0}
REPORTING = {"log_every": 0, "validate_every": 0, "checkpoint_every": 0}
STAGES = {"first": {}, "second": {"prototypes": True, "width": 8}}
PUBLICATION = Publication("1.0.0", "CC-BY-4.0", "The licence's text", "Notes", "fast")


def test_both_stages_of_ltuda_on_slices_become_a_bundle(phantom_recipe, phantom_data, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    for stage, arguments in STAGES.items():
        second = stage == "second"
        recipe = phantom_recipe(
            method="ltuda",
            method_arguments={"teacher_decay": 0.8, **arguments},
            data={"known": KNOWN},
            network={**FLAT, "initial": str(tmp_path / "first") if second else ""},
            optimisation={**OPTIMISATION, "iterations": 3} if second else OPTIMISATION,
            reporting=REPORTING,
        )
        place = Place(phantom_data, tmp_path / stage, tmp_path / "cases", torch.device("cpu"))
        fit(recipe, place, Progress())
    first, second = (load_checkpoint(tmp_path / stage) for stage in STAGES)
    scores = json.loads((tmp_path / "first" / RESULT_FILE).read_text(encoding="utf-8"))
    assert scores["last"]["liver"] > 0.5
    assert first.network["head.weight"].sub(second.network["head.weight"]).abs().max() < 0.1
    assert "classifier.labelled.prototypes" in second.method

    publish(tmp_path / "second", phantom_data, tmp_path / "phantom-ct", PUBLICATION, Progress())
    bundle = load_bundle(tmp_path / "phantom-ct")
    assert (bundle.metadata.activation, bundle.metadata.patch_shape) == ("sigmoid", (1, 48, 64))
    assert set(read_weights(bundle)) == {
        name for name in second.average if not name.endswith("num_batches_tracked")
    }
    volume = read_volume(phantom_data / "images" / "case_c.nii.gz")
    result = Segmenter(bundle, Options(quality="balanced")).segment(volume)
    assert result.labels.shape == volume.voxels.shape
    reference = read_labels(phantom_data / "labels" / "case_c.nii.gz").voxels
    assert dice(result.labels == 2, reference == 6) > 0.5
    assert np.unique(result.labels).max() <= 2
