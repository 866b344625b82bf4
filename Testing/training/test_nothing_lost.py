"""Links, renamed folders, full disks and pauses: typed errors, and what was there stays."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.errors import MultiOrganSegError, ResourceError
from multiorganseg.events import event_log, read_events
from multiorganseg.inference import backends
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress
from multiorganseg.projects.runs import Paused, is_running, request_pause, run_lock
from multiorganseg.volumes.volume import Volume
from multiorganseg_training.project import (
    LabelStatus,
    add_case,
    create_project,
    load_project,
    project_state,
    save_annotation,
    tidy,
)
from multiorganseg_training.run import loop
from multiorganseg_training.run.checkpoint import FILE_NAME, load_checkpoint, save_checkpoint
from multiorganseg_training.run.fit import EVENTS_FILE, fit

SHAPE = (4, 6, 8)
PACKAGES = [Path(__file__).parents[2] / name for name in ("MultiOrganSeg", "Training")]
posix = pytest.mark.skipif(os.name != "posix", reason="links and limits of POSIX")


def _volume(high: int = 900) -> Volume:
    return Volume(np.random.default_rng(1).integers(-900, high, SHAPE).astype(np.int16), np.eye(4))


def _labels() -> np.ndarray:
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 2:4] = 1
    return voxels


def _add(folder: Path, name: str) -> None:
    add_case(folder, name, _volume(), Volume(_labels(), np.eye(4)), {"liver": LabelStatus.ANNOTATED})


@pytest.fixture
def project(tmp_path) -> Path:
    folder = tmp_path / "project"
    create_project(folder, "p", LabelTable({1: "liver"}))
    _add(folder, "a")
    return folder


def _work(folder: Path) -> None:
    """Do to a project what writes into it."""
    for step in (
        lambda: _add(folder, f"b{time.time_ns()}"),
        lambda: save_annotation(folder, "a", _labels()[::-1], {"liver": LabelStatus.ANNOTATED}),
        lambda: tidy(folder, delete_unused=True),
        lambda: project_state(load_project(folder)),
    ):
        with suppress(MultiOrganSegError):
            step()


@posix
@pytest.mark.parametrize("kind", ["file", "folder", "nothing"])
def test_no_link_in_a_project_leads_a_write_out_of_it(project, tmp_path, kind):
    outside = tmp_path / "outside"
    shutil.copytree(project, outside)
    (outside / "stray.nii.gz").write_bytes(b"mine")
    before = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
    names = {path.relative_to(project) for path in project.rglob("*")}
    names |= {Path(name) for name in (".lock", ".lock-holder", "bundles", "runs", "labels/b.nii.gz")}
    for name in sorted(names):
        copy = tmp_path / f"copy-{kind}-{str(name).replace('/', '_')}"
        shutil.copytree(project, copy)
        link = copy / name
        if link.is_dir():
            shutil.rmtree(link)
        link.unlink(missing_ok=True)
        target = {"file": outside / "stray.nii.gz", "folder": outside / "labels", "nothing": outside / "new"}
        link.symlink_to(target[kind] if name.suffix or kind != "file" else outside / name)
        _work(copy)
        after = {path: path.read_bytes() for path in outside.rglob("*") if path.is_file()}
        assert after == before, name


@posix
@pytest.mark.parametrize(
    "name", ["events.jsonl", "stop", "checkpoint.pt", "recipe.json", ".lock", ".lock-holder"]
)
def test_no_link_in_a_run_leads_a_write_out_of_it(phantom_recipe, place, tmp_path, name):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    place.run.mkdir(parents=True)
    (place.run / name).symlink_to(victim)
    assert not is_running(place.run)
    with suppress(MultiOrganSegError):
        fit(phantom_recipe(optimisation={"iterations": 1}, data={"validation": []}), place, Progress())
    request_pause(place.run)
    assert victim.read_bytes() == b"mine"


@posix
def test_a_project_that_is_renamed_while_a_case_is_added_gets_no_ghost(project, monkeypatch):
    module = sys.modules[add_case.__module__]
    moved, write = project.with_name("moved"), module.write_volume

    def rename_first(volume, path):
        if project.exists():
            project.rename(moved)
        write(volume, path)

    monkeypatch.setattr(module, "write_volume", rename_first)
    with pytest.raises(ResourceError, match="renamed or deleted"):
        _add(project, "b")
    assert not project.exists(), "nothing is made under the old name"
    assert list(load_project(moved).cases) == ["a"]
    assert [path.name for path in (moved / "images").iterdir()] == ["a.nii.gz"]


@posix
def test_a_full_disk_leaves_the_last_checkpoint(phantom_recipe, place):
    import resource

    recipe = phantom_recipe(
        optimisation={"iterations": 4},
        reporting={"checkpoint_every": 1, "log_every": 1},
        data={"validation": []},
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(stage: str, fraction: float) -> None:
        if stage.startswith("training") and fraction >= 0.5:
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))

    try:
        with pytest.raises(ResourceError, match="Cannot write"):
            fit(recipe, place, Progress(fill))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = load_checkpoint(place.run)
    assert kept is not None
    assert kept.iteration == 2
    assert not list(place.run.glob(".partial-*"))
    fit(recipe, place, Progress())
    assert list(read_events(place.run / EVENTS_FILE))[-1]["event"] == "finished"


@posix
def test_events_on_a_full_disk_are_a_typed_error_and_spoil_nothing(tmp_path):
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    path = tmp_path / "events.jsonl"

    def fill() -> None:
        with event_log(path) as events:
            resource.setrlimit(resource.RLIMIT_FSIZE, (300, hard))
            for step in range(100):
                events.emit("progress", iteration=step)

    try:
        with pytest.raises(ResourceError, match="cannot be written"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with event_log(path) as events:
        events.emit("finished")
    found = list(read_events(path))
    assert found[-1]["event"] == "finished"
    assert [event["iteration"] for event in found[:-1]] == list(range(len(found) - 1))


def test_a_pause_is_a_pause_while_cases_are_prepared(phantom_recipe, place, tmp_path):
    fresh = type(place)(place.data, place.run, tmp_path / "empty cache", place.device)
    reported = []

    def report(stage: str, fraction: float) -> None:
        reported.append((stage, fraction))
        if len(reported) == 1:
            request_pause(place.run)

    recipe = phantom_recipe(optimisation={"iterations": 1}, data={"validation": []})
    with pytest.raises(Paused, match="before the first iteration"):
        fit(recipe, fresh, Progress(report))
    assert len(reported) == 1, "no case after the request"
    assert [event["event"] for event in read_events(place.run / EVENTS_FILE)] == ["paused"]
    fit(recipe, place, Progress())
    assert load_checkpoint(place.run).iteration == 1


def test_a_request_since_the_start_of_the_program_is_obeyed(phantom_recipe, place):
    started = time.time() - 5
    place.run.mkdir(parents=True)
    request_pause(place.run)
    recipe = phantom_recipe(optimisation={"iterations": 1}, data={"validation": []})
    with pytest.raises(Paused):
        fit(recipe, place, Progress(), started)
    assert not (place.run / FILE_NAME).exists()
    fit(recipe, place, Progress())


@pytest.mark.slow
def test_a_stop_in_the_first_second_of_the_command_pauses_it(phantom_recipe, save_recipe, place, tmp_path):
    path = save_recipe(tmp_path / "recipe.toml", phantom_recipe(optimisation={"iterations": 500}))
    place.run.mkdir(parents=True)
    arguments = ["fit", str(path), "--data", str(place.data), "--run", str(place.run), "--device", "cpu"]
    command = [sys.executable, "-m", "multiorganseg_training", *arguments, "--cache", str(place.cache)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, PACKAGES)), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as child:
        (place.run / "stop").touch()
        out, _ = child.communicate(timeout=300)
    assert child.returncode == 0
    assert "Paused" in out


@pytest.mark.parametrize(("has", "reduced"), [(True, True), (False, False)])
def test_bfloat16_only_where_the_device_has_it(monkeypatch, has, reduced):
    asked = []

    def supported(including_emulation: bool = True) -> bool:
        asked.append(including_emulation)
        return has or including_emulation

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    cuda = torch.device("cuda")
    assert backends.computes_bf16(cuda) is reduced
    assert not any(asked), "imitation does not count"
    reported = []
    events = type("Events", (), {"emit": lambda self, *kind, **content: reported.append(content)})()
    assert loop._reduced("bf16", cuda, events) is reduced
    assert bool(reported) is not reduced
    assert loop._reduced("fp32", cuda, events) is False
    assert loop._reduced("bf16", torch.device("mps"), events) is False
    monkeypatch.setattr(backends, "has_bf16", lambda: has)
    assert loop._reduced("bf16", torch.device("cpu"), events) is reduced, (
        "imitated, a step takes many times as long"
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1 GB)"),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: can't allocate memory"),
        MemoryError(),
    ],
    ids=["mps", "cuda", "cpu", "python"],
)
def test_memory_that_runs_out_in_a_training_is_reported(phantom_recipe, place, monkeypatch, error):
    recipe = phantom_recipe(
        optimisation={"iterations": 3}, data={"validation": []}, reporting={"checkpoint_every": 1}
    )
    draw, drawn = loop.BatchSource.draw, []

    def run_out(self):
        drawn.append(1)
        if len(drawn) == 2:
            raise error
        return draw(self)

    monkeypatch.setattr(loop.BatchSource, "draw", run_out)
    with pytest.raises(ResourceError, match="Memory ran out") as caught:
        fit(recipe, place, Progress())
    assert caught.value.next_step
    assert load_checkpoint(place.run).iteration == 1


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory():
    assert not backends.is_out_of_memory(RuntimeError("shape mismatch"))
    assert not backends.is_out_of_memory(ValueError("out of memory"))


def test_a_lock_file_that_is_a_link_is_not_emptied(tmp_path):
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    run = tmp_path / "run"
    run.mkdir()
    (run / ".lock").symlink_to(victim)
    assert not is_running(run)
    with pytest.raises(ResourceError, match="Cannot lock"), run_lock(run):
        pytest.fail("locked")
    assert victim.read_bytes() == b"mine"


def test_two_programs_that_write_beside_each_other_keep_their_work(tmp_path, phantom_run):
    checkpoint = load_checkpoint(phantom_run.place.run)
    assert checkpoint is not None
    failed: list[BaseException] = []

    def save(name: str) -> None:
        try:
            for _ in range(5):
                save_checkpoint(checkpoint, tmp_path / name if name else tmp_path)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=save, args=("",)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]
