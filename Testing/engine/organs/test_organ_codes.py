"""Every code of the catalogue is looked up again: in pydicom, or in a list that names its source."""

import json
from pathlib import Path

import pytest

from multiorganseg.folders import resources_dir
from multiorganseg.organs import Catalogue, Code, Organ, load_catalogue

SOURCED = Path(__file__).with_name("sourced_codes.json")


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


@pytest.fixture(scope="module")
def pydicom_codes() -> dict[str, set[str]]:
    """Meanings by code, of the SNOMED CT subset that DICOM uses, in small letters."""
    codedict = pytest.importorskip("pydicom.sr.codedict")
    meanings: dict[str, set[str]] = {}
    for code in codedict.codes.SCT.concepts.values():
        meanings.setdefault(code.value, set()).add(code.meaning.casefold())
    return meanings


@pytest.fixture(scope="module")
def sourced_codes() -> dict[str, dict[str, str]]:
    return {code["value"]: code for code in json.loads(SOURCED.read_text(encoding="utf-8"))["codes"]}


def codes_of(organ: Organ) -> list[Code]:
    return [code for code in (organ.category, organ.type, organ.modifier) if code is not None]


def unknown_codes(
    organs: list[Organ], pydicom_codes: dict[str, set[str]], sourced_codes: dict[str, dict[str, str]]
) -> list[str]:
    return [
        f"{organ.key}: {code.value} {code.meaning}"
        for organ in organs
        for code in codes_of(organ)
        if code.scheme != "SCT"
        or (
            code.meaning.casefold() not in pydicom_codes.get(code.value, set())
            and code.meaning != sourced_codes.get(code.value, {}).get("meaning")
        )
    ]


def has_check_digit(value: str) -> bool:
    """Verhoeff's check, which the last digit of each SNOMED CT identifier satisfies."""
    dihedral = [
        [(a + b) % 5 if b < 5 else 5 + (a + b) % 5 for b in range(10)]
        if a < 5
        else [5 + (a - b) % 5 if b < 5 else (a - b) % 5 for b in range(10)]
        for a in range(10)
    ]
    permutation = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]
    check = 0
    for position, digit in enumerate(reversed(value)):
        number = int(digit)
        for _ in range(position % 8):
            number = permutation[number]
        check = dihedral[check][number]
    return check == 0


def test_every_code_and_meaning_is_known_to_pydicom_or_sourced(catalogue, pydicom_codes, sourced_codes):
    assert unknown_codes(list(catalogue.organs.values()), pydicom_codes, sourced_codes) == []


@pytest.mark.parametrize(
    "code",
    [
        Code("SCT", "10200005", "Liver"),
        Code("SCT", "10200004", "Spleen"),
        Code("SRT", "10200004", "Liver"),
        Code("SCT", "110765007", "Portal vein"),
    ],
    ids=["no such code", "code of another organ", "other scheme", "sourced code, other meaning"],
)
def test_an_unknown_code_is_noticed(code, catalogue, pydicom_codes, sourced_codes):
    liver = catalogue.get("liver")
    wrong = Organ(**{**vars(liver), "type": code})
    assert unknown_codes([liver], pydicom_codes, sourced_codes) == []
    assert len(unknown_codes([wrong], pydicom_codes, sourced_codes)) == 1


def test_every_code_has_its_check_digit(catalogue):
    assert has_check_digit("10200004")
    assert not has_check_digit("10200005")
    assert not has_check_digit("12000004")
    values = {code.value for organ in catalogue.organs.values() for code in codes_of(organ)}
    assert [value for value in sorted(values) if not has_check_digit(value)] == []


def test_the_list_of_sources_names_a_file_for_each_code_and_nothing_superfluous(
    catalogue, pydicom_codes, sourced_codes
):
    used = {(code.value, code.meaning) for organ in catalogue.organs.values() for code in codes_of(organ)}
    for value, code in sourced_codes.items():
        assert code["package"]
        assert code["file"]
        assert (value, code["meaning"]) in used
        assert code["meaning"].casefold() not in pydicom_codes.get(value, set())


def test_the_documentation_lists_exactly_the_organs_without_a_type_code(catalogue):
    docs = resources_dir().parent / "docs" / "organs.md"
    if not docs.is_file():
        pytest.skip("the documentation is not beside the resources")
    section = docs.read_text(encoding="utf-8").split("## Organs without a code")[1].split("\n## ")[0]
    listed = {line.split("`")[1] for line in section.splitlines() if line.startswith("- `")}
    assert listed == {organ.key for organ in catalogue.organs.values() if organ.type is None}


def test_every_organ_has_a_category_and_nearly_every_one_a_type(catalogue):
    assert [organ.key for organ in catalogue.organs.values() if organ.category is None] == []
    empty = [organ.key for organ in catalogue.organs.values() if organ.type is None]
    assert len(empty) < 0.1 * len(catalogue.organs)


def test_meanings_of_one_code_agree(catalogue):
    meanings: dict[str, set[str]] = {}
    for organ in catalogue.organs.values():
        for code in codes_of(organ):
            meanings.setdefault(code.value, set()).add(code.meaning)
    assert {value: found for value, found in meanings.items() if len(found) > 1} == {}
