"""Killed at any step, nothing is lost, and the next run leaves nothing behind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from kill_actions import ACTIONS, Killed
from kills import kill_everywhere, main

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


def test_the_harness_finds_a_file_that_is_not_written_atomically(tmp_path):
    def make(folder: Path) -> None:
        (folder / "note.txt").write_text("old", encoding="utf-8")

    def rewrite(folder: Path) -> None:
        with (folder / "note.txt").open("w", encoding="utf-8") as sink:
            sink.write("new")
            sink.flush()
        (folder / "half.tmp").write_text("half", encoding="utf-8")
        (folder / "half.tmp").rename(folder / "whole.txt")

    def check(folder: Path) -> None:
        assert (folder / "note.txt").read_text(encoding="utf-8") in ("old", "new")
        assert not (folder / "half.tmp").exists()

    found = kill_everywhere("naive", make, rewrite, check, tmp_path, again=lambda folder: None)
    assert [step.split()[0] for step in found.steps] == ["open", "open", "os.rename"]
    assert set(found.lost) == {3}
    assert found.leftovers == {3: ["half.tmp"]}


@pytest.mark.parametrize("action", ACTIONS, ids=lambda action: action.name)
def test_nothing_is_lost_and_nothing_is_left(action: Killed, tmp_path):
    found = kill_everywhere(action.name, action.make, action.act, action.check, tmp_path)
    assert sum(step == "os.fsync" for step in found.steps) >= 2, "the file, then its folder"
    assert not found.lost
    assert not found.leftovers


def test_the_table_counts_as_many_kills_as_are_asked_for():
    ((name, killed, lost, left),) = main(5)
    assert (name, lost, left) == ("file", 0, 0)
    assert killed == 5
