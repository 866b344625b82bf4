from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from multiorganseg.errors import TrainingError
from multiorganseg.networks.vnet import VNet
from multiorganseg_training.methods import Batch, Mutual, Setting, Step, build_method
from multiorganseg_training.run.build import guard_thin_convolutions

STILL = {"dropout": 0.0, "normalisation": "none"}


def _network(organs: int = 1, **changes: Any) -> VNet:
    torch.manual_seed(0)
    return VNet(1, organs + 1, **{"n_filters": 4, "stages": 2, **STILL, **changes}).train()


def _method(network: VNet, organs: int = 1, activation: str = "softmax", **arguments: Any) -> Mutual:
    within = torch.zeros((organs, organs), dtype=torch.bool)
    setting = Setting(network, activation, organs, network.feature_channels, within)
    method = build_method("mutual", {"min_voxels": 1, **arguments}, setting)
    assert isinstance(method, Mutual)
    return method


def _batch(organs: int = 1, seed: int = 3) -> Batch:
    """Two labelled and two unlabelled patches of 4 × 4 × 6 voxels."""
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn((4, 1, 4, 4, 6), generator=generator)
    labels = torch.randint(0, organs + 1, (4, 4, 4, 6), generator=generator)
    labels[2:] = 0
    known = torch.tensor([[True], [True], [False], [False]]).expand(4, organs).clone()
    return Batch(image, labels, known)


def _step(method: Mutual, network: VNet, batch: Batch) -> Step:
    return method(network, batch, np.random.default_rng(0))


def _slow_dice(logits: Tensor, labels: Tensor) -> float:
    """Return 1 − Dice of the one organ, pooled over the two labelled patches."""
    p, y = logits.softmax(1)[:2, 1].double(), (labels[:2] == 1).double()
    return float(1 - (2 * (p * y).sum() + 1e-8) / (p.sum() + y.sum() + 1e-8))


def _slow_pair(student: Tensor, teacher: Tensor, features: Tensor) -> float:
    """Return L of a student and a teacher voxel by voxel, as section by section of the paper."""
    p, q, f = student.softmax(1).double(), teacher.softmax(1).double(), features.double()
    total = count = 0.0
    for b in range(len(p)):
        voxels = list(np.ndindex(*p.shape[2:]))
        prototypes = []
        for c in range(2):
            mine = [f[b][(slice(None), *v)] for v in voxels if int(q[b][(slice(None), *v)].argmax()) == c]
            mean = torch.stack(mine).mean(0) if mine else None
            prototypes.append(None if mean is None else mean / mean.norm())
        for v in voxels:
            ps, qs, fs = (each[b][(slice(None), *v)] for each in (p, q, f))
            if -(ps * (ps + 1e-6).log()).sum() <= -(qs * (qs + 1e-6).log()).sum():
                continue
            squares = [
                (fs @ prototype / fs.norm().clamp(min=1e-12) - qs[c]) ** 2
                for c, prototype in enumerate(prototypes)
                if prototype is not None
            ]
            weight = 1 - float(torch.stack(squares).sum()) / 2
            total += weight * -float(ps[qs.argmax()].log())
            count += 1
    return total / (count + 1e-6)


def test_the_loss_is_what_the_paper_says():
    network, batch = _network(), _batch()
    method = _method(network, ramp_steps=0)
    step = _step(method, network, batch)
    with torch.no_grad():
        first, second = network.outputs(batch.image)
    dice = _slow_dice(first.logits, batch.labels) + _slow_dice(second.logits, batch.labels)
    mutual = _slow_pair(first.logits, second.logits, second.features)
    mutual += _slow_pair(second.logits, first.logits, first.features)
    assert float(step.logs["dice_loss"]) == pytest.approx(dice, rel=1e-4)
    assert float(step.logs["mutual"]) == pytest.approx(mutual, rel=1e-4)
    assert float(step.loss.detach()) == pytest.approx(0.5 * dice + mutual, rel=1e-4)


def test_labels_of_unlabelled_patches_are_never_looked_at():
    network, batch = _network(), _batch()
    method = _method(network)
    other = Batch(batch.image, batch.labels.clone(), batch.known)
    other.labels[2:] = 1
    assert torch.equal(_step(method, network, batch).loss, _step(method, network, other).loss)


def test_unlabelled_patches_teach_both_decoders():
    network, batch = _network(), _batch()
    method = _method(network, dice_weight=0.0, ramp_steps=0)
    unlabelled = Batch(batch.image[2:], batch.labels[2:], batch.known[2:])
    step = _step(method, network, unlabelled)
    assert float(step.logs["dice_loss"]) == 0
    step.loss.backward()
    for head in (network.head, network.other_heads[0]):
        assert head.weight.grad.abs().sum() > 0


def test_a_teacher_is_not_changed_by_its_student():
    """The first decoder is nowhere certain, so that it learns everywhere and the second one nowhere."""
    network, batch = _network(), _batch()
    torch.nn.init.zeros_(network.head.weight)
    torch.nn.init.zeros_(network.head.bias)
    step = _step(_method(network, dice_weight=0.0, ramp_steps=0), network, batch)
    assert float(step.logs["chosen"]) == 0.5
    step.loss.backward()
    assert network.head.weight.grad.abs().sum() > 0
    assert network.other_heads[0].weight.grad.abs().sum() == 0


