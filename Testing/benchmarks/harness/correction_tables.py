"""Tables of the games of correction."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from harness.report import Report

SHOWN = (0, 1, 3, 5, 10)
WANTED, FAILED = 0.90, 20
WORSE = 1e-4

Game = dict[str, Any]


def reports(games: Sequence[Game], peak_gib: float) -> list[Report]:
    """Return means by start, user and method; the same where the start was below 0.90; and by organ."""
    low = [game for game in games if game["dice"][0] < WANTED]
    note = (
        "NSD at 2 mm, at 1 mm for adrenal glands and gallbladder. AUC: area under Dice at prompts 1 to 5, "
        f"at most 4. NoC: mean prompts to Dice {WANTED:.2f}, {FAILED} where it was not reached. Worse: share "
        "of prompts after which the Dice was lower. CPU: seconds of processor time of an answer. "
        f"Peak of the whole process {peak_gib:.1f} GiB."
    )
    return [
        _dice_table("Dice by start, user and method", games, note),
        _dice_table(f"The same, organs that start below {WANTED:.2f}", low, ""),
        _cost_table(games),
        _organ_table(games),
    ]


def _setups(games: Sequence[Game]) -> dict[tuple[str, str, str], list[Game]]:
    setups: dict[tuple[str, str, str], list[Game]] = {}
    for game in games:
        setups.setdefault((game["start"], game["user"], game["method"]), []).append(game)
    return setups


def _dice_table(title: str, games: Sequence[Game], note: str) -> Report:
    rows = []
    for setup, played in _setups(games).items():
        dice = [_mean(played, lambda game, k=k: _at(game["dice"], k)) for k in SHOWN]
        nsd = [_mean(played, lambda game, k=k: game["nsd"].get(k, game["nsd"].get(str(k)))) for k in SHOWN]
        area = _mean(played, lambda game: _area(game["dice"]))
        reached = float(np.mean([_reached(game["dice"]) for game in played]))
        rows.append(
            (
                *setup,
                str(len(played)),
                *map(_text, dice),
                *map(_text, nsd),
                "–" if area is None else f"{area:.2f}",
                f"{reached:.1f}",
            )
        )
    header = (
        *("start", "user", "method", "games"),
        *(f"Dice {k}" for k in SHOWN),
        *(f"NSD {k}" for k in SHOWN),
        *("AUC", "NoC"),
    )
    return Report(title, header, rows, 3, (note,) if note else ())


def _cost_table(games: Sequence[Game]) -> Report:
    rows = []
    for setup, played in _setups(games).items():
        steps = [
            after - before
            for game in played
            for before, after in zip(game["dice"], game["dice"][1 : 1 + len(game["seconds"])], strict=False)
        ]
        wall = [second for game in played for second in game["seconds"]]
        cpu = [second for game in played for second in game["cpu_seconds"]]
        locked = sum(game["voxels_in_locked"] for game in played)
        worse = np.mean(np.array(steps) < -WORSE) if steps else 0.0
        quantiles = [*np.quantile(wall, (0.5, 0.95)), *np.quantile(cpu, (0.5, 0.95))] if wall else []
        rows.append((*setup, f"{100 * worse:.1f} %", str(locked), *(f"{value:.2f}" for value in quantiles)))
    header = (
        *("start", "user", "method", "worse", "locked voxels changed"),
        *("s p50", "s p95", "CPU p50", "CPU p95"),
    )
    return Report("What a prompt costs", header, rows, 3)


def _organ_table(games: Sequence[Game]) -> Report:
    rows = []
    for setup, played in _setups(games).items():
        for organ in dict.fromkeys(game["organ"] for game in played):
            own = [game for game in played if game["organ"] == organ]
            dice = [_mean(own, lambda game, k=k: _at(game["dice"], k)) for k in SHOWN]
            rows.append((organ, *setup, str(len(own)), *map(_text, dice)))
    header = ("organ", "start", "user", "method", "games", *(f"Dice {k}" for k in SHOWN))
    return Report("By organ", header, rows, 4)


def _at(dice: Sequence[float], number: int) -> float | None:
    return dice[number] if number < len(dice) else None


def _mean(games: Sequence[Game], value: Callable[[Game], float | None]) -> float | None:
    """Mean where all games have the value; None otherwise."""
    values = [value(game) for game in games]
    known = [one for one in values if one is not None]
    return float(np.mean(known)) if len(known) == len(values) and known else None


def _area(dice: Sequence[float]) -> float | None:
    return sum((a + b) / 2 for a, b in pairwise(dice[1:6])) if len(dice) >= 6 else None


def _reached(dice: Sequence[float]) -> int:
    return next((number for number, value in enumerate(dice) if value >= WANTED), FAILED)


def _text(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"
