"""Every entry point in an environment that has exactly Slicer's packages, then with the requirements too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from phantom_base import Phantoms, install
from slicer_packages import fresh, installed

from multiorganseg.children import module_command
from multiorganseg.volumes import read_volume, write_volume

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULE = ROOT / "MultiOrganSeg"


def _environment(packages: set[str], *folders: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MULTIORGANSEG")}
    paths = [*map(str, folders), str(MODULE), str(HERE / "only_slicers_packages")]
    return {
        **kept,
        "PYTHONPATH": os.pathsep.join(paths),
        "MULTIORGANSEG_TEST_PACKAGES": ",".join(sorted(packages)),
        "QT_QPA_PLATFORM": "offscreen",
        "OMP_NUM_THREADS": "1",
    }


def _run(command: list[str], environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("packages", [fresh, installed])
def test_only_these_packages_can_be_imported(packages, tmp_path: Path) -> None:
    brought = {"numpy", "SimpleITK", "pydicom"}
    ours = {"psutil", "torch", "monai", "cc3d", "filelock", "matplotlib"}
    names = sorted(brought | ours | {"nibabel", "openvino", "pytest"})
    code = f"import importlib.util; print(*(name for name in {names} if importlib.util.find_spec(name)))"
    found = set(_run([sys.executable, "-c", code], _environment(packages()), tmp_path).split())
    assert found == (brought if packages is fresh else brought | ours)


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> dict:
    """What a user sees in a fresh Slicer."""
    pytest.importorskip("slicer", reason="needs slicer-core: pip install -e .[slicer-test]")
    pytest.importorskip("PySide6", reason="needs PySide6-Essentials: pip install -e .[slicer-test]")
    work = tmp_path_factory.mktemp("fresh")
    command = [sys.executable, str(HERE / "fresh_slicer.py"), str(ROOT / "Testing" / "host"), str(MODULE)]
    return json.loads(_run([*command, str(work)], _environment(fresh()), work).splitlines()[-1])


def test_the_module_opens_and_offers_to_install(seen) -> None:
    assert seen["install"]
    for package in ("torch", "monai", "psutil", "typer", "filelock", "matplotlib"):
        assert package in seen["missing"]
    assert not seen["device"]
    assert seen["errors"] == []


def test_the_phantom_needs_nothing(seen) -> None:
    assert seen["phantom"] == 1


def test_segmenting_and_adding_an_organ_ask_and_say_what_is_missing(seen) -> None:
    assert len(seen["asked"]) == 3
    assert all("Download and install" in text for text in seen["asked"])
    for where in ("applyButton", "installButton", "add_organ"):
        assert "torch" in seen[where]
        assert "psutil" in seen[where]
    for where in ("script", "command"):
        assert "torch" in seen[where]
        assert "Install them" in seen[where]
    assert not seen["busy"]


@pytest.mark.slow
def test_a_project_is_taught_and_reported_with_slicers_packages_and_the_requirements(tmp_path: Path) -> None:
    phantoms = Phantoms()
    base = phantoms.train_base(tmp_path / "base", 20)
    install(base, tmp_path / "models")
    images = phantoms.write(tmp_path / "cases", 2)
    project = tmp_path / "project"
    environment = _environment(installed(), ROOT / "Training")
    environment["MULTIORGANSEG_MODELS"] = str(tmp_path / "models")

    def trainer(*arguments: str | Path) -> str:
        command = module_command("multiorganseg_training", [str(argument) for argument in arguments])
        return _run(command, environment, tmp_path)

    trainer("project", "create", project, "--name", "p", "--modality", "CT", "--base", base.name)
    trainer("project", "add-organ", project, "spleen")
    for number, image in enumerate(images):
        trainer("project", "add", project, image, "--name", f"case_{number}")
        if number == 0:
            trainer("project", "next", project, "--model", base.name, "--organ", "spleen")
        labels = tmp_path / f"spleen_{number}.nii.gz"
        write_volume(replace(read_volume(image), voxels=phantoms.spleen(number)), labels)
        trainer("project", "annotate", project, f"case_{number}", labels, "--organ", "spleen")
    options = ("--organ", "spleen", "--run", "run", "--iterations", "2", "--device", "cpu")
    reported = trainer(
        "add-organ", "--project", project, "--base", base.name, *options, "--cache", tmp_path / "cache"
    )
    run = project / "runs" / "run"
    assert "could not be drawn" not in reported
    assert (run / "report.md").is_file()
    assert (run / "pictures" / "spleen.png").is_file()
