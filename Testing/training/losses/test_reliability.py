from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.mutual import class_prototypes, reliability, similarities


def _random(classes: int, width: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return features and probabilities of two volumes of 3 × 4 × 5 voxels."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn((2, width, 3, 4, 5), generator=generator).relu()
    logits = 2 * torch.randn((2, classes, 3, 4, 5), generator=generator)
    return features, logits.softmax(dim=1)


def _slow(features: Tensor, probabilities: Tensor, form: str, min_voxels: int) -> Tensor:
    """Voxel by voxel, as the formulas stand."""
    f, p = features.double().numpy(), probabilities.double().numpy()
    weights = np.ones((p.shape[0], *p.shape[2:]))
    for volume in range(len(p)):
        voxels = list(np.ndindex(*p.shape[2:]))
        members: dict[int, list[np.ndarray]] = {c: [] for c in range(p.shape[1])}
        for voxel in voxels:
            members[int(np.argmax(p[volume][(slice(None), *voxel)]))].append(f[volume][(slice(None), *voxel)])
        prototypes = {
            c: np.mean(vectors, axis=0) / np.linalg.norm(np.mean(vectors, axis=0))
            for c, vectors in members.items()
            if len(vectors) >= min_voxels
        }
        for voxel in voxels:
            vector = f[volume][(slice(None), *voxel)]
            length = max(float(np.linalg.norm(vector)), 1e-12)
            terms = [
                (float(vector @ prototype) / length - p[volume][(c, *voxel)]) ** 2
                for c, prototype in prototypes.items()
            ]
            divisor = 2 if form == "half_sum" else p.shape[1]
            weights[(volume, *voxel)] = min(max(1 - sum(terms) / divisor, 0), 1)
    return torch.from_numpy(weights).float()


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("form", ["half_sum", "mean"])
@pytest.mark.parametrize("min_voxels", [1, 11])
def test_it_is_what_the_formulas_say(classes, form, min_voxels):
    features, probabilities = _random(classes)
    counts = torch.stack([torch.bincount(p.argmax(0).flatten(), minlength=classes) for p in probabilities])
    if min_voxels > 1 and classes > 2:
        assert (counts < min_voxels).any()
        assert (counts >= min_voxels).any()
    found = reliability(features, probabilities, form, min_voxels)
    torch.testing.assert_close(found, _slow(features, probabilities, form, min_voxels), rtol=1e-4, atol=1e-5)


def test_a_case_by_hand():
    """Four voxels: two of background along the first axis, one organ along the second, one in between."""
    features = torch.tensor([[2.0, 1.0, 0.0, 1.0], [0.0, 0.0, 3.0, 1.0]]).reshape(1, 2, 1, 1, 4)
    organ = torch.tensor([0.0, 0.4, 0.9, 0.5001])
    probabilities = torch.stack([1 - organ, organ]).reshape(1, 2, 1, 1, 4)
    background, tissue = (1.0, 0.0), (1 / math.sqrt(17), 4 / math.sqrt(17))
    directions = class_prototypes(features, probabilities.argmax(1), 2, 1).directions[0]
    torch.testing.assert_close(directions, torch.tensor([background, tissue]))
    first = 1 - ((1 - 1.0) ** 2 + (tissue[0] - 0.0) ** 2) / 2
    second = 1 - ((1 - 0.6) ** 2 + (tissue[0] - 0.4) ** 2) / 2
    third = 1 - ((0 - 0.1) ** 2 + (tissue[1] - 0.9) ** 2) / 2
    weights = reliability(features, probabilities, min_voxels=1).flatten()[:3]
    torch.testing.assert_close(weights, torch.tensor([first, second, third]))


def test_both_forms_agree_on_two_classes_and_not_on_more():
    two, five = _random(2), _random(5)
    torch.testing.assert_close(reliability(*two, "mean", 1), reliability(*two, "half_sum", 1))
    assert (reliability(*five, "mean", 1) > reliability(*five, "half_sum", 1) + 0.01).any()


def test_a_rare_class_has_no_prototype_and_no_term():
    features, probabilities = torch.ones(1, 3, 2, 2, 2), torch.zeros(1, 2, 2, 2, 2)
    probabilities[:, 0] = 1
    prototypes = class_prototypes(features, probabilities.argmax(1), 2, min_voxels=8)
    assert prototypes.present.tolist() == [[True, False]]
    assert not prototypes.directions[0, 1].any()
    assert not similarities(features, prototypes)[:, 1].any()
    torch.testing.assert_close(reliability(features, probabilities, min_voxels=8), torch.ones(1, 2, 2, 2))
    assert not class_prototypes(features, probabilities.argmax(1), 2, min_voxels=9).present.any()


def test_volumes_do_not_mix():
    features, probabilities = _random(3)
    both = reliability(features, probabilities, min_voxels=1)
    alone = reliability(features[:1], probabilities[:1], min_voxels=1)
    torch.testing.assert_close(both[:1], alone)


def test_dead_features_give_finite_weights_and_no_gradient():
    features, probabilities = _random(3)
    features[0] = 0
    weights = reliability(features.requires_grad_(), probabilities, min_voxels=1)
    assert torch.isfinite(weights).all()
    assert not weights.requires_grad
    assert weights.min() >= 0
    assert weights.max() <= 1


def test_it_computes_in_float32_under_autocast():
    features, probabilities = _random(3)
    plain = reliability(features.bfloat16(), probabilities, min_voxels=1)
    with torch.autocast("cpu", torch.bfloat16):
        cast = reliability(features.bfloat16(), probabilities, min_voxels=1)
    assert cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain, rtol=0, atol=1e-6)


def test_what_does_not_fit_is_refused():
    features, probabilities = _random(2)
    with pytest.raises(TrainingError, match="form"):
        reliability(features, probabilities, "max")
    with pytest.raises(TrainingError, match="grid"):
        reliability(features[..., :4], probabilities)
