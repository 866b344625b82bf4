"""Nothing is sent, and nothing is written into the home folder but the program's own cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from multiorganseg.bundles import Bundle
from multiorganseg.children import module_environment

ROOT = Path(__file__).resolve().parents[2]
WATCH = """
import json, os, socket, sys
from pathlib import Path
reported = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "subprocess.Popen",
                 "os.posix_spawn", "os.fork"):
        reported.append(event + " " + repr(arguments)[:200])
        raise OSError(event)
sys.addaudithook(watch)
"""
ENDED = "\nPath(sys.argv[1]).write_text(json.dumps(reported))\n"
OPENVINO = """
from multiorganseg.offline import keep_files_together
keep_files_together()
import torch
from multiorganseg.bundles import load_bundle
from multiorganseg.inference.backends import openvino_backend
bundle = load_bundle(Path(sys.argv[2]))
openvino_backend(bundle).predict(torch.zeros((1, 1, *bundle.metadata.patch_shape)))
"""
LIBRARIES = """
from multiorganseg.offline import keep_files_together
keep_files_together()
import cc3d, filelock, highdicom, matplotlib.pyplot, monai.networks.nets, pydicom
import safetensors, scipy, sklearn, torch
import SimpleITK
from matplotlib.figure import Figure
figure = Figure()
figure.text(0, 0, "x")
figure.savefig(Path(sys.argv[1]).with_suffix(".png"))
"""


def watched(code: str, tmp_path: Path, *arguments: Path) -> tuple[list[str], set[str]]:
    """Run code with all ways out closed; gives what it tried and what it left in an empty home folder."""
    home, reported = tmp_path / "home", tmp_path / "reported.json"
    home.mkdir()
    hidden = ("CI", "MPLCONFIGDIR", "MULTIORGANSEG_CACHE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")
    given = {name: value for name, value in os.environ.items() if name not in hidden}
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA"):
        given[name] = str(home)
    command = [sys.executable, "-c", WATCH + code + ENDED, str(reported), *map(str, arguments)]
    done = subprocess.run(
        command, env=module_environment((), given), cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    files = {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}
    return json.loads(reported.read_text()), files


@pytest.mark.slow
def test_openvino_reports_nothing(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    tried, files = watched(OPENVINO, tmp_path, bundle.folder)
    assert [event for event in tried if "fc-list" not in event] == [], "Matplotlib asks for fonts"
    assert any(name.endswith("model.xml") for name in files)
    assert {name for name in files if "multiorganseg" not in name} == set()


def test_the_trap_sees_what_openvino_does_when_it_is_left_alone(tmp_path: Path) -> None:
    pytest.importorskip("openvino_telemetry")
    tried, files = watched("import openvino\nimport time\ntime.sleep(1)\n", tmp_path)
    assert tried or files


@pytest.mark.slow
def test_no_other_library_calls_out_or_writes_into_the_home_folder(tmp_path: Path) -> None:
    tried, files = watched(LIBRARIES, tmp_path)
    assert [event for event in tried if event.startswith("socket")] == []
    assert {name for name in files if "multiorganseg" not in name} == set()


def test_openvino_is_imported_in_one_place() -> None:
    files = [path for name in ("MultiOrganSeg", "Training") for path in (ROOT / name).rglob("*.py")]
    texts = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert {name for name, text in texts.items() if "import openvino" in text} == set()
    assert {name for name, text in texts.items() if 'import_module("openvino")' in text} == {"offline.py"}
