"""Correction by prompts: what each is worth, beside methods without a network.

A simulated user prompts where the largest error is deepest. See docs/results/correction.md.
"""

from __future__ import annotations

import json
import resource
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from harness.correction_game import AUTOMATIC, STARTS, Method, play, starts
from harness.correction_rows import GeodesicBall, GrowFromSeeds, HistogramGraphCut, Ours
from harness.correction_tables import SHOWN, reports
from harness.machine import Machine, describe_machine
from harness.report import publish
from harness.simulated_user import CLICKS, JITTERED, SCRIBBLES, SimulatedUser
from numpy.typing import NDArray
from rich.console import Console

from multiorganseg.bundles import find_bundle
from multiorganseg.inference.maps import MapRecorder
from multiorganseg.inference.segment import Segmenter
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine import NetworkMaps
from multiorganseg.refine.maps import GridMap
from multiorganseg.volumes import Volume
from multiorganseg.volumes.read import read_labels, read_volume
from multiorganseg_training.data.cases import Case, find_cases, split_cases
from multiorganseg_training.recipe.file import load_recipe

RECIPE = Path(__file__).resolve().parent.parent.parent / "Training" / "recipes" / "abdomen-ct.toml"
OUTPUT = Path("build/benchmarks")
OURS, UNKNOWN, ALONE = "ours", "ours, organ unknown", "ours, intensity alone"
GROW, CUT, BALL = "grow from seeds", "histogram and graph cut", "geodesic ball"
METHODS = (OURS, UNKNOWN, ALONE, GROW, CUT, BALL)
THIN = ("adrenal_gland_left", "adrenal_gland_right", "gallbladder")
SMALLEST_VOXELS = 50
QUICK_ORGANS = ("kidney_left", "pancreas")

console = Console(stderr=True, highlight=False)


@dataclass(frozen=True, eq=False)
class Prepared:
    """One case with the automatic result.

    Attributes:
        name: Of the case.
        volume: The image.
        truth: Reference labels (k, j, i).
        automatic: The network's labels.
        maps: What it said beside them.
    """

    name: str
    volume: Volume
    truth: NDArray[np.unsignedinteger]
    automatic: NDArray[np.unsignedinteger]
    maps: NetworkMaps