def test_the_ramp_counts_steps_and_is_kept():
    network, batch = _network(), _batch()
    method = _method(network, ramp_every=2, ramp_steps=2)
    betas = []
    for _ in range(6):
        betas.append(float(_step(method, network, batch).logs["beta"]))
        method.after_step(network)
    assert betas[0] == betas[1] < betas[2] == betas[3] < betas[4] == betas[5] == 1
    again = _method(network, ramp_every=2, ramp_steps=2)
    again.load_state_dict(method.state_dict())
    assert float(_step(again, network, batch).logs["beta"]) == 1


@pytest.mark.parametrize(
    "ablation",
    [
        {"selection": "everywhere"},
        {"selection": "threshold", "threshold": 0.55},
        {"similarity": False},
        {"mutual_weight": 0.5},
        {"dice_weight": 1.0},
    ],
    ids=str,
)
def test_each_cue_can_be_switched(ablation):
    network, batch = _network(), _batch()
    whole = _step(_method(network, ramp_steps=0), network, batch)
    without = _step(_method(network, ramp_steps=0, **ablation), network, batch)
    assert float(whole.loss.detach()) != pytest.approx(float(without.loss.detach()), rel=1e-4)
    assert ("reliability" in without.logs) is ablation.get("similarity", True)
    chosen = float(without.logs["chosen"])
    if ablation.get("selection") == "everywhere":
        assert chosen == 1
    elif "selection" not in ablation:
        assert chosen <= 0.5, "at most one of the two decoders is more certain"


def test_cross_entropy_with_the_annotations_is_added_for_each_decoder():
    network, batch = _network(), _batch()
    plain, more = (
        _step(_method(network, cross_entropy_weight=weight), network, batch).loss for weight in (0.0, 0.5)
    )
    with torch.no_grad():
        output = network(batch.image)
        each = [
            torch.nn.functional.cross_entropy(one.logits[:2], batch.labels[:2])
            for one in (output, *output.others)
        ]
    torch.testing.assert_close(more - plain, 0.5 * sum(each))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_several_organs_three_decoders_and_either_activation(activation):
    organs = 3
    decoders = ["transposed", "nearest", "trilinear"]
    network = _network(organs - (activation == "sigmoid"), decoders=decoders)
    method = _method(
        network, organs, activation, ramp_steps=0, selection="confidence", cross_entropy_weight=0.5
    )
    step = _step(method, network, _batch(organs))
    assert torch.isfinite(step.loss)
    step.loss.backward()
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_it_stays_finite_under_autocast_and_with_logits_far_apart():
    network, batch = _network(), _batch()
    guard_thin_convolutions(network)
    with torch.no_grad():
        network.head.weight.mul_(1e4)
    method = _method(network, ramp_steps=0)
    with torch.autocast("cpu", torch.bfloat16):
        step = _step(method, network, batch)
    assert step.loss.dtype == torch.float32
    step.loss.backward()
    assert torch.isfinite(step.loss)
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_decoders_come_to_agree_on_patches_without_labels():
    generator = torch.Generator().manual_seed(0)
    image = torch.nn.functional.avg_pool3d(torch.randn((4, 1, 8, 8, 8), generator=generator), 3, 1, 1)
    truth, known = image[:, 0] > 0, torch.tensor([[True], [True], [False], [False]])
    batch = Batch(image, torch.where(known[:, :, None, None], truth.long(), 0), known)
    apart = []
    for weight in (0.0, 1.0):
        network = _network(normalisation="instance")
        method = _method(network, ramp_every=1, ramp_steps=40, mutual_weight=weight)
        optimiser = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(60):
            optimiser.zero_grad()
            _step(method, network, batch).loss.backward()
            optimiser.step()
            method.after_step(network)
        with torch.no_grad():
            first, second = (output.logits.softmax(1) for output in network.outputs(image))
        apart.append(float((first - second)[2:].abs().mean()))
        assert (first.argmax(1)[2:] == truth[2:]).float().mean() > 0.7
    assert apart[1] < 0.7 * apart[0]


def test_one_decoder_is_refused():
    with pytest.raises(TrainingError, match="two decoders"):
        _method(_network(decoders=["transposed"]))


@pytest.mark.parametrize(
    "arguments", [{"selection": "margin"}, {"form": "max"}, {"ramp_every": 0}, {"ramp_steps": -1}, {"tau": 1}]
)
def test_unknown_choices_are_refused(arguments):
    with pytest.raises(TrainingError):
        _method(_network(), **arguments)


def test_the_defaults_weigh_as_published():
    """1 − mean over the classes of (s − p)², with a prototype of each class that occurs, however small."""
    network = _network(3)
    setting = Setting(network, "softmax", 3, network.feature_channels, torch.zeros((3, 3), dtype=torch.bool))
    method = build_method("mutual", {}, setting)
    logits = torch.zeros((1, 4, 2, 3, 4))
    logits[:, 0] = 1.0
    logits[0, 1, 0, 0, :3] = logits[0, 2, 1] = 3.0
    features = torch.randn((1, 4, 2, 3, 4), generator=torch.Generator().manual_seed(0)).abs()
    weights = method._view(logits, features).weights
    p, labels, f = logits.softmax(1)[0], logits.argmax(1)[0], features[0]
    squares = torch.zeros((2, 3, 4))
    for number in range(3):
        prototype = torch.nn.functional.normalize(f[:, labels == number].mean(dim=1), dim=0)
        cosine = torch.nn.functional.cosine_similarity(f, prototype[:, None, None, None], dim=0)
        squares += (cosine - p[number]) ** 2
    assert (labels == 1).sum() == 3
    assert weights is not None
    torch.testing.assert_close(weights[0], 1 - squares / 4)
