from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg.networks.build import build_network
from multiorganseg_training.extend.log_dice import log_dice
from multiorganseg_training.extend.retention import retained_organs, retention
from multiorganseg_training.methods import Batch, Extend, Setting, Step, build_method
from multiorganseg_training.methods import extend as extend_module
from multiorganseg_training.partial.dice import masked_dice
from multiorganseg_training.partial.marginal_loss import marginal_cross_entropy
from multiorganseg_training.partial.probabilities import organ_probs
from multiorganseg_training.partial.targets import tri_state

ORGANS, OLD, SPACE = 3, 2, (4, 8, 8)
WITHIN = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)


class Small(nn.Module):
    """Two layers with batch normalisation, as a network of the project answers."""

    def __init__(self, activation: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv3d(1, 6, 3, padding=1), nn.BatchNorm3d(6), nn.ReLU())
        self.head = nn.Conv3d(6, ORGANS + (activation == "softmax"), 1)
        self.shown: list[Tensor] = []

    def forward(self, image: Tensor) -> SimpleNamespace:
        if torch.is_grad_enabled():
            self.shown.append(image.detach())
        features = self.trunk(image)
        return SimpleNamespace(logits=self.head(features), features=features)


def _method(
    activation: str = "softmax", network: nn.Module | None = None, **arguments: Any
) -> tuple[Extend, Any]:
    network = network or Small(activation)
    setting = Setting(network, activation, ORGANS, 6, WITHIN)
    method = build_method("extend", {"old_organs": OLD, **arguments}, setting)
    assert isinstance(method, Extend)
    return method, network


