from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results.preview import write_preview
from multiorganseg.results.preview3d import render_in_child
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes import Volume

CATALOGUE = load_catalogue()
COLORS = {2: (0.0, 1.0, 0.0), 6: (1.0, 0.0, 0.0)}


def test_png_has_size_provenance_and_organ_colours(phantom, tmp_path):
    volume, segmentation = phantom.case(source="$a_1$ größe.nii.gz")
    path = tmp_path / "größe 1.png"
    write_preview(segmentation, volume, path, CATALOGUE, surfaces=False)
    with Image.open(path) as picture:
        assert picture.size == (1600, 1000)
        assert json.loads(picture.text["MultiOrganSeg_Provenance"]) == phantom.PROVENANCE
    pixels = imread(path)[:, :1200, :3]
    for key in ("liver", "spleen", "aorta"):
        distance = np.abs(pixels - np.array(CATALOGUE.get(key).color) / 255).max(axis=-1)
        assert (distance < 0.05).sum() > 100, key


def test_a_map_adds_a_row_with_its_heat_and_changes_nothing_above(phantom, tmp_path):
    volume, segmentation = phantom.case()
    heat = np.where(segmentation.labels > 0, 200, 0).astype(np.uint8)
    for name, shown in (("plain", segmentation), ("sure", replace(segmentation, uncertainty=heat * 0)),
                        ("uncertain", replace(segmentation, uncertainty=heat))):  # fmt: skip
        write_preview(shown, volume, tmp_path / f"{name}.png", CATALOGUE, surfaces=False)
    plain, certain, uncertain = (
        imread(tmp_path / f"{name}.png")[..., :3] for name in ("plain", "sure", "uncertain")
    )
    assert plain.shape == (1000, 1600, 3)
    assert uncertain.shape == (1460, 1600, 3)
    assert np.abs(uncertain[:1000] - plain).mean() < 1e-3
    changed = np.abs(uncertain - certain).max(axis=-1) > 0.1
    assert not changed[:1000].any()
    for panel in range(3):
        columns = slice(int(1600 * (0.012 + 0.314 * panel)), int(1600 * (0.32 + 0.314 * panel)))
        assert changed[1000:, columns].sum() > 200


def test_more_organs_than_the_legend_holds_and_many_flags(phantom, tmp_path):
    keys = list(CATALOGUE.organs)[:60]
    volume, segmentation = phantom.case()
    labels = (
        (np.arange(segmentation.labels.size) // 500 % 61).astype(np.uint8).reshape(segmentation.labels.shape)
    )
    crowded = Segmentation(labels, segmentation.affine, LabelTable.numbered(keys))
    write_preview(crowded, volume, tmp_path / "a.png", CATALOGUE, surfaces=False)
    assert (tmp_path / "a.png").stat().st_size > 10_000


def test_empty_result_of_another_modality_is_drawn(phantom, tmp_path):
    volume, segmentation = phantom.case()
    empty = Segmentation(np.zeros_like(segmentation.labels), segmentation.affine, segmentation.table)
    constant = Volume(np.zeros_like(volume.voxels), volume.affine)
    write_preview(empty, constant, tmp_path / "a.png", CATALOGUE, modality="MR")
    assert (tmp_path / "a.png").is_file()


def test_render_shows_the_right_side_on_the_left(phantom):
    pytest.importorskip("vtkmodules")
    _, segmentation = phantom.case()
    scene = render_in_child(segmentation, COLORS, (320, 240))
    if scene is None:
        pytest.skip("VTK cannot render here (no EGL, OSMesa or X)")
    assert scene.shape == (240, 320, 3)
    liver = np.argwhere(scene[..., 0] > scene[..., 1] + 0.2)
    spleen = np.argwhere(scene[..., 1] > scene[..., 0] + 0.2)
    assert len(liver) > 500
    assert len(spleen) > 200
    assert liver[:, 1].mean() < spleen[:, 1].mean()


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "ended with code"),
        ("raise SystemExit('no display')", "no display"),
        ("import time; time.sleep(30)", "took more than"),
    ],
)
def test_failing_renderer_is_skipped_with_a_reason(phantom, tmp_path, monkeypatch, caplog, script, reason):
    if sys.platform == "win32":
        pytest.skip("the stand-in renderer is a shell script")
    stand_in = tmp_path / "python"
    stand_in.write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    stand_in.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(stand_in))
    _, segmentation = phantom.case()
    with caplog.at_level(logging.WARNING):
        assert render_in_child(segmentation, COLORS, (64, 64), timeout=1.5) is None
    assert reason in caplog.text


def test_missing_renderer_leaves_the_planes(phantom, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(sys, "executable", str(Path("/nowhere/python")))
    volume, segmentation = phantom.case()
    write_preview(segmentation, volume, tmp_path / "a.png", CATALOGUE)
    assert (tmp_path / "a.png").is_file()
    assert "no 3D view" in caplog.text
