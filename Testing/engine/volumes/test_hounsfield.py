"""A CT that is not in HU is brought there where its voxels tell how, and reported otherwise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from multiorganseg.volumes import Volume
from multiorganseg.volumes.hounsfield import MENDED, NOT_IN_HU, to_hounsfield

SHAPE = (20, 60, 70)
WINDOW = (-125.0, 275.0)


def make_ct(background: float = -1000.0, padding: bool = False) -> np.ndarray:
    """Air, a rim of fat, soft tissue, lungs and bone, each with the noise of a CT."""
    _, j, i = np.mgrid[: SHAPE[0], -1 : 1 : SHAPE[1] * 1j, -1 : 1 : SHAPE[2] * 1j]
    radius = np.sqrt(j**2 + i**2)
    voxels = np.full(SHAPE, float(background))
    voxels[radius < 0.9] = -100
    voxels[radius < 0.75] = 50
    voxels[:6][(radius < 0.4)[:6]] = -850
    voxels[:, 40:46, 32:38] = 700
    voxels += np.random.default_rng(3).normal(0, 12, SHAPE)
    voxels = np.maximum(voxels, -1024)
    if padding:
        voxels[radius > 1.2] = -2048
    return voxels.round().astype(np.int16)


def stored(voxels: np.ndarray) -> np.ndarray:
    return (voxels.astype(int).clip(-1024, None) + 1024).astype(np.uint16)


def volume(voxels: np.ndarray, modality: str = "") -> Volume:
    return Volume(voxels, np.diag([2.0, 2.0, 3.0, 1.0]), "case", modality)


LOST: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "stored values": (stored, "1024 was subtracted"),
    "stored values as floats": (lambda v: stored(v).astype(np.float32), "1024 was subtracted"),
    "stored values, signed": (lambda v: (v + 1024).astype(np.int16), "1024 was subtracted"),
    "shifted by 2048": (lambda v: (v + 2048).astype(np.uint16), "2048 was subtracted"),
    "shifted by 8192": (lambda v: (v + 8192).astype(np.uint16), "8192 was subtracted"),
    "shifted by half the range": (
        lambda v: (v.astype(int) + 32768).astype(np.uint16),
        "32768 was subtracted",
    ),
    "rescaled twice": (lambda v: v - 1024, "subtracted twice, was added"),
    "sign lost": (lambda v: v.astype(np.uint16), "were read with one"),
}


@pytest.mark.parametrize("name", LOST)
@pytest.mark.parametrize("modality", ["", "CT"])
def test_a_shift_that_is_certain_is_undone_and_reported(name: str, modality: str) -> None:
    lose, words = LOST[name]
    voxels = make_ct()
    mended = to_hounsfield(volume(lose(voxels), modality), WINDOW)
    np.testing.assert_array_equal(mended.voxels, voxels)
    (message,) = mended.warnings
    assert message.startswith(MENDED)
    assert words in message
    assert to_hounsfield(mended, WINDOW) is mended


def test_a_crop_of_stored_values_without_air_is_mended() -> None:
    voxels = make_ct()[8:, 20:38, 20:50]
    np.testing.assert_array_equal(to_hounsfield(volume(stored(voxels))).voxels, voxels)


FINE = {
    "whole": make_ct(),
    "air at −1024": make_ct(background=-1024),
    "padded": make_ct(padding=True),
    "clipped to the network's window": make_ct().clip(-125, 275),
    "clipped wider": make_ct().clip(-200, 300),
    "a crop without air": make_ct()[8:, 8:52, 10:60],
    "mostly air": np.pad(make_ct(), ((0, 0), (200, 200), (200, 200)), constant_values=-1000),
    "mostly padding": np.pad(make_ct(), ((0, 0), (90, 90), (90, 90)), constant_values=-2048),
    "lungs": make_ct()[:6, 14:46, 14:56],
}


@pytest.mark.parametrize("name", FINE)
def test_hounsfield_units_are_left_alone(name: str) -> None:
    whole = volume(FINE[name], "CT")
    assert to_hounsfield(whole, WINDOW) is whole


WRONG = {
    "a window in bytes": ((make_ct().clip(-160, 240) + 160) * (255 / 400)).astype(np.uint8),
    "a window in 16 bits": ((make_ct().clip(-160, 240) + 160) * (65535 / 400)).astype(np.uint16),
    "clipped at water": make_ct().clip(0, 250),
    "scaled to one": make_ct().clip(-1000, 1000) / 1000,
    "standardised": (make_ct() - make_ct().mean()) / make_ct().std(),
    "halved": (make_ct() // 2 - 800).astype(np.int16),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_mended_is_told_and_left(name: str) -> None:
    wrong = volume(WRONG[name], "CT")
    reported = to_hounsfield(wrong, WINDOW)
    assert reported.voxels is wrong.voxels
    assert reported.warnings[0].startswith(NOT_IN_HU)
    assert to_hounsfield(reported, WINDOW).warnings == reported.warnings


def test_a_window_narrower_than_the_networks_is_a_note() -> None:
    (note,) = to_hounsfield(volume(make_ct().clip(-50, 150)), WINDOW).warnings
    assert note == "The CT was clipped to -50…150 HU; the model sees -125…275 HU."


def test_the_gravest_warning_comes_first() -> None:
    wrong = Volume(WRONG["a window in bytes"], np.eye(4), warnings=("2 files were left out",))
    assert [message[:10] for message in to_hounsfield(wrong).warnings] == [NOT_IN_HU[:10], "2 files we"]


def test_an_image_that_is_no_ct_is_left_alone() -> None:
    generator = np.random.default_rng(0)
    mr = np.abs(make_ct() > -500) * 120 * generator.uniform(0.3, 1.4, SHAPE) + abs(
        generator.normal(0, 4, SHAPE)
    )
    for image in (volume(mr), volume(stored(make_ct()), "MR"), volume(stored(make_ct()), "PT")):
        assert to_hounsfield(image, WINDOW) is image
