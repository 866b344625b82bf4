from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from multiorganseg.errors import TrainingError
from multiorganseg_training.losses.alignment import choose, sinkhorn, subsample


def _slow(cosines: np.ndarray, iterations: int, epsilon: float) -> np.ndarray:
    """The textbook form for one class: prototypes × pixels, total 1, marginals 1/M and 1/N."""
    shares = np.exp(cosines.T.astype(np.float64) / epsilon)
    shares /= shares.sum()
    prototypes, pixels = shares.shape
    for _ in range(iterations):
        shares /= shares.sum(axis=1, keepdims=True) * prototypes
        shares /= shares.sum(axis=0, keepdims=True) * pixels
    return shares.T * pixels


def _cosines(pixels: int, per_class: int) -> torch.Tensor:
    return torch.rand((pixels, per_class), generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_one_iteration_by_hand():
    """With ε = 1 and exp(cosine) of 1, 2 and 3, 4: prototypes' totals are 4 and 6."""
    cosines = torch.tensor([[1.0, 2.0], [3.0, 4.0]]).log()
    shares = sinkhorn(cosines, torch.zeros(2, dtype=torch.int64), 1, iterations=1, epsilon=1.0)
    first, second = (1 / 4, 2 / 6), (3 / 4, 4 / 6)
    expected = [[x / sum(pixel) for x in pixel] for pixel in (first, second)]
    assert torch.allclose(shares, torch.tensor(expected))


def test_every_class_by_itself():
    cosines = _cosines(90, 5)
    members = torch.arange(90) % 3
    together = sinkhorn(cosines, members, classes=4)
    for number in range(3):
        alone = _slow(cosines[members == number].numpy(), 3, 0.05)
        assert np.allclose(together[members == number].numpy(), alone, atol=1e-5)
    assert torch.allclose(together.sum(1), torch.ones(90))


def test_prototypes_are_used_evenly():
    cosines = _cosines(500, 5) * 0.2
    cosines[:, 0] += 0.7
    members = torch.zeros(500, dtype=torch.int64)
    assert (cosines.argmax(1) == 0).all()
    totals = sinkhorn(cosines, members, 1).sum(0)
    assert totals.tolist() == pytest.approx([100.0] * 5, rel=0.1)


@pytest.mark.parametrize("value", [1.0, -1.0, 0.0])
def test_extreme_cosines_under_autocast(value):
    cosines = torch.full((6, 5), value)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        shares = sinkhorn(cosines, torch.tensor([0, 0, 0, 1, 1, 2]), 3)
    assert shares.dtype == torch.float32
    assert torch.allclose(shares, torch.full((6, 5), 0.2))


def test_no_pixels():
    empty = torch.zeros(0, dtype=torch.int64)
    assert sinkhorn(torch.zeros(0, 5), empty, 3).shape == (0, 5)
    assert choose(torch.zeros(0, 5)).shape == (0,)
    assert subsample(torch.tensor([-1, -1]), 4, 3).shape == (0,)


def test_gumbel_draws_from_the_softmax_of_the_shares():
    """Of certain shares the published draw agrees with the argmax in e / (e + 4) of the pixels."""
    shares = torch.eye(5)[torch.arange(20_000) % 5]
    drawn = choose(shares, "gumbel", torch.Generator().manual_seed(0))
    agreement = (drawn == choose(shares)).float().mean()
    assert float(agreement) == pytest.approx(math.e / (math.e + 4), abs=0.015)
    again = choose(shares, "gumbel", torch.Generator().manual_seed(0))
    assert torch.equal(drawn, again)
    with pytest.raises(TrainingError, match="No assignment"):
        choose(shares, "random")


def test_subsampling_takes_at_most_so_many_of_each_class():
    members = torch.cat([torch.full((n,), c) for c, n in ((-1, 500), (0, 20_000), (1, 3000), (2, 7))])
    generator = torch.Generator().manual_seed(0)
    places = subsample(members, 1000, 4, generator)
    counts = torch.bincount(members[places], minlength=4).tolist()
    assert counts == [1000, 1000, 7, 0]
    assert len(places.unique()) == len(places)
    assert float(places[members[places] == 0].float().mean()) == pytest.approx(500 + 10_000, rel=0.05)
    assert not torch.equal(places, subsample(members, 1000, 4, generator))
