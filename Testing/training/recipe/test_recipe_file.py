from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

from multiorganseg.errors import TrainingError
from multiorganseg.progress import Progress
from multiorganseg_training.recipe.file import load_recipe, read_recipe_file, recipe_from_dict
from multiorganseg_training.run.fit import RECIPE_FILE, fit

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path) -> Write:
    def write_text(name: str, text: str) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write_text


def test_without_a_base_a_file_is_what_it_says(write):
    assert read_recipe_file(write("a.toml", "x = 1\n[t]\ny = [2]")) == {"x": 1, "t": {"y": [2]}}


def test_tables_are_merged_and_everything_else_is_replaced(write):
    write("low.toml", "seed = 1\nplain = [1, 2]\n[t]\na = 1\nb = {c = 1, d = 2}\n[own]\nz = 1")
    top = 'base = "low.toml"\nplain = [3]\nown = 4\n[t]\nb = {d = 3, e = 4}\nf = 5'
    assert read_recipe_file(write("top.toml", top)) == {
        "seed": 1,
        "plain": [3],
        "own": 4,
        "t": {"a": 1, "b": {"c": 1, "d": 3, "e": 4}, "f": 5},
    }


def test_another_architecture_does_not_inherit_the_arguments_of_the_one_before(write):
    write("base.toml", "[network]\narchitecture = 'unet'\npatch_shape = [8]\narguments = { filters = [4] }\n")
    same = write(
        "same.toml", "base = 'base.toml'\n[network]\narchitecture = 'unet'\narguments = { depth = 2 }\n"
    )
    other = write(
        "other.toml", "base = 'base.toml'\n[network]\narchitecture = 'vnet'\narguments = { depth = 2 }\n"
    )
    assert read_recipe_file(same)["network"]["arguments"] == {"filters": [4], "depth": 2}
    assert read_recipe_file(other)["network"] == {
        "architecture": "vnet",
        "patch_shape": [8],
        "arguments": {"depth": 2},
    }


def test_arguments_go_with_an_architecture_that_a_base_takes_by_default(write):
    write("base.toml", "[network]\narguments = {filters = [8, 16]}")
    top = write("top.toml", 'base = "base.toml"\n[network]\narchitecture = "vnet"')
    assert read_recipe_file(top) == {"network": {"architecture": "vnet"}}
    same = write("same.toml", 'base = "base.toml"\n[network]\narchitecture = "strided_dynunet"')
    assert "arguments" in read_recipe_file(same)["network"]


def test_a_later_base_goes_over_an_earlier_one_and_bases_have_bases(write):
    write("parts/Größe.toml", 'base = "deep/unten.toml"\na = 2\nb = 2')
    write("parts/deep/unten.toml", "a = 1\nb = 1\nc = 1\nd = 1")
    write("parts/other.toml", "b = 3\nc = 3")
    top = write("top.toml", 'base = ["parts/Größe.toml", "parts/other.toml"]\nc = 4')
    assert read_recipe_file(top) == {"a": 2, "b": 3, "c": 4, "d": 1}


def test_changes_go_over_the_file(save_recipe, phantom_recipe, tmp_path):
    path = tmp_path / "recipe.toml"
    save_recipe(path, phantom_recipe())
    changed = load_recipe(path, ["optimisation.iterations = 3", "seed = 4", "seed = 5"])
    assert (changed.optimisation.iterations, changed.seed) == (3, 5)
    assert changed.optimisation.batch_size == load_recipe(path).optimisation.batch_size
    for wrong, said in (
        ("seed", "seed"),
        ("method = ltuda", "ltuda"),
        ("sead = 1", "sead"),
        ("data.known = {}", "table known is empty"),
    ):
        with pytest.raises(TrainingError, match=said):
            load_recipe(path, [wrong])


def test_two_files_may_share_a_base(write):
    write("root.toml", "a = 1")
    write("left.toml", 'base = "root.toml"\nb = 2')
    write("right.toml", 'base = "root.toml"\nc = 3')
    top = write("top.toml", 'base = ["left.toml", "right.toml"]')
    assert read_recipe_file(top) == {"a": 1, "b": 2, "c": 3}


@pytest.mark.parametrize("chain", [("a", "a"), ("a", "b", "a"), ("a", "b", "c", "b")])
def test_a_file_that_builds_on_itself_is_refused(write, tmp_path, chain):
    for name, base in pairwise(chain):
        write(f"{name}.toml", f'base = "{base}.toml"')
    with pytest.raises(TrainingError, match="builds on itself") as caught:
        read_recipe_file(tmp_path / "a.toml")
    assert f"{chain[-2]}.toml" in caught.value.next_step


@pytest.mark.parametrize("value", ["3", "[1]", "{a = 1}"])
def test_a_base_that_is_no_path_is_refused(write, value):
    with pytest.raises(TrainingError, match=r"`base` .* wrong type"):
        read_recipe_file(write("a.toml", f"base = {value}"))


@pytest.mark.parametrize("text", [None, "a ="])
def test_a_base_that_cannot_be_read_names_both_files(write, text):
    if text is not None:
        write("low.toml", text)
    with pytest.raises(TrainingError, match=r"low\.toml") as caught:
        read_recipe_file(write("top.toml", 'base = "low.toml"'))
    assert "top.toml" in caught.value.next_step


@pytest.mark.parametrize(
    "deep",
    [".".join("a" * 2000) + " = 1", "[" + ".".join("a" * 2000) + "]\nb = 1", "a = " + "[" * 60 + "]" * 60],
)
def test_a_file_that_is_nested_too_deeply_is_refused(write, deep):
    with pytest.raises(TrainingError, match="nested too deeply"):
        read_recipe_file(write("a.toml", deep))


def test_a_byte_order_mark_is_no_part_of_the_recipe(write, tmp_path):
    path = write("a.toml", "\ufeffseed = 3")
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_recipe_file(path) == {"seed": 3}


def test_the_run_writes_the_whole_recipe(phantom_recipe, save_recipe, place, write, tmp_path):
    save_recipe(tmp_path / "low.toml", phantom_recipe(optimisation={"iterations": 1}))
    recipe = load_recipe(write("top.toml", 'base = "low.toml"\nseed = 5'))
    assert recipe == dataclasses.replace(phantom_recipe(optimisation={"iterations": 1}), seed=5)
    fit(recipe, place, Progress())
    written = json.loads((place.run / RECIPE_FILE).read_text(encoding="utf-8"))
    assert "base" not in written
    assert recipe_from_dict(written) == recipe
