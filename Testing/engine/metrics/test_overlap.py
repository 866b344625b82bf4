import math

import numpy as np
import pytest

from multiorganseg.metrics import dice, volume_error_percent


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
