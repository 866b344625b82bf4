from __future__ import annotations

import pytest

from multiorganseg.errors import OrganError, TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg_training.project.organs import map_labels

LIVER = {1: "liver", 2: "cancer"}


def mapped(names, **rules):
    return map_labels(names, rules, load_catalogue())


@pytest.mark.parametrize(
    ("organ", "key"), [("liver", "liver"), ("liver_tumor", "liver_tumor"), ("background", None)]
)
def test_a_tumour_goes_where_the_rule_says(organ, key):
    assert mapped(LIVER, cancer=organ) == {1: "liver", 2: key}


def test_names_and_values_of_labels():
    names = {1: "Left Kidney", 2: "kidney right", 7: "pancreas"}
    rules = {"left kidney": "kidneys", "2": "kidneys"}
    assert map_labels(names, rules, load_catalogue()) == {1: "kidneys", 2: "kidneys", 7: "pancreas"}


def test_a_rule_wins_over_an_equal_name():
    assert mapped(LIVER, liver="spleen", cancer="liver") == {1: "spleen", 2: "liver"}


def test_labels_without_a_rule_are_told_with_suggestions():
    with pytest.raises(TrainingError, match=r"cancer \(2\)") as caught:
        mapped(LIVER)
    for text in ("'cancer=liver'", "'cancer=liver_tumor'", "'cancer=background'"):
        assert text in caught.value.next_step
    with pytest.raises(TrainingError) as caught:
        mapped({1: "left kidney"})
    assert "'left kidney=kidney_left'" in caught.value.next_step


def test_rules_that_cannot_be():
    with pytest.raises(TrainingError, match="no label 'tumour'"):
        mapped(LIVER, tumour="liver")
    with pytest.raises(TrainingError, match="given to liver and to background"):
        map_labels(LIVER, {"cancer": "liver", "2": "background"}, load_catalogue())
    with pytest.raises(OrganError, match="liver_tumor"):
        mapped(LIVER, cancer="liver_tumour")
