"""What a command reads is never replaced, whatever names its outputs are given."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from multiorganseg.atomic import atomic_path, write_text_atomically
from multiorganseg.errors import ResourceError
from multiorganseg.outputs import OWN_MARKS, keep, open_stream, require_free, require_own
from multiorganseg.results.write import FOLDER_SUFFIXES


@pytest.fixture
def ct(tmp_path: Path) -> Path:
    path = tmp_path / "case" / "ct.nii.gz"
    path.parent.mkdir()
    path.write_text("the only copy", encoding="utf-8")
    return path


def names_of(ct: Path) -> list[Path]:
    """Names of one file: itself, round about, by links to it and to its folder, and by a hard link."""
    folder = ct.parent.parent
    (folder / "link").symlink_to(ct)
    (folder / "folder").symlink_to(ct.parent)
    os.link(ct, folder / "hard")
    return [
        ct,
        ct.parent / ".." / "case" / ct.name,
        folder / "link",
        folder / "folder" / ct.name,
        folder / "hard",
    ]


@pytest.mark.parametrize("number", range(5))
def test_an_input_is_not_replaced_under_any_name(ct: Path, number: int) -> None:
    target = names_of(ct)[number]
    with keep([ct]):
        with pytest.raises(ResourceError, match="replace the input"):
            write_text_atomically(target, "gone")
        with pytest.raises(ResourceError, match="replace the input"), open_stream(target):
            pass
        with pytest.raises(ResourceError, match="replace the input"):
            require_free(ct.parent)
    assert ct.read_text(encoding="utf-8") == "the only copy"
    write_text_atomically(ct, "after the command")


def test_in_a_folder_of_inputs_only_results_are_replaced(ct: Path) -> None:
    slice_ = ct.parent / "IM0001"
    slice_.write_text("a slice", encoding="utf-8")
    with keep([ct.parent, ct.parent / "missing"]):
        for suffix, mark in OWN_MARKS.items():
            for _ in range(2):
                with atomic_path(ct.parent / f"ct{suffix}") as partial:
                    partial.write_bytes(gzip.compress(mark) if suffix.endswith(".gz") else mark)
            foreign = ct.parent / f"other{suffix}"
            foreign.write_text("a reader's work", encoding="utf-8")
            with pytest.raises(ResourceError, match="replace the input"), atomic_path(foreign):
                pass
        for target in (slice_, ct):
            with pytest.raises(ResourceError, match="replace the input"), atomic_path(target):
                pass
    assert slice_.read_text(encoding="utf-8") == "a slice"
    assert set(FOLDER_SUFFIXES.values()) < set(OWN_MARKS)


def test_a_result_replaces_an_empty_file_and_a_link(ct: Path, tmp_path: Path) -> None:
    (tmp_path / "a.sr.dcm").touch()
    (tmp_path / "b.sr.dcm").symlink_to(ct)
    for name in ("a.sr.dcm", "b.sr.dcm", "not there.sr.dcm"):
        require_own(tmp_path / name, ".sr.dcm")
    with pytest.raises(ResourceError, match="would replace"):
        require_own(ct, ".seg.nii.gz")


def test_a_stream_follows_no_link_into_another_folder(ct: Path, tmp_path: Path) -> None:
    for name, target in (("there", ct), ("not_there", ct.parent / "new")):
        (tmp_path / name).symlink_to(target)
        with (
            pytest.raises(ResourceError, match="link to a file of another folder"),
            open_stream(tmp_path / name),
        ):
            pass
    assert [path.name for path in ct.parent.iterdir()] == [ct.name]
    assert ct.read_text(encoding="utf-8") == "the only copy"
    (tmp_path / "latest").symlink_to(tmp_path / "events.jsonl")
    with open_stream(tmp_path / "latest") as sink:
        sink.write("line")
    assert (tmp_path / "events.jsonl").read_text(encoding="utf-8") == "line"


def test_a_file_replaces_a_link_and_not_what_it_leads_to(ct: Path, tmp_path: Path) -> None:
    (tmp_path / "scores.json").symlink_to(ct)
    write_text_atomically(tmp_path / "scores.json", "{}")
    assert ct.read_text(encoding="utf-8") == "the only copy"
    assert not (tmp_path / "scores.json").is_symlink()


def test_a_stream_that_cannot_be_opened_is_a_typed_error(ct: Path) -> None:
    with pytest.raises(ResourceError, match="Cannot write"), open_stream(ct / "events.jsonl"):
        pass
