import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from multiorganseg.metrics import dice, jaccard

MASKS = arrays(np.bool_, (3, 4, 5))


def mask(*indices):
    result = np.zeros((1, 1, 10), dtype=bool)
    result[0, 0, list(indices)] = True
    return result


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
