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
a run that was stopped goes on from its checkpoint, one that failed is reported and left out until the next
start. After each run RUNS/results.json and RUNS/results.md are written
anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from tables import count_labelled, write_tables

from multiorganseg_training.recipe.file import load_recipe
from multiorganseg_training.recipe.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
STARTS = "runs/"
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
    def initial(self) -> str:
        """What it starts from; empty for random weights."""
        said = self.recipe.network.initial
        if said.startswith(STARTS):
            return str(self.runs / f"{said.removeprefix(STARTS)}{self.ending}-{self.seed}")
        return said

    @property
    def classifiers(self) -> list[str]:
        """What it is measured by: the linear one, and prototypes where it learns them."""
        return [LINEAR, *(["unlabelled"] if self.recipe.method_arguments.get("prototypes") else [])]

    def evaluation(self, classifier: str) -> Path:
        """Folder of what a classifier reached."""
        return self.run / f"evaluation-{classifier}"


def jobs(listed: Path, runs: Path) -> list[Job]:
    """Read the list: one job for each recipe and seed, in the order of the passes, each once."""
    said = tomllib.loads(listed.read_text(encoding="utf-8"))
    variants, options = said.get("variants", {}), tuple(said.get("evaluate", ()))
    ending = f"-{said['name']}" if "name" in said else ""
    found: dict[Path, Job] = {}
    for one in said["pass"]:
        for seed in one["seeds"]:
            for row in one["rows"]:
                variant = variants.get(row, {"of": row, "set": []})
                file = ROOT / said["recipes"] / f"{variant['of']}.toml"
                name = load_recipe(file).name + (f"-{row}" if row in variants else "") + ending
                changes = (f'name = "{name}"', *said.get("set", ()), *variant["set"])
                job = Job(file, load_recipe(file, changes), seed, runs, changes, ending, options)
                found.setdefault(job.run, job)
    return list(found.values())


def work(job: Job, data: Path, cache: Path, threads: int) -> bool:
    """Train and measure what is not there yet; False where a command failed."""
    places = ["--data", str(data), "--cache", str(cache), "--device", "cpu"]
    commands = []
    if not (job.run / "result.json").is_file():
        initial = ["--initial", job.initial] if job.initial else []
        commands.append(
            [
                "multiorganseg_training",
                "fit",
                str(job.recipe_file),
                *places,
                "--run",
                str(job.run),
                "--seed",
                str(job.seed),
                *initial,
                *(part for change in job.changes for part in ("--set", change)),
            ]
        )
    for classifier in job.classifiers:
        folder = job.evaluation(classifier)
        if not (folder / "evaluation.json").is_file():
            options = ["--classifier", classifier, "--output", str(folder), *job.options]
            commands.append(["research", "evaluate", str(job.run), *places, *options])
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads), "NO_COLOR": "1"}
    for command in commands:
        with (job.runs / f"{job.run.name}.log").open("a", encoding="utf-8") as log:
            done = subprocess.run(
                [sys.executable, "-m", *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                check=False,
            )
        if done.returncode:
            return False
    return True


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
    wanted, failed = jobs(listed, runs), []
    labelled = count_labelled([job.recipe for job in wanted], data)
    for job in wanted:
        typer.echo(f"{job.run.name} …")
        if not work(job, data, cache or runs / "cache", threads):
            failed.append(job.run.name)
            typer.echo(f"{job.run.name} failed; see {runs / job.run.name}.log", err=True)
        write_tables(runs, wanted, labelled)
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
