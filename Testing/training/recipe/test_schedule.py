from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.recipe.schedule import SCHEDULES, poly, rate_factor, warmup_cosine


@settings(deadline=None)
@given(st.integers(1, 500), st.floats(0, 0.9))
def test_the_rate_rises_then_falls(iterations, warmup):
    factors = [warmup_cosine(n, iterations, warmup) for n in range(iterations)]
    assert all(0 < factor <= 1 for factor in factors)
    peak = factors.index(max(factors))
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert abs(peak - warmup * iterations) <= 1


def test_the_shape_of_a_usual_run():
    factors = [warmup_cosine(n, 1000, 0.1) for n in range(1000)]
    assert factors[0] == pytest.approx(1 / 101)
    assert factors[100] == 1
    assert factors[550] == pytest.approx(0.5)
    assert factors[999] < 1e-5


def test_without_warm_up_it_starts_at_the_peak():
    assert warmup_cosine(0, 10, 0.0) == 1


def test_the_polynomial_falls_to_nearly_nothing():
    assert poly(0, 100) == 1
    assert poly(50, 100) == pytest.approx(0.5**0.9)
    assert poly(99, 100) == pytest.approx(0.01**0.9)


def test_schedules_by_name():
    assert [rate_factor(name, 50, 100, 0.0) for name in SCHEDULES] == pytest.approx([0.5, 0.5**0.9, 1.0])
