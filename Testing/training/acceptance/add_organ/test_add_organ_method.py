from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from multiorganseg.errors import TrainingError
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.networks.output import decoder_outputs
from multiorganseg_training.losses import frozen as losses
from multiorganseg_training.losses.known import organ_probs, tri_state
from multiorganseg_training.losses.partial import log_dice, partial_cross_entropy
from multiorganseg_training.methods import AddOrgan, Batch, Setting, Step, build_method
from multiorganseg_training.run.build import start_branch

ORGANS, SPACE = 3, (4, 8, 8)
WITHIN = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)


@pytest.fixture
def network(small_network, request) -> BranchingNetwork:
    """A V-Net of two decoders with batch normalisation, dropout and a branch for one organ."""
    activation = getattr(request, "param", "softmax")
    channels = ORGANS + (activation == "softmax")
    network = small_network("vnet", channels, branches=[1], dropout=0.5, background=activation == "softmax")
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
    optimiser = torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.5)
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
def test_the_losses_of_the_plain_view(small_network, batch, similarity, monkeypatch):
    network = small_network("vnet", ORGANS + 1, branches=[1], decoders=["transposed"])
    start_branch(network, "softmax", prior=0.3)
    asked = []
    real = losses.reliability
    monkeypatch.setattr(losses, "reliability", lambda *said: asked.append(len(said[0])) or real(*said))
    method = _method(network, mixing=False, similarity=similarity, dice_weight=0.5, pseudo_label_weight=3.0)
    step = _step(method, network.train(), batch)
    assert asked == ([1] if similarity else []), "of the one patch that does not know the new organ"
    with torch.no_grad():
        logits = network.eval()(batch.image).logits
    targets = tri_state(batch.labels, batch.known, within=WITHIN)
    organs = organ_probs(logits, "softmax")
    expected = {
        "annotated": partial_cross_entropy(logits, batch.labels, targets, batch.known, "softmax"),
        "dice_loss": 0.5 * log_dice(organs[:, 2:], targets[:, 2:], batch.known[:, 2:]),
    }
    assert step.logs.keys() == {*expected, "pseudo_labels"}
    for name, value in expected.items():
        assert float(value) > 0, name
        assert float(step.logs[name]) == pytest.approx(float(value), rel=1e-4), name
    weak = _step(_method(network, mixing=False, similarity=similarity), network, batch)
    assert float(step.logs["pseudo_labels"]) == pytest.approx(3 * float(weak.logs["pseudo_labels"]), rel=1e-5)
    assert float(step.loss.detach()) == pytest.approx(sum(map(float, step.logs.values())), rel=1e-5)


def test_without_pseudo_labels(network, batch):
    assert _step(_method(network, pseudo_label_weight=0), network, batch).logs.keys() == {
        "annotated",
        "dice_loss",
    }


def test_where_every_new_organ_is_annotated_nothing_is_pseudo_labelled(network, batch, monkeypatch):
    monkeypatch.setattr(losses, "reliability", lambda *said: pytest.fail("not needed"))
    every = Batch(batch.image, batch.labels, torch.ones_like(batch.known))
    assert float(_step(_method(network), network, every).logs["pseudo_labels"]) == 0


def test_the_mixed_view_knows_what_its_source_knows(network, batch, monkeypatch):
    seen = []
    real = AddOrgan._frozen

    def spy(self, network, image, maps, said):
        seen.append({"image": image, **vars(said)})
        return real(self, network, image, maps, said)

    monkeypatch.setattr(AddOrgan, "_frozen", spy)
    method = _method(network)
    kept = method.see(network, batch, np.random.default_rng(0))
    plain, mixed = seen[:2], seen[2:]
    assert len(mixed) == 2
    assert torch.equal(kept["image"], torch.cat([said["image"] for said in seen]))
    for sample, other in ((0, 1), (1, 0)):
        pasted = (mixed[sample]["image"] != plain[sample]["image"])[0, 0]
        assert 0.01 < float(pasted.float().mean()) < 0.5
        for name in ("image", "targets", "known", "labels"):
            ours, own, theirs = (
                said[name].reshape(-1, *SPACE) for said in (mixed[sample], plain[sample], plain[other])
            )
            assert torch.equal(ours[:, pasted], theirs[:, pasted]), name
            assert torch.equal(ours[:, ~pasted], own[:, ~pasted]), name


def test_what_was_seen_may_be_learned_from_later(network, batch):
    """Nothing of it depends on the branch, whose steps alone change what is learned of it."""
    method = _method(network)
    before = method.see(network, batch, np.random.default_rng(0))
    step = method.learn(network, before)
    step.loss.backward()
    torch.optim.SGD([p for p in network.parameters() if p.requires_grad], 0.1).step()
    after = method.see(network, batch, np.random.default_rng(0))
    assert before.keys() == after.keys()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert float(method.learn(network, after).loss.detach()) < float(step.loss.detach())


def test_one_patch_is_not_mixed(network, batch, monkeypatch):
    shown = []
    monkeypatch.setattr(AddOrgan, "_mixed", lambda *args: shown.append(args))
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
