from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from torch import nn

from multiorganseg_training.data.batches import Batch
from multiorganseg_training.methods.method import Method, Step
from multiorganseg_training.run import fixed as fixed_module
from multiorganseg_training.run.fixed import FixedBatches, fixed_batches, kept_bytes

SPACE = (2, 4, 4)


def _noise(number: int) -> Batch:
    generator = np.random.default_rng(number)
    image = torch.from_numpy(generator.standard_normal((1, 1, *SPACE), dtype=np.float32))
    return Batch(image, torch.zeros((1, *SPACE), dtype=torch.long), torch.ones((1, 1), dtype=torch.bool))


class _Method(Method):
    """Remembers what it saw and what it learned from."""

    frozen = True

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0
        self.learned: list[dict[str, torch.Tensor]] = []

    def see(self, network, batch, generator):
        self.seen += 1
        return {
            "image": batch.image,
            "maps.0": torch.cat([batch.image, batch.image / 3], dim=1),
            "known": batch.known,
            "sums": torch.tensor([[generator.random()]]),
        }

    def learn(self, network, seen):
        self.learned.append(seen)
        return Step(seen["image"].sum())


NETWORK = nn.Linear(1, 1)


def _steps(method: _Method, folder, count: int, iterations: range, passes: int = 0) -> None:
    with fixed_batches(method, _noise, count, passes, 7, folder) as fixed:
        assert fixed is not None
        for iteration in iterations:
            fixed.step(NETWORK, iteration)


def _equal(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(tensor, other[name])
        and tensor.dtype == other[name].dtype
        and tensor.stride() == other[name].stride()
        for name, tensor in one.items()
    )


def test_each_batch_is_seen_once_and_comes_again_in_each_pass(tmp_path):
    method = _Method()
    _steps(method, tmp_path, 4, range(12))
    assert method.seen == 4
    fixed = FixedBatches(method, _noise, 4, 0, 7, tmp_path)
    numbers = [fixed.number(iteration) for iteration in range(12)]
    assert numbers[:4] == [0, 1, 2, 3]
    assert sorted(numbers[4:8]) == sorted(numbers[8:]) == [0, 1, 2, 3]
    assert numbers[4:8] != numbers[8:]
    for number, seen in zip(numbers, method.learned, strict=True):
        assert _equal(seen, method.learned[number])
    assert not _equal(method.learned[0], method.learned[1])


def test_after_so_many_passes_others_take_their_place(tmp_path):
    method = _Method()
    with fixed_batches(method, _noise, 3, 2, 7, tmp_path) as fixed:
        assert fixed is not None
        numbers = [fixed.number(iteration) for iteration in range(12)]
        passes = [sorted(numbers[first : first + 3]) for first in (0, 3, 6, 9)]
        assert passes == 2 * [[0, 1, 2]] + 2 * [[3, 4, 5]]
        assert numbers[:3] + numbers[6:9] == list(range(6))
        for iteration in range(12):
            fixed.step(NETWORK, iteration)
            (folder,) = tmp_path.iterdir()
            assert len(list(folder.iterdir())) <= 3
    assert method.seen == 6


@pytest.mark.parametrize("passes", [0, 2])
def test_a_run_that_goes_on_sees_the_same_batches(tmp_path, passes):
    whole, second = _Method(), _Method()
    _steps(whole, tmp_path, 4, range(12), passes)
    _steps(second, tmp_path, 4, range(6, 12), passes)
    assert all(_equal(*pair) for pair in zip(whole.learned[6:], second.learned, strict=True))


def test_maps_lie_in_bfloat16_with_their_channels_innermost(tmp_path):
    method = _Method()
    with torch.autocast("cpu", torch.bfloat16):
        _steps(method, tmp_path, 1, range(2))
    for seen in method.learned:
        assert seen["maps.0"].dtype == torch.bfloat16
        assert seen["maps.0"].is_contiguous(memory_format=torch.channels_last_3d)
        assert seen["image"].dtype == torch.float16
        assert seen["known"].dtype == torch.bool
    voxels = 2 * 4 * 4
    assert kept_bytes(method.learned[0]) == voxels * (2 + 2 * 2) + 1 + 2


def test_a_training_in_float32_gets_them_in_float32(tmp_path):
    method = _Method()
    _steps(method, tmp_path, 1, range(2))
    for seen in method.learned:
        assert {tensor.dtype for tensor in seen.values()} == {torch.float32, torch.bool}
        assert seen["maps.0"].is_contiguous(memory_format=torch.channels_last_3d)
        assert torch.equal(seen["maps.0"], seen["maps.0"].bfloat16().float()), "rounded as they are stored"


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error")])
def test_a_full_disk_costs_time_alone(tmp_path, monkeypatch, error):
    kept, computed = _Method(), _Method()
    _steps(kept, tmp_path, 2, range(6))

    def fail(*said):
        raise error

    monkeypatch.setattr(fixed_module, "save_file", fail)
    _steps(computed, tmp_path, 2, range(6))
    assert (kept.seen, computed.seen) == (2, 6)
    assert all(_equal(*pair) for pair in zip(kept.learned, computed.learned, strict=True))


def test_the_folder_is_private_and_goes_with_the_training(tmp_path):
    with fixed_batches(_Method(), _noise, 2, 0, 7, tmp_path) as fixed:
        assert fixed is not None
        fixed.step(NETWORK, 0)
        (folder,) = tmp_path.iterdir()
        assert folder.stat().st_mode & 0o077 == 0
        assert [path.suffix for path in folder.iterdir()] == [".safetensors"]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("frozen", "count"), [(True, 0), (False, 3)])
def test_other_trainings_draw_each_batch_anew(tmp_path, frozen, count):
    method = _Method()
    method.frozen = frozen
    with fixed_batches(method, _noise, count, 0, 7, tmp_path) as fixed:
        assert fixed is None
    assert not list(tmp_path.iterdir())
