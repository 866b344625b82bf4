"""Typed parameters over a real vtkMRMLScriptedModuleNode."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import pytest


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@pytest.fixture
def node(host: Any) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def wrapper(host: Any) -> Any:
    import slicer
    from slicer.parameterNodeWrapper import Choice, Default, Minimum, WithinRange, parameterNodeWrapper

    namespace: dict[str, Any] = {
        "__annotations__": {
            "volume": slicer.vtkMRMLScalarVolumeNode,
            "count": Annotated[int, Minimum(1), Default(3)],
            "ratio": Annotated[float, WithinRange(0, 1)],
            "mode": Annotated[str, Choice(["a", "b"])],
            "level": Level,
            "folder": Path,
            "on": bool,
        },
        "mode": "b",
        "level": Level.HIGH,
    }
    return parameterNodeWrapper(type("Parameters", (), namespace))


def test_defaults_are_written_and_survive_a_second_wrapper(wrapper: Any, node: Any) -> None:
    first = wrapper(node)
    assert (first.volume, first.count, first.ratio, first.mode) == (None, 3, 0.0, "b")
    assert (first.level, first.folder, first.on) == (Level.HIGH, Path(), False)
    first.count, first.level, first.on, first.folder = 5, Level.LOW, True, Path("a/b")
    second = wrapper(node)
    assert (second.count, second.level, second.on, second.folder) == (5, Level.LOW, True, Path("a/b"))
    assert node.GetParameter("count") == "5"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("count", 0, ValueError),
        ("count", "3", TypeError),
        ("ratio", 1.5, ValueError),
        ("mode", "c", ValueError),
        ("level", "LOW", TypeError),
        ("on", None, ValueError),
    ],
)
def test_bad_values_are_refused_and_change_nothing(
    wrapper: Any, node: Any, name: str, value: Any, error: type[Exception]
) -> None:
    parameters = wrapper(node)
    before = parameters.getValue(name)
    with pytest.raises(error):
        setattr(parameters, name, value)
    assert parameters.getValue(name) == before


def test_removed_node_is_no_longer_referenced(wrapper: Any, node: Any) -> None:
    import slicer

    parameters = wrapper(node)
    volume = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    parameters.volume = volume
    assert parameters.volume is volume
    with pytest.raises(TypeError):
        parameters.volume = node
    slicer.mrmlScene.RemoveNode(volume)
    assert parameters.volume is None


def test_observer_sees_the_new_value(wrapper: Any, node: Any) -> None:
    import vtk

    parameters = wrapper(node)
    seen: list[int] = []
    parameters.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: seen.append(parameters.count))
    parameters.count = 8
    assert set(seen) == {8}


def test_unknown_types_names_and_reserved_names_are_refused(wrapper: Any, node: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    for members, error in (({"x": complex}, TypeError), ({"default": int}, ValueError)):
        with pytest.raises(error):
            parameterNodeWrapper(type("Bad", (), {"__annotations__": members}))
    with pytest.raises(ValueError, match="Cannot find a param"):
        wrapper(node).setValue("nothing", 1)


def test_default_outside_the_choices_is_refused(node: Any) -> None:
    from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

    annotations = {"mode": Annotated[str, Choice(["a", "b"])]}
    bad = parameterNodeWrapper(type("Bad", (), {"__annotations__": annotations}))
    with pytest.raises(ValueError, match="must be in one of"):
        bad(node)
