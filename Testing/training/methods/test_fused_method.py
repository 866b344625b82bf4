from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg.networks.strided_dynunet import StridedDynUNet
from multiorganseg.networks.vnet import VNet
from multiorganseg_training.losses.known import among, open_classes, tri_state, within_matrix
from multiorganseg_training.losses.mutual import reliability
from multiorganseg_training.losses.partial import log_dice, masked_dice
from multiorganseg_training.methods import Batch, FusedMethod, Setting, Step, build_method
from multiorganseg_training.run.build import guard_thin_convolutions

SHAPE = (4, 8, 8)
WIDTH = 8


def _network(organs: int = 1, activation: str = "softmax", **changes: Any) -> VNet:
    torch.manual_seed(0)
    channels = organs + (activation == "softmax")
    plain = {"n_filters": WIDTH, "stages": 2, "dropout": 0.0, "normalisation": "none"}
    return VNet(1, channels, **{**plain, **changes}).train()


def _method(network: VNet, organs: int = 1, activation: str = "softmax", **arguments: Any) -> FusedMethod:
    within = torch.zeros((organs, organs), dtype=torch.bool)
    setting = Setting(network, activation, organs, network.feature_channels, within)
    method = build_method("fused", {"min_voxels": 1, "ramp_steps": 0, **arguments}, setting)
    assert isinstance(method, FusedMethod)
    return method


def _batch(known: list[list[bool]], seed: int = 3, shape: tuple[int, ...] = SHAPE) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.tensor(known)
    organs = matrix.shape[1]
    image = torch.randn((len(known), 1, *shape), generator=generator)
    labels = torch.randint(0, organs + 1, (len(known), *shape), generator=generator)
    visible = torch.cat([torch.ones_like(matrix[:, :1]), matrix], dim=1)
    return Batch(
        image, torch.where(visible.gather(1, labels.flatten(1)).reshape(labels.shape), labels, 0), matrix
    )


HALF = [[True], [True], [False], [False]]
PARTIAL = [[True, False], [True, False], [False, True], [False, True]]


def _step(method: FusedMethod, network: VNet, batch: Batch, seed: int = 0) -> Step:
    return method(network, batch, np.random.default_rng(seed))


def test_without_views_it_is_dice_of_what_is_annotated():
    network, batch = _network(), _batch(HALF)
    step = _step(_method(network, views=0), network, batch)
    targets = tri_state(batch.labels, batch.known)
    with torch.no_grad():
        dice = [
            masked_dice(output.logits.softmax(1)[:, 1:], targets, batch.known, 1e-8)
            for output in network.outputs(batch.image)
        ]
    torch.testing.assert_close(step.loss.detach(), 0.5 * sum(dice))


def test_the_dice_may_be_its_logarithm():
    network, batch = _network(), _batch(HALF)
    step = _step(_method(network, views=0, log=True), network, batch)
    targets = tri_state(batch.labels, batch.known)
    with torch.no_grad():
        dice = [
            log_dice(output.logits.softmax(1)[:, 1:], targets, batch.known)
            for output in network.outputs(batch.image)
        ]
    torch.testing.assert_close(step.loss.detach(), 0.5 * sum(dice))


def test_what_is_believed_of_a_batch():
    network, batch = _network(2), _batch(PARTIAL)
    method = _method(network, 2)
    view = method._weak(batch)
    with torch.no_grad():
        outputs = network.eval().outputs(batch.image)
    each = [output.logits.softmax(1) for output in outputs]
    is_open = open_classes(batch.labels, batch.known)
    torch.testing.assert_close(view.teacher, among((each[0] + each[1]) / 2, is_open))
    given = [among(p, is_open) for p in each]
    weights = [reliability(o.features, p, min_voxels=1) for o, p in zip(outputs, given, strict=True)]
    torch.testing.assert_close(view.weights, (weights[0] + weights[1]) / 2)
    for number, organ in enumerate((1, 1, 2, 2)):
        mine = batch.labels[number] == organ
        assert torch.equal(view.labels[number] == organ, mine), "what is annotated is neither lost nor added"
        assert torch.equal(view.annotation[number], batch.labels[number])
        other = view.teacher[number, 3 - organ] > view.teacher[number, 0]
        assert torch.equal(view.labels[number] == 3 - organ, other & ~mine), "the best of what is not denied"


