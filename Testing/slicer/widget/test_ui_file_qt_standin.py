"""The .ui file: every control is there for something, explained, and reachable by keyboard."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "MultiOrganSeg" / "Resources" / "UI"
UI = FOLDER / "MultiOrganSeg.ui"
ADD_ORGAN = FOLDER / "AddOrgan.ui"
BOTH = pytest.mark.parametrize("ui", [UI, ADD_ORGAN], ids=lambda path: path.stem)
LIBRARY = ROOT / "MultiOrganSeg" / "MultiOrganSegLib"
CONTROLS = {
    "QPushButton": ("clicked(bool)", "toggled(bool)"),
    "QComboBox": ("currentIndexChanged(int)",),
    "QCheckBox": ("toggled(bool)",),
    "QLineEdit": ("textChanged(QString)",),
    "QListWidget": ("itemChanged(QListWidgetItem*)", "currentRowChanged(int)"),
    "QTableWidget": ("currentCellChanged(int,int,int,int)",),
    "qMRMLNodeComboBox": ("currentNodeChanged(vtkMRMLNode*)",),
}
"""Kinds of widgets that the user acts on, and signals of which at least one must be heard."""
FOCUS = {*CONTROLS, "QPlainTextEdit", "QTextBrowser"}
STEPS = ("project", "cases", "train", "report")
BINDINGS = ("SlicerParameterName", "choiceOf")


def _widgets(ui: Path = UI) -> list[ElementTree.Element]:
    return list(ElementTree.parse(ui).getroot().iter("widget"))


def _property(widget: ElementTree.Element, name: str) -> str:
    for entry in widget.findall("property"):
        if entry.get("name") == name:
            return "".join(entry.itertext()).strip()
    return ""


def _controls(*classes: str, ui: Path = UI) -> list[str]:
    return [w.get("name", "") for w in _widgets(ui) if w.get("class") in (classes or tuple(FOCUS))]


def test_each_parameter_is_bound_to_one_widget() -> None:
    source = (LIBRARY / "parameters.py").read_text(encoding="utf-8")
    body = source[source.index("class Parameters") :]
    parameters = re.findall(r"^    (\w+): ", body, re.MULTILINE)
    bound = Counter(value for w in _widgets() for name in BINDINGS if (value := _property(w, name)))
    assert bound == Counter(parameters)


@BOTH
def test_names_are_unique(ui: Path) -> None:
    names = Counter(w.get("name") for w in _widgets(ui))
    assert [name for name, count in names.items() if count > 1] == []


@BOTH
def test_every_widget_has_a_tooltip(ui: Path) -> None:
    bare = [
        w.get("name")
        for w in _widgets(ui)
        if not _property(w, "toolTip")
        and w.get("class") != "qMRMLWidget"
        and not str(w.get("name")).endswith("MessageLabel")
    ]
    assert bare == []


@BOTH
def test_every_column_has_a_title_and_a_tooltip(ui: Path) -> None:
    for column in ElementTree.parse(ui).getroot().iter("column"):
        assert _property(column, "text")
        assert _property(column, "toolTip")


@BOTH
def test_tab_order_holds_every_control_once_in_the_order_of_the_panel(ui: Path) -> None:
    stops = [stop.text for stop in ElementTree.parse(ui).getroot().iter("tabstop")]
    assert stops == _controls(ui=ui)


def test_mnemonics_are_there_and_unique_within_a_section() -> None:
    buttons = {
        w.get("name"): _property(w, "text") for w in _widgets() if w.get("class") in ("QPushButton", "QLabel")
    }
    for section in ("segmentSection", "resultsSection", "modelsSection"):
        root = next(w for w in _widgets() if w.get("name") == section)
        texts = [buttons[w.get("name")] for w in root.iter("widget") if w.get("name") in buttons]
        letters = Counter(found.group(1).lower() for text in texts if (found := re.search(r"&(\w)", text)))
        if section == "segmentSection":
            letters["c"] += 1  # Apply turns into &Cancel
        assert [letter for letter, count in letters.items() if count > 1] == []
    assert [name for name in _controls("QPushButton") if "&" not in buttons[name]] == []


def test_mnemonics_are_there_and_unique_within_a_step_of_adding_an_organ() -> None:
    widgets = {w.get("name"): w for w in _widgets(ADD_ORGAN)}
    always = [f"{step}StepButton" for step in STEPS] + ["busyCancelButton"]
    for step in STEPS:
        shown = [*widgets[f"{step}Step"].iter("widget"), *(widgets[name] for name in always)]
        if step in ("train", "report"):
            shown += widgets["runPane"].iter("widget")
        texts = [
            _property(w, "text") for w in shown if w.get("class") in ("QPushButton", "QLabel", "QCheckBox")
        ]
        letters = Counter(found.group(1).lower() for text in texts if (found := re.search(r"&(\w)", text)))
        assert [letter for letter, count in letters.items() if count > 1] == [], step
    bare = [
        name for name in _controls("QPushButton", ui=ADD_ORGAN) if "&" not in _property(widgets[name], "text")
    ]
    assert bare == []


@BOTH
def test_every_label_with_a_mnemonic_has_a_buddy(ui: Path) -> None:
    names = {w.get("name") for w in _widgets(ui)}
    for label in (w for w in _widgets(ui) if w.get("class") == "QLabel" and "&" in _property(w, "text")):
        assert _property(label, "buddy") in names, label.get("name")


def test_node_selectors_get_the_scene() -> None:
    root = ElementTree.parse(UI).getroot()
    receivers = {c.findtext("receiver") for c in root.iter("connection")}
    assert set(_controls("qMRMLNodeComboBox")) <= receivers


@BOTH
def test_promoted_widgets_are_declared(ui: Path) -> None:
    root = ElementTree.parse(ui).getroot()
    declared = {entry.findtext("class") for entry in root.iter("customwidget")}
    used = {str(w.get("class")) for w in _widgets(ui)}
    assert {name for name in used if not name.startswith("Q")} <= declared


def test_the_code_names_only_widgets_that_exist() -> None:
    names = {w.get("name") for ui in (UI, ADD_ORGAN) for w in _widgets(ui)}
    for path in [LIBRARY / "widget.py", *(LIBRARY / "panels").glob("*.py")]:
        used = re.findall(r"\bui\.(\w+)", path.read_text(encoding="utf-8"))
        assert set(used) <= names, path.name


@pytest.mark.parametrize("name", _controls(*CONTROLS))
def test_every_control_is_wired_on_stand_in_qt(panel: Any, name: str) -> None:
    control = getattr(panel.ui, name)
    kind = next(w.get("class") for w in _widgets() if w.get("name") == name)
    assert any(_is_heard(control, signal) for signal in CONTROLS[str(kind)]), name


@pytest.mark.parametrize("name", _controls(*CONTROLS, ui=ADD_ORGAN))
def test_every_control_of_add_organ_is_wired_on_stand_in_qt(panel: Any, name: str) -> None:
    panel.ui.addOrganSection.collapsed = False
    control = getattr(panel.add_organ.ui, name)
    kind = next(w.get("class") for w in _widgets(ADD_ORGAN) if w.get("name") == name)
    assert any(_is_heard(control, signal) for signal in CONTROLS[str(kind)]), name


def test_every_text_of_the_slicer_side_is_translatable() -> None:
    """A text that the user sees passes through `_`: assignments and calls that show a bare literal."""
    shown = re.compile(
        r"\.(?:text|toolTip)\s*=\s*f?\"[A-Za-z]|show_note\(\s*f?\"|QTableWidgetItem\(\s*\"[A-Za-z]"
    )
    for path in [LIBRARY / "widget.py", *(LIBRARY / "panels").glob("*.py")]:
        assert shown.findall(path.read_text(encoding="utf-8")) == [], path.name


def _is_heard(control: Any, signature: str) -> bool:
    from PySide6.QtCore import QMetaMethod, QObject

    meta = control.metaObject()
    index = meta.indexOfSignal(signature)
    if index < 0:
        name = signature.split("(")[0]
        index = next(
            number
            for number in range(meta.methodCount())
            if meta.method(number).name().data().decode() == name
            and meta.method(number).methodType() == QMetaMethod.MethodType.Signal
        )
    return QObject.isSignalConnected(control, meta.method(index))
