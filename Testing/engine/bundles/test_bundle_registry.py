from __future__ import annotations

import dataclasses
import shutil
import sys
from pathlib import Path

import pytest

from multiorganseg.bundles import (
    Bundle,
    BundleProblem,
    find_bundle,
    list_bundles,
    remove_bundle,
    user_models_dir,
)
from multiorganseg.errors import BundleError


def test_nothing_is_installed(places):
    assert list_bundles() == []
    with pytest.raises(BundleError, match="No bundle is installed"):
        find_bundle("abdomen-ct")


def test_both_places_are_listed_and_the_users_wins(places, make, metadata):
    bundled, user = places
    make(bundled / "abdomen-test")
    newer = make(user / "abdomen-test", dataclasses.replace(metadata, version="2.0.0"))
    other = make(bundled / "chest", dataclasses.replace(metadata, name="chest"))
    entries = list_bundles()
    assert [entry.folder for entry in entries] == [newer.folder, bundled / "abdomen-test", other.folder]
    assert find_bundle("abdomen-test") == newer
    assert find_bundle("chest") == other
    assert find_bundle(bundled / "abdomen-test").metadata.version == "1.2.0"
    assert find_bundle(str(bundled / "abdomen-test")).metadata.version == "1.2.0"


def test_a_damaged_bundle_is_listed_and_never_skipped(places, make):
    bundled, user = places
    make(bundled / "abdomen-test")
    broken = make(user / "abdomen-test").folder
    (broken / "LICENSE").unlink()
    first, second = list_bundles()
    assert isinstance(first, BundleProblem)
    assert "LICENSE is missing" in first.error.cause
    assert isinstance(second, Bundle)
    with pytest.raises(BundleError, match="LICENSE is missing"):
        find_bundle("abdomen-test")


def test_the_folder_must_have_the_bundles_name(places, make):
    make(places[1] / "other")
    (entry,) = list_bundles()
    assert isinstance(entry, BundleProblem)
    assert "Rename the folder to abdomen-test" in entry.error.next_step


def test_a_wrong_name_is_answered_with_the_close_one(places, make):
    make(places[0] / "abdomen-test")
    with pytest.raises(BundleError) as caught:
        find_bundle("Abdomen_test")
    assert "abdomen-test" in caught.value.cause
    assert "Did you mean 'abdomen-test'?" in caught.value.next_step


def test_a_zip_file_is_answered_with_install(places, tmp_path):
    (tmp_path / "x.zip").write_bytes(b"")
    with pytest.raises(BundleError, match="models install"):
        find_bundle(tmp_path / "x.zip")


def test_removing(places, make):
    bundled, user = places
    make(user / "abdomen-test")
    make(bundled / "abdomen-test")
    remove_bundle("abdomen-test")
    assert list(user.iterdir()) == []
    with pytest.raises(BundleError, match="came with MultiOrganSeg"):
        remove_bundle("abdomen-test")
    assert find_bundle("abdomen-test").folder == bundled / "abdomen-test"
    with pytest.raises(BundleError, match="There is no bundle"):
        remove_bundle("abdomen-tests")


@pytest.mark.parametrize("name", ["..", ".", "", "../Resources/Models", "abdomen-test/docs", ".partial-x"])
def test_removing_stays_inside_the_users_folder(places, make, name):
    made = make(places[1] / "abdomen-test")
    (places[1] / ".partial-x").mkdir()
    with pytest.raises(BundleError):
        remove_bundle(name)
    assert find_bundle("abdomen-test") == made
    assert places[0].is_dir()


def test_a_damaged_bundle_can_be_removed(places, make):
    folder = make(places[1] / "abdomen-test").folder
    shutil.rmtree(folder / "configs")
    remove_bundle("abdomen-test")
    assert not folder.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges on Windows")
def test_of_a_linked_bundle_only_the_link_is_removed(places, bundle):
    places[1].mkdir()
    (places[1] / "abdomen-test").symlink_to(bundle.folder, target_is_directory=True)
    assert find_bundle("abdomen-test").metadata == bundle.metadata
    remove_bundle("abdomen-test")
    assert list_bundles() == []
    assert bundle.card_path.exists()


@pytest.mark.parametrize(
    ("value", "expected"),
    [("/data/ü", "/data/ü"), ("relative", "HOME/.local/share"), ("", "HOME/.local/share")],
)
@pytest.mark.skipif(sys.platform != "linux", reason="the variable is that of Linux")
def test_the_users_folder(monkeypatch, tmp_path, value, expected):
    monkeypatch.delenv("MULTIORGANSEG_MODELS", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", value)
    assert user_models_dir() == Path(expected.replace("HOME", str(tmp_path))) / "multiorganseg" / "models"
