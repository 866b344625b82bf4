from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.alignment import align
from multiorganseg_training.losses.known import full_targets, tri_state
from multiorganseg_training.losses.partial import log_dice, masked_bce, masked_dice
from multiorganseg_training.losses.pseudo_labels import fuse, hard_labels
from multiorganseg_training.methods import LTUDA, Batch, Method, Setting, Step, build_method

ORGANS, WIDTH = 2, 16


class Small(nn.Module):
    """Two layers, as a network of the project answers; remembers what it was shown."""

    def __init__(self, channels: int = ORGANS) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Conv3d(1, WIDTH, 3, padding=1)
        self.head = nn.Conv3d(WIDTH, channels, 1)
        self.shown: list[Tensor] = []

    def forward(self, image: Tensor) -> SimpleNamespace:
        if torch.is_grad_enabled():
            self.shown.append(image.detach())
        features = torch.relu(self.trunk(image))
        return SimpleNamespace(logits=self.head(features), features=features)


def _method(activation: str = "sigmoid", **arguments: Any) -> tuple[LTUDA, Small]:
    network = Small(ORGANS + (activation == "softmax"))
    within = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)
    setting = Setting(network, activation, ORGANS, WIDTH, within)
    method = build_method("ltuda", {"width": WIDTH, **arguments}, setting)
    assert isinstance(method, LTUDA)
    return method, network


def _view_annotation(method: LTUDA, network: Small, batch: Batch) -> Tensor:
    """Make a step and return the annotations that its strong view was learned with."""
    learned = []
    usual = method.annotated

    def record(logits: Tensor, labels: Tensor, *rest: Tensor) -> Any:
        learned.append(labels)
        return usual(logits, labels, *rest)

    method.annotated = record
    _step(method, network, batch)
    return learned[-1]


@pytest.fixture(params=[(6, 8, 10), (1, 12, 14)], ids=["3D", "2D"])
def batch(request) -> Batch:
    """Four patches of two hospitals: the first two know organ 1, the others organ 2."""
    generator = torch.Generator().manual_seed(3)
    known = torch.tensor([[True, False]] * 2 + [[False, True]] * 2)
    organ = torch.tensor([1, 1, 2, 2]).reshape(4, 1, 1, 1)
    inside = torch.rand((4, *request.param), generator=generator) > 0.6
    image = torch.randn((4, 1, *request.param), generator=generator)
    return Batch(image, torch.where(inside, organ, 0), known)


def _step(method: LTUDA, network: Small, batch: Batch, seed: int = 0) -> Step:
    return method(network, batch, np.random.default_rng(seed))


def test_without_mixing_the_first_stage_is_the_sum_of_its_terms(batch):
    method, network = _method(mixing="none", reduction="mean", views=2)
    step = _step(method, network, batch)
    with torch.no_grad():
        logits = network(batch.image).logits
        probability, pseudo_label = logits.sigmoid().max(dim=1)
        pseudo_label = torch.where(probability >= 0.5, pseudo_label + 1, 0)
        denied = batch.known.gather(1, (pseudo_label - 1).clamp(min=0).flatten(1)).reshape(pseudo_label.shape)
        fused = torch.where(batch.labels > 0, batch.labels, torch.where(denied, 0, pseudo_label))
        annotated = masked_bce(logits, tri_state(batch.labels, batch.known, exclusive=False))
        pseudo = masked_bce(logits, full_targets(fused, ORGANS))
    torch.testing.assert_close(step.loss.detach(), 3 * annotated + 2 * pseudo)
    assert set(step.logs) == {"annotated", "fused", "mixed_annotated"}
    assert float(step.loss.detach()) == pytest.approx(
        sum(float(value) for value in step.logs.values()), rel=1e-5
    )


