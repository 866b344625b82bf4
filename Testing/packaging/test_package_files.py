"""The package holds all files of the module and of the bundles, unchanged, and nothing else."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from multiorganseg.bundles import find_bundle

ROOT = Path(__file__).resolve().parents[2]
LISTING = ROOT / "Testing" / "packaging" / "list_files.py"
DESCRIPTION = "share/Slicer-5.12/MultiOrganSeg.s4ext"
LARGEST_PACKAGE = 30 * 2**20
NEEDED = (
    "MultiOrganSeg.py",
    "MultiOrganSegLib/__init__.py",
    "MultiOrganSegLib/dependencies.py",
    "MultiOrganSegLib/sample_data.py",
    "multiorganseg/__init__.py",
    "multiorganseg/__main__.py",
    "multiorganseg/py.typed",
    "Resources/Icons/MultiOrganSeg.png",
    "Resources/requirements.txt",
    "Resources/Organs/organs.json",
    "Resources/Models/abdomen-ct/models/model.safetensors",
    "Resources/UI/AddOrgan.ui",
    "Training/multiorganseg_training/__main__.py",
    "Training/recipes/abdomen-ct.toml",
)


def test_the_bundles_name_no_case():
    for folder in sorted((ROOT / "Resources" / "Models").iterdir()):
        said = find_bundle(str(folder)).metadata.training["recipe"]["data"]
        for part in {"known", "training", "validation"} & said.keys():
            assert re.fullmatch(r"\d+ cases?", said[part]), (folder.name, part)


def _list_files():
    spec = importlib.util.spec_from_file_location("list_files", LISTING)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _tree(folder: Path) -> dict[str, Path]:
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def _expected() -> dict[str, Path]:
    """All files that the package should hold, found without the list that CMake reads."""
    module = _tree(ROOT / "MultiOrganSeg")
    files = {name: path for name, path in module.items() if name not in ("CMakeLists.txt", "files.cmake")}
    for folder in (
        "Resources/Organs",
        "Resources/Models",
        "Training/multiorganseg_training",
        "Training/recipes",
    ):
        inside = _tree(ROOT / folder)
        files |= {f"{folder}/{name}": path for name, path in inside.items()}
    return {name: path for name, path in files.items() if "__pycache__" not in name}


def test_the_list_of_files_is_fresh() -> None:
    listing = _list_files()
    written = (ROOT / listing.TARGET).read_text(encoding="utf-8")
    assert written == listing.package_list_text(ROOT), "stale: run `make package-list`"


def test_the_list_leaves_out_what_is_no_part_of_the_package(tmp_path: Path) -> None:
    for name in (
        "MultiOrganSeg/MultiOrganSeg.py",
        "MultiOrganSeg/CMakeLists.txt",
        "MultiOrganSeg/files.cmake",
        "MultiOrganSeg/__pycache__/MultiOrganSeg.cpython-312.pyc",
        "MultiOrganSeg/.ruff_cache/x",
        "MultiOrganSeg/Resources/UI/MultiOrganSeg.ui",
        "Resources/Organs/organs.json",
        "Resources/Screenshots/demo.png",
        "Training/README.md",
        "Training/multiorganseg_training/cli.py",
        "Training/recipes/deep/one.toml",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert _list_files().list_package(tmp_path) == {
        "MODULE_SCRIPTS": ["MultiOrganSeg.py"],
        "MODULE_RESOURCES": ["Resources/UI/MultiOrganSeg.ui"],
        "SHARED_RESOURCES": [
            "Resources/Organs/organs.json",
            "Training/multiorganseg_training/cli.py",
            "Training/recipes/deep/one.toml",
        ],
    }


def test_the_package_is_named_as_slicers_factory_names_it(package) -> None:
    assert re.fullmatch(
        r"\d+-linux-amd64-MultiOrganSeg-git[0-9a-f]{7,}-\d{4}-\d\d-\d\d\.tar\.gz", package.archive.name
    )
    assert package.archive.stat().st_size <= LARGEST_PACKAGE


def test_the_package_holds_every_file_unchanged_and_nothing_else(package) -> None:
    packed, expected = _tree(package.module_folder), _expected()
    assert set(NEEDED) <= set(packed)
    assert sorted(packed) == sorted(expected)
    assert [name for name in expected if packed[name].read_bytes() != expected[name].read_bytes()] == []
    outside = [name for name in _tree(package.unpacked) if "/qt-scripted-modules/" not in name]
    assert outside == [DESCRIPTION]


def test_the_build_tree_holds_the_same_so_that_the_module_runs_from_it(package) -> None:
    built = _tree(package.build / "lib" / "Slicer-5.12" / "qt-scripted-modules")
    assert sorted(built) == sorted(_tree(package.module_folder))


def test_the_bundle_in_the_package_verifies(package) -> None:
    folder = package.module_folder / "Resources" / "Models" / "abdomen-ct"
    assert find_bundle(str(folder)).metadata.name == "abdomen-ct"


def test_installing_gives_the_same_as_packing(package, tmp_path: Path) -> None:
    package.install(tmp_path)
    assert sorted(_tree(tmp_path)) == sorted(_tree(package.unpacked))


def test_the_description_says_what_the_extension_is(package) -> None:
    lines = (package.unpacked / DESCRIPTION).read_text(encoding="utf-8").splitlines()
    fields = dict(line.split(" ", 1) for line in lines)
    assert fields["scmrevision"] == "0123456"
    assert fields["depends"] == "PyTorch"
    assert fields["category"] == "Segmentation"
    assert fields["iconurl"].endswith("/MultiOrganSeg/Resources/Icons/MultiOrganSeg.png")


def test_a_listed_file_that_is_missing_stops_the_configuration(package, configure, tmp_path: Path) -> None:
    source = tmp_path / "source"
    shutil.copytree(package.source, source)
    (source / "MultiOrganSeg" / "multiorganseg" / "errors.py").unlink()
    with pytest.raises(AssertionError, match=r"there is no multiorganseg/errors\.py"):
        configure(source, tmp_path / "build")
