"""Dialogs on the host never wait: a test answers them, and an unexpected one is an error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


def test_question_gets_the_queued_answer(widget_host: Any) -> None:
    import qt
    import slicer

    widget_host.answers.add(qt.QMessageBox.No, qt.QMessageBox.Ok)
    assert slicer.util.confirmYesNoDisplay("Replace?", detailedText="the previous one") is False
    assert slicer.util.confirmOkCancelDisplay("Install?") is True
    shown = widget_host.answers.shown[0]
    assert (shown.text, shown.detail) == ("Replace?", "the previous one")
    assert widget_host.answers.left == 0


def test_unanswered_question_is_an_error(widget_host: Any) -> None:
    import slicer
    from standin.answers import UnansweredDialogError

    with pytest.raises(UnansweredDialogError, match="Replace"):
        slicer.util.confirmYesNoDisplay("Replace?")


def test_message_with_one_button_needs_no_answer(widget_host: Any) -> None:
    import slicer

    slicer.util.errorDisplay("It failed.", detailedText="cause")
    assert widget_host.answers.texts == ["It failed."]


def test_own_buttons_can_be_clicked(widget_host: Any) -> None:
    import qt

    box = qt.QMessageBox()
    box.text = "Replace or keep?"
    keep = box.addButton("Keep", qt.QMessageBox.RejectRole)
    box.addButton("Replace", qt.QMessageBox.AcceptRole)
    widget_host.answers.add(lambda dialog: next(b for b in dialog.buttons() if b.text == "Keep").click() or 0)
    box.exec_()
    assert box.clickedButton() is keep


def test_file_dialog_gives_a_path(widget_host: Any, tmp_path: Path) -> None:
    import qt

    widget_host.answers.add(str(tmp_path / "a.csv"))
    assert qt.QFileDialog.getSaveFileName(None, "Export", "", "CSV (*.csv)") == str(tmp_path / "a.csv")
    assert widget_host.answers.shown[0].kind == "getSaveFileName"


def test_no_dialog_opens_under_testing(widget_host: Any) -> None:
    import slicer

    widget_host.app.testing = True
    slicer.util.errorDisplay("It failed.")
    assert widget_host.answers.shown == []
    widget_host.reset()
    assert not slicer.app.testingEnabled()


def test_packages_are_asked_for_once_and_never_installed(widget_host: Any, tmp_path: Path) -> None:
    import qt
    import slicer
    import slicer.packaging

    (tmp_path / "requirements.txt").write_text("# needed\nnumpy>=1.20\nsafetensors\n", encoding="utf-8")
    requirements = slicer.packaging.load_requirements(tmp_path / "requirements.txt")
    slicer.packaging.pip_ensure(requirements, requester="Probe")
    assert widget_host.answers.shown == []

    slicer.packaging.pretend_absent("safetensors")
    widget_host.answers.add(qt.QMessageBox.Cancel)
    with pytest.raises(RuntimeError, match="declined"):
        slicer.packaging.pip_ensure(requirements, requester="Probe")
    assert slicer.packaging.installed == []

    widget_host.answers.add(qt.QMessageBox.Ok)
    slicer.packaging.pip_ensure(requirements, requester="Probe")
    assert slicer.packaging.installed == [["safetensors"]]
    slicer.packaging.pip_ensure(requirements, requester="Probe")
    assert len(slicer.packaging.ensured) == 4
    with pytest.raises(RuntimeError):
        slicer.packaging.pip_uninstall("numpy")
