"""Train and measure a list of recipes, one after the other, and write the table; start it again to go on.

    python research/sweep.py research/openkbp-sweep.toml --data PROJECT --runs RUNS

The list names recipes and seeds in the order in which they are wanted:

    recipes = "research/recipes/openkbp"        # relative to the repository
    [[pass]]
    seeds = [0]
    rows = ["small-start", "small-labelled"]

`evaluate = ["--weights", "last"]` gives further options to the measuring. A row may also change a recipe:

    [variants.views-2]
    of = "small-ltuda"
    set = ["method_arguments.views = 2"]

and the list may change all of them, whose names then end in its own:

    name = "coarse"
    set = ["preprocessing.spacing_mm = [6.0, 8.0, 8.0]"]

A run lies in RUNS/NAME-SEED. A recipe whose network.initial is "runs/OTHER" starts from RUNS/OTHER-SEED.
A recipe that does not fit the data is refused before anything is trained. What is finished is left as it is,
a run that was stopped goes on from its checkpoint. Left out and reported: what failed or was paused, what
goes on from it, and what another recipe has trained. After each run RUNS/results.json and RUNS/results.md are
written anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from tables import count_labelled, write_tables

from multiorganseg.cli.errors import reported_errors
from multiorganseg.errors import TrainingError
from multiorganseg.schema import typed
from multiorganseg_training.recipe.file import load_recipe, recipe_from_dict, recipe_to_dict
from multiorganseg_training.recipe.recipe import Recipe
from multiorganseg_training.run.fit import RECIPE_FILE, RESULT_FILE

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
STARTS = "runs/"
OPTIONS_FILE = "options.txt"
WITHOUT_EFFECT = ("name", "description", "reporting")
LINEAR = "linear"


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        recipe_file: Its recipe.
        recipe: The same, read and changed.
        seed: Of the training.
        runs: Folder of all runs.
        changes: What differs from the file.
        ending: Of the names of all runs of the list, with a hyphen; empty for none.
        options: Further ones of the measuring.
    """

    recipe_file: Path
    recipe: Recipe
    seed: int
    runs: Path
    changes: tuple[str, ...] = ()
    ending: str = ""
    options: tuple[str, ...] = ()

    @property
    def run(self) -> Path:
        """Folder of the run."""
        return self.runs / f"{self.recipe.name}-{self.seed}"

    @property
    def start(self) -> Path | None:
        """Run of the list that it goes on from."""
        said = self.recipe.network.initial
        if not said.startswith(STARTS):
            return None
        return self.runs / f"{said.removeprefix(STARTS)}{self.ending}-{self.seed}"

    @property
    def initial(self) -> str:
        """What it starts from; empty for random weights."""
        return str(self.start or self.recipe.network.initial)

    @property
    def classifiers(self) -> list[str]:
        """What it is measured by: the linear one, and prototypes where it learns them."""
        return [LINEAR, *(["unlabelled"] if self.recipe.method_arguments.get("prototypes") else [])]

    def evaluation(self, classifier: str) -> Path:
        """Folder of what a classifier reached."""
        return self.run / f"evaluation-{classifier}"

    @property
    def is_finished(self) -> bool:
        """Whether the training came to its end."""
        return (self.run / RESULT_FILE).is_file()

    def is_measured(self, classifier: str) -> bool:
        """Whether a classifier was measured after the last iteration, with the list's options."""
        folder = self.evaluation(classifier)
        if not (folder / "evaluation.json").is_file():
            return False
        measured: int = json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))["iteration"]
        asked = folder / OPTIONS_FILE
        same = not asked.is_file() or asked.read_text(encoding="utf-8") == " ".join(self.options)
        return same and measured == self.recipe.optimisation.iterations

    def obstacle(self) -> str:
        """Say why it cannot be trained or measured; empty where it can."""
        start = self.start
        if not self.is_finished and start and not (start / RESULT_FILE).is_file():
            return f"it goes on from {start.name}, which is not finished"
        if not self.is_finished:
            return ""
        said = recipe_from_dict(json.loads((self.run / RECIPE_FILE).read_text(encoding="utf-8")))
        ours, theirs = (recipe_to_dict(recipe) for recipe in (self.recipe, said))
        for part in WITHOUT_EFFECT:
            ours.pop(part), theirs.pop(part)
        ours["network"]["initial"] = theirs["network"]["initial"]  # folders may have been moved
        ours["seed"] = self.seed
        changed = ", ".join(part for part in ours if ours[part] != theirs[part])
        return f"it was trained by another recipe ({changed}); move its folder away" if changed else ""


@dataclass(frozen=True)
class Pass:
    """Rows and the seeds with which they are trained."""

    seeds: tuple[int, ...]
    rows: tuple[str, ...]


