"""Dialogs that never wait: each is answered from the host's `answers` and recorded there."""

from __future__ import annotations

from typing import Any

from pythonqt.classes import exported_names, stand_in

_names = exported_names()
QMessageBox: Any = _names["QMessageBox"]
_answers: list[Any] = []


def use_answers(answers: Any) -> None:
    """Let all dialogs ask this object."""
    _answers[:] = [answers]


def give_answers(names: dict[str, Any]) -> None:
    """Put the answering forms of the modal calls into the names of `qt`."""
    for value in list(names.values()):
        if isinstance(value, type) and hasattr(value, "exec") and issubclass(value, names["QDialog"]):
            value.exec = value.exec_ = _run_dialog  # type: ignore[attr-defined]
    for form in ("getOpenFileName", "getSaveFileName", "getExistingDirectory", "getOpenFileNames"):
        setattr(names["QFileDialog"], form, staticmethod(_static_form(form)))
    for form in ("question", "information", "warning", "critical"):
        setattr(names["QMessageBox"], form, staticmethod(_static_box(form)))
    for form in ("getText", "getItem", "getInt", "getDouble"):
        setattr(names["QInputDialog"], form, staticmethod(_static_form(form)))


def _run_dialog(self: Any) -> Any:
    is_box = isinstance(self, _names["QMessageBox"])
    default = _only_button(self) if is_box else None
    detail = "\n".join(filter(None, (self.informativeText, self.detailedText))) if is_box else ""
    text = self.text if is_box else ""
    return _answers[0].take(type(self).__name__, self.windowTitle.strip(), text, detail, self, default)


def _only_button(box: Any) -> Any:
    """The button that closes a box which has no other; "Show Details" does not close it."""
    action = _names["QMessageBox"].ActionRole
    closing = [button for button in box.buttons() if box.buttonRole(button) != action]
    return box.standardButton(closing[0]) if len(closing) == 1 else None


def _static_form(form: str) -> Any:
    def ask(parent: Any = None, title: str = "", *rest: Any) -> Any:
        return _answers[0].take(form, title, str(rest[0]) if rest else "")

    return ask


def _static_box(form: str) -> Any:
    box = _names["QMessageBox"]

    def ask(parent: Any, title: str, text: str, buttons: Any = None, default_button: Any = None) -> Any:
        if buttons is None:
            buttons = box.Yes | box.No if form == "question" else box.Ok
        return _answers[0].take(form, title, text, default=buttons if buttons == box.Ok else None)

    return ask


class DesktopServices:
    """Stands for QDesktopServices: records what would be opened."""

    @staticmethod
    def openUrl(url: Any) -> bool:
        """Record the address."""
        return bool(_answers[0].take("openUrl", text=url.toString(), default=True))


@stand_in
class ctkMessageBox(QMessageBox):
    """A message box that can remember that it shall not be shown again."""

    exec = exec_ = _run_dialog

    dontShowAgainVisible = False
    dontShowAgain = False
    dontShowAgainSettingsKey = ""
