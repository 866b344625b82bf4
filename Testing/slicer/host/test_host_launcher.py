"""The stand-in executable that ctest calls."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
pytest.importorskip("PySide6", reason="needs PySide6-Essentials: pip install -e .[slicer-test]")

LAUNCHER = Path(__file__).resolve().parents[2] / "host" / "launcher.py"
RUN_TEST = "import slicer.testing; slicer.testing.runUnitTest([{folder!r}], 'Probe')"


def test_modules_test_runs_and_passes(probe_folder: Path) -> None:
    code = RUN_TEST.format(folder=str(probe_folder))
    command = [sys.executable, str(LAUNCHER), "--no-splash", "--testing"]
    command += ["--additional-module-paths", str(probe_folder), "--python-code", code]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Probe.ProbeTest.runTest) ... ok" in ended.stderr
    assert ended.returncode == 0, ended.stderr


@pytest.fixture
def launch(widget_host: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The launcher's `main` in this process, which leaves modules and path as they were."""
    import launcher

    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "argv", list(sys.argv))
    yield lambda *arguments: launcher.main(["--no-splash", "--testing", *arguments])
    if widget_host.app.moduleManager().module("Probe"):
        widget_host.unload_module("Probe")
    sys.modules.pop("Probe", None)


@pytest.mark.parametrize("broken", ["test", "module", "slot"])
def test_failure_gives_an_exit_code(launch: Any, widget_host: Any, probe_folder: Path, broken: str) -> None:
    path = probe_folder / "Probe.py"
    code = RUN_TEST.format(folder=str(probe_folder))
    text = path.read_text(encoding="utf-8")
    if broken == "test":
        text = '"Other")\n'.join(text.rsplit('"Probe")\n', 1))
    elif broken == "module":
        text = text.replace('_("Probe")', "missing_name")
    else:
        code = "import slicer; slicer.modules.ProbeWidget.ui.apply.click()"
    path.write_text(text, encoding="utf-8")
    ended = launch("--additional-module-paths", str(probe_folder), "--python-code", code)
    widget_host.forget_errors()
    assert ended == 1


def test_script_gets_its_arguments_and_its_exit_code_is_kept(
    launch: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "script.py"
    script.write_text("import sys\nprint(sys.argv[1:])\nsys.exit(3)\n", encoding="utf-8")
    assert launch("--no-main-window", "--python-script", str(script), "--flag", "value") == 3
    assert "['--flag', 'value']" in capsys.readouterr().out
