"""The stand-in executable that ctest calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
pytest.importorskip("PySide6", reason="needs PySide6-Essentials: pip install -e .[slicer-test]")

LAUNCHER = Path(__file__).resolve().parents[2] / "host" / "launcher.py"
RUN_TEST = "import slicer.testing; slicer.testing.runUnitTest([{folder!r}], 'Probe')"


def _launch(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(LAUNCHER), "--no-splash", "--testing", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_modules_test_runs_and_passes(probe_folder: Path) -> None:
    code = RUN_TEST.format(folder=str(probe_folder))
    ended = _launch("--additional-module-paths", str(probe_folder), "--python-code", code)
    assert "Probe.ProbeTest.runTest) ... ok" in ended.stderr
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("broken", ["test", "module"])
def test_failure_gives_an_exit_code(probe_folder: Path, broken: str) -> None:
    path = probe_folder / "Probe.py"
    right, wrong = {"test": ('"Probe")\n', '"Other")\n'), "module": ('_("Probe")', "missing_name")}[broken]
    text = path.read_text(encoding="utf-8")
    head, tail = text.rsplit(right, 1) if broken == "test" else text.split(right, 1)
    path.write_text(head + wrong + tail, encoding="utf-8")
    ended = _launch(
        "--additional-module-paths",
        str(probe_folder),
        "--python-code",
        RUN_TEST.format(folder=str(probe_folder)),
    )
    assert ended.returncode == 1, ended.stderr


def test_script_gets_its_arguments_and_its_exit_code_is_kept(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(3)\n", encoding="utf-8")
    ended = _launch("--no-main-window", "--python-script", str(script), "--flag", "value")
    assert ended.returncode == 3, ended.stderr
    assert "['--flag', 'value']" in ended.stdout
