import json
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from multiorganseg.errors import OrganError
from multiorganseg.organs import Catalogue, LabelTable, Organ, load_catalogue

ABDOMEN = (
    "spleen",
    "kidney_right",
    "kidney_left",
    "gallbladder",
    "esophagus",
    "liver",
    "stomach",
    "aorta",
    "inferior_vena_cava",
    "portal_vein_and_splenic_vein",
    "pancreas",
    "adrenal_gland_right",
    "adrenal_gland_left",
)
RIGHT_ONLY = {"lung_middle_lobe_right"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    return load_catalogue()


def entry(key: str = "liver", **changes: object) -> dict[str, object]:
    sct = {"scheme": "SCT"}
    return {
        "key": key,
        "name": key.capitalize(),
        "category": {**sct, "value": "123037004", "meaning": "Anatomical Structure"},
        "type": {**sct, "value": str(sum(key.encode())), "meaning": key},
        "modifier": None,
        "color": [221, 130, 101],
        "side": None,
        "components": 1,
        "volume_ml": [500, 4000],
        "within": None,
        **changes,
    }


def written(folder: Path, *entries: dict[str, object], version: int = 1) -> Path:
    path = folder / "organs.json"
    path.write_text(json.dumps({"schema_version": version, "organs": entries}), encoding="utf-8")
    return path


def test_the_catalogue_has_the_abdomen_the_atrium_and_a_hundred_more(catalogue):
    assert set(ABDOMEN) | {"kidneys", "heart_left_atrium"} <= set(catalogue.organs)
    assert len(catalogue.organs) >= 113
    assert LabelTable.numbered(ABDOMEN).keys == ABDOMEN


def test_keys_names_and_coded_concepts_are_unique(catalogue):
    organs = list(catalogue.organs.values())
    assert [organ.key for organ in organs] == list(catalogue.organs)
    assert len({organ.name.casefold() for organ in organs}) == len(organs)
    coded = [organ for organ in organs if organ.type]
    for one, other in combinations(coded, 2):
        if (one.type, one.modifier) == (other.type, other.modifier):
            assert one.within != other.within, f"{one.key} and {other.key} have the same codes"


def test_anatomical_structures_share_codes_only_as_vessels_of_an_organ(catalogue):
    coded = [o for o in catalogue.organs.values() if o.type and o.category.meaning == "Anatomical Structure"]
    shared = {
        key
        for one, other in combinations(coded, 2)
        if (one.type, one.modifier) == (other.type, other.modifier)
        for key in (one.key, other.key)
    }
    assert shared == {"lung_vessels", "liver_vessels"}


def test_left_and_right_are_symmetrical(catalogue):
    def other_side(text: str) -> str:
        for one, other in (("left", "right"), ("Left", "Right")):
            text = text.replace(one, "\0").replace(other, one).replace("\0", other)
        return text

    lateral = [organ for organ in catalogue.organs.values() if organ.side]
    assert len(lateral) > 100
    for organ in lateral:
        if organ.key in RIGHT_ONLY:
            continue
        twin = catalogue.get(other_side(organ.key))
        assert twin.side == other_side(organ.side)
        assert twin.name == other_side(organ.name)
        assert (twin.components, twin.volume_ml) == (organ.components, organ.volume_ml)
        assert (twin.within or "") == other_side(organ.within or "")
        assert twin.color != organ.color
        if organ.modifier:
            assert (organ.modifier.meaning, twin.modifier.meaning) in {("Left", "Right"), ("Right", "Left")}
            assert organ.type == twin.type
        else:
            assert twin.type.meaning == other_side(organ.type.meaning) != organ.type.meaning


def test_a_side_in_the_key_is_a_side_except_of_the_heart_chambers(catalogue):
    unsided = {
        o.key for o in catalogue.organs.values() if {"left", "right"} & set(o.key.split("_")) and not o.side
    }
    assert unsided == {
        f"heart_{side}_{part}" for side in ("left", "right") for part in ("atrium", "ventricle")
    }


def test_colors_of_the_abdomen_are_distinct_and_as_in_slicer(catalogue):
    assert len({catalogue.get(key).color for key in ABDOMEN}) == len(ABDOMEN)
    assert catalogue.get("spleen").color == (157, 108, 162)
    assert catalogue.get("liver").color == (221, 130, 101)
    assert catalogue.get("kidney_right").color == (185, 102, 83)


def test_colors_of_neighbouring_vertebrae_and_ribs_differ_clearly(catalogue):
    levels = [f"C{i}" for i in range(1, 8)] + [f"T{i}" for i in range(1, 13)] + [f"L{i}" for i in range(1, 6)]
    series = [[f"vertebrae_{level}" for level in levels]]
    series += [[f"rib_{side}_{i}" for i in range(1, 13)] for side in ("left", "right")]
    for keys in series:
        colors = [catalogue.get(key).color for key in keys]
        for one, other in pairwise(colors):
            assert sum(abs(a - b) for a, b in zip(one, other, strict=True)) >= 30


def test_plausible_volumes_hold_ordinary_organs_and_containers(catalogue):
    ordinary = {"spleen": 220, "kidney_left": 150, "liver": 1600, "pancreas": 85, "adrenal_gland_left": 4}
    for key, volume in ordinary.items():
        low, high = catalogue.get(key).volume_ml
        assert low < volume < high
    for organ in catalogue.organs.values():
        if organ.volume_ml and organ.within and catalogue.get(organ.within).volume_ml:
            assert organ.volume_ml[1] <= catalogue.get(organ.within).volume_ml[1]
    assert all(catalogue.get(key).volume_ml for key in ABDOMEN)


def test_components_follow_anatomy(catalogue):
    assert catalogue.get("liver").components == 1
    assert catalogue.get("kidneys").components == 2
    assert catalogue.get("aorta").components == 2
    assert catalogue.get("skull").components is None
    assert catalogue.get("portal_vein_and_splenic_vein").components is None


def test_lesions_say_where_they_lie(catalogue):
    assert catalogue.get("liver_tumor").within == "liver"
    assert catalogue.get("kidney_tumor_left").within == "kidney_left"
    assert catalogue.get("liver_tumor").category.meaning == "Morphologically Altered Structure"


@pytest.mark.parametrize(
    ("key", "among", "found"),
    [
        ("liver_tumor", {"liver", "liver_tumor"}, "liver_tumor"),
        ("liver_tumor", {"liver", "spleen"}, "liver"),
        ("liver_tumor", {"spleen"}, None),
        ("liver", {"liver_tumor"}, None),
        ("no organ of ours", {"liver"}, None),
    ],
)
def test_what_is_not_told_apart_belongs_to_the_innermost_organ_around_it(catalogue, key, among, found):
    assert catalogue.innermost(key, among) == found


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("liver", "liver"),
        ("LIVER", "liver"),
        ("right kidney", "kidney_right"),
        ("kidney right", "kidney_right"),
        ("kidney_left", "kidney_left"),
        ("gallb", "gallbladder"),
        ("bladder", "urinary_bladder"),
        ("heart_atrium_left", "heart_left_atrium"),
        ("l5", "vertebrae_L5"),
        ("pancraes", "pancreas"),
        ("Oesophagus", "esophagus"),
        ("liver tumour", "liver_tumor"),
    ],
)
def test_search_gives_the_best_first(catalogue, text, first):
    assert catalogue.search(text)[0].key == first


