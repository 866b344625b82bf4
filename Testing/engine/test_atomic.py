from __future__ import annotations

import os
from pathlib import Path

import pytest

from multiorganseg.atomic import atomic_path, write_text_atomically
from multiorganseg.errors import Cancelled, ResourceError


def test_the_file_appears_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "Ergebnisse ä" / "liver.seg.nrrd"
    with atomic_path(target) as partial:
        assert partial.name == target.name
        assert partial.parent.parent == target.parent
        partial.write_bytes(b"done")
        assert not target.exists()
    assert target.read_bytes() == b"done"
    assert list(target.parent.iterdir()) == [target]


def test_an_error_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    target = tmp_path / "table.csv"
    target.write_text("old", encoding="utf-8")

    def write_half() -> None:
        with atomic_path(target) as partial:
            partial.write_text("half", encoding="utf-8")
            raise Cancelled

    with pytest.raises(Cancelled):
        write_half()
    assert target.read_text(encoding="utf-8") == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    target = tmp_path / "note.txt"
    for text in ("eins", "zwei: 肝"):
        write_text_atomically(target, text)
    assert target.read_bytes() == "zwei: 肝".encode()


def test_a_writer_that_wrote_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match="Cannot write"), atomic_path(tmp_path / "nothing.txt"):
        pass


def test_a_folder_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way", encoding="utf-8")
    with pytest.raises(ResourceError) as caught:
        write_text_atomically(tmp_path / "file" / "result.json", "{}")
    assert caught.value.cause
    assert caught.value.next_step


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the super-user may write everywhere")
def test_a_folder_without_permission_is_a_typed_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ResourceError, match="Cannot write"):
            write_text_atomically(tmp_path / "result.json", "{}")
    finally:
        tmp_path.chmod(0o700)
