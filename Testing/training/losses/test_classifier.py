from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.prototypes import ProjectionHead, PrototypeClassifier


def _classifier(**arguments: object) -> PrototypeClassifier:
    torch.manual_seed(0)
    return PrototypeClassifier(6, 2, per_class=3, width=4, **arguments)  # type: ignore[arg-type]


def test_the_projection_is_two_convolutions_of_one_voxel():
    torch.manual_seed(0)
    head = ProjectionHead(6, 4)
    first, norm, _, last = head.layers
    features = torch.randn(2, 6, 3, 5)
    convolutions = nn.Sequential(nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 4, 1))
    for convolution, linear in ((convolutions[0], first), (convolutions[3], last)):
        convolution.load_state_dict(
            {"weight": linear.weight.detach()[:, :, None, None], "bias": linear.bias.detach()}
        )
    expected = functional.normalize(convolutions(features), dim=1)
    projected = head(features.movedim(1, -1).reshape(-1, 6))
    assert torch.allclose(projected, expected.movedim(1, -1).reshape(-1, 4), atol=1e-6)
    assert torch.allclose(norm.running_mean, convolutions[1].running_mean, atol=1e-6)


@pytest.mark.parametrize("space", [(3, 5), (2, 3, 5)])
def test_embeddings_have_unit_length_and_the_order_of_labels(space):
    classifier = _classifier().eval()
    features = torch.randn(2, 6, *space)
    pixels = classifier.embed(features)
    assert pixels.shape == (2 * torch.Size(space).numel(), 4)
    assert torch.allclose(pixels.norm(dim=1), torch.ones(len(pixels)))
    one = classifier.embed(features[1:, :, -1:, -1:])[-1]
    assert torch.allclose(pixels[-1], one, atol=1e-6)


def test_class_logits_by_hand():
    """The best cosines are 0.9, 0.3 and 0; layer normalisation replaces a temperature."""
    cosines = torch.tensor([[[0.9, 0.1, -0.5], [0.3, -0.2, 0.2], [-0.1, 0.0, -0.9]]])
    logits = _classifier().class_logits(cosines)
    best = torch.tensor([0.9, 0.3, 0.0])
    expected = (best - 0.4) / (best.var(unbiased=False) + 1e-5).sqrt()
    assert torch.allclose(logits[0], expected)


def test_five_classes_are_bounded_by_two():
    torch.manual_seed(0)
    classifier = PrototypeClassifier(6, 4)
    logits = classifier.class_logits(torch.eye(5)[:, :, None])
    assert float(logits.detach().max()) == pytest.approx(2.0, abs=1e-3)


@pytest.mark.parametrize("bank", ["labelled", "unlabelled"])
@pytest.mark.parametrize("space", [(3, 5), (2, 3, 5)])
def test_the_nearest_prototype_wins(bank, space):
    classifier = _classifier(copy_background=False).eval()
    features = torch.randn(2, 6, *space)
    logits = classifier(features, bank)
    assert logits.shape == (2, 3, *space)
    prototypes = classifier.bank(bank).prototypes
    nearest = (classifier.embed(features) @ prototypes.reshape(-1, 4).T).argmax(1) // 3
    assert torch.equal(logits.argmax(1).flatten(), nearest)


def test_the_background_is_a_copy_or_not():
    shared, separate = _classifier(), _classifier(copy_background=False)
    assert torch.equal(shared.labelled.prototypes[0], shared.unlabelled.prototypes[0])
    assert not torch.equal(shared.labelled.prototypes[1], shared.unlabelled.prototypes[1])
    separate.share_background()
    assert not torch.equal(separate.labelled.prototypes[0], separate.unlabelled.prototypes[0])


def test_mixed_precision_gives_full_precision_unit_vectors():
    classifier = _classifier()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        pixels = classifier.embed(torch.randn(2, 6, 4, 4).bfloat16())
        logits = classifier(torch.randn(2, 6, 4, 4).bfloat16())
    assert pixels.dtype == logits.dtype == torch.float32
    assert torch.allclose(pixels.norm(dim=1), torch.ones(32))


def test_an_unknown_bank_is_refused():
    with pytest.raises(TrainingError, match="No prototype classifier"):
        _classifier()(torch.zeros(1, 6, 2, 2), "both")
