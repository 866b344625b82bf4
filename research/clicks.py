"""Train a small network that answers clicks about any organ, by simulated clicks on spoilt labels.

    python research/clicks.py CASES RUN --iterations 3000

CASES holds NAME.image.npy, NAME.truth.npy and NAME.auto.npy: normalised intensities, annotated and automatic
labels on the network's grid. The same command goes on where it was stopped.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import cc3d
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles import find_bundle
from multiorganseg.bundles.bundle import read_weights
from multiorganseg.networks.strided_dynunet import StridedDynUNet
from multiorganseg.refine.learnt import CHANNELS, CROP, CROP_MM, FARTHEST_OUT, look
from multiorganseg_training.data.augmentation import change_intensity, random_patch
from multiorganseg_training.recipe.recipe import AugmentationSpec
from multiorganseg_training.run.checkpoint import WeightAverage

FILTERS = (32, 48, 96)
REGION = (56, 112, 112)
AUGMENTATION = AugmentationSpec(off_centre=0.3)
HELD_OUT = ("kidney_right", "kidney_left")
"""Never clicked on, so that they can be measured as organs that the network does not know."""
BASE = 16
MOST_CLICKS = 4
LEAST_VOXELS = 30
LOCAL_MM = 25.0
SIMILAR = 0.25

Mask = NDArray[np.bool_]
Voxel = NDArray[np.intp]


@dataclass
class Game:
    """A part of a case in which an organ is put right click by click.

    Attributes:
        image: (k, j, i) in −1…1.
        truth: The organ.
        others: Automatic labels of other organs.
        inside: The organ as it is now.
        spacing: mm.
        positive: Voxels that were said to belong to the organ.
        negative: Voxels that were said not to.
        clicks: How many more there may be.
    """

    image: NDArray[np.float32]
    truth: Mask
    others: Mask
    inside: Mask
    spacing: tuple[float, float, float]
    positive: list[Voxel] = field(default_factory=list)
    negative: list[Voxel] = field(default_factory=list)
    clicks: int = MOST_CLICKS

    def click(self, random: np.random.Generator) -> tuple[Voxel, bool] | None:
        """Return the voxel where the largest error is deepest, and whether it is missing; None if all is right."""
        wrong = (self.truth != self.inside) & ~self.others
        kind = np.where(wrong, 1 + self.truth.astype(np.uint8), 0)[:, ::2, ::2]
        if np.count_nonzero(kind) < LEAST_VOXELS // 4 or not self.clicks:
            return None
        pieces = cc3d.connected_components(np.ascontiguousarray(kind), connectivity=26)
        sizes = np.bincount(pieces.ravel())
        sizes[0] = 0
        if len(sizes) < 2:
            return None
        # Mostly the largest error, as the user takes it; at times another, for the sake of variety.
        chosen = (
            int(sizes.argmax())
            if random.random() < 0.8
            else int(random.choice(len(sizes), p=sizes / sizes.sum()))
        )
        box = ndimage.find_objects((pieces == chosen).astype(np.uint8))[0]
        mask = np.pad(pieces[box] == chosen, 1)
        spacing = (self.spacing[0], 2 * self.spacing[1], 2 * self.spacing[2])
        depth = ndimage.distance_transform_edt(mask, spacing)
        least = 1.0 if random.random() < 0.6 else 0.6
        deepest = np.argwhere(depth >= least * depth.max())
        spot = random.choice(deepest) - 1 + [part.start for part in box]
        voxel = spot * (1, 2, 2)
        self.clicks -= 1
        missing = bool(self.truth[tuple(voxel)])
        (self.positive if missing else self.negative).append(voxel)
        return voxel, missing

    def crop(self, voxel: Voxel) -> tuple[tuple[slice, ...], list[tuple[int, int]]]:
        """Return the part of the game round a voxel, and how far it is padded."""
        low = voxel - np.array(CROP) // 2
        part = tuple(
            slice(max(0, a), min(n, a + c)) for a, c, n in zip(low, CROP, self.truth.shape, strict=True)
        )
        pad = [
            (max(0, -a), max(0, a + c - n))
            for a, c, n in zip(low.tolist(), CROP, self.truth.shape, strict=True)
        ]
        return part, pad

    def follow(self, voxel: Voxel, missing: bool, odds: NDArray[np.float32]) -> None:
        """Change the organ as the network says: only to the click's side, and connected with it."""
        part, pad = self.crop(voxel)
        own = odds[tuple(slice(a, odds.shape[axis] - b) for axis, (a, b) in enumerate(pad))]
        now = self.inside[part]
        wants = (own > 0) & ~now & ~self.others[part] if missing else (own <= 0) & now
        spot = tuple(voxel - [side.start for side in part])
        wants[spot] = True
        pieces, _ = ndimage.label(wants, np.ones((3, 3, 3)))
        now[pieces == pieces[spot]] = missing


