import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multiorganseg.metrics import dice, jaccard, volume_error_percent

MASKS = arrays(np.bool_, (3, 4, 5))


def test_jaccard_by_hand():
    assert jaccard(mask(0, 1, 2), mask(1, 2, 3, 4)) == pytest.approx(2 / 5)
    assert jaccard(mask(0, 1), mask(0, 1)) == 1.0
    assert jaccard(mask(0, 1), mask(5)) == 0.0


def test_jaccard_of_empty_masks():
    assert jaccard(mask(), mask(3)) == 0.0
    assert jaccard(mask(3), mask()) == 0.0
    assert math.isnan(jaccard(mask(), mask()))


@given(st.tuples(MASKS, MASKS).filter(lambda pair: pair[0].any() or pair[1].any()))
def test_jaccard_follows_from_dice(pair):
    value = dice(*pair)
    assert jaccard(*pair) == pytest.approx(value / (2 - value))


def mask(*indices):
    result = np.zeros((1, 1, 10), dtype=bool)
    result[0, 0, list(indices)] = True
    return result


def test_dice_by_hand():
    assert dice(mask(0, 1, 2), mask(1, 2, 3, 4)) == pytest.approx(4 / 7)
    assert dice(mask(0, 1), mask(0, 1)) == 1.0
    assert dice(mask(0, 1), mask(5)) == 0.0


def test_dice_of_empty_masks():
    assert dice(mask(), mask(3)) == 0.0
    assert dice(mask(3), mask()) == 0.0
    assert math.isnan(dice(mask(), mask()))


def test_volume_error_is_signed_and_relative_to_the_reference():
    assert volume_error_percent(mask(0, 1, 2), mask(6, 7)) == pytest.approx(50.0)
    assert volume_error_percent(mask(0), mask(6, 7, 8, 9)) == pytest.approx(-75.0)
    assert volume_error_percent(mask(), mask(1)) == -100.0
    assert math.isnan(volume_error_percent(mask(1), mask()))