def main(
    data: Annotated[Path, typer.Option(help="Folder with images/ and labels/ of equal file names.")],
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    cache: Annotated[Path, typer.Option(help="Keeps each case's automatic result and features.")] = OUTPUT
    / "features",
    name: Annotated[str, typer.Option(help="Of the files written.")] = "correction",
    case: Annotated[list[str] | None, typer.Option(help="Cases; the validation fold when left out.")] = None,
    organ: Annotated[list[str] | None, typer.Option(help="Organ keys; all when left out.")] = None,
    start: Annotated[list[str] | None, typer.Option(help=f"Of: {', '.join(STARTS)}.")] = None,
    user: Annotated[
        list[str] | None, typer.Option(help=f"Of: {CLICKS}, {JITTERED}, {SCRIBBLES}; the first by default.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help=f"Of: {', '.join(METHODS)}; the first by default.")
    ] = None,
    prompts: Annotated[int, typer.Option(min=1, help="At most so many for an organ.")] = 10,
    quick: Annotated[bool, typer.Option("--quick", help="One case, two organs, three prompts.")] = False,
    merge: Annotated[
        list[Path] | None,
        typer.Option(
            help="JSON of earlier runs, whose games join the tables; without --case, none is played."
        ),
    ] = None,
) -> None:
    """Play all games asked for; their record is written after each case, so that a stop loses little."""
    machine, recipe = describe_machine(), load_recipe(RECIPE)
    games: list[dict[str, Any]] = []
    peak = 0.0
    for path in merge or ():
        earlier = json.loads(path.read_text(encoding="utf-8"))["results"]
        games += earlier["games"]
        peak = max(peak, earlier["peak_gib"])
    cases = find_cases(data)
    fold = split_cases(cases, recipe.data)[1]
    chosen = [one for one in cases if one.name in case] if case else [] if merge else fold
    organs = organ or (list(QUICK_ORGANS) if quick else list(recipe.data.table.keys))
    if quick:
        chosen, prompts = chosen[:1], min(prompts, 3)
    for one in chosen:
        prepared = _prepare(one, cache, recipe.data.table)
        setups = product(organs, start or [AUTOMATIC], user or [CLICKS], method or [OURS])
        for game in _games(prepared, setups, recipe.data.table, prompts):
            games.append(game)
            console.print(
                f"{game['case']} {game['organ']}, {game['start']}, {game['user']}, {game['method']}: "
                + " ".join(f"{value:.3f}" for value in game["dice"])
            )
        peak = max(peak, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
        _publish(name, output, machine, games, peak)
    if not chosen:
        _publish(name, output, machine, games, peak)


def _publish(name: str, output: Path, machine: Machine, games: list[dict[str, Any]], peak: float) -> None:
    publish(name, output, machine, reports(games, peak), {"games": games, "peak_gib": peak})


def _prepare(case: Case, cache: Path, table: LabelTable) -> Prepared:
    """Read a case, and run the network unless its answer was kept."""
    volume, truth = read_volume(case.image), read_labels(case.labels).voxels
    kept, labels = cache / f"{case.name}.npz", cache / f"{case.name}.labels.npy"
    if not (kept.is_file() and labels.is_file()):
        cache.mkdir(parents=True, exist_ok=True)
        recorder = MapRecorder()
        found = Segmenter(find_bundle("abdomen-ct")).segment(volume, recorder=recorder)
        if found.table != table:
            msg = "the bundle and the recipe number their organs differently"
            raise ValueError(msg)
        assert recorder.maps is not None
        recorder.maps.save(kept)
        np.save(labels, found.labels)
    maps = NetworkMaps.load(kept)
    maps.check(volume)
    return Prepared(case.name, volume, truth, np.load(labels), maps)


def _games(
    case: Prepared, setups: Iterable[tuple[str, str, str, str]], table: LabelTable, prompts: int
) -> Iterator[dict[str, Any]]:
    """Play (organ, start, user, method) one after the other; what a case lacks is left out."""
    for organ, start, user, method in setups:
        value = table.value(organ)
        truth = case.truth == value
        if np.count_nonzero(truth) < SMALLEST_VOXELS:
            continue
        spacing = case.volume.grid.spacing
        offered = starts(case.truth, case.automatic, value, spacing)
        labels = next((labels for name, labels in offered if name == start), None)
        if labels is None:
            continue
        game = play(
            _method(method, case, labels, table, organ),
            case.volume,
            truth,
            value,
            SimulatedUser(user),
            prompts,
            tolerance_mm=1.0 if organ in THIN else 2.0,
            surfaces_at=SHOWN,
        )
        facts = {"case": case.name, "organ": organ, "start": start, "user": user, "method": method}
        yield {**facts, **vars(game)}


def _method(
    name: str, case: Prepared, labels: NDArray[np.unsignedinteger], table: LabelTable, organ: str
) -> Method:
    value = table.value(organ)
    if name == OURS:
        return Ours(case.volume, labels, table, organ, case.maps)
    if name == UNKNOWN:
        return Ours(case.volume, labels, table, organ, without(case.maps, organ))
    if name == ALONE:
        return Ours(case.volume, labels, table, organ, None)
    rows = {GROW: GrowFromSeeds, CUT: HistogramGraphCut, BALL: GeodesicBall}
    return rows[name](case.volume, labels, value)


def without(maps: NetworkMaps, organ: str) -> NetworkMaps:
    """Return maps whose scores know nothing of an organ; its share goes to the background.

    The features still come from a network that was trained on it.
    """
    channel = 1 + maps.table.keys.index(organ)
    logs = maps.scores.values.astype(np.float32)
    logs[0] = np.logaddexp(logs[0], logs[channel])
    kept = np.delete(logs, channel, axis=0).astype(np.float16)
    table = LabelTable({value: key for value, key in maps.table.organs.items() if key != organ})
    return replace(maps, scores=GridMap(kept, maps.scores.grid), table=table)


if __name__ == "__main__":
    typer.run(main)
