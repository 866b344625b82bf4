from __future__ import annotations

import numpy as np
import pytest

from multiorganseg.errors import TrainingError
from multiorganseg_training.data.cache import PreparedCase
from research.features.pixels import FOLD, GROUPS, LABELLED, UNLABELLED, Pixels, choose_pixels

LIVER, SPLEEN = 1, 2
KNOWN = [frozenset({LIVER}), frozenset({SPLEEN}), frozenset({SPLEEN})]


def _case(name: str, liver: int, spleen: int) -> PreparedCase:
    labels = np.zeros((5, 20, 20), np.uint8)
    spots = np.random.default_rng(len(name)).permutation(labels.size)
    labels.flat[spots[:liver]] = LIVER
    labels.flat[spots[liver : liver + spleen]] = SPLEEN
    return PreparedCase(name, np.zeros(labels.shape, np.float16), labels, frozenset({LIVER, SPLEEN}))


@pytest.fixture
def cases() -> list[PreparedCase]:
    return [_case("a", 300, 200), _case("bb", 400, 10), _case("ccc", 30, 500)]


def _choose(cases, known=None, most=100) -> Pixels:
    return choose_pixels(cases, KNOWN if known is None else known, 2, most, np.random.default_rng(0))


def test_pixels_lie_on_the_organ_that_they_are_said_to_be(cases):
    pixels = _choose(cases)
    found = [
        cases[case].labels[tuple(position)]
        for case, position in zip(pixels.case, pixels.position, strict=True)
    ]
    assert found == pixels.channel.tolist()
    assert len(np.unique(np.column_stack([pixels.case, pixels.position]), axis=0)) == len(found)


def test_labelled_is_what_the_training_saw(cases):
    pixels = _choose(cases)
    for case, channel, group in zip(pixels.case, pixels.channel, pixels.group, strict=True):
        assert GROUPS[group] == (LABELLED if channel in KNOWN[case] else UNLABELLED)


def test_cases_are_drawn_from_evenly_as_far_as_they_suffice(cases):
    pixels = _choose(cases)
    unlabelled_liver, labelled_spleen = (
        np.bincount(pixels.case[pixels.of(group, channel=channel)], minlength=3).tolist()
        for group, channel in ((UNLABELLED, LIVER), (LABELLED, SPLEEN))
    )
    assert unlabelled_liver == [0, 70, 30]
    assert labelled_spleen == [0, 10, 90]
    assert int(pixels.of(LABELLED, channel=LIVER).sum()) == 100


def test_the_fold_changes_nothing_of_the_others(cases):
    without = _choose(cases)
    with_fold = _choose([*cases, _case("dddd", 50, 60)], [*KNOWN, None])
    training = with_fold.of(LABELLED, UNLABELLED)
    np.testing.assert_array_equal(with_fold.position[training], without.position)
    assert int(with_fold.of(FOLD).sum()) == 110
    assert set(with_fold.case[with_fold.of(FOLD)]) == {3}


def test_taking_some(cases):
    pixels = _choose(cases)
    some = pixels.take(np.array([5, 0]))
    np.testing.assert_array_equal(some.position, pixels.position[[5, 0]])
    assert some.case.tolist() == pixels.case[[5, 0]].tolist()


def test_an_organ_without_voxels_is_left_out(cases):
    pixels = choose_pixels(cases, KNOWN, 3, 100, np.random.default_rng(0))
    assert set(pixels.channel) == {LIVER, SPLEEN}


def test_nothing_unlabelled(cases):
    with pytest.raises(TrainingError, match="hides no organ"):
        _choose(cases, [frozenset({LIVER, SPLEEN})] * 3)


def test_nothing_labelled(cases):
    with pytest.raises(TrainingError, match="is labelled"):
        _choose(cases, [frozenset()] * 3)
