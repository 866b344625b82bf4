"""Programs on one project at the same time, and programs that are killed."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg.projects.runs import folder_lock
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.project import (
    LabelStatus,
    add_case,
    create_project,
    find_contradictions,
    load_project,
    set_status,
    tidy,
)

PACKAGES = [Path(__file__).parents[3] / name for name in ("MultiOrganSeg", "Training")]
WORK = """
import itertools, sys
from pathlib import Path
import numpy as np
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.project import LabelStatus, add_case, save_annotation
folder, image, prefix, first, most = *map(Path, sys.argv[1:3]), sys.argv[3], *map(int, sys.argv[4:6])
volume = read_volume(image)
for number in itertools.islice(itertools.count(first), most or None):
    name = f"{prefix}{number}"
    labels = np.zeros(volume.voxels.shape, np.uint8)
    labels[:, 0] = 1
    add_case(folder, name, image, Volume(labels, volume.affine), {"liver": LabelStatus.ANNOTATED})
    print("added", name, flush=True)
    labels[:, 1 + number % 5] = 2
    save_annotation(folder, name, labels, {"spleen": LabelStatus.ANNOTATED})
    print("annotated", name, flush=True)
"""
LIMITED = """
import resource, sys
from pathlib import Path
import numpy as np
from multiorganseg.errors import ResourceError
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.project import LabelStatus, add_case, save_annotation
folder, voxels = Path(sys.argv[1]), np.random.default_rng(0).integers(0, 2, (40, 60, 60))
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
for work in (
    lambda: add_case(folder, "large", Volume(voxels.astype(np.int16), np.eye(4))),
    lambda: save_annotation(folder, "noise", voxels, {"liver": LabelStatus.ANNOTATED}),
):
    try:
        work()
    except ResourceError as error:
        print(error.problem)
"""


@pytest.fixture
def folder(tmp_path):
    table = LabelTable({1: "liver", 2: "spleen"})
    return create_project(tmp_path / "Projekt ö", "P", table).folder


@pytest.fixture
def image(tmp_path, write_case):
    write_case(tmp_path / "ct.nii.gz", None, ())
    return tmp_path / "ct.nii.gz"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    paths = os.pathsep.join(map(str, PACKAGES))
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONUTF8": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8")


def test_two_programs_add_cases_at_once(folder, image):
    children = [start(WORK, folder, image, prefix, 0, 8) for prefix in ("a", "b")]
    said = [child.communicate(timeout=120)[0].splitlines() for child in children]
    assert [child.returncode for child in children] == [0, 0]
    assert [len(lines) for lines in said] == [16, 16]
    project = load_project(folder)
    assert sorted(project.cases) == sorted(f"{prefix}{number}" for prefix in "ab" for number in range(8))
    assert all(project.matrix.known(case) == {"liver", "spleen"} for case in project.cases)
    assert find_contradictions(project) == []
    assert tidy(folder) == []


def kill_at_work(folder: Path, image: Path, kills: int, generator: random.Random) -> None:
    """Kill a program that adds and annotates cases, again and again, and look at what is there."""
    added: set[str] = set()
    annotated: set[str] = set()
    for number in range(kills):
        with start(WORK, folder, image, f"k{number}-", 0, 0) as child:
            assert child.stdout is not None
            lines = [child.stdout.readline()]
            time.sleep(generator.uniform(0.0, 0.2))
            child.kill()
            lines += child.stdout.read().splitlines()
        for line in lines:
            done, _, name = line.strip().partition(" ")
            {"added": added, "annotated": annotated}.get(done, set()).add(name)
        project = load_project(folder)
        assert added <= set(project.cases)
        for case in project.cases:
            read_volume(project.image_path(case))
            known = project.matrix.known(case)
            assert "liver" in known
            assert "spleen" in known or case not in annotated
        problems = find_contradictions(project)
        assert all("unknown, but labelled" in found.problem for found in problems), problems
        assert len(problems) <= number + 1
    assert annotated
    tidy(folder, delete_unused=True)
    assert tidy(folder) == []
    assert not list(folder.rglob(".partial-*"))


def test_a_killed_program_loses_no_case(folder, image):
    kill_at_work(folder, image, 2, random.Random(1))


@pytest.mark.slow
def test_programs_killed_twenty_times_lose_no_case(folder, image):
    kill_at_work(folder, image, 20, random.Random(2))


@pytest.mark.skipif(sys.platform == "win32", reason="limits of file sizes are those of POSIX")
def test_a_full_disk_keeps_what_is_there(folder, image, tmp_path):
    shape = (40, 60, 60)
    labels = np.zeros(shape, np.uint8)
    labels[:, 0] = 1
    volume = Volume(np.zeros(shape, np.int16), np.eye(4))
    project = add_case(folder, "noise", volume, Volume(labels, np.eye(4)), {"liver": LabelStatus.ANNOTATED})
    with start(LIMITED, folder) as child:
        assert child.stdout is not None
        said = child.stdout.read().splitlines()
    assert [line.split("/")[-1] for line in said] == ["large.nii.gz.", "noise.nii.gz."]
    assert load_project(folder) == project
    assert find_contradictions(project) == []
    assert tidy(folder) == []
    assert not list(folder.rglob(".partial-*"))


def test_a_project_that_another_program_holds(folder, image, monkeypatch):
    monkeypatch.setattr("multiorganseg.projects.file.PROJECT_SECONDS", 0.1)
    project = add_case(folder, "one", image)
    with folder_lock(folder, "It", 0, "Wait."):
        for work in (
            lambda: add_case(folder, "two", image),
            lambda: set_status(folder, "one", "liver", LabelStatus.ABSENT),
            lambda: tidy(folder),
        ):
            with pytest.raises(TrainingError, match="project Projekt ö is in use") as caught:
                work()
            assert f"process {os.getpid()}" in caught.value.cause
        assert load_project(folder) == project, "who only reads waits for nobody"
