"""Checkpoints of a training, and whether a run goes on from them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from campaign.kind import Kind
from campaign.mutate import TEXTS, extreme_value, spoil_bytes, spoil_file, spoil_tree
from campaign.training import RECIPE, tomllib


def _tiny_recipe() -> Any:
    from multiorganseg_training.recipe.file import recipe_from_dict

    said = tomllib.loads(RECIPE)
    said.pop("base")
    return recipe_from_dict(said)


def _parts() -> Any:
    """The objects that a run restores from its checkpoint, as new."""
    import torch

    from multiorganseg_training.run.build import build_optimiser, recipe_method, recipe_network
    from multiorganseg_training.run.checkpoint import WeightAverage

    recipe = _tiny_recipe()
    torch.manual_seed(0)
    network = recipe_network(recipe)
    average, judging = WeightAverage(network, 0.9), WeightAverage(network, 0.9)
    method = recipe_method(recipe, network)
    optimiser = build_optimiser(network, method, recipe.optimisation)
    return recipe, network, average, method, judging, optimiser, np.random.default_rng(0)


def _prepare_checkpoint(folder: Path) -> None:
    import torch

    from multiorganseg_training.recipe.file import recipe_to_dict
    from multiorganseg_training.run.checkpoint import Checkpoint, save_checkpoint

    recipe, network, average, method, judging, optimiser, generator = _parts()
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step()
    state = dict(generator.bit_generator.state)
    save_checkpoint(
        Checkpoint(
            7, recipe_to_dict(recipe), network.state_dict(), average.network.state_dict(), 7,
            method.state_dict(), optimiser.state_dict(), state, judging.network.state_dict(),
        ),
        folder,
    )  # fmt: skip


class _Touch:
    """Would write a file if anything unpickled it."""

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (Path("executed"),)


def _mutate_checkpoint(random: Random, folder: Path) -> str:
    import torch

    path = folder / "checkpoint.pt"
    name = random.choice(("tree",) * 5 + ("bytes", "pickle", "pickle", "code", "plain pickle", "tensor"))
    if name == "bytes":
        return spoil_file(random, path)
    if name == "plain pickle":
        path.write_bytes(pickle.dumps(random.choice((5, {}, {"iteration": 1}, _Touch()))))
        return name
    if name == "pickle":
        with zipfile.ZipFile(path) as archive:
            entries = {entry: archive.read(entry) for entry in archive.namelist()}
        spoilt = next(entry for entry in entries if entry.endswith("data.pkl"))
        entries[spoilt], what = spoil_bytes(random, entries[spoilt])
        with zipfile.ZipFile(path, "w") as archive:
            for entry, data in entries.items():
                archive.writestr(entry, data)
        return f"pickle {what}"
    said = torch.load(path, weights_only=True)
    if name == "code":
        said[random.choice(list(said))] = _Touch()
        what = name
    elif name == "tensor":
        part = said[random.choice(("network", "average"))]
        key = random.choice(list(part))
        part[key] = random.choice(_tensors(part[key]))
        what = f"tensor {key}"
    else:
        said, what = spoil_tree(random, said, extreme=_extreme_state)
    torch.save(said, path)
    return what


def _tensors(tensor: Any) -> tuple[Any, ...]:
    import torch

    return (
        tensor[:1], tensor.double(), tensor.to(torch.int8), tensor.flatten(), tensor * float("nan"),
        tensor[None], torch.zeros(1).expand(10**9), torch.zeros(()), tensor.to_sparse(), tensor.to("meta"),
    )  # fmt: skip


def _extreme_state(random: Random) -> Any:
    import torch

    shallow = extreme_value(random)
    while isinstance(shallow, list) and shallow and isinstance(shallow[0], list):
        shallow = shallow[0]
    return random.choice((shallow, torch.zeros(2), torch.zeros(1).expand(10**9), (1, 2), TEXTS[0]))


def _read_checkpoint(folder: Path) -> Any:
    from multiorganseg_training.run import loop

    recipe, *rest = _parts()
    return loop._resume(folder, recipe, *rest)


def _judge_checkpoint(folder: Path, result: Any) -> str:
    if (folder / "executed").exists():
        return "its code was executed"
    return "" if type(result) is int and 0 <= result <= 100 else f"goes on from iteration {result!r}"


KINDS = (
    Kind(
        "checkpoint",
        _prepare_checkpoint,
        _mutate_checkpoint,
        _read_checkpoint,
        _judge_checkpoint,
        lambda folder: _parts(),
    ),
)
