"""The unpacked package alone, without the checkout, loads and segments; its own tests pass."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from slicer_packages import installed

from multiorganseg.phantom import phantom_labels

HERE = Path(__file__).resolve().parent
HOST = HERE.parent / "host"
HOOKS = "only_slicers_packages"
ML_TOLERANCE = 0.25

pytestmark = pytest.mark.slow


def _slicer_core() -> None:
    pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")


def test_the_module_segments_the_phantom_from_the_package_alone(package, tmp_path: Path) -> None:
    _slicer_core()
    records = tmp_path / "records"
    records.mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MULTIORGANSEG")}
    environment["PYTHONPATH"] = os.pathsep.join([str(package.module_folder), str(HERE / HOOKS)])
    environment["MULTIORGANSEG_TEST_RECORDS"] = str(records)
    environment["MULTIORGANSEG_TEST_PACKAGES"] = ",".join(installed())
    done = subprocess.run(
        [sys.executable, str(HERE / "from_package.py"), str(HOST), str(package.module_folder)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout.splitlines()[-1])
    assert Path(reported["file"]) == package.module_folder / "MultiOrganSeg.py"
    assert reported["heavy"] == []

    labels, table = phantom_labels()
    for key in ("liver", "spleen", "kidney_right"):
        drawn = float((labels == table.value(key)).sum()) * 0.012
        assert reported["organs"][key]["ml"] == pytest.approx(drawn, rel=ML_TOLERANCE)

    processes = [json.loads(path.read_text(encoding="utf-8")) for path in records.iterdir()]
    assert len(processes) == 2, "the module and its child process"
    files = [Path(file) for process in processes for file in process["files"]]
    assert [file for file in files if not file.is_relative_to(package.module_folder)] == []
    module, child = sorted((set(process["imported"]) for process in processes), key=len)
    assert module == set()
    assert child - {"matplotlib", "pydicom"} == {"torch"}, "these two are imported by MONAI where they are"


def test_the_extensions_own_tests_pass_by_ctest(package) -> None:
    _slicer_core()
    output = package.ctest()
    assert "py_MultiOrganSeg" in output
    assert "100% tests passed" in output
