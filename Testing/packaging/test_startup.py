"""The module adds little to Slicer's start, and loads nothing heavy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOST_SECONDS = 0.15
HEAVY = {
    "torch",
    "monai",
    "openvino",
    "highdicom",
    "SimpleITK",
    "matplotlib",
    "scipy",
    "rich",
    "typer",
    "qt",
    "ctk",
}
CODE = """
import json, sys, time
from pathlib import Path
import slicer_host
host = slicer_host.start()
before, started = set(sys.modules), time.process_time()
host.load_module("MultiOrganSeg", Path(sys.argv[1]))
seconds = time.process_time() - started
print(json.dumps({"seconds": seconds, "added": sorted(set(sys.modules) - before)}))
"""


@pytest.fixture(scope="module")
def start() -> dict:
    pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
    module = str(ROOT / "MultiOrganSeg")
    paths = os.pathsep.join([str(ROOT / "Testing" / "host"), module])
    command = [sys.executable, "-c", CODE, module]
    environment = {**os.environ, "PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_loading_the_module_takes_little_time(start, slowness) -> None:
    assert start["seconds"] <= MOST_SECONDS * slowness


def test_loading_the_module_imports_nothing_heavy(start) -> None:
    added = {name.partition(".")[0] for name in start["added"]}
    assert "MultiOrganSeg" in added
    assert added & HEAVY == set()
    assert not any(name.startswith("multiorganseg.bundles") for name in start["added"])
