from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.data.mixing import cross_set_partner, next_partner, own_set_partner


def test_the_published_way():
    assert next_partner(known_matrix([{1}, {2}, {2}, {3}], 3)).tolist() == [1, 2, 3, 0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sets(st.integers(1, 2)), min_size=1, max_size=9))
def test_partners_have_another_known_set(sets):
    known = known_matrix(sets, 2)
    partners = cross_set_partner(known)
    if all(other == sets[0] for other in sets):
        assert torch.equal(partners, next_partner(known))
        return
    for sample, partner in enumerate(partners.tolist()):
        assert sets[sample] != sets[partner]
    if max(sets.count(known_set) for known_set in sets) <= len(sets) / 2:
        assert sorted(partners.tolist()) == list(range(len(sets))), "each is a partner once"
    minority = [i for i, known_set in enumerate(sets) if sets.count(known_set) <= len(sets) / 2]
    assert set(minority) <= set(partners.tolist()), "the rarer sets are all used"


def test_different_sets_give_the_published_pairs():
    assert cross_set_partner(known_matrix([{1}, {2}, {3}, {4}], 4)).tolist() == [1, 2, 3, 0]


def test_own_sets_are_paired_in_a_circle_and_who_is_alone_with_itself():
    partners = own_set_partner(known_matrix([{1}, {2}, {1}, {3}, {1}, {2}], 3))
    assert partners.tolist() == [2, 5, 4, 3, 0, 1]
