from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.known import organ_probs, tri_state
from multiorganseg_training.losses.partial import PartialLoss, cross_entropy_and_dice, log_dice
from multiorganseg_training.methods import Batch, Setting, build_method

ORGANS = 3
GENERATOR = np.random.default_rng(0)


class Linear(nn.Module):
    """One convolution, as a network of the project answers."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Conv3d(1, channels, 1)

    def forward(self, image: Tensor) -> SimpleNamespace:
        return SimpleNamespace(logits=self.head(image), features=image.expand(-1, 8, -1, -1, -1))


def _setting(activation: str) -> Setting:
    within = torch.zeros((ORGANS, ORGANS), dtype=torch.bool)
    return Setting(Linear(ORGANS + (activation == "softmax")), activation, ORGANS, 8, within)


def _batch(known: list[list[bool]]) -> Batch:
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, ORGANS + 1, (len(known), 4, 6, 6), generator=generator)
    matrix = torch.tensor(known)
    labels = labels.where(
        torch.cat([torch.ones(len(known), 1, dtype=torch.bool), matrix], 1)
        .gather(1, labels.flatten(1))
        .reshape(labels.shape),
        0,
    )
    return Batch(torch.randn(len(known), 1, 4, 6, 6, generator=generator), labels, matrix)


def test_with_every_organ_annotated_it_is_plain_supervised_learning():
    setting, batch = _setting("softmax"), _batch([[True] * ORGANS] * 2)
    step = build_method("partial", {}, setting)(setting.network, batch, GENERATOR)
    cross_entropy, dice = cross_entropy_and_dice(setting.network(batch.image).logits, batch.labels)
    torch.testing.assert_close(step.loss, cross_entropy + dice)
    plain = build_method("supervised", {}, setting)(setting.network, batch, GENERATOR)
    torch.testing.assert_close(step.loss, plain.loss)


def test_a_nested_organ_costs_the_same_whether_or_not_another_case_hides_one():
    """The way that is quicker where everything is annotated knows of no organs inside others."""
    setting, batch = _setting("softmax"), _batch([[True] * ORGANS] * 2)
    setting.within[0, 1] = True
    loss = build_method("partial", {}, setting)(setting.network, batch, GENERATOR).loss
    targets = tri_state(batch.labels, batch.known, within=setting.within)
    logits = setting.network(batch.image).logits
    expected, _ = PartialLoss("softmax", 1.0, exclusion_weight=1.0)(
        logits, batch.labels, targets, batch.known, setting.within
    )
    torch.testing.assert_close(loss, expected)
    plain, _ = cross_entropy_and_dice(logits, batch.labels)
    assert not torch.isclose(loss, plain)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("exclusive", [True, False])
def test_a_case_without_annotations_teaches_nothing(activation, exclusive):
    setting, batch = _setting(activation), _batch([[False] * ORGANS] * 2)
    step = build_method("partial", {"exclusive": exclusive}, setting)(setting.network, batch, GENERATOR)
    step.loss.backward()
    assert float(step.loss) == 0
    assert all(float(p.grad.abs().max()) == 0 for p in setting.network.parameters())


def test_without_exclusion_organs_that_are_not_annotated_get_no_gradient():
    setting, batch = _setting("sigmoid"), _batch([[True, False, False]] * 2)
    method = build_method("partial", {"exclusive": False, "dice_weight": 0.0}, setting)
    method(setting.network, batch, GENERATOR).loss.backward()
    gradient = setting.network.head.weight.grad.flatten()
    assert gradient[0] != 0
    assert gradient[1:].tolist() == [0, 0]


def test_with_exclusion_annotated_organs_push_the_others_down():
    setting, batch = _setting("sigmoid"), _batch([[True, False, False]] * 2)
    method = build_method("partial", {"dice_weight": 0.0}, setting)
    method(setting.network, batch, GENERATOR).loss.backward()
    assert (setting.network.head.bias.grad[1:] > 0).all()


def test_parts_of_the_loss_are_logged():
    setting, batch = _setting("softmax"), _batch([[True, False, False]] * 2)
    step = build_method("partial", {"exclusion_weight": 0.5}, setting)(setting.network, batch, GENERATOR)
    logs = {name: float(value) for name, value in step.logs.items()}
    assert float(step.loss) == pytest.approx(
        logs["marginal_cross_entropy"] + logs["dice_loss"] + 0.5 * logs["exclusion"]
    )


def test_an_unknown_reduction_is_refused():
    with pytest.raises(TrainingError, match="No reduction"):
        build_method("partial", {"reduction": "median"}, _setting("sigmoid"))


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_the_logarithm_of_the_dice(activation):
    setting, batch = _setting(activation), _batch([[True, False, True], [False, True, True]])
    plain, log = (
        build_method("partial", {"log": log, "exclusion_weight": 0.0}, setting)(
            setting.network, batch, GENERATOR
        )
        for log in (False, True)
    )
    organs = organ_probs(setting.network(batch.image).logits, activation)
    expected = log_dice(organs, tri_state(batch.labels, batch.known), batch.known)
    torch.testing.assert_close(log.logs["dice_loss"], expected.detach())
    torch.testing.assert_close(
        log.loss - plain.loss, log.logs["dice_loss"] - plain.logs["dice_loss"], rtol=1e-4, atol=1e-6
    )


def test_what_is_missing_can_be_learned_as_background():
    setting = _setting("softmax")
    partly = _batch([[True, False, True], [False, True, True]])
    naive = build_method("partial", {"missing_is_background": True}, setting)
    whole = Batch(partly.image, partly.labels, torch.ones_like(partly.known))
    as_reported = naive(setting.network, partly, GENERATOR)
    torch.testing.assert_close(as_reported.loss, naive(setting.network, whole, GENERATOR).loss)
    honest = build_method("partial", {}, setting)(setting.network, partly, GENERATOR)
    assert abs(float((as_reported.loss - honest.loss).detach())) > 0.01
