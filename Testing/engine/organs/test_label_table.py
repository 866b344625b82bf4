from __future__ import annotations

import json

import pytest

from multiorganseg.errors import OrganError
from multiorganseg.organs.labels import LabelTable


def test_values_ascend_whatever_the_order_given() -> None:
    table = LabelTable({7: "liver", 2: "spleen", 65535: "aorta"})
    assert list(table.organs) == [2, 7, 65535]
    assert table.keys == ("spleen", "liver", "aorta")
    assert [table.value(key) for key in table.keys] == [2, 7, 65535]
    assert LabelTable.numbered(["spleen", "liver"]) == LabelTable({2: "liver", 1: "spleen"})


@pytest.mark.parametrize("value", [0, -1, 65536])
def test_values_out_of_range_are_refused(value) -> None:
    with pytest.raises(OrganError, match=str(value)):
        LabelTable({1: "spleen", value: "liver"})


def test_an_organ_stands_once() -> None:
    with pytest.raises(OrganError, match="liver more than once"):
        LabelTable({1: "liver", 2: "spleen", 3: "liver"})


@pytest.mark.parametrize("key", ["", " ", "\t\u00a0"])
def test_an_organ_has_a_name(key) -> None:
    with pytest.raises(OrganError, match="no organ for 2"):
        LabelTable({1: "liver", 2: key})


def test_json_there_and_back() -> None:
    table = LabelTable({3: "spleen", 10: "liver"})
    text = json.dumps(table.to_json())
    assert text == '{"3": "spleen", "10": "liver"}'
    assert LabelTable.from_json(json.loads(text)) == table


@pytest.mark.parametrize("data", [{"one": "spleen"}, ["spleen"], "spleen", {"1.5": "liver"}])
def test_what_is_no_table_is_a_typed_error(data) -> None:
    with pytest.raises(OrganError) as caught:
        LabelTable.from_json(data)
    assert caught.value.cause
    assert '{"1": "spleen"' in caught.value.next_step


@pytest.mark.parametrize("data", [{"1": "liver", "01": "spleen"}, {"1": "liver", " 1": "spleen"}])
def test_a_value_stands_for_one_organ(data) -> None:
    with pytest.raises(OrganError, match="the value 1 stands for several organs"):
        LabelTable.from_json(data)


def test_an_unknown_organ_names_the_known_ones() -> None:
    with pytest.raises(OrganError, match="pancreas") as caught:
        LabelTable.numbered(["spleen", "liver"]).value("pancreas")
    assert "spleen, liver" in caught.value.next_step
