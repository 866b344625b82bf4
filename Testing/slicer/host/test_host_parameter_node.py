"""Typed parameters over a real vtkMRMLScriptedModuleNode."""

from __future__ import annotations

from typing import Annotated, Any

import pytest


@pytest.fixture
def node(host: Any) -> Any:
    import slicer

    return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScriptedModuleNode")


@pytest.fixture
def wrapper(host: Any) -> Any:
    import slicer
    from slicer.parameterNodeWrapper import Choice, parameterNodeWrapper

    namespace: dict[str, Any] = {
        "__annotations__": {
            "volume": slicer.vtkMRMLScalarVolumeNode,
            "mode": Annotated[str, Choice(["a", "b"])],
            "text": str,
        },
        "mode": "b",
    }
    return parameterNodeWrapper(type("Parameters", (), namespace))


def test_defaults_are_written_and_survive_a_second_wrapper(wrapper: Any, node: Any) -> None:
    first = wrapper(node)
    assert (first.volume, first.mode, first.text) == (None, "b", "")
    assert node.GetParameter("mode") == "b"
    first.mode, first.text = "a", "liver, spleen"
    second = wrapper(node)
    assert (second.mode, second.text) == ("a", "liver, spleen")
    node.UnsetParameter("mode")
    assert second.mode == "b"


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [("mode", "c", ValueError), ("text", 3, TypeError), ("text", None, ValueError)],
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
    seen: list[str] = []
    node.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda caller, event: seen.append(parameters.text))
    parameters.text = "liver"
    assert set(seen) == {"liver"}


def test_unknown_types_names_and_annotations_and_reserved_names_are_refused(wrapper: Any, node: Any) -> None:
    from slicer.parameterNodeWrapper import parameterNodeWrapper

    for members, error in (
        ({"x": complex}, TypeError),
        ({"x": Annotated[str, "pretty"]}, TypeError),
        ({"default": str}, ValueError),
    ):
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
