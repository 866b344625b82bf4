from __future__ import annotations

import pytest
import torch

from multiorganseg.bundles import read_weights
from multiorganseg.errors import TrainingError
from multiorganseg_training.run.soup import mix_weights


def _tuned(full):
    return {name: torch.from_numpy(array).float() + 0.1 for name, array in read_weights(full).items()}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_mixture_lies_between_both(full, share):
    mixed = mix_weights(full, _tuned(full), share)
    for name, array in read_weights(full).items():
        expected = torch.from_numpy(array).float() + 0.1 * share
        torch.testing.assert_close(mixed[name], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("change", ["missing", "further", "shape"])
def test_another_network_is_refused(full, change):
    tuned = _tuned(full)
    if change == "missing":
        del tuned["head.weight"]
    elif change == "further":
        tuned["detail.weight"] = torch.zeros(3)
    else:
        tuned["head.bias"] = tuned["head.bias"][:-1]
    with pytest.raises(TrainingError, match="cannot be mixed"):
        mix_weights(full, tuned, 0.5)


def test_counters_of_the_run_are_left_out(full):
    assert "updates" not in mix_weights(full, {**_tuned(full), "updates": torch.tensor(3)}, 0.5)
