"""What is learned of a new organ, and kept of the old ones, from a few annotated cases.

See docs/results/add-organ.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
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
    size: Annotated[str, typer.Option(help="Which recipes: small or volume.")] = "small",
    organ: Annotated[list[str] | None, typer.Option(help="To be learned; repeatable.")] = None,
    cases: Annotated[list[int] | None, typer.Option(help="Annotated cases; repeatable.")] = None,
    row: Annotated[list[str] | None, typer.Option(help=f"{', '.join(ROWS)}; repeatable.")] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Repeatable; medians are shown.")] = None,
    base_seed: Annotated[int | None, typer.Option(help="Of one base; else each seed has its own.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    cache: Annotated[Path, typer.Option(help="Folder for prepared cases.")] = Path("build/cases"),
    together: Annotated[bool, typer.Option(help="All organs at once, on one branch.")] = False,
    upper: Annotated[bool, typer.Option(help="Add the upper line: a branch from all cases.")] = True,
    scratch: Annotated[bool, typer.Option(help="Add all organs of all cases, learned from scratch.")] = True,
    train: Annotated[bool, typer.Option(help="Train what is missing; else only tabulate.")] = True,
) -> None:
    """Train a base, add each organ from few cases in three ways, and from all labels."""
    loaded, organs = load_project(project), tuple(organ or ORGANS)
    groups = [organs] if together else [(one,) for one in organs]
    seeds = seed or (0,)
    plans = plan(loaded, runs, size, groups, cases or CASES, row or ROWS, seeds, base_seed, upper, scratch)
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
    groups: Sequence[tuple[str, ...]],
    cases: tuple[int, ...] | list[int],
    rows: Iterable[str],
    seeds: tuple[int, ...] | list[int],
    base_seed: int | None,
    upper: bool,
    scratch: bool,
) -> dict[str, Recipe]:
    """Return the recipes by the name of their run, each after those that it starts from.

    Args:
        project: Of all cases.
        runs: Folder of the runs.
        size: Which recipes.
        groups: Organs, those that are learned at once together.
        cases: How many are annotated.
        rows: Of `ROWS`.
        seeds: Of each.
        base_seed: Of the base that all start from; None takes one of the same seed.
        upper: Whether `UPPER` is trained on all cases too.
        scratch: Whether all organs are learned from scratch too.
    """
    base = load_recipe(RECIPES / f"{size}-base.toml")
    plans: dict[str, Recipe] = {}
    for seed in seeds:
        own = seed if base_seed is None else base_seed
        plans[f"base-{own}"] = replace(base, seed=own)
        if scratch:
            every = [organ for group in groups for organ in group]
            plans[f"all-{seed}"] = _with_organs(replace(base, seed=seed, name=f"{base.name}-all"), every)
        for group in groups:
            annotated = _holding(project, base, group)
            for count in (*cases, *([len(annotated)] if upper else [])):
                for row in rows if count in cases else (UPPER,):
                    recipe = _with_organs(load_recipe(RECIPES / "parts" / f"{size}-{row}.toml"), group)
                    if row == UPPER:
                        arguments = {**recipe.network.arguments, "branches": [len(group)]}
                        recipe = replace(recipe, network=replace(recipe.network, arguments=arguments))
                    known = {UNNAMED: [], **{case: list(group) for case in annotated[:count]}}
                    if count == len(project.cases) - len(base.data.validation):  # no case is without labels
                        recipe = replace(
                            recipe, optimisation=replace(recipe.optimisation, labelled_per_batch=0)
                        )
                    plans[f"{row}-{'+'.join(group)}-{count}-{seed}"] = replace(
                        recipe,
                        seed=seed,
                        data=replace(recipe.data, known=known),
                        network=replace(recipe.network, initial=str(runs / f"base-{own}")),
                        augmentation=replace(recipe.augmentation, favoured=group),
                    )
    return plans


def _with_organs(recipe: Recipe, organs: Sequence[str]) -> Recipe:
    keys = (*recipe.data.table.keys, *organs)
    return replace(
        recipe,
        data=replace(recipe.data, labels={str(number): key for number, key in enumerate(keys, 1)}),
    )


def _holding(project: Project, recipe: Recipe, organs: Sequence[str]) -> list[str]:
    """Training cases that hold some organs, in the order of their names."""
    return [
        case
        for case in sorted(project.cases)
        if case not in recipe.data.validation
        and all(project.matrix.status(case, organ) is LabelStatus.ANNOTATED for organ in organs)
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
    only = next(iter(bases.values()))
    old = only["organs"]
    rows = []
    for name in dict.fromkeys(result["row"] for result in results):
        same = [result for result in results if result["row"] == name]
        new = [organ for organ in same[0]["organs"] if organ not in old]
        cells = [
            " / ".join([", ".join(_median(same, weights, [one]) for one in new), _median(same, weights, old)])
            for weights in ("last", "averaged")
        ]
        falls = [_largest_fall(bases.get(_seed(result), only), result, old) for result in same]
        minutes = median(result["minutes"] for result in same)
        rows.append((name, str(len(same)), *cells, f"{median(falls):.3f}", f"{minutes:.1f}"))
    header = ("Run", "seeds", "last: new / old", "averaged: new / old", "largest fall", "minutes")
    notes = (
        "Dice on the network's grid, mean over the fold; new: each new organ, old: mean of the base's. "
        "Largest fall: of one old organ, from the base of the same seed, last network.",
    )
    return Report("Adding an organ", header, rows, notes=notes)


def _seed(result: dict) -> str:
    return result["run"].rsplit("-", 1)[1]


def _largest_fall(base: dict, result: dict, organs: list[str]) -> float:
    before, after = (said["dice"]["last"] for said in (base, result))
    return max((before[organ] or 0.0) - (after[organ] or 0.0) for organ in organs)


def _median(results: list[dict], weights: str, organs: list[str]) -> str:
    means = [sum(result["dice"][weights][key] or 0.0 for key in organs) / len(organs) for result in results]
    return f"{median(means):.3f}"


if __name__ == "__main__":
    typer.run(main)