class Cases:
    """Draws games from all training cases."""

    def __init__(
        self, folder: Path, keys: dict[int, str], random: np.random.Generator, without: Collection[str] = ()
    ) -> None:
        self._random = random
        self._values = [value for value, key in keys.items() if key not in HELD_OUT]
        self._cases = []
        for path in sorted(folder.glob("*.image.npy")):
            name = path.name.removesuffix(".image.npy")
            if name in without or not (folder / f"{name}.auto.npy").is_file():
                continue
            truth = np.load(folder / f"{name}.truth.npy")
            both = torch.from_numpy(truth * BASE + np.load(folder / f"{name}.auto.npy"))
            places = {}
            for value, box in enumerate(ndimage.find_objects(truth), start=1):
                if value in self._values and box is not None:
                    spots = np.argwhere(truth[box] == value)
                    spots = spots[:: max(1, len(spots) // 4000)] + [side.start for side in box]
                    places[value] = spots.astype(np.int16)
            self._cases.append((torch.from_numpy(np.load(path)), both, places))

    def game(self) -> Game:
        """Draw a game."""
        random = self._random
        while True:
            image, both, places = self._cases[random.integers(len(self._cases))]
            value = int(random.choice(list(places)))
            zoom = 1.0 if random.random() < 0.6 else float(random.uniform(1, FARTHEST_OUT))
            size = float(random.uniform(0.85, 1.2)) / zoom
            spec = replace(AUGMENTATION, scale=(size, size))
            centre = random.choice(places[value]).astype(float)
            patch, labels = random_patch(
                image, both, centre, REGION, CROP_MM, spec, random, torch.device("cpu")
            )
            seen = change_intensity(patch, spec, random)[0].numpy()
            truth, auto = labels.numpy() // BASE, labels.numpy() % BASE
            if random.random() < 0.5:
                seen, truth, auto = (np.ascontiguousarray(one[..., ::-1]) for one in (seen, truth, auto))
            own = truth == value
            if np.count_nonzero(own) < LEAST_VOXELS:
                continue
            spacing = (CROP_MM[0] * zoom, CROP_MM[1] * zoom, CROP_MM[2] * zoom)
            inside = spoilt(seen, own, auto, value, spacing, random)
            others = (auto != 0) & (auto != value) & ~inside
            if random.random() < 0.25:
                others[:] = False
            return Game(seen, own, others, inside, spacing, clicks=int(random.integers(1, MOST_CLICKS + 1)))


def spoilt(
    image: NDArray[np.float32],
    truth: Mask,
    auto: NDArray[np.integer],
    value: int,
    spacing: tuple[float, float, float],
    random: np.random.Generator,
) -> Mask:
    """Return what may be wrong with an organ: nothing there, borders off, a lobe lost, a leak, a swap."""
    kind = random.choice(
        ["empty", "auto", "border", "lobe", "leak", "swap"], p=[0.16, 0.1, 0.18, 0.18, 0.2, 0.18]
    )
    if kind == "empty":
        return np.zeros_like(truth)
    start = auto == value
    if kind == "border" or random.random() < 0.6:
        most = 9.0 if kind == "border" else 3.0
        off = random.uniform(1, most) * smooth_noise(truth.shape, spacing, random) + random.normal(
            0, 0.15 * most
        )
        start = _signed_distance(truth if random.random() < 0.7 else start, spacing) + off < 0
        if random.random() < 0.5:
            middle = np.median(image[truth])
            start &= truth | (np.abs(image - middle) < SIMILAR)
    edge = np.argwhere(truth & ~ndimage.binary_erosion(truth))
    spot = random.choice(edge)
    if kind == "lobe":
        direction = random.normal(size=3)
        direction[1:] *= 1.0 if random.random() < 0.5 else 0.2
        where = np.argwhere(truth) * spacing @ direction
        height = sum(
            (index * step * factor)
            for index, step, factor in zip(
                np.indices(truth.shape, sparse=True), spacing, direction, strict=True
            )
        )
        start &= height < np.quantile(where, random.uniform(0.3, 0.85))
    elif kind == "leak":
        ball = _ball(truth.shape, spot, random.uniform(8, 20), spacing)
        if random.random() < 0.4:
            ball &= np.abs(image - image[tuple(spot)]) < SIMILAR
        start = start | ball
    elif kind == "swap":
        near = _ball(truth.shape, spot, random.uniform(15, 30), spacing)
        counts = np.bincount(auto[near], minlength=BASE)
        counts[[0, value]] = 0
        if counts.any():
            start = start | (near & (auto == counts.argmax()))
    return start


def smooth_noise(
    shape: tuple[int, ...], spacing: tuple[float, float, float], random: np.random.Generator
) -> NDArray[np.float32]:
    """Return smooth noise (k, j, i) of about unit deviation, with bumps of 10 to 30 mm."""
    bump = random.uniform(10, 30)
    cells = [max(2, round(n * step / bump)) for n, step in zip(shape, spacing, strict=True)]
    coarse = torch.from_numpy(random.standard_normal(cells, dtype=np.float32))
    fine: Tensor = functional.interpolate(
        1.5 * coarse[None, None], shape, mode="trilinear", align_corners=True
    )
    return fine[0, 0].numpy()


def _signed_distance(mask: Mask, spacing: tuple[float, float, float]) -> NDArray[np.float32]:
    """mm to the border, negative inside, computed on every other voxel of j and i."""
    few = mask[:, ::2, ::2]
    step = (spacing[0], 2 * spacing[1], 2 * spacing[2])
    if not few.any():
        return np.full(mask.shape, 1e3, np.float32)
    distance = ndimage.distance_transform_edt(~few, step) - ndimage.distance_transform_edt(few, step)
    fine = functional.interpolate(
        torch.from_numpy(distance.astype(np.float32))[None, None],
        mask.shape,
        mode="trilinear",
        align_corners=False,
    )
    return np.asarray(fine[0, 0].numpy())


def _ball(
    shape: tuple[int, ...], centre: NDArray, radius: float, spacing: tuple[float, float, float]
) -> Mask:
    square = sum(
        ((index - middle) * step) ** 2
        for index, middle, step in zip(np.indices(shape, sparse=True), centre, spacing, strict=True)
    )
    return np.asarray(square < radius**2)


def sample(game: Game, voxel: Voxel, missing: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return what the network sees after a click, what it is to say, and how much each voxel counts."""
    part, pad = game.crop(voxel)
    corner = np.array([side.start for side in part]) - [a for a, _ in pad]
    image = np.pad(game.image[part], pad, constant_values=-1.0)
    inside, others, truth = (np.pad(mask[part], pad) for mask in (game.inside, game.others, game.truth))
    said = ([spot - corner for spot in spots] for spots in (game.positive, game.negative))
    seen = look(image, inside, others, *said)
    square = sum(
        ((index - middle) * step) ** 2
        for index, middle, step in zip(
            np.indices(CROP, sparse=True), voxel - corner, game.spacing, strict=True
        )
    )
    may = (~inside & ~others) if missing else inside
    weight = (0.1 + np.exp(-0.5 * square / LOCAL_MM**2)) * np.where(may, 1.0, 0.15)
    weight[np.pad(np.zeros_like(game.truth[part]), pad, constant_values=True)] = 0
    return torch.from_numpy(seen), torch.from_numpy(truth), torch.from_numpy(weight.astype(np.float32))


def loss_of(odds: Tensor, truth: Tensor, weight: Tensor) -> Tensor:
    """Return weighted cross-entropy and soft Dice of one sample."""
    wanted = truth.float()
    entropy = functional.binary_cross_entropy_with_logits(odds, wanted, reduction="none")
    chance = odds.sigmoid()
    overlap = 2 * (weight * chance * wanted).sum() + 1
    dice = overlap / ((weight * (chance + wanted)).sum() + 1)
    return (weight * entropy).sum() / weight.sum() + 1 - dice


def new_network() -> StridedDynUNet:
    """Build the network; where they fit, with the weights of abdomen-ct."""
    network = StridedDynUNet(CHANNELS, 1, FILTERS, background=False)
    known = read_weights(find_bundle("abdomen-ct"))
    state = network.state_dict()
    for name, own in state.items():
        if name not in known or name.startswith("head"):
            continue
        taught = torch.from_numpy(known[name]).float()
        if taught.shape == own.shape:
            own.copy_(taught)
        elif name == "trunk.downsample.conv1.conv.weight":
            own.mul_(0.2)
            own[:, :1] = taught
        else:
            print(f"{name} starts at random")
    network.load_state_dict(state)
    return network


def learning_rate(iteration: int, iterations: int, peak: float) -> float:
    """Rise in 50 iterations, stay, and fall to 0 in the last 40 %."""
    return peak * min(1.0, (iteration + 1) / 50, (iterations - iteration) / (0.4 * iterations))


def main(
    cases: Annotated[Path, typer.Argument(help="Folder with NAME.image.npy, NAME.truth.npy, NAME.auto.npy.")],
    run: Annotated[Path, typer.Argument(help="Folder of the run.")],
    iterations: Annotated[int, typer.Option()] = 3000,
    batch: Annotated[int, typer.Option()] = 2,
    peak: Annotated[float, typer.Option(help="Learning rate.")] = 1e-3,
    minutes: Annotated[float, typer.Option(help="Between checkpoints.")] = 3.0,
    seed: Annotated[int, typer.Option()] = 0,
    without: Annotated[
        list[str] | None, typer.Option(help="Cases to leave out, to choose settings on.")
    ] = None,
) -> None:
    """Train, or go on."""
    run.mkdir(parents=True, exist_ok=True)
    path = run / "checkpoint.pt"
    network = new_network()
    network.to(memory_format=torch.channels_last_3d)
    optimiser = torch.optim.AdamW(network.parameters(), lr=peak, weight_decay=0.01)
    average = WeightAverage(network, 0.995)
    first = 0
    if path.is_file():
        kept = torch.load(path, weights_only=True)
        network.load_state_dict(kept["network"])
        average.network.load_state_dict(kept["average"])
        optimiser.load_state_dict(kept["optimiser"])
        first = average.updates = kept["iteration"]
    random = np.random.default_rng((seed, first))
    keys = find_bundle("abdomen-ct").metadata.labels.organs
    source = Cases(cases, dict(keys), random, without or ())
    games: list[Game | None] = [None] * batch
    saved, begun, losses, gains, spent = time.monotonic(), time.process_time(), [], [], 0.0

    def clicked(slot: int) -> Iterator[tuple[Game, Voxel, bool]]:
        while True:
            game = games[slot]
            click = game.click(random) if game else None
            if game and click:
                yield game, *click
            else:
                games[slot] = source.game()

    streams = [clicked(slot) for slot in range(batch)]
    for iteration in range(first, iterations):
        started = time.process_time()
        drawn = [next(stream) for stream in streams]
        samples = [sample(*one) for one in drawn]
        spent += time.process_time() - started
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(iteration, iterations, peak)
        seen = torch.stack([one[0] for one in samples])
        with torch.autocast("cpu", torch.bfloat16):
            odds = network(seen).logits[:, 0]
        odds = odds.float()
        loss = torch.stack([loss_of(own, *one[1:]) for own, one in zip(odds, samples, strict=True)]).mean()
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimiser.step()
        average.update(network)
        losses.append(loss.item())
        for (game, voxel, missing), own in zip(drawn, odds.detach().numpy(), strict=True):
            before = _dice(game.inside, game.truth)
            game.follow(voxel, missing, own)
            gains.append((before, _dice(game.inside, game.truth)))
        if (iteration + 1) % 50 == 0:
            was, now = np.mean(gains[-400:], axis=0)
            worse = np.mean([b < a - 1e-4 for a, b in gains[-400:]])
            seconds = (time.process_time() - begun) / (iteration + 1 - first)
            print(
                f"{iteration + 1}: loss {np.mean(losses[-200:]):.3f}, Dice {was:.3f} -> {now:.3f}, worse {worse:.3f}, "
                f"{seconds:.2f} s, of which cases {spent / (iteration + 1 - first):.2f} s",
                flush=True,
            )
        if time.monotonic() - saved > 60 * minutes or iteration + 1 == iterations:
            state = {
                "network": network.state_dict(),
                "average": average.network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "iteration": iteration + 1,
            }
            with atomic_path(path) as partial:
                torch.save(state, partial)
            saved = time.monotonic()


def _dice(one: Mask, other: Mask) -> float:
    return 2 * np.count_nonzero(one & other) / max(1, np.count_nonzero(one) + np.count_nonzero(other))


if __name__ == "__main__":
    typer.run(main)
