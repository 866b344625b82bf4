"""Stand-ins for scripted Segment Editor effects, on the editor's real logic."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

from PySide6 import QtGui


class AbstractScriptedSegmentEditorEffect:
    """Stands for Slicer's Python base class of effects."""

    def __init__(self, scriptedEffect: Any) -> None:
        self.scriptedEffect = scriptedEffect

    def register(self) -> None:
        """Let all editors made from now on have such an effect."""
        qSlicerSegmentEditorEffectFactory.instance().registerEffect(self.scriptedEffect)


class qSlicerSegmentEditorEffectFactory:
    """Knows the effects; a second one of the same name is ignored."""

    _instance: qSlicerSegmentEditorEffectFactory | None = None

    def __init__(self) -> None:
        self.effects: dict[str, Any] = {}

    @classmethod
    def instance(cls) -> qSlicerSegmentEditorEffectFactory:
        """The only one."""
        cls._instance = cls._instance or cls()
        return cls._instance

    def registerEffect(self, effect: Any) -> bool:
        """Take an effect, unless its name is taken."""
        return self.effects.setdefault(effect.name, effect) is effect


class qSlicerSegmentEditorAbstractEffect:
    """Holds the modes of modification."""

    ModificationModeSet, ModificationModeAdd, ModificationModeRemove, ModificationModeRemoveAll = range(4)


class qSlicerSegmentEditorScriptedEffect:
    """The application's side of an effect. Attributes that the application lacks raise.

    Attributes:
        editor: The stand-in editor in which it lives; None for the one that is registered.
        options: Widgets that it added.
        actors: Overlays by view.
        cursors: Mouse pointers that were asked for.
    """

    def __init__(self, parent: Any = None) -> None:
        self.name = self.title = ""
        self.perSegment = self.requireSegments = True
        self.showEffectCursorInSliceView = True
        self.editor: Any = None
        self.options: list[Any] = []
        self.actors: list[tuple[Any, Any]] = []
        self.cursors: list[Any] = []
        self._python: Any = None

    def setPythonSource(self, path: str) -> bool:
        """Load a file: its folder becomes a package of that name, and its class is named as the file."""
        file = Path(path)
        package = types.ModuleType(file.parent.name)
        package.__path__ = [str(file.parent)]  # type: ignore[attr-defined]
        sys.modules.setdefault(file.parent.name, package)
        spec = importlib.util.spec_from_file_location(f"{file.parent.name}.{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        if not file.stem.endswith("Effect"):
            return False
        self._python = getattr(module, file.stem)(self)
        return True

    def self(self) -> Any:
        """The Python side."""
        return self._python

    def active(self) -> bool:
        """Whether it is in hand."""
        return self.editor is not None and self.editor.activeEffect() is self

    def parameterSetNode(self) -> Any:
        """The editor's parameters."""
        return self.editor.mrmlSegmentEditorNode() if self.editor is not None else None

    def saveStateForUndo(self) -> None:
        """Begin a step of undo."""
        self.editor.logic.SaveStateForUndo()

    def modifySegmentByLabelmap(
        self, node: Any, segment: str, image: Any, mode: int, bypassMasking: bool = False
    ) -> None:
        """Change a segment; an extent in place of the last argument would be taken as it, as in Slicer."""
        logic = self.editor.logic
        modes = (
            logic.ModificationModeSet,
            logic.ModificationModeAdd,
            logic.ModificationModeRemove,
            logic.ModificationModeRemoveAll,
        )
        logic.ModifySegmentByLabelmap(node, segment, image, modes[mode], self.perSegment, bool(bypassMasking))

    def addOptionsWidget(self, widget: Any) -> None:
        """Show a widget among the options."""
        self.options.append(widget)

    def xyToRas(self, point: Any, view: Any) -> Any:
        """Where a position of a view lies in the patient."""
        node = view.mrmlSliceNode()
        x, y, z, _w = node.GetXYToRAS().MultiplyPoint((point.x(), point.y(), 0.0, 1.0))
        return QtGui.QVector3D(x, y, z)

    def addActor2D(self, view: Any, actor: Any) -> None:
        """Show an overlay."""
        self.actors.append((view, actor))

    def removeActor2D(self, view: Any, actor: Any) -> None:
        """Take an overlay away."""
        self.actors.remove((view, actor))

    def forceRender(self, view: Any) -> None:
        """Draw a view now."""

    def cursorOn(self, view: Any) -> None:
        """Show the effect's own mouse pointer."""
        self.cursors.append(self._python.createCursor(view))


def cloned_effects(editor: Any) -> dict[str, Any]:
    """Effects of an editor, one of each kind that is registered."""
    made = {}
    for name, registered in qSlicerSegmentEditorEffectFactory.instance().effects.items():
        made[name] = registered.self().clone()
        made[name].editor = editor
        made[name].self().setupOptionsFrame()
    return made


def publish() -> None:
    """Make the names importable under which effects know them."""
    effects = types.ModuleType("qSlicerSegmentationsEditorEffectsPythonQt")
    effects.qSlicerSegmentEditorScriptedEffect = qSlicerSegmentEditorScriptedEffect  # type: ignore[attr-defined]
    base = types.ModuleType("SegmentEditorEffects")
    base.AbstractScriptedSegmentEditorEffect = AbstractScriptedSegmentEditorEffect  # type: ignore[attr-defined]
    sys.modules[effects.__name__] = effects
    sys.modules[base.__name__] = base