def test_search_gives_all_that_match_and_nothing_else(catalogue):
    kidneys = {organ.key for organ in catalogue.search("Kid")}
    assert {"kidney_left", "kidney_right", "kidneys", "kidney_tumor"} <= kidneys
    assert all("kid" in key for key in kidneys)
    assert catalogue.search("zzzz") == []
    assert catalogue.search("liver zzzz") == []
    assert [organ.key for organ in catalogue.search(" ")] == list(catalogue.organs)


def test_every_name_and_key_finds_its_organ_first(catalogue):
    for organ in list(catalogue.organs.values())[::7]:
        assert catalogue.search(organ.name)[0] == organ
        assert catalogue.search(organ.key.upper())[0] == organ


@given(st.text(max_size=12))
def test_search_takes_any_text(text):
    found = load_catalogue().search(text)
    assert len(found) == len({organ.key for organ in found})


def test_an_unknown_key_is_refused_with_those_that_look_alike(catalogue):
    with pytest.raises(OrganError) as raised:
        catalogue.get("kidney_lft")
    assert "kidney_left" in raised.value.next_step
    with pytest.raises(OrganError) as raised:
        catalogue.get("§§§")
    assert str(len(catalogue.organs)) in raised.value.next_step


def test_the_catalogue_is_read_once():
    assert load_catalogue() is load_catalogue()


