"""What the Extensions Index asks of an extension, checked without a network."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "MultiOrganSeg"
ENTRY = ROOT / f"{NAME}.json"
SCHEMA = Path(__file__).resolve().parent / "catalog_entry.schema.json"
LARGEST_REPOSITORY = 100 * 2**20
RAW = "https://raw.githubusercontent.com/"
PNG = b"\x89PNG\r\n\x1a\n"
TEXTS = {".py", ".json", ".md", ".txt", ".cmake", ".toml", ".ui"}
KEYS = ("HOMEPAGE", "CONTRIBUTORS", "DESCRIPTION", "ICONURL", "SCREENSHOTURLS", "DEPENDS")
CATEGORIES = ("Segmentation",)
"""Of those that the index knows, the ones that fit."""


@pytest.fixture(scope="module")
def entry() -> dict:
    return json.loads(ENTRY.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def schema() -> dict:
    return json.loads(SCHEMA.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def cmake() -> str:
    return (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")


def _metadata(cmake: str, key: str) -> str:
    """Value of a setting, read as the index reads it: one line, in quotes."""
    found = re.findall(rf'set\s*\(EXTENSION_{key}\s*"([^"\n]+)"\s*\)', cmake)
    assert len(found) == 1, key
    return found[0]


def _tracked() -> list[Path]:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\0")
    return [ROOT / name for name in listed if name and (ROOT / name).is_file()]


def test_the_entry_follows_the_schema(entry, schema) -> None:
    jsonschema.Draft7Validator.check_schema(schema)
    jsonschema.validate(entry, schema)
    assert re.fullmatch(
        r"https://raw\.githubusercontent\.com/Slicer/Slicer/main/Schemas/"
        r"slicer-extension-catalog-entry-schema-v1\.0\.\d\.json#?",
        entry["$schema"],
    )


@pytest.mark.parametrize(
    "change",
    [{"scmurl": "https://example.org"}, {"tier": 6}, {"build_dependencies": "PyTorch"}, {"scm_type": "svn"}],
)
def test_the_schema_refuses_what_the_index_refuses(entry, schema, change) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(entry | change, schema)


@pytest.mark.parametrize("key", ["$schema", "category", "scm_url"])
def test_the_schema_asks_for_what_the_index_asks_for(entry, schema, key) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({name: value for name, value in entry.items() if name != key}, schema)


def test_names_and_category_are_accepted(entry, cmake) -> None:
    assert re.findall(r"project\s*\(\s*([^\s)]+)", cmake, re.IGNORECASE)[0] == ENTRY.stem == NAME
    assert not NAME.lower().startswith("slicer")
    url = urlsplit(entry["scm_url"])
    assert url.scheme in ("https", "git")
    repository = url.path.rsplit("/", 1)[-1].removesuffix(".git")
    assert repository == f"Slicer{NAME}"
    assert entry["category"] in CATEGORIES
    assert _metadata(cmake, "CATEGORY") == entry["category"]
    assert _metadata(cmake, "HOMEPAGE") == entry["scm_url"].removesuffix(".git")


def test_dependencies_agree(entry, cmake) -> None:
    assert _metadata(cmake, "DEPENDS").split() == entry["build_dependencies"] == ["PyTorch"]


@pytest.mark.parametrize("key", KEYS)
def test_metadata_is_one_line_that_cmake_keeps_whole(cmake, key) -> None:
    assert not set(_metadata(cmake, key)) & set(";\n\\$")


@pytest.mark.parametrize("key", ["ICONURL", "SCREENSHOTURLS"])
def test_pictures_are_files_of_the_repository(entry, cmake, key) -> None:
    owner_and_name = urlsplit(entry["scm_url"].removesuffix(".git")).path.strip("/")
    prefix = f"{RAW}{owner_and_name}/{entry['scm_revision']}/"
    for url in _metadata(cmake, key).split():
        assert url.startswith(prefix)
        path = ROOT / url.removeprefix(prefix)
        assert path.read_bytes().startswith(PNG), url
        assert path in _tracked(), f"git ignores {path.name}"


def test_the_icon_is_of_the_size_that_the_extensions_manager_shows() -> None:
    head = (ROOT / NAME / "Resources" / "Icons" / f"{NAME}.png").read_bytes()[16:24]
    assert (int.from_bytes(head[:4], "big"), int.from_bytes(head[4:], "big")) == (128, 128)


def test_the_repository_is_small_has_a_licence_and_ends_lines_with_lf() -> None:
    tracked = _tracked()
    assert ROOT / "LICENSE" in tracked
    assert sum(path.stat().st_size for path in tracked) <= LARGEST_REPOSITORY
    texts = [path for path in tracked if path.suffix in TEXTS]
    assert [path.name for path in texts if b"\r\n" in path.read_bytes()] == []
