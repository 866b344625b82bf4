from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from multiorganseg.errors import TrainingError
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.networks.output import decoder_outputs
from multiorganseg_training.losses.known import organ_probs, probs, tri_state
from multiorganseg_training.losses.mutual import reliability
from multiorganseg_training.losses.partial import log_dice, partial_cross_entropy
from multiorganseg_training.losses.pseudo_labels import pseudo_label_loss
from multiorganseg_training.methods import AddOrgan, Batch, Setting, Step, build_method
from multiorganseg_training.methods import add_organ as add_organ_module
from multiorganseg_training.run.build import start_branch

ORGANS, OLD, SPACE = 3, 2, (4, 8, 8)
WITHIN = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)


@pytest.fixture
def network(small_network, request) -> BranchingNetwork:
    """A V-Net of two decoders with batch normalisation, dropout and a branch for one organ."""
    activation = getattr(request, "param", "softmax")
    channels = ORGANS + (activation == "softmax")
    network = small_network("vnet", channels, branches=[1], dropout=0.5)
    for _ in range(20):
        network.train()(torch.randn((2, 1, *SPACE)))
    start_branch(network, activation)
    return network


def _method(network: nn.Module, activation: str = "softmax", **arguments: Any) -> AddOrgan:
    setting = Setting(network, activation, ORGANS, 4, WITHIN)
    method = build_method("add_organ", arguments, setting)
    assert isinstance(method, AddOrgan)
    return method


