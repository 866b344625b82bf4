from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg_training.run.build import widen_state

OLD, MORE = 3, 2


@pytest.fixture(params=["softmax", "sigmoid"])
def pair(
    request, architecture, small_network, logits_of
) -> tuple[str, list[torch.Tensor], list[torch.Tensor]]:
    """The activation, and the logits of each decoder before and after two organs more."""
    channels = OLD + (request.param == "softmax")
    trained = small_network(architecture, channels)
    widened = small_network(architecture, channels + MORE, seed=1)
    widened.load_state_dict(widen_state(trained.state_dict(), widened.state_dict(), request.param))
    return request.param, logits_of(trained), logits_of(widened)


def test_a_widened_network_says_the_same_of_the_old_organs(pair):
    activation, before, after = pair
    for old, new in zip(before, after, strict=True):
        if activation == "sigmoid":
            torch.testing.assert_close(new[:, :OLD], old)
            continue
        old, new = old.softmax(dim=1), new.softmax(dim=1)
        torch.testing.assert_close(new[:, 1 : OLD + 1], old[:, 1:])
        torch.testing.assert_close(new[:, 0] + new[:, OLD + 1 :].sum(dim=1), old[:, 0])


def test_new_organs_start_with_the_prior(pair):
    activation, before, after = pair
    for old, new in zip(before, after, strict=True):
        if activation == "sigmoid":
            torch.testing.assert_close(new[:, OLD:].sigmoid(), torch.full_like(new[:, OLD:], 0.01))
            continue
        background = old.softmax(dim=1)[:, :1]
        shared = new.softmax(dim=1)
        torch.testing.assert_close(
            shared[:, OLD + 1 :], (0.01 / MORE * background).expand(-1, MORE, -1, -1, -1)
        )
        torch.testing.assert_close(shared[:, :1], 0.99 * background)


def test_the_last_layer_by_hand():
    trained = {"head.weight": torch.tensor([[1.0], [2.0]]), "head.bias": torch.tensor([3.0, 4.0])}
    wanted = {"head.weight": torch.zeros((4, 1)), "head.bias": torch.zeros(4)}
    state = widen_state(trained, wanted, "softmax", prior=0.5)
    assert state["head.weight"].flatten().tolist() == [1, 2, 1, 1]
    assert state["head.bias"].tolist() == pytest.approx(
        [3 + math.log(0.5), 4, 3 + math.log(0.25), 3 + math.log(0.25)]
    )
    state = widen_state(trained, wanted, "sigmoid", prior=0.5)
    assert state["head.weight"].flatten().tolist() == [1, 2, 0, 0]
    assert state["head.bias"].tolist() == [3, 4, 0, 0]


def test_two_steps_of_widening_say_the_same_of_the_old_organs_too(small_network):
    networks = [small_network("strided_dynunet", organs + 1, seed=organs) for organs in (1, 2, 4)]
    for fewer, more in pairwise(networks):
        more.load_state_dict(widen_state(fewer.state_dict(), more.state_dict(), "softmax"))
    image = torch.randn((1, 1, 8, 16, 16), generator=torch.Generator().manual_seed(3))
    first, _, last = (network(image).logits.softmax(dim=1) for network in networks)
    torch.testing.assert_close(last[:, 1], first[:, 1])


def test_equal_networks_are_copied(small_network):
    trained = small_network("vnet", OLD).state_dict()
    same = widen_state(trained, small_network("vnet", OLD, seed=1).state_dict(), "sigmoid")
    assert all(torch.equal(same[name], tensor) for name, tensor in trained.items())


@pytest.mark.parametrize(
    ("trained", "widened", "named"),
    [
        ({"a": (2, 3)}, {"b": (2, 3)}, "'a'"),
        ({"a": (4, 3)}, {"a": (2, 3)}, "'a'"),
        ({"a": (2, 3)}, {"a": (4, 5)}, "'a'"),
        ({"a": (2, 5)}, {"a": (4, 3)}, "'a'"),
        ({"a": (2,)}, {"a": (4, 3)}, "'a'"),
        ({"a.weight": (2, 2), "b.weight": (2, 2)}, {"a.weight": (4, 4), "b.weight": (4, 4)}, "'b'"),
    ],
)
def test_what_differs_otherwise_is_refused(trained, widened, named):
    states = [{name: torch.zeros(shape) for name, shape in said.items()} for said in (trained, widened)]
    with pytest.raises(TrainingError, match="not built like") as caught:
        widen_state(*states, "softmax")
    assert named in caught.value.cause
