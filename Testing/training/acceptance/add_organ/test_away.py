from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from multiorganseg.bundles import find_bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.progress import Progress
from multiorganseg.projects.acceptance import load_acceptance
from multiorganseg_training.acceptance.add_organ import Workplace, add_organ
from multiorganseg_training.acceptance.away import pack_run, unpack_run
from multiorganseg_training.acceptance.plan import AddOrganOptions, load_plan
from multiorganseg_training.run.checkpoint import load_checkpoint
from multiorganseg_training.run.packed import train_pack

CPU = torch.device("cpu")
MISSING = ("SimpleITK", "cc3d", "nibabel", "pydicom", "rich", "scipy", "typer", "yaml")


def _planned(ours) -> Path:
    options = AddOrganOptions("liver-ct", ("spleen",), iterations=6)
    place = Workplace(ours.project, ours.run, ours.cache, CPU)
    assert add_organ(options, place, Progress(), only_plan=True) is None
    return ours.run


@pytest.fixture
def packed(added, tmp_path):
    """A run that was planned and packed, and the file."""
    ours = added(2)
    pack = tmp_path / "run.zip"
    pack_run(_planned(ours), ours.project, ours.cache, pack)
    return ours, pack


def test_a_run_is_trained_elsewhere_and_judged_here(packed, tmp_path):
    ours, pack = packed
    plan = load_plan(ours.run)
    assert plan.recipe.optimisation.fixed_batches == 6
    with zipfile.ZipFile(pack) as archive:
        names = archive.namelist()
        assert sum("/batches/" in name for name in names) == 3 * 6, "two folds and the last training"
        assert not [name for name in names if "case_" in name]
        texts = [archive.read(name) for name in names if not name.endswith(".safetensors")]
    assert all(b"case_" not in text and ours.project.name.encode() not in text for text in texts)

    learned = tmp_path / "learned.safetensors"
    train_pack(pack, learned, CPU)
    assert sorted(path.name for path in tmp_path.glob(".*")) == []
    unpack_run(learned, ours.run)
    acceptance = ours(iterations=6)
    assert not [stage for stage in ours.stages if "loss" in stage], "nothing was trained here"
    assert acceptance.how == "cross-validation"
    assert load_acceptance(ours.run) is not None
    base = load_network(find_bundle("liver-ct")).state_dict()
    for run in (ours.run, ours.run / "folds" / "1", ours.run / "folds" / "2"):
        state = load_checkpoint(run).average
        assert all(torch.equal(state[name], tensor) for name, tensor in base.items())
        assert bool((state["branches.0.head.weight"] != 0).any())


def test_no_further_package_is_needed_there(packed, tmp_path):
    _, pack = packed
    program = (
        "import sys\n"
        f"for name in {MISSING}: sys.modules[name] = None\n"
        "from multiorganseg_training.run.packed import main\n"
        "raise SystemExit(main())"
    )
    learned = tmp_path / "learned.safetensors"
    command = [sys.executable, "-c", program, str(pack), str(learned), "--device", "cpu"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=1800, check=False)
    assert done.returncode == 0, done.stderr
    assert "multiorganseg-train unpack" in done.stderr
    assert len(load_file(learned)) > 10


def test_a_killed_training_goes_on_to_the_same_weights(packed, tmp_path):
    _, pack = packed
    whole, parts = tmp_path / "whole.safetensors", tmp_path / "parts.safetensors"
    train_pack(pack, whole, CPU)

    class Killed(BaseException):
        pass

    def kill(stage: str, fraction: float) -> None:
        if stage.startswith("2 of 3: training") and fraction > 0.5:
            raise Killed

    with pytest.raises(Killed):
        train_pack(pack, parts, CPU, Progress(kill))
    train_pack(pack, parts, CPU)
    one, other = load_file(whole), load_file(parts)
    assert one.keys() == other.keys()
    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_what_does_not_belong_is_refused(packed, tmp_path):
    ours, pack = packed
    learned = tmp_path / "learned.safetensors"
    train_pack(pack, learned, CPU)
    good, before = load_file(learned), sorted(ours.run.rglob("*"))
    with safe_open(learned, "pt") as file:
        said = file.metadata()
    name = next(name for name in good if name.endswith("head.bias"))
    for tensors, metadata in (
        (good, {**said, "token": "0" * 32}),
        ({key: tensor for key, tensor in good.items() if key != name}, said),
        ({**good, name: torch.full_like(good[name], float("nan"))}, said),
        ({**good, name: good[name].double()}, said),
    ):
        save_file(tensors, tmp_path / "other.safetensors", metadata)
        with pytest.raises(TrainingError, match="does not hold"):
            unpack_run(tmp_path / "other.safetensors", ours.run)
    assert sorted(ours.run.rglob("*")) == before
    damaged = tmp_path / "damaged.zip"
    damaged.write_bytes(pack.read_bytes()[:-500])
    with pytest.raises(TrainingError, match="no packed run"):
        train_pack(damaged, tmp_path / "none.safetensors", CPU)
    unpack_run(learned, ours.run)
    with pytest.raises(TrainingError, match="begun to train"):
        pack_run(ours.run, ours.project, ours.cache, tmp_path / "again.zip")