def _gradient(method: FusedMethod, name: str, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    logits = logits.clone().requires_grad_()
    method._strong(logits, method._weak(batch))[name].backward()
    assert logits.grad is not None
    return logits.grad


def test_a_claim_that_is_denied_lends_its_certainty_to_no_other():
    """A teacher sure of the organ that is annotated elsewhere is not sure of background against the other."""
    network = _network(2)
    method = _method(network, 2, selection="entropy")
    voxels = torch.tensor([0.0105, 0.98, 0.0095]).log().reshape(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    output = SimpleNamespace(logits=voxels, features=torch.ones((1, WIDTH, *SHAPE)))
    method.teacher.module.outputs = lambda image: [output]
    batch = Batch(
        torch.zeros((1, 1, *SHAPE)), torch.zeros((1, *SHAPE), dtype=torch.long), torch.tensor([[True, False]])
    )
    view = method._weak(batch)
    assert view.teacher[0, :, 0, 0, 0].tolist() == pytest.approx([0.525, 0, 0.475])
    surer = torch.tensor([0.6, 1e-6, 0.4]).log().reshape(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    assert not _gradient(method, "pseudo_labels", surer, batch).any(), "the student is the surer one"
    less = torch.tensor([0.5, 0.9, 0.5]).log().reshape(1, 3, 1, 1, 1).expand(1, 3, *SHAPE)
    assert _gradient(method, "pseudo_labels", less, batch).any()


def test_annotated_cases_learn_no_pseudo_label_and_others_no_annotation():
    network, batch = _network(), _batch(HALF)
    method = _method(network, selection="everywhere")
    assert torch.equal(method._weak(batch).labels[:2], batch.labels[:2])
    logits = torch.randn((4, 2, *SHAPE), generator=torch.Generator().manual_seed(0))
    annotations = _gradient(method, "cross_entropy", logits, batch)
    pseudo_labels = _gradient(method, "pseudo_labels", logits, batch)
    assert (annotations[:2] != 0).all()
    assert not annotations[2:].any()
    assert not pseudo_labels[:2].any()
    assert (pseudo_labels[2:] != 0).all()


def test_what_is_not_the_annotated_organ_is_learned_where_another_is_unknown():
    network, batch = _network(2), _batch(PARTIAL)
    logits = torch.zeros((4, 3, *SHAPE))
    gradient = _gradient(_method(network, 2), "cross_entropy", logits, batch)
    for number, organ in enumerate((1, 1, 2, 2)):
        mine = batch.labels[number] == organ
        assert (gradient[number, organ][mine] < 0).all()
        assert (gradient[number, organ][~mine] > 0).all(), "it is background or the organ that is unknown"
        for other in (0, 3 - organ):
            assert (gradient[number, other][~mine] < 0).all()


def test_views_hold_boxes_of_the_other_kind_with_all_that_is_believed_of_them():
    network, batch = _network(), _batch(HALF)
    method = _method(network)
    weak = method._weak(batch)
    mixed = method._mixed(weak, batch.known, np.random.default_rng(0))
    pasted = (mixed.image != weak.image)[:, 0]
    assert pasted.flatten(1).any(dim=1).all()
    assert torch.equal(mixed.known, weak.known ^ pasted[:, None]), "labelled and unlabelled change places"
    for before, after in zip(vars(weak).values(), vars(mixed).values(), strict=True):
        assert before.shape == after.shape
        where = ~pasted if before.ndim == pasted.ndim else ~pasted[:, None].expand(before.shape)
        assert torch.equal(before[where], after[where])


def test_pseudo_labels_teach_with_their_weight_and_by_the_ramp():
    network, batch = _network(), _batch(HALF)
    steps = [
        _step(_method(network, pseudo_label_weight=weight, similarity=similarity), network, batch)
        for weight, similarity in ((0.0, True), (1.0, True), (1.0, False))
    ]
    from_teacher = steps[1].logs["pseudo_labels"]
    torch.testing.assert_close(steps[1].loss - steps[0].loss, from_teacher, rtol=1e-4, atol=1e-6)
    assert 0 < from_teacher < steps[2].logs["pseudo_labels"]
    method = _method(network, ramp_steps=4, ramp_every=1)
    early = _step(method, network, batch).loss.detach()
    for _ in range(4):
        method.after_step(network)
    assert _step(method, network, batch).loss.detach() > early


@pytest.mark.parametrize(
    ("activation", "decoders", "normalisation"),
    [("softmax", 2, "batch"), ("sigmoid", 2, "instance"), ("softmax", 1, "none")],
)
def test_partial_labels_one_decoder_or_more_and_prototypes(activation, decoders, normalisation):
    chosen = ["transposed", "nearest"][:decoders]
    network = _network(2, activation, decoders=chosen, normalisation=normalisation)
    method = _method(network, 2, activation, prototypes=True, width=8, pixels_per_class=50)
    before = method.classifier.unlabelled.prototypes.clone()
    step = _step(method, network, _batch(PARTIAL))
    step.loss.backward()
    assert torch.isfinite(step.loss)
    assert set(step.logs) == {
        "dice_loss",
        "mixed_dice_loss",
        "cross_entropy",
        "pseudo_labels",
        "reliability",
        "prototypes",
    }
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []
    assert all(weight.grad is not None for weight in method.classifier.parameters())
    assert not torch.equal(before, method.classifier.unlabelled.prototypes)


def test_it_stays_finite_under_autocast():
    network, batch = _network(), _batch(HALF)
    guard_thin_convolutions(network)
    with torch.autocast("cpu", torch.bfloat16):
        step = _step(_method(network), network, batch)
    assert step.loss.dtype == torch.float32
    step.loss.backward()
    assert all(torch.isfinite(weight.grad).all() for weight in network.parameters())


def test_it_is_repeatable():
    network, batch = _network(), _batch(HALF)
    first, again, other = (_step(_method(network), network, batch, seed).loss for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_teacher_follows_with_its_running_statistics():
    network = _network(normalisation="batch")
    method = _method(network, teacher_decay=0.5)
    method.after_step(network)
    for buffer in network.buffers():
        if buffer.is_floating_point():
            torch.nn.init.constant_(buffer, 3.0)
    method.after_step(network)
    means = [b for name, b in method.teacher.named_buffers() if name.endswith("running_mean")]
    assert means
    assert all(torch.allclose(mean, torch.full_like(mean, 1.5)) for mean in means)
    assert not [name for name, weight in method.named_parameters() if weight.requires_grad]


@pytest.mark.parametrize(
    "arguments",
    [
        {"selection": "margin"},
        {"form": "max"},
        {"ramp_every": 0},
        {"position": "left"},
        {"views": 0, "prototypes": True},
    ],
)
def test_unknown_choices_are_refused(arguments):
    with pytest.raises(TrainingError):
        _method(_network(), **arguments)


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 2, 2)])
def test_a_network_behind_a_strided_stem_with_prototypes(stride):
    torch.manual_seed(0)
    network = StridedDynUNet(1, 3, filters=(8, 8, 8), stem_stride=stride).train()
    method = _method(network, 2, prototypes=True, width=8, pixels_per_class=50)
    batch = _batch(PARTIAL, shape=(8, 16, 16))
    view = method._weak(batch)
    assert view.weights.shape == batch.labels.shape
    assert ((view.weights > 0) & (view.weights < 1)).any()
    step = _step(method, network, batch)
    step.loss.backward()
    assert torch.isfinite(step.loss)
    assert float(step.logs["prototypes"]) > 0
    assert [name for name, weight in network.named_parameters() if weight.grad is None] == []


def test_an_annotated_organ_may_be_one_inside_it_that_is_not_annotated():
    network, batch = _network(2), _batch([[True, False], [True, True]])
    with torch.no_grad():
        for head in (network.head, *network.other_heads):
            head.bias.copy_(torch.tensor([-1.0, 0.0, 0.0]))
    within = within_matrix({2: 1}, 2)
    setting = Setting(network, "softmax", 2, network.feature_channels, within)
    method = build_method("fused", {"min_voxels": 1}, setting)
    assert isinstance(method, FusedMethod)
    view = method._weak(batch)
    liver = batch.labels[0] == 1
    assert set(view.labels[0][liver].tolist()) == {1, 2}, "the teacher says whether it is the inner organ"
    assert not (view.labels[0][~liver] == 2).any()
    logits = torch.zeros((2, 3, *SHAPE))
    gradient = _gradient(method, "cross_entropy", logits, batch)
    for organ in (1, 2):
        assert (gradient[0, organ][liver] < 0).all()
        assert (gradient[0, organ][~liver] > 0).all()
    learned = _gradient(method, "pseudo_labels", torch.randn((2, 3, *SHAPE)), batch)
    assert not learned[0][:, ~liver].any()
    assert not learned[1].any()
