"""What is learned of a new organ, and kept of the old ones, from a few annotated cases.

See docs/results/add-organ.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Annotated

import typer
from harness.machine import describe_machine
from harness.report import Report, publish

from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.inference.backends import choose_device
from multiorganseg.progress import Progress
from multiorganseg_training.project import LabelStatus, Project, load_project
from multiorganseg_training.recipe.file import load_recipe
from multiorganseg_training.recipe.recipe import UNNAMED, Recipe
from multiorganseg_training.run.fit import EVENTS_FILE, RESULT_FILE, Place, fit

RECIPES = Path(__file__).resolve().parent.parent.parent / "Training" / "recipes" / "add-organ"
OUTPUT = Path("build/benchmarks")
ORGANS = ("gallbladder", "pancreas", "adrenal_gland_left")
CASES = (1, 3, 5, 10)
ROWS = {
    "naive": "missing organs are background",
    "ignored": "missing organs are ignored",
    "ours": "missing organs as the base says",
}
UPPER = "ours"
"""The row whose upper line is the base with a branch learned from all cases."""


def main(
    project: Annotated[Path, typer.Option(help="Project with all organs annotated; see the documentation.")],
    runs: Annotated[Path, typer.Option(help="Folder for the runs; those that are finished are taken.")],
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    size: Annotated[str, typer.Option(help="Which recipes: small.")] = "small",
    organ: Annotated[list[str] | None, typer.Option(help="To be learned; repeatable.")] = None,
    cases: Annotated[list[int] | None, typer.Option(help="Annotated cases; repeatable.")] = None,
    row: Annotated[list[str] | None, typer.Option(help=f"{', '.join(ROWS)}; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable; medians are shown.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Folder for prepared cases.")] = Path("build/cases"),
    upper: Annotated[
        bool,
        typer.Option(help="Add the upper lines: a branch from all cases, and all from scratch."),
    ] = True,
    train: Annotated[bool, typer.Option(help="Train what is missing; else only tabulate.")] = True,
) -> None:
    """Train a base, add each organ from few cases in three ways, and once from all labels."""
    loaded = load_project(project)
    plans = plan(loaded, runs, size, organ or ORGANS, cases or CASES, row or ROWS, seed or (0,), upper)
    if train:
        chosen = choose_device(device)
        with progress_bar() as progress:
            for name, recipe in plans.items():
                if not (runs / name / RESULT_FILE).is_file():
                    named = Progress(_prefixed(progress, name), progress.token)
                    fit(recipe, Place(project, runs / name, cache, chosen), named)
    done = {name: recipe for name, recipe in plans.items() if (runs / name / RESULT_FILE).is_file()}
    results = [_result(runs / name, name, recipe) for name, recipe in done.items()]
    publish("add_organ", output, describe_machine(), [_report(results)], results)


def plan(
    project: Project,
    runs: Path,
    size: str,
    organs: tuple[str, ...] | list[str],
    cases: tuple[int, ...] | list[int],
    rows: Iterable[str],
    seeds: tuple[int, ...] | list[int],
    upper: bool,
) -> dict[str, Recipe]:
    """Return the recipes by the name of their run, each after those that it starts from."""
    base = load_recipe(RECIPES / f"{size}-base.toml")
    plans: dict[str, Recipe] = {}
    for seed in seeds:
        plans[f"base-{seed}"] = replace(base, seed=seed)
        if upper:
            plans[f"all-{seed}"] = _with_organs(replace(base, seed=seed, name=f"{base.name}-all"), organs)
        for organ in organs:
            annotated = _holding(project, base, organ)
            for count in (*cases, *([len(annotated)] if upper else [])):
                for row in rows if count in cases else (UPPER,):
                    recipe = _with_organs(load_recipe(RECIPES / "parts" / f"{size}-{row}.toml"), [organ])
                    known = {UNNAMED: [], **{case: [organ] for case in annotated[:count]}}
                    if count == len(project.cases) - len(base.data.validation):  # no case is without labels
                        recipe = replace(
                            recipe, optimisation=replace(recipe.optimisation, labelled_per_batch=0)
                        )
                    plans[f"{row}-{organ}-{count}-{seed}"] = replace(
                        recipe,
                        seed=seed,
                        data=replace(recipe.data, known=known),
                        network=replace(recipe.network, initial=str(runs / f"base-{seed}")),
                        augmentation=replace(recipe.augmentation, favoured=(organ,)),
                    )
    return plans


def _with_organs(recipe: Recipe, organs: tuple[str, ...] | list[str]) -> Recipe:
    keys = (*recipe.data.table.keys, *organs)
    return replace(
        recipe,
        data=replace(recipe.data, labels={str(number): key for number, key in enumerate(keys, 1)}),
    )


def _holding(project: Project, recipe: Recipe, organ: str) -> list[str]:
    """Training cases that hold an organ, in the order of their names."""
    return [
        case
        for case in sorted(project.cases)
        if case not in recipe.data.validation and project.matrix.status(case, organ) is LabelStatus.ANNOTATED
    ]


def _prefixed(progress: Progress, name: str):  # type: ignore[no-untyped-def]
    return lambda stage, fraction: progress.report(f"{name}: {stage}", fraction)


def _result(run: Path, name: str, recipe: Recipe) -> dict:
    scores = json.loads((run / RESULT_FILE).read_text(encoding="utf-8"))
    lines = (run / EVENTS_FILE).read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    pace = [event["seconds_per_iteration"] for event in events if event["event"] == "progress"]
    return {
        "run": name,
        "row": name.rsplit("-", 1)[0],
        "organs": list(recipe.data.table.keys),
        "minutes": median(pace) * recipe.optimisation.iterations / 60,
        "dice": scores,
    }


def _report(results: list[dict]) -> Report:
    bases = {_seed(result): result for result in results if result["row"] == "base"}
    old = next(iter(bases.values()))["organs"]
    rows = []
    for name in dict.fromkeys(result["row"] for result in results):
        same = [result for result in results if result["row"] == name]
        new = [organ for organ in same[0]["organs"] if organ not in old]
        cells = [
            f"{_median(same, weights, new)} / {_median(same, weights, old)}"
            for weights in ("last", "averaged")
        ]
        falls = [_largest_fall(bases[_seed(result)], result, old) for result in same]
        minutes = median(result["minutes"] for result in same)
        rows.append((name, str(len(same)), *cells, f"{median(falls):.3f}", f"{minutes:.1f}"))
    header = ("Run", "seeds", "last: new / old", "averaged: new / old", "largest fall", "minutes")
    notes = (
        "Dice on the network's grid, mean over the fold; new: mean of the new organs, old: of the base's. "
        "Largest fall: of one old organ, from the base of the same seed, last network.",
    )
    return Report("Adding an organ", header, rows, notes=notes)


def _seed(result: dict) -> str:
    return result["run"].rsplit("-", 1)[1]


def _largest_fall(base: dict, result: dict, organs: list[str]) -> float:
    before, after = (said["dice"]["last"] for said in (base, result))
    return max((before[organ] or 0.0) - (after[organ] or 0.0) for organ in organs)


def _median(results: list[dict], weights: str, organs: list[str]) -> str:
    if not organs:
        return "–"
    means = [sum(result["dice"][weights][key] or 0.0 for key in organs) / len(organs) for result in results]
    return f"{median(means):.3f}"


if __name__ == "__main__":
    typer.run(main)