@pytest.fixture
def batch() -> Batch:
    """Two patches: in the first the new organ is annotated, in the second the first old one."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.zeros((2, *SPACE), dtype=torch.long)
    labels[0, 1:3, 2:6, 2:6], labels[1, 1:3, 4:8, 4:8] = 3, 1
    known = torch.tensor([[False, False, True], [True, False, False]])
    return Batch(torch.randn((2, 1, *SPACE), generator=generator), labels, known)


def _step(method: Extend, network: nn.Module, batch: Batch, seed: int = 0) -> Step:
    return method(network, batch, np.random.default_rng(seed))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_nothing_is_lost_before_the_first_step(activation, batch):
    method, network = _method(activation, mixing=False)
    logs = _step(method, network, batch).logs
    assert float(logs["retained"]) == pytest.approx(0, abs=1e-6)
    assert float(logs["annotated"]) > 0.01
    assert float(logs["dice_loss"]) > 0.01


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_old_organs_are_held_once_the_network_has_moved(activation, batch):
    method, network = _method(activation)
    with torch.no_grad():
        network.head.bias[-2] += 2
    step = _step(method, network, batch)
    assert float(step.logs["retained"]) > 0.01
    step.loss.backward()
    assert float(network.trunk[0].weight.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in method.former.parameters())


def test_the_losses_of_the_plain_view(batch):
    method, network = _method(mixing=False, similarity=False, dice_weight=0.5, retain_weight=3.0)
    former = network.eval()(batch.image).logits.detach()
    with torch.no_grad():
        network.head.bias[1] += 1
    step = _step(method, network.train(), batch)
    logits = network.eval()(batch.image).logits
    targets = tri_state(batch.labels, batch.known, within=WITHIN)
    free = torch.ones_like(batch.labels, dtype=torch.bool)
    free[0][batch.labels[0] == 3] = False
    free[1][batch.labels[1] == 1] = False
    held = retention(
        logits, former, retained_organs(batch.known, OLD), free, torch.ones(free.shape), "softmax"
    )
    dice = log_dice(organ_probs(logits, "softmax"), targets, batch.known)
    drawn = former.argmax(dim=1).where(free, 0)
    by_base = torch.stack([drawn == organ for organ in (1, 2, 3)], dim=1).to(torch.int8)
    kept = masked_dice(organ_probs(logits, "softmax"), by_base, retained_organs(batch.known, OLD))
    expected = {
        "annotated": marginal_cross_entropy(logits, batch.labels, batch.known),
        "dice_loss": 0.5 * dice,
        "retained": 3 * held,
        "retained_dice_loss": 3 * kept,
    }
    assert step.logs.keys() == expected.keys()
    for name, value in expected.items():
        assert float(step.logs[name]) == pytest.approx(float(value.detach()), rel=1e-4), name
    assert float(step.loss.detach()) == pytest.approx(float(sum(expected.values()).detach()), rel=1e-4)


def test_annotated_voxels_overrule_the_base(batch, monkeypatch):
    seen = []

    def spy(logits, former, retained, counts, weights, activation):
        seen.append((retained, counts))
        return retention(logits, former, retained, counts, weights, activation)

    monkeypatch.setattr(extend_module, "retention", spy)
    method, network = _method(mixing=False)
    _step(method, network, batch)
    ((retained, counts),) = seen
    assert torch.equal(counts, batch.labels == 0)
    assert retained[0, :, 0, 0, 0].tolist() == [True, True, False]
    assert retained[1, :, 0, 0, 0].tolist() == [False, True, False]


def test_the_mixed_view_knows_what_its_source_knows(batch, monkeypatch):
    seen = []
    real = extend_module.Extend._losses

    def spy(self, view, logits, former):
        seen.append(view)
        return real(self, view, logits, former)

    monkeypatch.setattr(extend_module.Extend, "_losses", spy)
    method, network = _method()
    _step(method, network, batch)
    plain, mixed = seen
    assert [len(image) for image in network.shown] == [4]
    pasted = (mixed.image != plain.image)[:, 0]
    assert all(0.01 < float(share) < 0.5 for share in pasted.float().mean(dim=(1, 2, 3)))
    for sample, other in ((0, 1), (1, 0)):
        inside = pasted[sample]
        for name in ("image", "targets", "known", "labels", "weights"):
            ours, own, theirs = (
                getattr(view, name)[which].reshape(-1, *SPACE)
                for view, which in ((mixed, sample), (plain, sample), (plain, other))
            )
            assert torch.equal(ours[:, inside], theirs[:, inside]), name
            assert torch.equal(ours[:, ~inside], own[:, ~inside]), name
        assert torch.equal(mixed.former[0][sample][:, inside], plain.former[0][other][:, inside])


def test_one_patch_is_not_mixed(batch):
    method, network = _method()
    single = Batch(batch.image[:1], batch.labels[:1], batch.known[:1])
    _step(method, network, single)
    assert [len(image) for image in network.shown] == [1]


def test_batch_normalisation_keeps_the_statistics_of_the_base(batch):
    method, network = _method()
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network.train()
    _step(method, network, batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())


def test_each_decoder_learns_and_is_held_to_itself(batch):
    arguments = {"n_filters": 4, "stages": 2, "dropout": 0.0, "decoders": ["transposed", "nearest"]}
    torch.manual_seed(0)
    vnet = build_network("vnet", {"in_channels": 1, "out_channels": ORGANS + 1, **arguments})
    method, network = _method(network=vnet, mixing=False)
    step = _step(method, network.train(), batch)
    assert float(step.logs["retained"]) == pytest.approx(0, abs=1e-6)
    step.loss.backward()
    for layer in (network.head, network.other_heads[0]):
        assert float(layer.weight.grad.abs().sum()) > 0


def test_the_network_before_lies_in_the_methods_state_and_does_not_move(batch):
    method, network = _method()
    before = {name: tensor.clone() for name, tensor in method.state_dict().items()}
    assert "former.head.weight" in before
    step = _step(method, network, batch)
    step.loss.backward()
    torch.optim.SGD(network.parameters(), 1.0).step()
    method.after_step(network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in method.state_dict().items())
    other, _ = _method()
    other.load_state_dict(before)
    assert torch.equal(other.former.head.weight, method.former.head.weight)


@pytest.mark.parametrize("old", [0, ORGANS, ORGANS + 1])
def test_a_network_that_knew_none_or_all_is_refused(old):
    with pytest.raises(TrainingError, match=f"cannot have known {old}"):
        _method(old_organs=old)
