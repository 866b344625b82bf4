from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.volumes import Volume, read_volume
from multiorganseg.volumes.modality import apparent_modality, modality_warning

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"
SHAPE = (20, 60, 70)


def _body(air: float, tissue: float, noise: float, seed: int = 0) -> np.ndarray:
    _, j, i = np.mgrid[: SHAPE[0], -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    generator = np.random.default_rng(seed)
    fat = generator.uniform(0.3, 1.4, SHAPE)
    return np.where(j**2 + i**2 < 0.7, tissue * fat, air) + generator.normal(0, noise, SHAPE)


def _ct() -> np.ndarray:
    voxels = _body(-1000, 60, 15).astype(np.int16)
    voxels[:, 26:34, 30:40] = 900
    return voxels


def _mr() -> np.ndarray:
    return np.abs(_body(0, 120, 4))


EVIDENT = {
    "CT": _ct(),
    "CT as floats": _ct().astype(np.float32),
    "CT with padding": np.where(np.arange(SHAPE[2]) < 9, -3024, _ct()),
    "CT without bone": np.minimum(_ct(), 120),
    "MR": _mr(),
    "MR in bytes": _mr().clip(0, 255).astype(np.uint8),
    "MR of a dim coil": _mr() / 4,
    "MR of 12 bits": (_mr() * 20).astype(np.uint16),
}
AMBIGUOUS = {
    "CT clipped to a window": _ct().clip(-125, 275),
    "CT clipped at water": _ct().clip(0, 250),
    "CT in bytes of a window": ((_ct().clip(-160, 240) + 160) * (255 / 400)).astype(np.uint8),
    "CT without its intercept": (_ct().clip(-1000, None) + 1024).astype(np.uint16),
    "inside of an organ": 110 + np.abs(_body(0, 20, 9)),
    "MR standardised": (_mr() - _mr().mean()) / _mr().std(),
    "phase of an MR": np.random.default_rng(1).integers(-4096, 4096, SHAPE).astype(np.int16),
    "label map": np.random.default_rng(1).integers(0, 14, SHAPE).astype(np.uint8),
}


def _volume(voxels: np.ndarray, modality: str = "") -> Volume:
    return Volume(voxels, np.eye(4), "case", modality)


@pytest.mark.parametrize("name", EVIDENT)
def test_what_is_evident_is_told_with_its_reason(name: str) -> None:
    appearance = apparent_modality(_volume(EVIDENT[name]))
    assert appearance is not None
    assert appearance.modality == name[:2]
    other = {"CT": "MR", "MR": "CT"}[name[:2]]
    assert modality_warning(_volume(EVIDENT[name]), name[:2], "m") is None
    warning = modality_warning(_volume(EVIDENT[name]), other, "organs-1")
    assert warning is not None
    assert warning.startswith(f"This looks like {'a CT' if name[:2] == 'CT' else 'an MR'}: ")
    assert appearance.reason in warning
    assert f"organs-1 was trained on {other}" in warning


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("trained_on", ["CT", "MR"])
def test_what_is_ambiguous_gives_no_warning(name: str, trained_on: str) -> None:
    assert modality_warning(_volume(AMBIGUOUS[name]), trained_on, "organs") is None


@pytest.mark.parametrize("voxels", [EVIDENT["CT"], EVIDENT["MR"], AMBIGUOUS["MR standardised"]])
def test_the_dicom_tag_wins_over_the_voxels(voxels: np.ndarray) -> None:
    assert modality_warning(_volume(voxels, "CT"), "CT", "m") is None
    assert modality_warning(_volume(voxels, "MR"), "MR", "m") is None
    assert "DICOM tag Modality says MR" in (modality_warning(_volume(voxels, "MR"), "CT", "m") or "")
    assert "PET" in (modality_warning(_volume(voxels, "PT"), "CT", "m") or "")


def test_a_tag_that_names_no_scanner_leaves_it_to_the_voxels() -> None:
    appearance = apparent_modality(_volume(_ct(), "OT"))
    assert appearance is not None
    assert appearance.modality == "CT"


def test_a_series_brings_its_tag(write_series) -> None:
    for modality in ("CT", "MR"):
        folder = write_series(fields=lambda k, said=modality: {"Modality": said})
        assert read_volume(folder).modality == modality


@pytest.mark.slow
@pytest.mark.parametrize(("part", "count", "wanted"), [("btcv", 2, None), ("left_atrium", 3, "MR")])
def test_real_volumes(part: str, count: int, wanted: str | None, tmp_path: Path) -> None:
    """The CTs are clipped to a window of soft tissue, the MRs lie in 0…255."""
    if not DATA.is_dir():
        pytest.skip("the data collection ../shared/data is not here")
    if not (importlib.util.find_spec("imagecodecs") and importlib.util.find_spec("nibabel")):
        pytest.skip("imagecodecs and nibabel unpack the data collection")
    import json

    cases = json.loads((DATA / part / "cases.json").read_text(encoding="utf-8"))
    names = [case if isinstance(case, str) else case.get("name", case.get("id")) for case in cases][:count]
    command = [sys.executable, str(DATA / "unpack.py"), part, str(tmp_path), "--cases", *names]
    subprocess.run(command, check=True, capture_output=True)
    images = sorted((tmp_path / "images").iterdir())
    assert len(images) == count
    found = [apparent_modality(read_volume(image)) for image in images]
    assert {each and each.modality for each in found} == {wanted}
