from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.losses.alignment import (
    AlignmentLoss,
    AlignmentSpec,
    align,
    align_features,
    pixel_prototype_contrast,
    pixel_prototype_distance,
)
from multiorganseg_training.losses.prototypes import PrototypeClassifier
from multiorganseg_training.losses.pseudo_labels import fuse

SPACE = (6, 7)


def _case(
    space: tuple[int, ...] = SPACE, width: int = 4, **arguments: object
) -> tuple[PrototypeClassifier, torch.Tensor, tuple[torch.Tensor, ...]]:
    torch.manual_seed(0)
    channels = max(6, width)
    classifier = PrototypeClassifier(channels, 2, per_class=3, width=width, **arguments)  # type: ignore[arg-type]
    features = torch.randn((2, channels, *space), requires_grad=True)
    labels = torch.randint(0, 3, (2, *space))
    fused = fuse(labels, known_matrix([{1}, {2}], 2), torch.randint(0, 3, (2, *space)))
    return classifier, features, (fused.labels, fused.labelled, fused.unlabelled)


def _scalars(loss: AlignmentLoss) -> list[float]:
    return [float(x.detach()) for x in (loss.cross_entropy, loss.contrast, loss.distance, loss.total)]


def test_contrast_and_distance_by_hand():
    cosines = torch.tensor([[0.5, -0.5], [0.2, 0.8]])
    assigned = torch.tensor([0, 0])
    contrast = (math.log(1 + math.exp(-1)) + math.log(1 + math.exp(0.6))) / 2
    assert float(pixel_prototype_contrast(cosines, assigned)) == pytest.approx(contrast)
    assert float(pixel_prototype_distance(cosines, assigned)) == pytest.approx((0.25 + 0.64) / 2)
    assert float(pixel_prototype_distance(cosines[:1], assigned[:1])) == pytest.approx(0.25)


def test_without_pixels_both_are_zero():
    cosines = torch.zeros((0, 4), requires_grad=True)
    empty = torch.zeros(0, dtype=torch.int64)
    loss = pixel_prototype_contrast(cosines, empty) + pixel_prototype_distance(cosines, empty)
    loss.backward()
    assert float(loss.detach()) == 0


def _slow_bank(
    classifier: PrototypeClassifier, name: str, pixels: torch.Tensor, labels: torch.Tensor, mask: torch.Tensor
) -> tuple[list[float], torch.Tensor]:
    """One bank, class by class and prototype by prototype."""
    prototypes = classifier.bank(name).prototypes.clone()
    classes, per_class, _ = prototypes.shape
    best = torch.stack([(pixels @ prototypes[k].T).max(1).values for k in range(classes)], dim=1)
    logits = functional.layer_norm(best, (classes,))
    cross_entropy = functional.cross_entropy(logits, labels)
    moved = prototypes.clone()
    contrast, distance = [], []
    for k in range(classes):
        members = (mask == k).nonzero()[:, 0]
        own = (pixels[members] @ prototypes[k].T).double()
        shares = (own / 0.05).exp()
        for _ in range(3):
            shares = shares / shares.sum(0, keepdim=True)
            shares = shares / shares.sum(1, keepdim=True)
        assigned = shares.argmax(1)
        sums = torch.zeros_like(prototypes[k])
        for place, m in zip(members.tolist(), assigned.tolist(), strict=True):
            raw = pixels[place] @ prototypes.reshape(-1, prototypes.shape[-1]).T
            contrast.append(float(-raw.log_softmax(0)[k * per_class + m]))
            distance.append((1 - float(raw[k * per_class + m])) ** 2)
            if int(logits[place].argmax()) == k:
                sums[m] += pixels[place]
        for m in range(per_class):
            if sums[m].any():
                new = functional.normalize(sums[m], dim=0)
                moved[k, m] = functional.normalize(0.999 * prototypes[k, m] + 0.001 * new, dim=0)
    terms = [float(cross_entropy), sum(contrast) / len(contrast), sum(distance) / len(distance)]
    return [*terms, terms[0] + 0.01 * terms[1] + 0.001 * terms[2]], moved


@pytest.mark.parametrize("space", [SPACE, (2, 4, 5)])
def test_against_the_formulas_pixel_by_pixel(space):
    classifier, features, maps = _case(space, copy_background=False)
    pixels = classifier.embed(features)
    flat = [m.flatten() for m in maps]
    expected = [
        _slow_bank(classifier, name, pixels.detach(), flat[0], mask)
        for name, mask in zip(("labelled", "unlabelled"), flat[1:], strict=True)
    ]
    losses = align(classifier, pixels, *maps)
    for loss, name, (terms, moved) in zip(losses, ("labelled", "unlabelled"), expected, strict=True):
        assert _scalars(loss) == pytest.approx(terms, abs=1e-5)
        assert torch.allclose(classifier.bank(name).prototypes, moved, atol=1e-6)


def test_the_labelled_background_stays_a_copy():
    classifier, features, maps = _case()
    before = classifier.labelled.prototypes.clone()
    align(classifier, classifier.embed(features), *maps)
    assert torch.equal(classifier.labelled.prototypes[0], classifier.unlabelled.prototypes[0])
    assert not torch.equal(classifier.labelled.prototypes, before)


