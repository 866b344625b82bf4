"""The real engine in its child process, from a node to a node."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.errors import OrganError, VolumeError
from multiorganseg.inference.segment import Options, Segmenter

Make = Callable[..., Any]
ROOT = Path(__file__).resolve().parents[3]
LIBRARY = ROOT / "MultiOrganSeg" / "MultiOrganSegLib"
DEMO_CT = ROOT / ".demo-data" / "cxr.nii.gz"
QUICK = {"quality": "fast", "device": "cpu"}


ROUNDING = 0.005


def assert_same_labels(found: dict[str, np.ndarray], expected: Any) -> None:
    """The child may use another number of threads, which rounds otherwise where organs nearly tie."""
    assert tuple(found) == expected.table.keys
    for value, key in expected.table.organs.items():
        assert (found[key] != (expected.labels == value)).mean() < ROUNDING, key


def test_labels_are_the_engines_under_a_transform_too(
    logic: Any, make_volume: Make, tools: SimpleNamespace, small_bundle: Bundle
) -> None:
    import slicer

    from MultiOrganSegLib.mrml import volume_from_node

    volume = make_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Patient position")
    turn = np.array([[0, -1, 0, 12], [-1, 0, 0, -7], [0, 0, 1, 90], [0, 0, 0, 1.0]])
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    hardened = make_volume(turn @ _matrix(volume), name="Hardened")

    run = logic.start(volume, model=str(small_bundle.folder), **QUICK)
    node = run.wait()
    assert node.GetParentTransformNode() is transform
    (short,) = run.messages
    assert "36 mm along the body" in short, (
        "the scan is shorter than the window, and nothing else is reported"
    )
    found = tools.segments(node, volume)
    assert sum(mask.sum() for mask in found.values()) > 0
    expected = Segmenter(small_bundle, Options((), "fast", "cpu")).segment(volume_from_node(hardened))
    assert_same_labels(found, expected)
    upright = Segmenter(small_bundle, Options((), "fast", "cpu")).segment(
        volume_from_node(make_volume(name="Not moved"))
    )
    assert (upright.labels != expected.labels).mean() > 10 * ROUNDING, "the transform must matter"
    assert tools.results() == []
    logic.close()
    assert tools.folders() == []


def _matrix(node: Any) -> np.ndarray:
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def test_the_engines_own_errors_arrive_typed(
    logic: Any, make_volume: Make, tools: SimpleNamespace, small_bundle: Bundle
) -> None:
    import slicer

    flat = make_volume(name="Flat")
    slicer.util.arrayFromVolume(flat)[:] = 7
    before = tools.snapshot()
    model = str(small_bundle.folder)
    choices = [
        (OrganError, {"model": model, "organs": ["heart"]}),
        (VolumeError, {"model": model}),
    ]
    runs = [logic.start(flat, **{**QUICK, **options}) for _, options in choices]
    for run, (kind, _) in zip(runs, choices, strict=True):
        with pytest.raises(kind) as caught:
            run.wait()
        assert type(caught.value) is kind
        assert caught.value.next_step
    assert "Flat shows nothing" in runs[-1].error.problem
    assert tools.snapshot() == before
    assert tools.results() == []
    logic.close()
    assert tools.folders() == []


def test_the_logic_side_knows_no_widgets_and_nothing_heavy() -> None:
    heavy = {"torch", "monai", "SimpleITK", "highdicom", "pydicom", "scipy", "openvino", "matplotlib"}
    widgets = {"qt", "ctk", "PythonQt", "slicer.widgets"}
    names = "mrml result job run logic child folder failure placing tags"
    for path in (LIBRARY / f"{name}.py" for name in names.split()):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        imported = {
            name
            for node in ast.walk(tree)
            for name in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not {name.split(".")[0] for name in imported} & (heavy | widgets), path
        assert not any(name.startswith("multiorganseg_training") for name in imported), path
        assert "layoutManager" not in path.read_text(encoding="utf-8"), path


@pytest.mark.slow
def test_the_bundled_network_on_a_real_ct(logic: Any, tools: SimpleNamespace) -> None:
    import slicer

    from MultiOrganSegLib.mrml import volume_from_node
    from MultiOrganSegLib.result import organ_rows

    if not DEMO_CT.is_file():
        pytest.skip("the demo CT is not here; `make demo` fetches it")
    volume = slicer.util.loadVolume(str(DEMO_CT))
    run = logic.start(volume, **QUICK)
    stages, fractions = [], [0.0]

    def done() -> bool:
        if run.stage not in stages:
            stages.append(run.stage)
        fractions.append(run.fraction)
        return run.state != "running"

    tools.wait_for(run, done, seconds=1500)
    assert run.error is None, run.log
    assert fractions == sorted(fractions)
    assert {"segmenting", "measuring"} <= set(stages)
    node = run.segmentation_node
    bundle = find_bundle("abdomen-ct")
    expected = Segmenter(bundle, Options((), "fast", "cpu")).segment(volume_from_node(volume))
    assert_same_labels(tools.segments(node, volume), expected)
    rows = {row.segment_id: row for row in organ_rows(node)}
    for statistics in expected.statistics:
        assert rows[statistics.key].volume_ml == pytest.approx(statistics.volume_ml, rel=ROUNDING, abs=0.1)
        assert rows[statistics.key].flags == statistics.flags
    assert rows["liver"].volume_ml > 500
    assert node.CreateClosedSurfaceRepresentation()
    assert tools.results() == []
    logic.close()
    assert tools.folders() == []


@pytest.mark.slow
def test_the_self_test_passes(host: Any) -> None:
    from MultiOrganSegLib.logic import Logic
    from MultiOrganSegLib.self_test import run_self_test

    logic = Logic()
    run_self_test(logic)
    logic.close()