def test_a_catalogue_of_ones_own_is_read(tmp_path):
    folder = tmp_path / "Ein Ordner mit Ümlaut"
    folder.mkdir()
    path = written(
        folder, entry("liver"), entry("liver_tumor", within="liver", volume_ml=None, components=None)
    )
    own = load_catalogue(path)
    assert list(own.organs) == ["liver", "liver_tumor"]
    tumor = own.get("liver_tumor")
    assert isinstance(tumor, Organ)
    assert (tumor.within, tumor.volume_ml, tumor.components) == ("liver", None, None)
    assert own.get("liver").color == (221, 130, 101)
    assert own.get("liver").volume_ml == (500, 4000)


LEFT_CODE = {"scheme": "SCT", "value": "7771000", "meaning": "Left"}


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([entry(), entry(name="Other")], "key more than once"),
        ([entry(), entry("spleen", name="Liver")], "name more than once"),
        ([entry(), entry("spleen", type=entry()["type"])], "code more than once"),
        ([entry(color=[0, 0, 256])], "0…255"),
        ([entry(color=[0, -1, 0])], "0…255"),
        ([entry(color=[0, 0])], "0…255"),
        ([entry(color=[0, 0, 0.5])], "0…255"),
        ([entry(color="red")], "0…255"),
        ([entry(color=None)], "cannot be read"),
        ([entry(within="spleen")], "no such organ"),
        ([entry(within="liver")], "contained in itself"),
        ([entry(within="spleen"), entry("spleen", within="liver")], "contained in itself"),
        ([entry("kidney_left", side="right")], "key does not say so"),
        ([entry("kidney", side="left")], "key does not say so"),
        ([entry("kidney_left")], "it has none"),
        ([entry("kidney_left", side="links")], "not left, right or empty"),
        ([entry("kidney_right", side="right", modifier=LEFT_CODE)], "modifier is a side"),
        ([entry("kidney", modifier=LEFT_CODE)], "modifier is a side"),
        ([entry("Left kidney")], "words of letters"),
        ([entry("../liver")], "words of letters"),
        ([entry("")], "words of letters"),
        ([entry(name=" ")], "no name"),
        ([entry(category=None)], "no category"),
        ([entry(components=0)], "components"),
        ([entry(components=1.5)], "components"),
        ([entry(volume_ml=[4000, 500])], "plausible volume"),
        ([entry(volume_ml=[0, 500])], "plausible volume"),
        ([entry(volume_ml=[500])], "plausible volume"),
        ([entry(type="10200004")], "cannot be read"),
        ([entry(unheard_of=1)], "cannot be read"),
        ([{"key": "liver"}], "cannot be read"),
        ([3], "cannot be read"),
    ],
)
def test_a_faulty_catalogue_is_refused_with_the_cause(tmp_path, entries, said):
    with pytest.raises(OrganError) as raised:
        load_catalogue(written(tmp_path, *entries))
    assert said in str(raised.value)
    assert raised.value.next_step


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff\xfe", b'{"schema_version": 1}'])
def test_a_file_that_is_no_catalogue_is_refused(tmp_path, content):
    path = tmp_path / "organs.json"
    path.write_bytes(content)
    with pytest.raises(OrganError, match=r"cannot be read"):
        load_catalogue(path)


def test_a_catalogue_of_another_schema_is_refused(tmp_path):
    with pytest.raises(OrganError, match="schema version 2"):
        load_catalogue(written(tmp_path, entry(), version=2))


def test_a_missing_catalogue_is_refused(tmp_path):
    with pytest.raises(OrganError, match=r"cannot be read"):
        load_catalogue(tmp_path / "nowhere.json")


def test_the_variable_for_resources_is_followed(tmp_path, monkeypatch):
    (tmp_path / "Organs").mkdir()
    written(tmp_path / "Organs", entry("liver"))
    monkeypatch.setenv("MULTIORGANSEG_RESOURCES", str(tmp_path))
    assert list(load_catalogue().organs) == ["liver"]
