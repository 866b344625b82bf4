from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg_training.recipe.file import recipe_to_dict
from multiorganseg_training.run.checkpoint import (
    FILE_NAME,
    Checkpoint,
    load_checkpoint,
    save_checkpoint,
)


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return Path.touch, (self.target,)


@pytest.fixture
def checkpoint(phantom_recipe) -> Checkpoint:
    network = torch.nn.Conv3d(1, 2, 3).to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.randn(1, 1, 4, 4, 4)).sum().backward()
    optimiser.step()
    return Checkpoint(
        7,
        recipe_to_dict(phantom_recipe()),
        network.state_dict(),
        network.state_dict(),
        7,
        {"prototypes": torch.ones(2, 3)},
        optimiser.state_dict(),
        dict(np.random.default_rng(5).bit_generator.state),
    )


def test_what_is_saved_is_loaded(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert (loaded.iteration, loaded.average_updates) == (7, 7)
    assert loaded.recipe == checkpoint.recipe
    assert loaded.generator == checkpoint.generator
    for name, tensor in checkpoint.network.items():
        assert torch.equal(loaded.network[name], tensor)
        assert loaded.network[name].stride() == tensor.stride()
    for number, state in checkpoint.optimiser["state"].items():
        assert torch.equal(loaded.optimiser["state"][number]["exp_avg"], state["exp_avg"])
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_new_run_has_none(tmp_path):
    assert load_checkpoint(tmp_path) is None
    assert load_checkpoint(tmp_path / "missing") is None


def test_a_newer_checkpoint_replaces_the_older(checkpoint, tmp_path):
    save_checkpoint(checkpoint, tmp_path)
    save_checkpoint(Checkpoint(**{**vars(checkpoint), "iteration": 8}), tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert loaded is not None
    assert loaded.iteration == 8


@pytest.mark.parametrize("kind", ["empty", "cut short", "text", "zip", "list", "field missing"])
def test_a_damaged_file_is_refused(checkpoint, tmp_path, kind):
    save_checkpoint(checkpoint, tmp_path)
    path = tmp_path / FILE_NAME
    whole = path.read_bytes()
    if kind == "list":
        torch.save([1, 2], path)
    elif kind == "field missing":
        torch.save({"iteration": 3}, path)
    else:
        damaged = {
            "empty": b"",
            "cut short": whole[: len(whole) // 2],
            "text": b"iteration = 7",
            "zip": b"PK\3\4",
        }
        path.write_bytes(damaged[kind])
    with pytest.raises(TrainingError, match="cannot be read") as caught:
        load_checkpoint(tmp_path)
    assert caught.value.next_step


@pytest.mark.parametrize("as_zip", [True, False])
def test_code_in_a_checkpoint_is_refused_and_not_run(tmp_path, as_zip):
    target = tmp_path / "owned"
    content = {"iteration": 1, "recipe": Malicious(target)}
    if as_zip:
        torch.save(content, tmp_path / FILE_NAME)
    else:
        (tmp_path / FILE_NAME).write_bytes(pickle.dumps(content, protocol=2))
    with pytest.raises(TrainingError) as caught:
        load_checkpoint(tmp_path)
    assert "more than tensors" in caught.value.cause
    assert "weights_only" not in str(caught.value), (
        "torch's advice to switch the protection off is not passed on"
    )
    assert not target.exists()
