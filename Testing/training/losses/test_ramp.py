from __future__ import annotations

import pytest

from multiorganseg_training.losses.mutual import Ramp


@pytest.mark.parametrize(
    ("iteration", "weight"),
    [(0, 0.0067), (1500, 0.060), (3000, 0.29), (4500, 0.73), (6000, 1.0), (15000, 1.0)],
)
def test_the_published_ramp(iteration, weight):
    assert Ramp().weight(iteration) == pytest.approx(weight, rel=0.02)


def test_it_rises_in_steps():
    ramp = Ramp(every=10, steps=4)
    weights = [ramp.weight(iteration) for iteration in range(60)]
    assert weights == sorted(weights)
    assert len(set(weights)) == 5
    assert weights[9] == weights[0] < weights[10]
    assert weights[40] == 1


def test_no_steps_is_no_ramp():
    assert Ramp(steps=0).weight(0) == 1
