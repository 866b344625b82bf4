"""Volumes in the scene, an engine that only pretends, and a small real network."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.results.seg_nrrd import write_seg_nrrd
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes import Volume

ORGANS = ("spleen", "liver", "kidney_left")
SPACING = (2.5, 2.0, 3.0)
SHAPE = (12, 40, 44)
PROVENANCE = {
    "bundle": {"name": "abdomen-ct", "version": "1.2.3", "sha256": "ab" * 32},
    "modality": "CT",
    "software": "MultiOrganSeg 0.1",
    "quality": "fast",
}
PRETENDED = """
import json, os, shutil, subprocess, sys, time
plan = json.loads(sys.argv[1])
sys.stdin.readline()
for line in sys.stdin:
    request = json.loads(line)
    def tell(event, **content):
        print(json.dumps({"event": event, "time": 0.0, "id": request["id"], **content}), flush=True)
    tell("progress", stage="reading", fraction=0.0)
    if plan.get("grandchild"):
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        tell("metric", grandchild=child.pid)
    for step in range(3):
        tell("progress", stage="segmenting", fraction=step / 2)
    print("a table on standard output", flush=True)
    print("a note on standard error", file=sys.stderr, flush=True)
    if plan.get("warning"):
        tell("warning", message=request["volume"] + ": " + plan["warning"])
    if plan.get("kill"):
        os.kill(os.getpid(), plan["kill"])
    if plan.get("failed"):
        told = {key: text.replace("VOLUME", request["volume"]) for key, text in plan["failed"].items()}
        tell("failed", **told)
        continue
    time.sleep(plan.get("sleep", 0))
    if plan.get("result"):
        shutil.copy(plan["result"], request["output"])
        tell("finished", files=[request["output"]])
    if plan.get("exit"):
        sys.exit(plan["exit"])
"""


@pytest.fixture
def logic(host: Any) -> Iterator[Any]:
    from MultiOrganSegLib.logic import Logic

    made = Logic()
    yield made
    made.close()


@pytest.fixture
def make_volume(host: Any) -> Callable[..., Any]:
    """Make a volume node: an ellipse of soft tissue in air, on an oblique grid unless told otherwise."""
    return _make_volume


def _make_volume(ijk_to_ras: np.ndarray | None = None, name: str = "CT") -> Any:
    import slicer

    generator = np.random.default_rng(3)
    k, j, i = np.mgrid[tuple(slice(size) for size in SHAPE)]
    body = ((j - 20) / 16) ** 2 + ((i - 22) / 18) ** 2 < 1
    voxels = np.where(body, 60 + 30 * np.sin(k / 3) + generator.normal(0, 10, SHAPE), -1000).astype(np.int16)
    matrix = oblique_matrix() if ijk_to_ras is None else ijk_to_ras
    return slicer.util.addVolumeFromArray(voxels, matrix, name)


def oblique_matrix() -> np.ndarray:
    """IJK to RAS, left-handed and turned by 20° about z."""
    angle = np.deg2rad(20)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    matrix = np.eye(4)
    matrix[:3, :3] = turn @ np.diag([-SPACING[0], -SPACING[1], SPACING[2]])
    matrix[:3, 3] = (51.5, 37.25, -812.0)
    return matrix


@pytest.fixture
def tools(host: Any, tmp_path: Path) -> SimpleNamespace:
    """The functions and constants of this file that tests need."""
    return SimpleNamespace(
        snapshot=snapshot,
        folders=folders,
        results=results,
        labels=pretended_labels,
        provenance=PROVENANCE,
        result_file=lambda volume_node: result_file(volume_node, tmp_path / "prepared.seg.nrrd"),
        segments=segments,
        wait_for=wait_for,
    )


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let `Logic` start a process that behaves as planned, in place of the engine."""
    from MultiOrganSegLib.engine import shared_engine

    def plan(**behaviour: Any) -> None:
        behaviour = {
            key: str(value) if isinstance(value, Path) else value for key, value in behaviour.items()
        }
        command = [sys.executable, "-c", PRETENDED, json.dumps(behaviour)]
        monkeypatch.setattr("MultiOrganSegLib.child.resident_command", lambda: command)
        shared_engine().end()

    return plan


def snapshot() -> Any:
    """All nodes, hidden ones too, in order, and all items of the subject hierarchy."""
    import slicer
    import vtk

    scene = slicer.mrmlScene
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    nodes = [scene.GetNthNode(number) for number in range(scene.GetNumberOfNodes())]
    items = vtk.vtkIdList()
    tree.GetItemChildren(tree.GetSceneItemID(), items, True)
    names = [tree.GetItemName(items.GetId(number)) for number in range(items.GetNumberOfIds())]
    return [(node.GetID(), node.GetName()) for node in nodes], names


def folders() -> list[Path]:
    """Private folders that are there now."""
    import slicer

    return list(Path(slicer.app.temporaryPath).glob("multiorganseg-*"))


def results() -> list[Path]:
    """Results that lie in private folders: each is removed once it is in the scene."""
    return [path for folder in folders() for path in folder.glob("result-*")]


def segments(node: Any, volume_node: Any) -> dict[str, np.ndarray]:
    """Each segment's voxels on the volume's grid; the display nodes that slicer.util forgets are removed."""
    import slicer

    def forgotten() -> set[Any]:
        return set(slicer.util.getNodesByClass("vtkMRMLLabelMapVolumeDisplayNode"))

    before = forgotten()
    found = {
        each: slicer.util.arrayFromSegmentBinaryLabelmap(node, each, volume_node).copy()
        for each in node.GetSegmentation().GetSegmentIDs()
    }
    for display in forgotten() - before:
        slicer.mrmlScene.RemoveNode(display)
    return found


def pretended_labels() -> np.ndarray:
    """Two boxes; the third organ is absent."""
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:6, 10:20, 8:21] = 1
    labels[5:9, 22:31, 12:33] = 2
    return labels


def result_file(volume_node: Any, path: Path) -> Path:
    """The engine's file for `pretended_labels`, in patient space."""
    from MultiOrganSegLib.mrml import volume_from_node

    volume = volume_from_node(volume_node)
    labels, table = pretended_labels(), LabelTable.numbered(ORGANS)
    statistics = tuple(_statistics(key, labels == value, volume) for value, key in table.organs.items())
    write_seg_nrrd(Segmentation(labels, volume.affine, table, statistics, PROVENANCE), path, load_catalogue())
    return path


def _statistics(key: str, mask: np.ndarray, volume: Volume) -> OrganStatistics:
    count = int(mask.sum())
    mean = float(volume.voxels[mask].mean()) if count else float("nan")
    flags = {"liver": ("cut_by_field_of_view",), "kidney_left": ("not_found",)}.get(key, ())
    confidence = {"spleen": 0.91, "liver": 0.83}.get(key, float("nan"))
    return OrganStatistics(key, count, count * volume.grid.voxel_volume / 1000, mean, confidence, flags)


def wait_for(run: Any, condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Poll a run until a condition holds."""
    import time

    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, (run.state, run.stage, run.log)
        run.poll()
        time.sleep(0.02)


@pytest.fixture(scope="session")
def small_bundle(make_bundle: Callable[..., Bundle]) -> Bundle:
    """A bundle with random weights."""
    return make_bundle(name="small-ct")
