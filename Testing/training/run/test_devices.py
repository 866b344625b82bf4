"""Several processes that train one network on a CPU, however they were started, against one process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from multiorganseg.events import read_events
from multiorganseg_training.cli.app import app
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.fit import EVENTS_FILE

pytest.importorskip("lightning_fabric")

PACKAGES = [Path(__file__).parents[3] / name for name in ("MultiOrganSeg", "Training")]
PATIENCE_SECONDS = 1200
REPORTING = {"log_every": 1, "validate_every": 0, "checkpoint_every": 0}
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port")


def free_port() -> str:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


class Trainings:
    """Starts `multiorganseg-train fit` on the phantom in several ways."""

    def __init__(self, data: Path, cache: Path, folder: Path) -> None:
        self.data, self.cache, self.folder = data, cache, folder

    def start(
        self, name: str, recipe: Path, *launcher: str, devices: int = 0, **said: str
    ) -> subprocess.Popen:
        paths = os.pathsep.join(map(str, PACKAGES))
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", **said}
        words = ["fit", recipe, "--data", self.data, "--run", self.folder / name, "--cache", self.cache]
        words += ["--device", "cpu", *(["--devices", devices] if devices else [])]
        dashes = ["--"] if launcher else []  # else torchrun takes --run for an option of its own
        command = [sys.executable, *launcher, "-m", *dashes, "multiorganseg_training", *words]
        return subprocess.Popen(
            [str(word) for word in command],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )

    def run(self, name: str, recipe: Path, *launcher: str, devices: int = 0) -> list[float]:
        child = self.start(name, recipe, *launcher, devices=devices)
        printed = child.communicate(timeout=PATIENCE_SECONDS)[0]
        assert child.returncode == 0, printed
        return self.losses(name)

    def run_in_slurm(self, name: str, recipe: Path) -> list[float]:
        """Start two tasks as `srun` would."""
        said = {"SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2", "SLURM_STEP_NUM_NODES": "1"}
        said |= {
            "SLURM_JOB_ID": "1",
            "SLURM_JOB_NAME": "train",
            "SLURM_NODEID": "0",
            "MASTER_ADDR": "127.0.0.1",
        }
        said |= {"MASTER_PORT": free_port(), "SLURM_NNODES": "1", "SLURM_NTASKS_PER_NODE": "2"}
        tasks = [
            self.start(name, recipe, **said, SLURM_PROCID=str(number), SLURM_LOCALID=str(number))
            for number in range(2)
        ]
        printed = [task.communicate(timeout=PATIENCE_SECONDS)[0] for task in tasks]
        assert [task.returncode for task in tasks] == [0, 0], "\n".join(printed)
        return self.losses(name)

    def losses(self, name: str) -> list[float]:
        events = read_events(self.folder / name / EVENTS_FILE)
        return [event["loss"] for event in events if event["event"] == "progress"]

    def weights(self, name: str) -> dict[str, Any]:
        checkpoint = load_checkpoint(self.folder / name)
        assert checkpoint is not None
        return checkpoint.network


@pytest.fixture
def trainings(phantom_data: Path, tmp_path: Path) -> Trainings:
    return Trainings(phantom_data, tmp_path / "cache", tmp_path / "runs")


def _recipe(make: Any, batch: int, optimiser: str = "adamw", **changes: Any) -> Recipe:
    optimisation = {"iterations": 8, "batch_size": batch, "learning_rate": 0.01, "optimiser": optimiser}
    recipe: Recipe = make(reporting=REPORTING, optimisation=optimisation, **changes)
    return recipe


@pytest.mark.slow
def test_two_devices_train_as_one_with_twice_the_batch(phantom_recipe, save_recipe, trainings, tmp_path):
    """Equal but for rounding where the loss is a mean over patches; the Dice is pooled on each device.

    With plain gradients: AdamW brings the rounding of a gradient near 0 to the size of its steps.
    """
    plain = {"method_arguments": {"dice_weight": 0.0}, "optimiser": "sgd"}
    half = save_recipe(tmp_path / "half.toml", _recipe(phantom_recipe, 1, **plain))
    whole = save_recipe(tmp_path / "whole.toml", _recipe(phantom_recipe, 2, **plain))
    expected = trainings.run("one", whole)
    assert len(expected) == 8
    assert expected[-1] < expected[0]
    assert trainings.run("two", half, devices=2) == pytest.approx(expected, rel=1e-4)
    assert trainings.run_in_slurm("slurm", half) == trainings.losses("two")
    assert trainings.run("torchrun", half, *TORCHRUN, free_port()) == trainings.losses("two")
    for name, tensor in trainings.weights("one").items():
        assert torch.allclose(tensor, trainings.weights("two")[name], atol=1e-5), name
        assert torch.equal(trainings.weights("slurm")[name], trainings.weights("two")[name]), name


@pytest.mark.slow
def test_the_dice_of_each_device_is_near_that_of_the_whole_batch(
    phantom_recipe, save_recipe, trainings, tmp_path
):
    half = save_recipe(tmp_path / "half.toml", _recipe(phantom_recipe, 1))
    whole = save_recipe(tmp_path / "whole.toml", _recipe(phantom_recipe, 2))
    expected = trainings.run("one", whole)
    assert trainings.run("two", half, devices=2) == pytest.approx(expected, rel=0.02)


@pytest.mark.slow
def test_a_run_goes_on_with_another_number_of_devices(phantom_recipe, save_recipe, trainings, tmp_path):
    recipe = _recipe(phantom_recipe, 1)
    file = save_recipe(tmp_path / "recipe.toml", recipe)
    for devices, least in ((2, 2), (1, 4)):
        child = trainings.start("run", file, devices=devices)
        deadline = time.monotonic() + PATIENCE_SECONDS
        log = tmp_path / "runs" / "run" / EVENTS_FILE
        while child.poll() is None and time.monotonic() < deadline:
            if log.is_file() and len(trainings.losses("run")) >= least:
                (log.parent / "stop").touch()
                break
            time.sleep(0.02)
        printed = child.communicate(timeout=PATIENCE_SECONDS)[0]
        assert child.returncode == 0, printed
    trainings.run("run", file, devices=2)
    numbers = [e["iteration"] for e in read_events(log) if e["event"] == "progress"]
    assert numbers == list(range(1, 9)), "nothing was done twice or left out"
    assert load_checkpoint(log.parent).iteration == 8


def test_more_devices_than_were_started_are_refused(
    phantom_data, phantom_recipe, save_recipe, tmp_path, monkeypatch
):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    recipe = save_recipe(tmp_path / "recipe.toml", phantom_recipe())
    words = [
        "fit",
        recipe,
        "--data",
        phantom_data,
        "--run",
        tmp_path / "run",
        "--devices",
        "3",
        "--device",
        "cpu",
    ]
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 2, result.output
    assert "2 processes were started on each node, not 3" in result.output
