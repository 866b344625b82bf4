from __future__ import annotations

import os
from pathlib import Path

import pytest

from multiorganseg.atomic import atomic_path, write_text_atomically
from multiorganseg.bundles.folders import delete_folder
from multiorganseg.errors import ResourceError
from multiorganseg.guarded import guarded_folder, make_empty_file, make_folders, open_to_append
from multiorganseg.scratch import clean_up, scratch_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "victim").write_text("mine", encoding="utf-8")
    return folder


@pytest.fixture
def inside(tmp_path: Path, outside: Path) -> Path:
    """A folder whose links lead out of it: a folder, a file, one that is not there."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (folder / "images").symlink_to(outside)
    (folder / "file").symlink_to(outside / "victim")
    (folder / "dangling").symlink_to(outside / "new")
    return folder


def _untouched(outside: Path) -> bool:
    return [path.name for path in outside.iterdir()] == ["victim"] and (
        (outside / "victim").read_text(encoding="utf-8") == "mine"
    )


WAYS = {
    "atomic": lambda path: write_text_atomically(path, "x"),
    "append": lambda path: open_to_append(path).close(),
    "empty": make_empty_file,
    "folder": make_folders,
    "delete": delete_folder,
}


@pytest.mark.parametrize("way", WAYS)
def test_nothing_goes_through_a_linked_folder(inside, outside, way):
    for name in ("images/victim", "images/other", "images/deep/er"):
        with guarded_folder(inside), pytest.raises(ResourceError, match=r"not written|Cannot write"):
            WAYS[way](inside / name)
    assert _untouched(outside)


@pytest.mark.parametrize("name", ["file", "dangling"])
def test_a_link_in_place_of_a_file_is_replaced_or_refused(inside, outside, name):
    with pytest.raises(ResourceError, match="Cannot write"):
        open_to_append(inside / name)
    make_empty_file(inside / name)
    assert _untouched(outside)
    with guarded_folder(inside):
        write_text_atomically(inside / name, "x")
    assert not (inside / name).is_symlink()
    assert _untouched(outside)


def test_a_hard_link_is_cut_off_before_it_is_added_to(tmp_path, outside):
    log = tmp_path / "events.jsonl"
    log.hardlink_to(outside / "victim")
    with open_to_append(log) as sink:
        sink.write(" and more")
    assert _untouched(outside)
    assert log.read_text(encoding="utf-8") == "mine and more"


def test_no_device_and_no_folder_is_added_to(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    for name in ("pipe", "folder"):
        with pytest.raises(ResourceError, match="Cannot write"):
            open_to_append(tmp_path / name)


def test_links_that_stay_inside_are_used(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "alias").symlink_to(tmp_path / "real")
    with guarded_folder(tmp_path):
        write_text_atomically(tmp_path / "alias" / "a.txt", "x")
    assert (tmp_path / "real" / "a.txt").is_file()


@pytest.mark.parametrize("another", [False, True])
def test_a_folder_that_was_renamed_is_not_made_anew(tmp_path, another):
    folder = tmp_path / "project"
    folder.mkdir()

    def write() -> None:
        with guarded_folder(folder):
            folder.rename(tmp_path / "renamed")
            if another:
                folder.mkdir()
            with pytest.raises(ResourceError, match="renamed or deleted"):
                write_text_atomically(folder / "labels" / "a.txt", "x")

    with pytest.raises(ResourceError, match="renamed or deleted"):
        write()
    assert folder.exists() is another
    assert not (folder / "labels").exists()
    write_text_atomically(folder / "labels" / "a.txt", "later, nothing is guarded")


def test_a_file_keeps_the_permissions_of_the_one_it_replaces(tmp_path):
    path = tmp_path / "image.nii"
    path.write_text("old", encoding="utf-8")
    path.chmod(0o600)
    write_text_atomically(path, "new")
    assert path.stat().st_mode & 0o777 == 0o600
    with atomic_path(tmp_path / "secret", private=True) as partial:
        partial.write_text("x", encoding="utf-8")
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600


def test_links_among_leftovers_are_not_followed(tmp_path, outside):
    (tmp_path / ".partial-link").symlink_to(outside)
    (tmp_path / ".partial-real").mkdir()
    (tmp_path / ".partial-real" / "out").symlink_to(outside)
    (tmp_path / ".partial-aside").mkdir()
    (tmp_path / ".partial-aside" / "replaced").symlink_to(outside)
    assert clean_up(tmp_path) == 2
    assert _untouched(outside)
    with scratch_folder(tmp_path) as own:
        assert clean_up(tmp_path) == 0
        assert own.is_dir()
