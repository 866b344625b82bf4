"""The program for a borrowed graphics card runs where next to nothing is installed; here at toy size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from multiorganseg.inference.backends import has_bf16

PROGRAM = Path(__file__).parents[1] / "benchmarks" / "gpu.py"
MISSING = ("SimpleITK", "cc3d", "monai", "nibabel", "psutil", "pydicom", "rich", "scipy", "typer", "yaml")


@pytest.mark.slow
def test_every_part_is_measured_with_torch_and_numpy_alone(tmp_path):
    program = (
        "import runpy, sys\n"
        f"for name in {MISSING}: sys.modules[name] = None\n"
        f"sys.argv = ['gpu.py', '--toy', '--device', 'cpu', '--output', {str(tmp_path)!r}]\n"
        f"runpy.run_path({str(PROGRAM)!r}, run_name='__main__')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, encoding="utf-8", timeout=1800, check=False
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "gpu.json").read_text(encoding="utf-8"))["rows"]
    parts = " ".join(row["part"] for row in rows)
    for said in ("abdomen-ct,", "head-neck-ct", "left-atrium-mr", "LTUDA", "mutual", "adding an organ"):
        assert said.rstrip(",") in parts
    assert all(row["seconds"] > 0 for row in rows)
    reduced = {"ours, bf16", "ours, bf16, seen before"} if has_bf16() else set()
    assert {row["way"] for row in rows} >= {"plain", "ours, fp32", *reduced}
