from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.data.mixing import cross_set_partner, next_partner


def test_the_published_way():
    partners = next_partner(known_matrix([{1}, {2}, {2}, {3}], 3))
    assert partners.index.tolist() == [1, 2, 3, 0]
    assert partners.crossed.tolist() == [True, False, True, True]
    assert "same known set" in partners.reason
    assert next_partner(known_matrix([{1}, {2}], 2)).reason == ""


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sets(st.integers(1, 2)), min_size=1, max_size=9))
def test_partners_have_another_known_set(sets):
    known = known_matrix(sets, 2)
    partners = cross_set_partner(known)
    if all(other == sets[0] for other in sets):
        assert torch.equal(partners.index, next_partner(known).index)
        assert not partners.crossed.any()
        assert "same known set" in partners.reason
        return
    assert partners.reason == ""
    assert partners.crossed.all()
    for sample, partner in enumerate(partners.index.tolist()):
        assert sets[sample] != sets[partner]
    if max(sets.count(known_set) for known_set in sets) <= len(sets) / 2:
        assert sorted(partners.index.tolist()) == list(range(len(sets))), "each is a partner once"
    minority = [i for i, known_set in enumerate(sets) if sets.count(known_set) <= len(sets) / 2]
    assert set(minority) <= set(partners.index.tolist()), "the rarer sets are all used"


def test_different_sets_give_the_published_pairs():
    assert cross_set_partner(known_matrix([{1}, {2}, {3}, {4}], 4)).index.tolist() == [1, 2, 3, 0]