def test_a_dice_stands_beside_each_cross_entropy_where_it_is_asked_for(batch):
    plain, network = _method(mixing="none", reduction="mean", views=1)
    method, _ = _method(mixing="none", reduction="mean", views=1, dice_weight=0.5)
    without, together = _step(plain, network, batch), _step(method, network, batch)
    with torch.no_grad():
        targets = tri_state(batch.labels, batch.known, exclusive=False)
        inside = network(batch.image).logits.sigmoid()
    dice = []
    for organ in range(ORGANS):
        counts, truth = targets[:, organ] >= 0, targets[:, organ] > 0
        predicted = inside[:, organ][counts].sum()
        overlap = inside[:, organ][truth].sum()
        dice.append((2 * overlap + 1) / (predicted + truth.sum() + 1))
    expected = 0.5 * (1 - torch.stack(dice).mean())
    for name in ("annotated", "mixed_annotated"):
        torch.testing.assert_close(together.logs[name] - without.logs[name], expected, rtol=1e-4, atol=1e-5)
    assert float(together.logs["fused"]) > float(without.logs["fused"])


def test_what_the_teacher_half_believes_is_not_learned_as_background(batch):
    """An unknown organ's channel is left out between both probabilities; what is annotated always counts."""
    plain, network = _method(mixing="none", views=1)
    method, _ = _method(mixing="none", views=1, ignore=[0.3, 0.5])
    with torch.no_grad():
        likely = network(batch.image).logits.sigmoid()
    fused, judged = plain._fuse(batch)
    again, pseudo = method._fuse(batch)
    assert torch.equal(fused.labels, again.labels)
    free = (batch.labels == 0)[:, None] & ~batch.known[..., None, None, None]
    half = (likely >= 0.3) & (likely < 0.5) & free
    assert half.any()
    assert (half & (fused.labels > 0)[:, None]).sum() == 0, "with two organs the other one is denied here"
    assert torch.equal(pseudo == -1, half)
    assert torch.equal(pseudo[~half], judged[~half])
    assert float(_step(method, network, batch).logs["fused"]) < float(
        _step(plain, network, batch).logs["fused"]
    )


def test_an_organ_may_have_a_threshold_of_its_own(batch):
    method, network = _method(mixing="none", views=1, threshold=[0.5, 0.3])
    with torch.no_grad():
        likely = network(batch.image).logits.sigmoid()
    labels = method._fuse(batch)[0].labels
    first, others = slice(0, 2), slice(2, 4)
    free = batch.labels == 0
    assert torch.equal(
        labels[others] == 1,
        free[others]
        & (likely[others, 0] >= 0.5)
        & ((likely[others, 0] >= likely[others, 1]) | (likely[others, 1] < 0.3)),
    )
    is_pseudo = labels[first] == 2
    assert (likely[first, 1][is_pseudo] < 0.5).any()
    assert likely[first, 1][is_pseudo].min() >= 0.3


@pytest.mark.parametrize("ignore", [[0.5, 0.1], [0.0, 0.5], [0.1], [0.1, 0.5, 0.7], [0.1, 1.5]])
def test_a_band_that_is_none_is_refused(ignore):
    with pytest.raises(TrainingError, match="cannot ignore"):
        _method(ignore=ignore)


def test_the_logarithm_is_that_of_what_is_annotated_alone(batch):
    arguments = {"mixing": "none", "reduction": "mean", "views": 1, "dice_weight": 0.5}
    (plain, network), (log, _) = _method(**arguments), _method(**arguments, log=True)
    without, together = _step(plain, network, batch).logs, _step(log, network, batch).logs
    with torch.no_grad():
        targets = tri_state(batch.labels, batch.known, exclusive=False)
        inside = network(batch.image).logits.sigmoid()
    change = 0.5 * (log_dice(inside, targets, targets >= 0) - masked_dice(inside, targets, targets >= 0))
    assert abs(float(change)) > 0.01
    for name in ("annotated", "mixed_annotated"):
        torch.testing.assert_close(together[name] - without[name], change, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together["fused"], without["fused"])


