"""Label tables as people have them: ours, the Decathlon's, nnU-Net's, with a byte order mark or without."""

from __future__ import annotations

import codecs
from pathlib import Path

import pytest

from multiorganseg.errors import OrganError
from multiorganseg.organs.table_file import read_table_file


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.json"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "organs"),
    [
        ('{"1": "liver", "7": "spleen"}', {1: "liver", 7: "spleen"}),
        ('{"labels": {"1": "liver"}, "organs": {}, "provenance": {}}', {1: "liver"}),
        ('{"modality": {"0": "CT"}, "labels": {"0": "background", "1": "Liver", "2": "cancer"}}',
         {1: "liver", 2: "cancer"}),
        ('{"channel_names": {"0": "CT"}, "labels": {"background": 0, "liver": 1, "spleen": 3}}',
         {1: "liver", 3: "spleen"}),
        ('{"labels": {"background": 0, "liver": [1], "tumor": "2"}}', {1: "liver", 2: "tumor"}),
        ('{"labels": {"background": 0, "1": 1}}', {1: "1"}),
        ('{"0": "Clear Label", "1": "LEFT KIDNEY", "2": "kidney right", "3": "my_mass"}',
         {1: "kidney_left", 2: "kidney_right", 3: "my_mass"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_forms_of_a_table(text: str, organs: dict, encoding: str, tmp_path: Path) -> None:
    assert read_table_file(table(tmp_path, text, encoding)).organs == organs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"1": "liver", "01": "spleen"}', "given to 'liver' and to 'spleen'"),
        ('{"1": "liver", "1": "spleen"}', "'1' stands twice"),
        ('{"labels": {"liver": 1, "spleen": 1}}', "given to 'liver' and to 'spleen'"),
        ('{"labels": {"liver": 1, "Liver": 2}}', "liver more than once"),
        ('{"labels": {"kidney": [1, 2, 3], "tumor": [2]}}', "region"),
        ('{"labels": {"liver": true}}', "no whole number"),
        ('{"labels": {"liver": null}}', "no whole number"),
        ('{"labels": {"liver": "one"}}', "no whole number"),
        ('{"1": {"name": "liver"}}', "no text"),
        ('{"1": "liver", "2": " "}', "no organ for 2"),
        ('{"0": "liver"}', "1…65535"),
        ('{"labels": {"background": 0}}', "no organ"),
        ("[1]", ""),
        ("[" * 100_000, ""),
        ("\x00", ""),
    ],
)
def test_what_is_refused(text: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(OrganError) as caught:
        read_table_file(table(tmp_path, text))
    assert words in f"{caught.value.problem} {caught.value.cause}"
    assert caught.value.next_step


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(OrganError, match="larger than"):
        read_table_file(table(tmp_path, codecs.BOM_UTF8.decode() + " " * (5 << 20)))