@dataclass(frozen=True)
class Variant:
    """A row that changes a recipe."""

    of: str
    set: tuple[str, ...] = ()


@dataclass(frozen=True)
class Listed:
    """What a list holds; its `pass` is `passes` here."""

    recipes: str
    passes: tuple[Pass, ...]
    evaluate: tuple[str, ...] = ()
    name: str = ""
    set: tuple[str, ...] = ()
    variants: dict[str, Variant] = field(default_factory=dict)


def read_list(listed: Path) -> Listed:
    """Read the list.

    Raises:
        TrainingError: It is no TOML, a field is unknown, missing or of a wrong type, or a variant is no row.
    """
    try:
        said = tomllib.loads(listed.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"Cannot read {listed}."
        raise TrainingError(msg, cause=str(error), next_step="Correct it.") from error
    if "pass" in said:
        said["passes"] = said.pop("pass")
    result = typed(Listed, said, f"The list {listed.name}")
    unused = result.variants.keys() - {row for one in result.passes for row in one.rows}
    if unused:
        msg = f"No pass of {listed.name} has the row {', '.join(sorted(unused))}."
        raise TrainingError(msg, next_step="Correct the names, or leave the variant out.")
    return result


def jobs(listed: Path, runs: Path) -> list[Job]:
    """Read the list: one job for each recipe and seed, in the order of the passes, each once.

    Raises:
        TrainingError: As `read_list`; a recipe does not fit, or two rows have one name.
    """
    said = read_list(listed)
    ending = f"-{said.name}" if said.name else ""
    found: dict[Path, Job] = {}
    for one in said.passes:
        for seed in one.seeds:
            for row in one.rows:
                variant = said.variants.get(row, Variant(row))
                file = ROOT / said.recipes / f"{variant.of}.toml"
                name = load_recipe(file).name + (f"-{row}" if row in said.variants else "") + ending
                changes = (f'name = "{name}"', *said.set, *variant.set)
                job = Job(file, load_recipe(file, changes), seed, runs, changes, ending, said.evaluate)
                if found.setdefault(job.run, job) != job:
                    msg = f"Two rows of {listed.name} are called {job.run.name}."
                    raise TrainingError(msg, next_step="Give each recipe a name of its own.")
    return list(found.values())


def work(job: Job, data: Path, cache: Path, threads: int) -> bool:
    """Train and measure what is not there yet; False where it did not come to its end."""
    places = ["--data", str(data), "--cache", str(cache), "--device", "cpu"]
    if not job.is_finished:
        initial = ["--initial", job.initial] if job.initial else []
        changes = [part for change in job.changes for part in ("--set", change)]
        run = ["--run", str(job.run), "--seed", str(job.seed), *initial, *changes]
        fit = ["multiorganseg_training", "fit", str(job.recipe_file), *places, *run]
        if not succeeds(job, fit, threads) or not job.is_finished:
            return False  # a run that is paused succeeds, too
    for classifier in job.classifiers:
        options = ["--classifier", classifier, "--output", str(job.evaluation(classifier)), *job.options]
        measure = ["research", "evaluate", str(job.run), *places, *options]
        if job.is_measured(classifier):
            continue
        if not succeeds(job, measure, threads):
            return False
        (job.evaluation(classifier) / OPTIONS_FILE).write_text(" ".join(job.options), encoding="utf-8")
    return True


def succeeds(job: Job, command: list[str], threads: int) -> bool:
    """Run a Python module with its arguments, what it prints into the job's log."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "NO_COLOR": "1"}
    with (job.runs / f"{job.run.name}.log").open("a", encoding="utf-8") as log:
        done = subprocess.run(
            [sys.executable, "-m", *command],
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            check=False,
        )
    return not done.returncode


def main(
    listed: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="TOML list of recipes and seeds.")
    ],
    data: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Project or data folder.")],
    runs: Annotated[Path, typer.Option(help="Folder of the runs and of the results.")],
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases; else RUNS/cache.")] = None,
    threads: Annotated[int, typer.Option(help="Of the processor, a run.")] = 1,
) -> None:
    """Train and measure a list of recipes."""
    runs.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    with reported_errors():
        wanted = jobs(listed, runs)
        labelled = count_labelled([job.recipe for job in wanted], data)
    for job in wanted:
        typer.echo(f"{job.run.name} …")
        obstacle = job.obstacle()
        if job.start and job.start.name in failed:
            obstacle = obstacle or f"it goes on from {job.start.name}, which is left out"
        if not obstacle and not work(job, data, cache or runs / "cache", threads):
            obstacle = f"it did not come to its end; see {runs / job.run.name}.log"
        if obstacle:
            failed.append(job.run.name)
            typer.echo(f"{job.run.name} is left out: {obstacle}.", err=True)
        write_tables(runs, wanted, labelled)
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