@pytest.fixture
def batch() -> Batch:
    """Two patches: in the first the new organ is annotated, in the second the first old one."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.zeros((2, *SPACE), dtype=torch.long)
    labels[0, 1:3, 2:6, 2:6], labels[1, 1:3, 4:8, 4:8] = 3, 1
    known = torch.tensor([[False, False, True], [True, False, False]])
    return Batch(torch.randn((2, 1, *SPACE), generator=generator), labels, known)


def _step(method: AddOrgan, network: nn.Module, batch: Batch, seed: int = 0) -> Step:
    return method(network, batch, np.random.default_rng(seed))


@pytest.mark.parametrize(
    ("network", "activation"), [("softmax", "softmax"), ("sigmoid", "sigmoid")], indirect=["network"]
)
def test_the_new_organ_is_learned_and_the_old_logits_stay(network, activation, batch):
    method = _method(network, activation)
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.05)
    old = ORGANS - 1 + (activation == "softmax")
    with torch.no_grad():
        before = [output.logits for output in decoder_outputs(network.eval(), batch.image)]
    losses = []
    for seed in range(15):
        step = _step(method, network, batch, seed)
        losses.append(float(step.loss.detach()))
        optimiser.zero_grad()
        step.loss.backward()
        optimiser.step()
        method.after_step(network)
    assert losses[-1] < losses[0]
    with torch.no_grad():
        after = [output.logits for output in decoder_outputs(network.eval(), batch.image)]
    for first, last in zip(before, after, strict=True):
        assert torch.equal(first[:, :old], last[:, :old])
        assert not torch.equal(first[:, old:], last[:, old:])


def test_nothing_but_the_branch_moves(network, batch):
    method = _method(network)
    _step(method, network.train(), batch).loss.backward()
    moved = {name for name, weight in network.named_parameters() if weight.grad is not None}
    assert moved == {name for name, _ in network.named_parameters() if name.startswith("branches.0.")}
    dropouts = {name: module.training for name, module in network.named_modules() if "dropout" in name}
    assert {name for name, training in dropouts.items() if training} == {
        name for name in dropouts if name.startswith("branches.")
    }


def test_batch_normalisation_keeps_its_statistics(network, batch):
    method = _method(network)
    before = {name: tensor.clone() for name, tensor in network.named_buffers()}
    _step(method, network.train(), batch)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.named_buffers())


@pytest.mark.parametrize("similarity", [True, False])
def test_the_losses_of_the_plain_view(small_network, batch, similarity):
    network = small_network("vnet", ORGANS + 1, branches=[1], decoders=["transposed"])
    start_branch(network, "softmax", prior=0.3)
    method = _method(network, mixing=False, similarity=similarity, dice_weight=0.5, pseudo_label_weight=3.0)
    step = _step(method, network.train(), batch)
    with torch.no_grad():
        output = network.eval()(batch.image)
    targets = tri_state(batch.labels, batch.known, within=WITHIN)
    organs = organ_probs(output.logits, "softmax")
    weights = torch.ones((2, *SPACE))
    if similarity:
        weights = reliability(output.features, probs(output.logits[:, :-1], "softmax"))
    expected = {
        "annotated": partial_cross_entropy(output.logits, batch.labels, targets, batch.known, "softmax"),
        "dice_loss": 0.5 * log_dice(organs[:, 2:], targets[:, 2:], batch.known[:, 2:]),
        "pseudo_labels": 3 * pseudo_label_loss(output.logits, OLD, batch.known, WITHIN, weights, "softmax"),
    }
    assert step.logs.keys() == expected.keys()
    for name, value in expected.items():
        assert float(value) > 0, name
        assert float(step.logs[name]) == pytest.approx(float(value), rel=1e-4), name
    assert float(step.loss.detach()) == pytest.approx(float(sum(expected.values())), rel=1e-4)


def test_without_pseudo_labels(network, batch):
    assert _step(_method(network, pseudo_label_weight=0), network, batch).logs.keys() == {
        "annotated",
        "dice_loss",
    }


def test_pseudo_labels_are_read_where_a_new_organ_is_not_annotated_alone(network, batch, monkeypatch):
    seen = []
    real = add_organ_module.AddOrgan._reliability

    def spy(self, output):
        seen.append(len(output.logits))
        return real(self, output)

    monkeypatch.setattr(add_organ_module.AddOrgan, "_reliability", spy)
    method = _method(network, mixing=False)
    _step(method, network, batch)
    assert seen == [1, 1], "one patch, two decoders"
    seen.clear()
    every = Batch(batch.image, batch.labels, torch.ones_like(batch.known))
    assert float(_step(method, network, every).logs["pseudo_labels"]) == 0
    assert seen == []


def test_the_mixed_view_knows_what_its_source_knows(network, batch, monkeypatch):
    seen, shown = [], []
    real = add_organ_module.AddOrgan._losses

    def spy(self, view, output):
        seen.append(view)
        return real(self, view, output)

    monkeypatch.setattr(add_organ_module.AddOrgan, "_losses", spy)
    encode = network.encode
    monkeypatch.setattr(network, "encode", lambda image: shown.append(image) or encode(image))
    _step(_method(network), network, batch)
    plain, mixed = seen[:2]
    assert [len(image) for image in shown] == [4]
    pasted = (mixed.image != plain.image)[:, 0]
    assert all(0.01 < float(share) < 0.5 for share in pasted.float().mean(dim=(1, 2, 3)))
    for sample, other in ((0, 1), (1, 0)):
        inside = pasted[sample]
        for name in ("image", "targets", "known", "labels"):
            ours, own, theirs = (
                getattr(view, name)[which].reshape(-1, *SPACE)
                for view, which in ((mixed, sample), (plain, sample), (plain, other))
            )
            assert torch.equal(ours[:, inside], theirs[:, inside]), name
            assert torch.equal(ours[:, ~inside], own[:, ~inside]), name


def test_one_patch_is_not_mixed(network, batch, monkeypatch):
    shown = []
    monkeypatch.setattr(add_organ_module.AddOrgan, "_mixed", lambda *args: shown.append(args))
    single = Batch(batch.image[:1], batch.labels[:1], batch.known[:1])
    _step(_method(network), network, single)
    assert shown == []


def test_the_newest_of_several_branches_learns(small_network, batch):
    network = small_network("slice_unet", ORGANS + 1, branches=[1, 1])
    method = _method(network)
    assert (method.old_organs, method.new_organs) == (2, 1)
    step = _step(method, network, Batch(batch.image, batch.labels, batch.known))
    step.loss.backward()
    moved = {name.split(".")[1] for name, weight in network.named_parameters() if weight.grad is not None}
    assert moved == {"1"}


def test_a_network_without_a_branch_is_refused(small_network):
    with pytest.raises(TrainingError, match="a branch") as caught:
        _method(small_network("slice_unet", ORGANS + 1))
    assert "branches" in caught.value.next_step
