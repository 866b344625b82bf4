"""One correction, computed in a box of the network's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from multiorganseg.refine.geodesic import geodesic_distance
from multiorganseg.refine.head import Head, Samples
from multiorganseg.refine.maps import NetworkMaps
from multiorganseg.volumes.volume import Grid

EVERYWHERE = np.ones((3, 3, 3), bool)


@dataclass(frozen=True)
class Tuning:
    """Numbers chosen on training cases.

    Attributes:
        ball_mm: Radius round a prompt in which all voxels are taken to be of its side.
        faith: Log-odds with which a voxel holds to its present label where nothing was said.
        trust: How much more it does where the network agrees, for each unit of the network's log-odds.
        most_trust: Largest such log-odds.
        reach_per_depth: Reach of a prompt for each mm that it lies from the present border: who points at the
            middle of an error says by that how deep the error is. The reach is the geodesic distance over
            which the influence of a prompt falls by 1/√e.
        least_reach_mm: Smallest reach.
        most_reach_mm: Largest reach.
        first_reach_mm: Reach where there is nothing of the organ yet.
        band_per_depth: Distance from the present border up to which voxels may change, for each mm of depth.
        band_mm: Added to it.
        barrier: How many times dearer a mm is where the head contradicts the prompt.
        distrust: Distance over which present labels round a prompt are distrusted, in reaches.
        ridge: Of the head.
        support: How much the network adds to the head where it agrees with the prompt, for each unit of its
            log-odds.
        favour: Log-odds by which the head leans towards taking away after a negative prompt: what is wrongly
            in an organ is more often right than what is missing.
        certainty: Exponent of the network's probability of a present label, by which the label is trusted as
            a sample.
    """

    ball_mm: float = 4.0
    faith: float = 1.0
    trust: float = 0.2
    most_trust: float = 4.0
    reach_per_depth: float = 2.0
    least_reach_mm: float = 6.0
    most_reach_mm: float = 50.0
    first_reach_mm: float = 25.0
    band_per_depth: float = 2.2
    band_mm: float = 3.0
    barrier: float = 4.0
    distrust: float = 1.0
    ridge: float = 0.02
    support: float = 0.5
    favour: float = 0.5
    certainty: float = 4.0


SAMPLES_A_SIDE = 1500
FURTHEST = 2.5
"""Multiples of the reach beyond which a prompt means nothing."""


@dataclass(frozen=True, eq=False)
class Situation:
    """What is known before an answer, in a box of the network's grid.

    Attributes:
        points: Grid of the box.
        inside: Share (k, j, i) of each voxel that belongs to the organ now, in 0…1.
        others: Whether a voxel (k, j, i) belongs to another organ now.
        channel: Of the organ in the network's scores; None when it does not know it.
        said_inside: Indices (n, 3) in the box of voxels that earlier prompts put into the organ.
        said_outside: Of those that they kept out.
        prompt: Of those of this prompt; at least one.
        positive: Whether this prompt adds.
        taken: Where the organ may not grow: locked organs.
        depth: mm from the prompt to the present border; infinite where there is none.
        reach: mm, see `Tuning`.
    """

    points: Grid
    inside: NDArray[np.float32]
    others: NDArray[np.bool_]
    channel: int | None
    said_inside: NDArray[np.intp]
    said_outside: NDArray[np.intp]
    prompt: NDArray[np.intp]
    positive: bool
    taken: NDArray[np.bool_]
    depth: float
    reach: float


@dataclass(frozen=True, eq=False)
class Answer:
    """What becomes of the box.

    Attributes:
        odds: (k, j, i): above 0 inside the organ.
        changed: Voxels (k, j, i) that change sides.
    """

    odds: NDArray[np.float32]
    changed: NDArray[np.bool_]


def answer(maps: NetworkMaps, situation: Situation, tuning: Tuning) -> Answer:
    """Decide which voxels follow a prompt.

    The head learns from the voxels round all prompts, from the present labels as far as they are not in
    distrust, and from the network. Its log-odds and those of the present labels are mixed; the head's share
    falls with the geodesic distance from the prompt, which is long where the head contradicts it, and is 0
    beyond. Of the voxels that would change to the prompt's side, those connected with it do.
    """
    spacing = situation.points.spacing
    now = situation.inside >= 0.5
    said = situation.positive
    seeds = _mask(now.shape, situation.prompt)
    network = _network_odds(maps, situation)
    head = Head(maps, _samples(situation, now, network, tuning), tuning.ridge)
    odds = head.log_odds(situation.points) - (0 if said else tuning.favour)
    towards = odds if said else -odds
    distance = _distance(towards, seeds, spacing, tuning) / situation.reach
    share = np.where(distance < FURTHEST, np.exp(-0.5 * distance**2), 0).astype(np.float32)
    side = 2 * situation.inside - 1
    agreement = np.clip(network * np.sign(side), 0, tuning.most_trust)
    present = side * (tuning.faith + tuning.trust * agreement)
    support = np.clip(network if said else -network, 0, tuning.most_trust)
    mixed = (1 - share) * present + share * (odds + tuning.support * (support if said else -support))
    ball = _near(situation.prompt, now.shape, spacing, min(spacing) * 1.01)
    seeds |= ball & (towards > 0)
    may = ~situation.taken if said else now
    wants = (mixed > 0 if said else mixed <= 0) & (share > 0) & may & (now != said)
    if np.isfinite(situation.depth):
        band = tuning.band_per_depth * situation.depth + tuning.band_mm
        wants &= ndimage.distance_transform_edt(now != said, spacing) <= band
    wants |= seeds & may & (now != said)
    changed = _connected(wants, seeds)
    mixed[changed] = np.where(said, np.maximum(mixed[changed], 0.5), np.minimum(mixed[changed], -0.5))
    mixed = np.where(changed, mixed, np.where(now, np.maximum(mixed, 0.25), np.minimum(mixed, -0.25)))
    return Answer(mixed.astype(np.float32), changed)


def depth_of(inside: NDArray[np.float32], prompt: NDArray[np.intp], positive: bool, grid: Grid) -> float:
    """Return the largest distance in mm from a voxel of the prompt to the side that it wants to be on.

    Args:
        inside: As in `Situation`.
        prompt: Indices (n, 3) in the box.
        positive: Whether the prompt adds.
        grid: Of the box.

    Returns:
        0 where all of the prompt is on its side already; infinite where nothing in the box is.
    """
    wanted = (inside >= 0.5) == positive
    if not wanted.any():
        return float("inf")
    border = np.argwhere(wanted & ~ndimage.binary_erosion(wanted, border_value=1))
    if not len(border):
        return 0.0
    spacing = np.array(grid.spacing)
    far = prompt[~wanted[tuple(prompt.T)]]
    return float(cKDTree(border * spacing).query(far * spacing)[0].max()) if len(far) else 0.0


def reach_of(depth: float, tuning: Tuning) -> float:
    """Return the reach in mm of a prompt that lies so deep."""
    if not np.isfinite(depth):
        return tuning.first_reach_mm
    return float(np.clip(tuning.reach_per_depth * depth, tuning.least_reach_mm, tuning.most_reach_mm))


def _connected(wants: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(wants, EVERYWHERE)
    touched = np.zeros(count + 1, bool)
    touched[pieces[seeds]] = True
    touched[0] = False
    return touched[pieces]


def _network_odds(maps: NetworkMaps, situation: Situation) -> NDArray[np.float32]:
    """Log-odds of the organ by the network; 0 where it does not know it."""
    if situation.channel is None or situation.channel >= len(maps.scores.values):
        return np.zeros(situation.points.shape, np.float32)
    logs = maps.sample("scores", situation.points, situation.channel)
    return logs - np.log(np.maximum(1 - np.exp(np.minimum(logs, -1e-4)), 1e-6))


def _mask(shape: tuple[int, ...], voxels: NDArray[np.intp]) -> NDArray[np.bool_]:
    mask = np.zeros(shape, bool)
    mask[tuple(voxels.T)] = True
    return mask


def _near(
    voxels: NDArray[np.intp], shape: tuple[int, ...], spacing: tuple[float, float, float], radius: float
) -> NDArray[np.bool_]:
    """Mask (k, j, i) of what lies within `radius` mm of any of some voxels."""
    mask = np.zeros(shape, bool)
    if not len(voxels):
        return mask
    reach = [int(radius // step) for step in spacing]
    offsets = np.stack(np.meshgrid(*[np.arange(-n, n + 1) for n in reach], indexing="ij"), -1).reshape(-1, 3)
    offsets = offsets[np.linalg.norm(offsets * np.array(spacing), axis=1) <= radius]
    spots = (voxels[:, None] + offsets).reshape(-1, 3)
    spots = spots[((spots >= 0) & (spots < np.array(shape))).all(axis=1)]
    return _mask(shape, spots)


def _distance(
    towards: NDArray[np.float32],
    seeds: NDArray[np.bool_],
    spacing: tuple[float, float, float],
    tuning: Tuning,
) -> NDArray[np.float32]:
    """Geodesic distance in mm, on a grid as coarse as the thickest axis."""
    steps = tuple(max(1, round(max(spacing) / step)) for step in spacing)
    cost = 1 + tuning.barrier / (1 + np.exp(np.clip(towards, -10, 10)))
    coarse_cost = _pool(cost.astype(np.float32), steps)
    coarse_seeds = _pool(seeds.astype(np.float32), steps) > 0
    size = (spacing[0] * steps[0], spacing[1] * steps[1], spacing[2] * steps[2])
    distance = geodesic_distance(coarse_cost, coarse_seeds, size)
    for axis, step in enumerate(steps):
        distance = np.repeat(distance, step, axis)
    return distance[tuple(slice(0, n) for n in seeds.shape)]


def _pool(values: NDArray[np.float32], steps: tuple[int, ...]) -> NDArray[np.float32]:
    padded = np.pad(
        values, [(0, -size % step) for size, step in zip(values.shape, steps, strict=True)], mode="edge"
    )
    k, j, i = (size // step for size, step in zip(padded.shape, steps, strict=True))
    return padded.reshape(k, steps[0], j, steps[1], i, steps[2]).mean(axis=(1, 3, 5))


def _samples(
    situation: Situation, now: NDArray[np.bool_], network: NDArray[np.float32], tuning: Tuning
) -> Samples:
    spacing, shape = situation.points.spacing, now.shape
    ball_mm = min(tuning.ball_mm, max(situation.depth, min(spacing)))
    every_positive, every_negative = situation.said_inside, situation.said_outside
    if situation.positive:
        every_positive = np.concatenate([every_positive, situation.prompt])
    else:
        every_negative = np.concatenate([every_negative, situation.prompt])
    certain_in = _near(every_positive, shape, spacing, ball_mm)
    certain_out = _near(every_negative, shape, spacing, ball_mm)
    if situation.positive:
        certain_out &= ~_near(situation.prompt, shape, spacing, ball_mm)
    else:
        certain_in &= ~_near(situation.prompt, shape, spacing, ball_mm)
    both = certain_in & certain_out
    certain_in, certain_out = certain_in & ~both, certain_out & ~both
    from_prompt = _euclidean(situation.prompt, shape, spacing)
    distrust = np.exp(-0.5 * (from_prompt / (tuning.distrust * situation.reach)) ** 2)
    local = np.exp(-0.5 * (from_prompt / (2 * tuning.distrust * situation.reach)) ** 2)
    trusted_in = now & ~certain_out & ~certain_in
    trusted_out = ~now & ~certain_in & ~certain_out
    # Labels on the side that the prompt contradicts are distrusted near it; labels of other organs are not.
    weight_in = local * (1 if situation.positive else 1 - distrust)
    weight_out = local * np.where(situation.others, 1, 1 - distrust if situation.positive else 1)
    if situation.channel is not None:
        chance = 1 / (1 + np.exp(-np.clip(network, -20, 20)))
        weight_in = weight_in * chance**tuning.certainty
        weight_out = weight_out * (1 - chance) ** tuning.certainty
    groups = [
        (certain_in, np.ones(shape, np.float32), True, 1.0),
        (certain_out, np.ones(shape, np.float32), False, 1.0),
        (trusted_in, weight_in, True, 1.0),
        (trusted_out, weight_out, False, 1.0),
    ]
    points, sides, weights = [], [], []
    for mask, weight, side, mass in groups:
        found = np.flatnonzero(mask)
        if not found.size:
            continue
        chosen = found[:: max(1, found.size // SAMPLES_A_SIDE)]
        own = weight.ravel()[chosen].astype(np.float64) + 1e-6
        index = np.stack(np.unravel_index(chosen, shape), axis=1)
        points.append(situation.points.to_patient(index.astype(float)))
        sides.append(np.full(len(chosen), side))
        weights.append(mass * own / own.sum())
    return Samples(np.concatenate(points), np.concatenate(sides), np.concatenate(weights))


def _euclidean(
    voxels: NDArray[np.intp], shape: tuple[int, ...], spacing: tuple[float, float, float]
) -> NDArray[np.float32]:
    """Distance in mm from each voxel to the box of the prompt's voxels."""
    low, high = voxels.min(axis=0), voxels.max(axis=0)
    total = np.zeros(shape, np.float32)
    for axis in range(3):
        index = np.arange(shape[axis])
        away = np.maximum(0, np.maximum(low[axis] - index, index - high[axis])) * spacing[axis]
        total += (away.astype(np.float32) ** 2).reshape([-1 if a == axis else 1 for a in range(3)])
    return np.sqrt(total)
