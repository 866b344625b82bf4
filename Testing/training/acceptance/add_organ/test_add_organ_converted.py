"""A converted network is a base like ours: an organ is put on it, and its own logits stay to the bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.bundles import Bundle, find_bundle, load_bundle
from multiorganseg.convert.convert import ConvertOptions, convert
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.volumes.read import read_volume
from multiorganseg_training.acceptance.check import CANDIDATE
from multiorganseg_training.project import load_project
from Testing.small_nnunet import write_nnunet


@pytest.fixture
def converted(models: Path, tmp_path: Path) -> Bundle:
    model = write_nnunet(tmp_path / "Dataset007_Liver", mirrored=(2,))
    return convert(model, models, ConvertOptions(orientation="RAS", name="foreign-liver")).bundle


def test_an_organ_is_put_on_a_converted_network(converted, added):
    ours = added(2)
    ours(base="foreign-liver", iterations=2)
    base, candidate = find_bundle("foreign-liver"), load_bundle(ours.run / CANDIDATE)
    assert candidate.metadata.schema_version == 2
    assert candidate.metadata.preprocessing == base.metadata.preprocessing
    assert candidate.metadata.labels.keys == ("liver", "spleen")
    assert candidate.metadata.license == "CC0"
    old, new = load_network(base), load_network(candidate)
    state = new.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in old.state_dict().items())
    image = torch.randn((1, 1, 16, 32, 32), generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        assert torch.equal(new(image).logits[:, :2], old(image).logits)
    project = load_project(ours.project)
    volume = read_volume(next((project.folder / "images").glob("case_0*")))
    for mode in ("faithful", "fast"):
        result = Segmenter(candidate, Options(mode=mode, device="cpu")).segment(volume)
        assert result.labels.shape == volume.voxels.shape
        assert result.provenance["mode"] == mode
        assert set(np.unique(result.labels)) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("source", "cause", "next_step"),
    [
        ({"folds": ("0", "1")}, "base-model is 2 networks in one", "--fold 0"),
        ({"channels": 2}, "base-model takes 2 images of a patient", "a model of one image"),
        ({"labels": {"liver": [1, 2]}}, "The organs of base-model overlap", "whose organs do not"),
    ],
)
def test_what_cannot_be_built_on_is_named(models, added, tmp_path, source, cause, next_step):
    model = write_nnunet(tmp_path / "Dataset007_Liver", **source)
    convert(model, models, ConvertOptions(orientation="RAS", name="base-model"))
    with pytest.raises(TrainingError, match=cause) as caught:
        added(3)(base="base-model")
    assert next_step in caught.value.next_step
