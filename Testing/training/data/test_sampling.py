from __future__ import annotations

import numpy as np

from multiorganseg_training.data.batches import PatchSampler
from multiorganseg_training.data.cache import PreparedCase


def _draw(cases: list[PreparedCase], organ_centred: float, seed: int, count: int = 200) -> list:
    sampler = PatchSampler(cases, organ_centred, np.random.default_rng(seed))
    return [sampler.draw() for _ in range(count)]


def test_centres_lie_on_organs(prepared):
    drawn = _draw(prepared, 1.0, 0)
    channels = [case.labels[tuple(centre.astype(int))] for case, centre in drawn]
    counts = np.bincount(channels, minlength=3)
    assert counts[0] == 0
    assert counts[1:].min() > 60, "each organ as often, whatever its size"


def test_patches_lie_anywhere(prepared):
    drawn = _draw(prepared, 0.3, 0, 1000)
    assert 0.6 < np.mean([centre is None for _, centre in drawn]) < 0.8


def test_all_cases_are_drawn(prepared):
    names = [case.name for case, _ in _draw(prepared, 0.5, 1)]
    assert 60 < names.count("case_a") < 140
    assert set(names) == {"case_a", "case_b"}


def test_the_seed_decides(prepared):
    first, again, other = (_draw(prepared, 0.5, seed, 20) for seed in (3, 3, 4))
    assert all(_same(p, q) for p, q in zip(first, again, strict=True))
    assert not all(_same(p, q) for p, q in zip(first, other, strict=True))


def test_a_case_without_organs_and_one_without_background():
    empty = PreparedCase(
        "empty", np.zeros((4, 5, 6), np.float16), np.zeros((4, 5, 6), np.uint8), frozenset({2})
    )
    full = PreparedCase(
        "full", np.zeros((4, 5, 6), np.float16), np.full((4, 5, 6), 2, np.uint8), frozenset({2})
    )
    for case, centre in _draw([empty, full], 1.0, 0, 50):
        assert (centre is None) == (case.name == "empty")
        if centre is not None:
            assert (centre >= 0).all()
            assert (centre < case.labels.shape).all()
            assert np.array_equal(centre, centre.astype(int))


def _same(one: tuple, other: tuple) -> bool:
    (case, centre), (its, place) = one, other
    return case.name == its.name and (centre is place is None or np.array_equal(centre, place))


def _favouring(cases: list[PreparedCase], favoured: list[int], share: float, **labelled) -> list:
    sampler = PatchSampler(cases, 0.0, np.random.default_rng(0), favoured, share)
    return [sampler.draw(**labelled) for _ in range(300)]


def test_a_share_of_patches_lies_on_favoured_organs(prepared):
    rare, other = prepared
    other = other.hide_all_but(frozenset({2}))
    drawn = _favouring([rare, other], [1], 0.5)
    hits = [centre is not None and case.labels[tuple(centre.astype(int))] == 1 for case, centre in drawn]
    assert 0.4 < np.mean(hits) < 0.6
    names = [case.name for case, _ in drawn]
    assert names.count(rare.name) > 190, "half of them, and half of the others"
    always = _favouring([rare, other], [1], 1.0)
    assert {case.labels[tuple(centre.astype(int))] for case, centre in always} == {1}


def test_favoured_organs_come_equally_often(prepared):
    channels = [case.labels[tuple(centre.astype(int))] for case, centre in _favouring(prepared, [1, 2], 1.0)]
    assert 110 < channels.count(1) < 190
    assert channels.count(1) + channels.count(2) == 300


def test_a_favoured_organ_that_occurs_nowhere_changes_nothing(prepared):
    plain, seventh = _favouring(prepared, [], 0.0), _favouring(prepared, [7], 1.0)
    assert all(_same(p, q) for p, q in zip(plain, seventh, strict=True))
    both = _favouring(prepared, [1, 7], 1.0)
    assert {case.labels[tuple(centre.astype(int))] for case, centre in both} == {1}


def test_a_case_without_annotations_is_not_exchanged_for_one_with_a_favoured_organ(prepared):
    known, hidden = prepared[0], prepared[1].hide_all_but(frozenset())
    assert {case.name for case, _ in _favouring([known, hidden], [1], 1.0, labelled=False)} == {"case_b"}
    assert {case.name for case, _ in _favouring([known, hidden], [1], 1.0, labelled=True)} == {"case_a"}


def test_cases_in_which_organs_are_absent_come_as_often_as_said(prepared):
    empty = [
        PreparedCase(name, np.zeros((4, 5, 6), np.float16), np.zeros((4, 5, 6), np.uint8), frozenset({1, 2}))
        for name in ("neck_a", "neck_b", "neck_c", "neck_d")
    ]
    cases = [*prepared, *empty]
    for share in (0.0, 0.1):
        sampler = PatchSampler(cases, 1.0, np.random.default_rng(0), absent_share=share)
        names = [sampler.draw()[0].name for _ in range(1000)]
        assert abs(sum(name.startswith("neck") for name in names) / 1000 - share) < 0.04
    plain = PatchSampler(cases, 1.0, np.random.default_rng(0))
    names = [plain.draw()[0].name for _ in range(1000)]
    assert 0.6 < sum(name.startswith("neck") for name in names) / 1000 < 0.75