def test_fused_labels_count_more_from_step_to_step(batch):
    arguments = {"mixing": "none", "views": 1, "teacher_decay": 1.0}
    plain, network = _method(**arguments)
    full = float(_step(plain, network, batch).logs["fused"])
    method, _ = _method(**arguments, ramp_every=2, ramp_steps=2)
    reported = []
    for _ in range(6):
        reported.append(float(_step(method, network, batch).logs["fused"]) / full)
        method.after_step(network)
    expected = [np.exp(-5), np.exp(-5), np.exp(-5 / 4), np.exp(-5 / 4), 1, 1]
    assert reported == pytest.approx(expected, rel=1e-4)
    resumed, _ = _method(**arguments, ramp_every=2, ramp_steps=2)
    resumed.load_state_dict(method.state_dict())
    assert float(_step(resumed, network, batch).logs["fused"]) == pytest.approx(full, rel=1e-4)


def test_strong_views_hold_parts_of_the_other_hospitals_patches(batch):
    method, network = _method()
    _step(method, network, batch)
    (shown,) = network.shown
    weak, *strong = shown.split(4)
    torch.testing.assert_close(weak, batch.image)
    assert len(strong) == 2
    for view in strong:
        for number, patch in enumerate(view):
            changed = patch != batch.image[number]
            assert changed.any()
            others = batch.image[2:] if number < 2 else batch.image[:2]
            assert any(torch.equal(patch[changed], other[changed]) for other in others)
    assert not torch.equal(strong[0], strong[1])


def test_parts_of_the_own_hospitals_patches_are_pasted_where_it_is_asked_for(batch):
    method, network = _method(partner="own_set", views=1)
    _step(method, network, batch)
    _, view = network.shown[0].split(4)
    for number, (patch, other) in enumerate(zip(view, batch.image[[1, 0, 3, 2]], strict=True)):
        changed = patch != batch.image[number]
        assert changed.any()
        assert torch.equal(patch[changed], other[changed])


def test_cutout_empties_a_box_and_leaves_the_labels(batch):
    method, network = _method(mixing="cutout", views=1)
    annotation = _view_annotation(method, network, batch)
    _, view = network.shown[0].split(4)
    changed = view != batch.image
    assert changed.flatten(1).any(dim=1).all()
    assert (view[changed] == 0).all()
    assert torch.equal(annotation, batch.labels)


def test_colour_jitter_keeps_what_lies_where_and_changes_how_bright_it_is(batch):
    method, network = _method(mixing="colour", views=1)
    annotation = _view_annotation(method, network, batch)
    _, view = network.shown[0].split(4)
    for patch, before in zip(view.flatten(1), batch.image.flatten(1), strict=True):
        assert not torch.allclose(patch, before)
        assert float(torch.corrcoef(torch.stack([patch, before]))[0, 1]) > 0.999
        assert 0.5 <= float(patch.std() / before.std()) <= 1.5
        assert abs(float((patch.mean() - before.mean()) / before.std())) <= 0.5
    assert torch.equal(annotation, batch.labels)


