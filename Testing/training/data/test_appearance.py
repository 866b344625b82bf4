from __future__ import annotations

import numpy as np
import pytest
import torch

from multiorganseg_training.data.appearance import PHASES, Phase, change_phase
from multiorganseg_training.data.augmentation import LEAST_PLANES, coarsen, cut_field

WINDOW = (-125.0, 275.0)
ORGANS = {1: "liver", 2: "aorta", 3: "kidney_left"}
AIR = -1.0


def _to_unit(hu: float) -> float:
    return (hu + 125) / 200 - 1


def _patch() -> tuple[torch.Tensor, torch.Tensor]:
    """A portal-venous scan: liver 110 HU, aorta 150, a kidney 160, muscle 50 and bone."""
    labels = torch.zeros((12, 40, 48), dtype=torch.long)
    labels[2:10, 4:20, 4:24], labels[:, 26:34, 4:12], labels[:, 8:34, 28:46] = 1, 2, 3
    hu = torch.full(labels.shape, 50.0)
    for channel, value in {1: 110.0, 2: 150.0, 3: 160.0}.items():
        hu[labels == channel] = value
    hu[:, 36:, :] = 275.0
    return _to_unit(0) + hu[None] / 200, labels


def _means(patch: torch.Tensor, labels: torch.Tensor) -> dict[str, float]:
    hu = (patch[0] + 1) * 200 - 125
    inner = {key: labels == channel for channel, key in ORGANS.items()}
    return {key: float(hu[mask].mean()) for key, mask in inner.items()} | {
        "muscle": float(hu[:, 21:25, 5:24].mean()),
        "bone": float(hu[:, 37:].mean()),
    }


@pytest.mark.parametrize("name", list(PHASES))
def test_organs_take_the_intensity_of_the_phase_and_others_keep_theirs(name) -> None:
    patch, labels = _patch()
    runs = [
        _means(change_phase(patch, labels, ORGANS, WINDOW, np.random.default_rng(seed), PHASES[name]), labels)
        for seed in range(30)
    ]
    mean = {key: np.mean([run[key] for run in runs]) for key in runs[0]}
    liver, _ = PHASES[name].to["liver"]
    aorta, _ = PHASES[name].to["aorta"]
    assert mean["liver"] == pytest.approx(liver, abs=12)
    assert mean["aorta"] == pytest.approx(min(aorta, 260), abs=25)
    assert mean["bone"] == pytest.approx(275, abs=1)
    assert mean["muscle"] == pytest.approx(50, abs=4)
    assert np.std([run["liver"] for run in runs]) > 4


def test_in_the_arterial_phase_the_cortex_is_brighter_than_the_inner_kidney() -> None:
    patch, labels = _patch()
    changed = change_phase(patch, labels, ORGANS, WINDOW, np.random.default_rng(0), PHASES["arterial"])[0]
    assert changed[6, 9:11, 30:44].mean() > changed[6, 19:23, 36:38].mean() + 0.2


def test_without_agent_vessels_without_label_fade_and_bone_stays() -> None:
    patch, labels = _patch()
    patch[:, :, 22:24, 14:24] = _to_unit(170)
    changed = change_phase(patch, labels, ORGANS, WINDOW, np.random.default_rng(0), PHASES["unenhanced"])[0]
    assert changed[:, 22:24, 15:23].max() < _to_unit(100)
    assert changed[:, 37:].min() > _to_unit(270)


def test_a_phase_without_any_organ_changes_nothing() -> None:
    patch, labels = _patch()
    nothing = torch.zeros_like(labels)
    changed = change_phase(
        patch, nothing, ORGANS, WINDOW, np.random.default_rng(0), Phase(to={"liver": (0, 1)})
    )
    assert torch.allclose(changed, patch, atol=1e-5)


@pytest.mark.parametrize("seed", range(12))
def test_a_cut_field_is_air_or_mirrored_in_image_and_labels_alike(seed) -> None:
    generator = np.random.default_rng(seed)
    patch = torch.from_numpy(np.random.default_rng(99).uniform(-0.9, 1, (1, 24, 20, 22))).float()
    labels = (patch[0] * 1000).round().long()
    cut, cut_labels = cut_field(patch, labels, AIR, generator)
    assert cut.shape == patch.shape
    air = cut[0] == AIR
    assert (cut_labels[air] == 0).all()
    assert torch.equal(cut_labels[~air], (cut[0][~air] * 1000).round().long())
    assert not torch.equal(cut, patch)
    assert (~air).sum() >= LEAST_PLANES * 20 * 22 * 0.1


def test_thick_slices_smooth_along_k_alone_and_large_pixels_in_plane_alone() -> None:
    ramp_k = torch.linspace(-1, 1, 24)[None, :, None, None].expand(1, 24, 16, 16).contiguous()
    noise = torch.randn(1, 24, 16, 16, generator=torch.Generator().manual_seed(0))
    along_k = noise[:, :, :1, :1].expand(1, 24, 16, 16).contiguous()
    in_plane = noise[:, :1].expand(1, 24, 16, 16).contiguous()
    thick = coarsen(along_k, np.random.default_rng(0), in_plane=False)
    assert thick.std() < 0.9 * along_k.std()
    assert torch.allclose(coarsen(in_plane, np.random.default_rng(0), in_plane=False), in_plane, atol=1e-5)
    assert coarsen(in_plane, np.random.default_rng(0), in_plane=True).std() < 0.8 * in_plane.std()
    assert torch.allclose(coarsen(ramp_k, np.random.default_rng(0), in_plane=True), ramp_k, atol=1e-5)


@pytest.fixture
def on_meta(monkeypatch) -> tuple[torch.Tensor, torch.Tensor]:
    """A patch on a device that has shapes alone: what asks for numbers is told some."""
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: [40.0] * self.numel())
    monkeypatch.setattr(torch.Tensor, "__bool__", lambda self: True)
    monkeypatch.setattr(torch, "bincount", lambda values, minlength: values.new_ones(minlength))
    return torch.zeros((1, 8, 16, 16), device="meta"), torch.zeros(
        (8, 16, 16), dtype=torch.long, device="meta"
    )


@pytest.mark.parametrize("name", list(PHASES))
def test_a_phase_is_changed_on_the_device_of_the_patch(name, on_meta) -> None:
    changed = change_phase(*on_meta, ORGANS, WINDOW, np.random.default_rng(0), PHASES[name])
    assert changed.device.type == "meta"


@pytest.mark.parametrize("seed", range(6))
def test_a_field_is_cut_on_the_device_of_the_patch(seed, on_meta) -> None:
    image, labels = cut_field(*on_meta, AIR, np.random.default_rng(seed))
    assert (image.device.type, labels.device.type) == ("meta", "meta")
