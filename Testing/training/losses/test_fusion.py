from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multiorganseg_training.data.batches import known_matrix
from multiorganseg_training.losses.known import among, open_classes, within_matrix
from multiorganseg_training.losses.pseudo_labels import fuse


def test_one_known_organ_by_hand():
    labels = torch.tensor([[[2, 2, 0, 0, 0, 0]]])
    teacher = torch.tensor([[[2, 1, 2, 1, 3, 0]]])
    fused = fuse(labels, known_matrix([{2}], 3), teacher)
    assert fused.labels.tolist() == [[[2, 2, 0, 1, 3, 0]]], "the denied label 2 becomes background"
    assert fused.truth.tolist() == [[[True, True, False, False, False, False]]]
    assert fused.labelled.tolist() == [[[2, 2, 0, -1, -1, 0]]]
    assert fused.unlabelled.tolist() == [[[-1, -1, 0, 1, 3, 0]]]


def test_a_denied_claim_can_go_to_the_best_that_is_open():
    p = torch.tensor([[0.1, 0.5, 0.3, 0.1], [0.4, 0.5, 0.05, 0.05], [0.1, 0.2, 0.1, 0.6]])
    p = p.T.reshape(1, 4, 1, 3)
    labels = torch.zeros((1, 1, 3), dtype=torch.int64)
    known = known_matrix([{1}], 3)
    assert fuse(labels, known, p.argmax(dim=1)).labels.tolist() == [[[0, 0, 3]]]
    left = among(p, open_classes(labels, known))
    assert fuse(labels, known, left.argmax(dim=1)).labels.tolist() == [[[2, 0, 3]]]


def test_labels_of_unknown_organs_give_way_to_the_teacher():
    labels = torch.tensor([[[1, 3]]])
    fused = fuse(labels, known_matrix([{1}], 3), torch.tensor([[[2, 2]]]))
    assert fused.labels.tolist() == [[[1, 2]]]


@settings(deadline=None, max_examples=50)
@given(
    seed=st.integers(0, 10_000),
    classes=st.integers(1, 5),
    space=st.lists(st.integers(1, 5), min_size=2, max_size=3),
    only_open=st.booleans(),
)
def test_nothing_contradicts_the_annotation(seed, classes, space, only_open):
    generator = torch.Generator().manual_seed(seed)
    known = torch.rand((3, classes), generator=generator) < 0.5
    labels = torch.randint(0, classes + 1, (3, *space), generator=generator)
    p = torch.rand((3, classes + 1, *space), generator=generator)
    teacher = p.argmax(dim=1)
    fused = fuse(labels, known, among(p, open_classes(labels, known)).argmax(dim=1) if only_open else teacher)
    is_known = torch.cat([torch.zeros(3, 1, dtype=torch.bool), known], dim=1)
    by_hand = torch.empty_like(labels)
    for place in torch.cartesian_prod(*[torch.arange(n) for n in labels.shape]).tolist():
        sample, here = place[0], tuple(place)
        truth, pseudo_label = int(labels[here]), int(teacher[here])
        if is_known[sample, truth]:
            by_hand[here] = truth
        elif not is_known[sample, pseudo_label]:
            by_hand[here] = pseudo_label
        elif not only_open:
            by_hand[here] = 0
        else:
            left = p[(sample, slice(None), *place[1:])].masked_fill(is_known[sample], -1)
            by_hand[here] = left.argmax()
    assert torch.equal(fused.labels, by_hand)
    shared = (fused.labelled >= 0) & (fused.unlabelled >= 0)
    assert torch.equal(shared, fused.labels == 0), "the split masks share the background alone"
    assert torch.equal(torch.maximum(fused.labelled, fused.unlabelled), fused.labels)


def test_a_teacher_may_claim_an_organ_inside_an_annotated_one():
    """The liver (1) is annotated, a tumour in it (2) and the spleen (3) are not."""
    labels = torch.tensor([[[1, 1, 1, 0, 0]]])
    pseudo_labels = torch.tensor([[[2, 1, 3, 2, 3]]])
    known, within = known_matrix([{1}], 3), within_matrix({2: 1}, 3)
    fused = fuse(labels, known, pseudo_labels, within)
    assert fused.labels.tolist() == [[[2, 1, 1, 0, 3]]], "no tumour outside of the liver, no spleen in it"
    assert fused.truth.tolist() == [[[False, True, True, False, False]]]
    assert fused.labelled.tolist() == [[[-1, 1, 1, 0, -1]]]
    assert fused.unlabelled.tolist() == [[[2, -1, -1, 0, 3]]]
    assert fuse(labels, known, pseudo_labels).labels.tolist() == [[[1, 1, 1, 2, 3]]]
