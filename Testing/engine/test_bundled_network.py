"""The network that comes with the package: what its card says, and whether that is true on a real CT."""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles import find_bundle
from multiorganseg.folders import resources_dir
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.metrics import evaluate
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes import Volume, read_labels, read_volume

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
LARGEST_BYTES = 16 * 2**20
FLOORS = {"liver": 0.94, "spleen": 0.93, "kidney_left": 0.9, "kidney_right": 0.9}
MEAN_FLOOR = 0.77
BTCV = LabelTable.numbered(
    (
        "spleen",
        "kidney_right",
        "kidney_left",
        "gallbladder",
        "esophagus",
        "liver",
        "stomach",
        "aorta",
        "inferior_vena_cava",
        "portal_vein_and_splenic_vein",
        "pancreas",
        "adrenal_gland_right",
        "adrenal_gland_left",
    )
)


@pytest.fixture(scope="module")
def bundle():
    return find_bundle(str(resources_dir() / "Models" / "abdomen-ct"))


def test_it_is_small_and_knows_thirteen_organs(bundle) -> None:
    assert sum(path.stat().st_size for path in bundle.folder.rglob("*") if path.is_file()) <= LARGEST_BYTES
    assert set(bundle.metadata.labels.keys) == set(BTCV.keys)


def test_its_measured_dice_reaches_the_floors(bundle) -> None:
    dice = {key: values["dice"] for key, values in bundle.metadata.metrics.items()}
    assert set(dice) == set(BTCV.keys)
    assert {key: dice[key] for key, floor in FLOORS.items() if dice[key] < floor} == {}
    assert statistics.mean(dice.values()) >= MEAN_FLOOR
    card = bundle.card_path.read_text(encoding="utf-8")
    written = {cells[1].strip(): cells[2] for line in card.splitlines() if len(cells := line.split("|")) > 2}
    assert {key: float(written[key]) for key in dice} == pytest.approx(dice, abs=1e-3)


def _leg() -> np.ndarray:
    """A thigh in HU: skin and fat around muscle and bone, in voxels of 3 × 2 × 2 mm."""
    y, x = np.mgrid[:110, :120] * 2.0
    distance = np.hypot(y - 110, x - 120)
    plane = np.full(distance.shape, -1000.0)
    for radius, hu in ((80, -100), (68, 55), (15, 900), (8, -20)):
        plane[distance < radius] = hu
    return plane + np.random.default_rng(0).normal(0, 12, (52, *plane.shape))


@pytest.mark.parametrize(
    ("change", "said", "organs"),
    [
        (lambda hu: hu, "too slender for a trunk", False),
        (lambda hu: np.clip(hu + 1000, 0, None) * 0.3, "looks like an MR", True),
        (lambda hu: hu[20:22], "6 mm along the body", True),
    ],
    ids=["a leg", "an MR", "two slices"],
)
def test_what_is_no_abdominal_ct_gets_a_warning_and_no_unflagged_organ(bundle, change, said, organs) -> None:
    volume = Volume(change(_leg()).astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]), "no abdomen")
    result = Segmenter(bundle, Options(quality="fast", device="cpu")).segment(volume)
    assert said in result.provenance["messages"][0]
    assert organs or not result.labels.any()
    for row in result.statistics:
        assert {"not_found", "out_of_domain"} & set(row.flags), row


def test_an_arm_of_a_wide_scan_is_beyond_the_bodies_that_it_saw(bundle) -> None:
    assert 400 < bundle.metadata.domain.widest_mm < 450


def test_it_claims_vessels_to_the_diaphragm_alone(bundle) -> None:
    """One of its training scans shows the chest, which teaches nothing."""
    assert max(bundle.metadata.domain.above_liver_mm.values()) < 60


@pytest.mark.slow
def test_the_claim_holds_on_a_case_of_the_fold(bundle, tmp_path: Path) -> None:
    if not DATA.is_dir():
        pytest.skip("the data collection ../shared/data is not here")
    if not (importlib.util.find_spec("imagecodecs") and importlib.util.find_spec("nibabel")):
        pytest.skip("imagecodecs and nibabel unpack the data collection")
    command = [sys.executable, str(DATA / "unpack.py"), "btcv", str(tmp_path), "--cases", "btcv_18"]
    subprocess.run(command, check=True, capture_output=True)
    volume = read_volume(tmp_path / "images" / "btcv_18.nii.gz")
    reference = read_labels(tmp_path / "labels" / "btcv_18.nii.gz")
    result = Segmenter(bundle, Options(quality="balanced", device="cpu")).segment(volume)
    scores = evaluate(result.labels, result.table, reference.voxels, BTCV, volume.grid)
    dice = {score.key: score.dice for score in scores}
    assert min(dice[key] for key in ("liver", "spleen")) >= 0.9, dice
    assert statistics.mean(dice.values()) >= MEAN_FLOOR, dice