def test_it_is_repeatable(batch):
    first, second, other = (_step(*_method(prototypes=True), batch, seed).loss for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_the_second_stage_aligns_both_banks(batch):
    method, network = _method(mixing="none", views=1, prototypes=True, reduction="mean")
    before = method.classifier.unlabelled.prototypes.clone()
    step = _step(method, network, batch)
    assert set(step.logs) == {"annotated", "fused", "labelled_bank", "unlabelled_bank"}
    assert not torch.equal(before, method.classifier.unlabelled.prototypes)
    step.loss.backward()
    learning = [*method.classifier.projection.parameters(), network.trunk.weight, network.head.weight]
    assert all(float(p.grad.abs().sum()) > 0 for p in learning)


def test_the_banks_losses_are_those_of_the_alignment(batch):
    method, network = _method(mixing="none", views=1, prototypes=True)
    fused, _ = method._fuse(batch)
    untouched = _method(mixing="none", views=1, prototypes=True)[0]
    untouched.load_state_dict(method.state_dict())
    logs = _step(method, network, batch).logs
    with torch.no_grad():
        pixels = untouched.classifier.embed(network(batch.image).features)
        expected = align(untouched.classifier, pixels, fused.labels, fused.labelled, fused.unlabelled)
    assert float(logs["labelled_bank"]) == pytest.approx(float(expected[0].total), rel=1e-4)
    assert float(logs["unlabelled_bank"]) == pytest.approx(float(expected[1].total), rel=1e-4)


class Coarse(Small):
    """Its features lie on a grid coarser in plane, as behind a strided stem."""

    def forward(self, image: Tensor) -> SimpleNamespace:
        output = super().forward(image)
        coarse = nn.functional.avg_pool3d(output.features, (1, 2, 2))
        return SimpleNamespace(logits=output.logits, features=coarse)


def test_the_second_stage_brings_coarse_features_onto_the_grid(batch):
    network = Coarse()
    setting = Setting(network, "sigmoid", ORGANS, WIDTH, torch.zeros((ORGANS, ORGANS), dtype=torch.bool))
    arguments = {"width": WIDTH, "mixing": "none", "views": 1, "prototypes": True}
    method, untouched = (build_method("ltuda", arguments, setting) for _ in range(2))
    untouched.load_state_dict(method.state_dict())
    fused, _ = method._fuse(batch)
    step = _step(method, network, batch)
    with torch.no_grad():
        finer = torch.nn.functional.interpolate(
            network(batch.image).features, size=tuple(batch.labels.shape[1:]), mode="trilinear"
        )
        pixels = untouched.classifier.embed(finer)
        expected = align(untouched.classifier, pixels, fused.labels, fused.labelled, fused.unlabelled)
    assert float(step.logs["labelled_bank"]) == pytest.approx(float(expected[0].total), rel=1e-4)
    assert float(step.logs["unlabelled_bank"]) == pytest.approx(float(expected[1].total), rel=1e-4)
    step.loss.backward()
    assert float(network.trunk.weight.grad.abs().sum()) > 0


def test_the_teacher_follows_and_is_not_trained(batch):
    method, network = _method(teacher_decay=0.9)
    assert not [name for name, p in method.named_parameters() if p.requires_grad]
    first = network.head.bias.detach().clone()
    method.after_step(network)
    with torch.no_grad():
        network.head.bias += 1
    method.after_step(network)
    torch.testing.assert_close(method.teacher.module.head.bias, first + 0.1)


class Normalised(Small):
    """Normalises by the statistics of the batch, or by running ones."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(self.trunk, nn.BatchNorm3d(WIDTH))


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_teacher_normalises_by_the_statistics_of_its_mode(batch, mode):
    network = Normalised()
    setting = Setting(network, "sigmoid", ORGANS, WIDTH, torch.zeros((ORGANS, ORGANS), dtype=torch.bool))
    method = build_method("ltuda", {"mixing": "none", "views": 1, "teacher_mode": mode}, setting)
    default = build_method("ltuda", {"mixing": "none", "views": 1}, setting)
    image = 3 * batch.image + 2
    labelled = {}
    with torch.no_grad():
        for training in (False, True):
            network.train(training)
            probability, label = network(image).logits.sigmoid().max(dim=1)
            label = torch.where(probability >= 0.5, label + 1, 0)
            denied = batch.known.gather(1, (label - 1).clamp(min=0).flatten(1)).reshape(label.shape)
            labelled[training] = torch.where(batch.labels > 0, batch.labels, torch.where(denied, 0, label))
    assert not torch.equal(labelled[True], labelled[False])
    shown = replace(batch, image=image)
    assert torch.equal(method._fuse(shown)[0].labels, labelled[mode == "train"])
    assert torch.equal(default._fuse(shown)[0].labels, labelled[True])


def test_its_state_holds_teacher_and_prototypes():
    names = set(_method(prototypes=True)[0].state_dict())
    assert {"teacher.module.head.bias", "classifier.labelled.prototypes", "teacher.n_averaged"} <= names


def test_the_batch_is_left_as_it_was(batch):
    copy = replace(batch, image=batch.image.clone(), labels=batch.labels.clone())
    _step(*_method(mixing="carvemix", prototypes=True), batch)
    assert torch.equal(copy.image, batch.image)
    assert torch.equal(copy.labels, batch.labels)


@pytest.mark.parametrize("activation", ["sigmoid", "softmax"])
def test_it_learns_both_organs_from_one_label_each(activation):
    generator = torch.Generator().manual_seed(0)
    bright = torch.randint(0, 3, (4, 1, 16, 16), generator=generator)
    known = torch.tensor([[True, False], [False, True]] * 2)
    mine = torch.tensor([1, 2, 1, 2]).reshape(4, 1, 1, 1)
    noise = 0.1 * torch.randn((4, 1, 1, 16, 16), generator=generator)
    batch = Batch(bright[:, None] - 1 + noise, torch.where(bright == mine, mine, 0), known)
    method, network = _method(activation, teacher_decay=0.9, reduction="mean")
    optimiser = torch.optim.Adam(network.parameters(), lr=0.03)
    numbers = np.random.default_rng(0)
    for _ in range(150):
        optimiser.zero_grad()
        method(network, batch, numbers).loss.backward()
        optimiser.step()
        method.after_step(network)
    with torch.no_grad():
        found = hard_labels(network(batch.image).logits, activation)
    for organ in (1, 2):
        hits = ((found == organ) == (bright == organ)).float().mean(dim=(1, 2, 3))
        assert (hits > 0.9).all(), f"organ {organ}, in cases that know it and in those that do not"


@pytest.mark.parametrize(
    "arguments",
    [
        {"mixing": "mixup"},
        {"partner": "none"},
        {"teacher_mode": "off"},
        {"position": "left"},
        {"reduction": "max"},
        {"update": "softmax"},
        {"threshold": 1.5},
        {"threshold": [0.5]},
        {"views": 0},
    ],
)
def test_unknown_choices_are_refused(arguments):
    with pytest.raises(TrainingError):
        _method(**arguments)


@pytest.mark.parametrize(("mixing", "least"), [("cutmix", 2), ("carvemix", 2), ("colour", 1), ("none", 1)])
def test_cases_are_mixed_where_a_batch_has_two(mixing, least):
    assert _method(mixing=mixing)[0].least_batch == least


def test_the_ramp_begins_with_the_end_of_the_warm_up(batch):
    arguments = {"mixing": "none", "reduction": "mean", "ramp_every": 1, "ramp_steps": 10}
    (late, network), (early, _) = _method(warmup=3, **arguments), _method(**arguments)
    late.iteration += 3
    assert torch.equal(_step(late, network, batch).logs["fused"], _step(early, network, batch).logs["fused"])


def test_a_warm_up_learns_from_annotations_alone(batch):
    method, network = _method(warmup=2, dice_weight=1.0, reduction="mean")
    plain, same = _partial("sigmoid")
    for expected in (1, 1, 3):
        network.shown.clear()
        step = _step(method, network, batch)
        assert network.shown[0].shape[0] == expected * len(batch.image)
        if expected == 1:
            assert step.loss == plain(same, batch, np.random.default_rng(0)).loss
        method.after_step(network)


def _partial(activation: str) -> tuple[Method, Small]:
    network = Small(ORGANS + (activation == "softmax"))
    setting = Setting(network, activation, ORGANS, WIDTH, torch.zeros((ORGANS, ORGANS), dtype=torch.bool))
    return build_method("partial", {"exclusive": activation == "softmax"}, setting), network


def test_with_a_softmax_annotations_are_marginal_and_pseudo_labels_whole(batch):
    method, network = _method("softmax", mixing="none", views=1, dice_weight=1.0, log=True)
    step = _step(method, network, batch)
    plain, same = _partial("softmax")
    plain.loss = replace(plain.loss, log=True)
    annotated = plain(same, batch, np.random.default_rng(0)).loss
    logits = network(batch.image).logits.detach()
    fused = fuse(batch.labels, batch.known, logits.argmax(dim=1)).labels
    cross_entropy = torch.nn.functional.cross_entropy(logits, fused)
    dice = masked_dice(
        logits.softmax(dim=1)[:, 1:], full_targets(fused, ORGANS), torch.ones_like(batch.known), 1.0
    )
    assert step.loss.item() == pytest.approx((2 * annotated + cross_entropy + dice).item(), rel=1e-5)
