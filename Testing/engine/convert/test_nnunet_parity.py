"""In faithful mode a converted network gives what nnU-Net itself gave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.convert.convert import ConvertOptions, convert
from multiorganseg.inference.original_space import prepare_original
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume

CT, MR = "Dataset901_ToyCT", "Dataset902_ToyMR"
PLAIN = f"{CT}/nnUNetTrainer__nnUNetPlans__3d_fullres"
RESIDUAL = f"{CT}/nnUNetTrainerNoMirroring__nnUNetResEncUNetMPlans__3d_fullres"
SLICES = f"{CT}/nnUNetTrainerNoMirroring__nnUNetPlans__2d"
REGIONS = f"{MR}/nnUNetTrainer__nnUNetPlans__3d_fullres"
INPUTS = (
    ("plain-3d", PLAIN, "toyct_004"),
    ("plain-3d", PLAIN, "toyct_005"),
    ("plain-2d", SLICES, "toyct_004"),
    ("plain-3d-aniso-regions", REGIONS, "toymr_004"),
)
PREDICTIONS = (
    ("plain-3d-aniso-regions", REGIONS, "", "toymr_004", False),
    pytest.param("plain-3d", PLAIN, "0", "toyct_005", False, marks=pytest.mark.slow),
    pytest.param("plain-3d-2folds", PLAIN, "", "toyct_005", False, marks=pytest.mark.slow),
    pytest.param("plain-2d", SLICES, "", "toyct_004", True, marks=pytest.mark.slow),
    pytest.param("resencm-3d", RESIDUAL, "", "toyct_004", True, marks=pytest.mark.slow),
    pytest.param("plain-3d", PLAIN, "0", "toyct_004", False, marks=pytest.mark.slow),
    pytest.param("plain-3d", PLAIN, "0", "toyct_005", True, marks=pytest.mark.slow),
    pytest.param("plain-3d-2folds", PLAIN, "", "toyct_005", True, marks=pytest.mark.slow),
)


def _bundle(foreign: Path, model: str, folds: str, into: Path) -> Bundle:
    options = ConvertOptions(folds=folds, orientation="LPS", name="toy")
    return convert(foreign / "models" / model, into, options).bundle


def _channels(foreign: Path, case: str) -> list[Volume]:
    folder = foreign / "inputs" / (MR if case.startswith("toymr") else CT) / "imagesTs"
    return [read_volume(path) for path in sorted(folder.glob(f"{case}_*.nii.gz"))]


@pytest.mark.parametrize(("name", "model", "case"), INPUTS)
def test_the_network_sees_what_it_saw_there(foreign, tmp_path, name, model, case):
    bundle = _bundle(foreign, model, "0", tmp_path)
    _, image = prepare_original(_channels(foreign, case), bundle.metadata.preprocessing)
    wanted = np.load(foreign / "expected" / name / f"{case}-network-input.npz")["data"]
    assert image.shape == wanted.shape
    np.testing.assert_allclose(image, wanted, atol=1e-4)


@pytest.mark.parametrize(("name", "model", "folds", "case", "mirroring"), PREDICTIONS)
def test_labels_are_those_of_nnunet(foreign, tmp_path, name, model, folds, case, mirroring):
    bundle = _bundle(foreign, model, folds, tmp_path)
    channels = _channels(foreign, case)
    options = Options(device="cpu", mirroring=mirroring)
    result = Segmenter(bundle, options).segment(channels[0], None, channels[1:])
    tag = "" if mirroring or not bundle.metadata.preprocessing.original.mirrored else "-notta"
    wanted = read_labels(foreign / "expected" / name / f"{case}{tag}.nii.gz").voxels
    assert np.mean(result.labels == wanted) >= 0.999
    for value in result.table.organs:
        ours, theirs = result.labels == value, wanted == value
        both = np.count_nonzero(ours) + np.count_nonzero(theirs)
        if both:
            assert 2 * np.count_nonzero(ours & theirs) / both >= 0.999, value
    assert result.provenance["mode"] == "faithful"


@pytest.mark.slow
def test_the_check_finds_the_orientation(foreign, tmp_path):
    images = foreign / "inputs" / MR
    channels = tuple(_channels(foreign, "toymr_004"))
    case = (channels, read_labels(images / "labelsTs" / "toymr_004.nii.gz"))
    done = convert(foreign / "models" / REGIONS, tmp_path, ConvertOptions(read_check=lambda count: case))
    assert len(done.check.dice) == 8
    assert done.orientation == done.check.best == max(done.check.dice, key=done.check.dice.get)
    assert done.check.dice["LPS"] > 0.8
    assert "Checked on one case" in done.bundle.card_path.read_text(encoding="utf-8")