def test_prototypes_rest_when_told_to():
    classifier, features, maps = _case()
    before = classifier.labelled.prototypes.clone(), classifier.unlabelled.prototypes.clone()
    align(classifier, classifier.embed(features), *maps, update=False)
    assert torch.equal(classifier.labelled.prototypes, before[0])
    assert torch.equal(classifier.unlabelled.prototypes, before[1])


def test_the_gradient_after_an_update_is_that_before_it():
    gradients = []
    for update in (True, False):
        classifier, features, maps = _case()
        first, second = align(classifier, classifier.embed(features), *maps, update=update)
        (first.total + second.total).backward()
        assert features.grad is not None
        assert features.grad.isfinite().all()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in classifier.parameters())
        gradients.append(features.grad)
    assert gradients[0].any()
    assert torch.equal(*gradients)


def test_a_bank_without_pixels_learns_by_cross_entropy_alone():
    classifier, features, (labels, _, _) = _case(copy_background=False)
    nothing = torch.full_like(labels, -1)
    before = classifier.labelled.prototypes.clone()
    loss, _ = align(classifier, classifier.embed(features), labels, nothing, labels)
    cross_entropy, contrast, distance, total = _scalars(loss)
    assert contrast == distance == 0
    assert total == cross_entropy > 0
    assert torch.equal(classifier.labelled.prototypes, before)


def test_subsampling_and_gumbel_repeat_with_their_generator():
    results = []
    for _ in range(2):
        classifier, features, maps = _case()
        spec = AlignmentSpec(update="gumbel", pixels_per_class=5)
        losses = align_features(classifier, features, *maps, spec, torch.Generator().manual_seed(1))
        results.append((_scalars(losses[0]), classifier.labelled.prototypes))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])


def test_without_a_limit_all_pixels_are_aligned():
    classifier, features, maps = _case()
    expected = align(classifier, classifier.embed(features), *maps, update=False)
    found = align_features(classifier, features, *maps, update=False)
    assert [_scalars(loss) for loss in found] == [_scalars(loss) for loss in expected]


@pytest.mark.parametrize("coarse", [False, True])
def test_a_limit_takes_as_many_pixels_of_each_class(monkeypatch, coarse):
    classifier, features, _ = _case((8, 6))
    labels = torch.zeros((2, 8, 6), dtype=torch.int64)
    labels[0, 0, :5], labels[1, 2:, :] = 1, 2
    seen = []
    monkeypatch.setattr("multiorganseg_training.losses.alignment.align", lambda *given: seen.append(given))
    values = functional.avg_pool2d(features, 2) if coarse else features
    align_features(classifier, values, labels, labels, labels, AlignmentSpec(pixels_per_class=7))
    (_, pixels, chosen, *_), *_ = seen
    assert torch.bincount(chosen).tolist() == [7, 5, 7]
    assert len(pixels) == 19
    if not coarse:
        own = {tuple(row) for row in features.detach().movedim(1, -1)[labels == 1].tolist()}
        classifier.eval()
        align_features(classifier, values, labels, labels, labels, AlignmentSpec(pixels_per_class=7))
        expected = classifier.embed(torch.tensor(sorted(own)).T[None])
        assert torch.allclose(seen[1][1][seen[1][2] == 1].sum(0), expected.sum(0), atol=1e-5)


@pytest.mark.parametrize("limit", [None, 40])
def test_prototypes_of_a_small_organ_start_where_pixels_of_a_class_are_limited(limit):
    """An organ has half a per cent of the voxels: over all of them the classifier keeps to the background."""
    torch.manual_seed(0)
    labels = torch.zeros((1, 100, 100), dtype=torch.int64)
    labels[0, 10:15, 10:20] = 1
    looks = torch.eye(8)[:2][labels].movedim(-1, 1) + 0.3 * torch.randn((1, 8, 100, 100))
    classifier = PrototypeClassifier(8, 1, per_class=3, width=8, momentum=0.9)
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=3e-3)
    spec, draws = AlignmentSpec(pixels_per_class=limit), torch.Generator().manual_seed(0)
    for _ in range(120):
        losses = align_features(classifier, looks, labels, labels, labels, spec, draws)
        optimiser.zero_grad()
        (losses[0].total + losses[1].total).backward()
        optimiser.step()
    with torch.no_grad():
        found = classifier.eval()(looks).argmax(1) == 1
    right = float((found & (labels == 1)).sum() / 50)
    assert right > 0.8 if limit else right < 0.2


def test_features_move_towards_their_prototypes():
    """Descent on free features makes both classifiers agree with the labels and with each other."""
    classifier, features, maps = _case(width=16, momentum=0.9)
    right = []
    for _ in range(40):
        losses = align(classifier, classifier.embed(features), *maps)
        (gradient,) = torch.autograd.grad(losses[0].total + losses[1].total, features)
        with torch.no_grad():
            features -= 0.1 * gradient / gradient.square().mean().sqrt()
            predicted = [classifier(features, bank).argmax(1) for bank in ("labelled", "unlabelled")]
            right.append(min(float((labels == maps[0]).float().mean()) for labels in predicted))
    assert right[0] < 0.6
    assert right[-1] > 0.85
