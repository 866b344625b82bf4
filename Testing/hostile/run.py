"""Read thousands of spoilt files of every kind, and kill runs at every file-system step; `make hostile`.

The same seed gives the same files. Failing files are kept in build/hostile, each in a folder of its own with
what was done to it and what became of it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

os.environ |= {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1"}

import typer
from campaign import bundles, checkpoint, dicom, training, volumes
from campaign.children import attempts, prepare_samples
from campaign.kind import Kind
from campaign.outcome import GOOD, OUTCOMES, Attempt
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

HERE = Path(__file__).resolve().parent
KEEP = HERE.parents[1] / "build" / "hostile"
KINDS = (*volumes.KINDS, *dicom.KINDS, *bundles.KINDS, *training.KINDS, *checkpoint.KINDS)

console = Console(width=None if sys.stdout.isatty() else 120)


def import_product() -> None:
    """Import what the children will use, so that each begins in milliseconds."""
    import highdicom  # noqa: F401
    import nibabel  # noqa: F401
    import safetensors.numpy  # noqa: F401
    import SimpleITK  # noqa: F401

    from multiorganseg.inference import segment  # noqa: F401


def run(
    kinds: Sequence[Kind], *, count: int, seed: int, jobs: int, keep: Path | None, shown: bool
) -> list[Attempt]:
    """Read `count` files of each kind, the first of which is the valid sample."""
    import_product()
    done = []
    with tempfile.TemporaryDirectory(prefix="hostile-") as scratch, _progress(shown) as progress:
        samples = prepare_samples(kinds, Path(scratch) / "samples")
        tasks = [(kind, index) for index in range(count) for kind in kinds]
        bar = progress.add_task("files", total=len(tasks), failing=0)
        failing = 0
        for attempt in attempts(tasks, seed=seed, samples=samples, work=Path(scratch), keep=keep, jobs=jobs):
            done.append(attempt)
            failing += not attempt.good
            progress.update(bar, advance=1, failing=failing)
            progress.refresh()
    return done


def _progress(shown: bool) -> Progress:
    """A bar without a thread of its own: the process forks."""
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
        TextColumn("[red]{task.fields[failing]} failing"), TimeElapsedColumn(), TimeRemainingColumn(),
        console=console, auto_refresh=False, disable=not shown,
    )  # fmt: skip


def show(done: Sequence[Attempt]) -> None:
    """Print the outcomes by kind, then each cause of failures with one example."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for attempt in done:
        counts[attempt.kind][attempt.outcome] += 1
    table = Table("kind", "files", *OUTCOMES, title="Spoilt files")
    total: Counter[str] = Counter()
    for kind, found in counts.items():
        table.add_row(kind, *_cells(found))
        total += found
    table.add_section()
    table.add_row("all", *_cells(total))
    console.print(table)
    causes: dict[tuple[str, str, str], list[Attempt]] = defaultdict(list)
    for attempt in done:
        if not attempt.good:
            causes[attempt.signature].append(attempt)
    for (kind, outcome, place), same in sorted(causes.items(), key=lambda each: -len(each[1])):
        first = same[0]
        console.print(Text(f"{len(same)} × {kind} {outcome}: {place}", style="bold"))
        console.print(
            Text(f"   number {first.index}: {first.mutation[:200]}\n   {first.detail[:300]}"), soft_wrap=True
        )


def _cells(found: Counter[str]) -> list[Text]:
    numbers = [Text(str(found.total()))]
    return numbers + [
        Text(str(found[name] or "–"), style="red" if found[name] and name not in GOOD else "")
        for name in OUTCOMES
    ]


def kill_runs(count: int) -> bool:
    """Run the campaign of kills where it is there, print its table and say whether nothing was lost.

    `kills.main(count)` gives rows of a table: action, kills, lost, leftovers.
    """
    if importlib.util.find_spec("kills") is None:
        return True
    import kills

    rows = list(kills.main(count))
    table = Table("action", "kills", "lost", "leftovers", title="Kills")
    for row in rows:
        table.add_row(*map(str, row))
    console.print(table)
    return not any(int(row[2]) or int(row[3]) for row in rows)


def main(
    count: Annotated[int, typer.Option(help="Files of each kind.")] = 550,
    seed: Annotated[int, typer.Option(help="The same seed gives the same files.")] = 0,
    kind: Annotated[list[str] | None, typer.Option(help="Only this kind; may be repeated.")] = None,
    jobs: Annotated[int, typer.Option(help="Children at a time.")] = os.cpu_count() or 1,
    kills: Annotated[int, typer.Option(help="How many runs to kill; 0 for none.")] = 500,
    keep: Annotated[Path, typer.Option(help="Where failing files are kept.")] = KEEP,
    report: Annotated[Path | None, typer.Option(help="Write all outcomes as JSON lines, too.")] = None,
) -> None:
    """Exit code 1: a file was not refused with a typed error nor read rightly, or a kill lost something."""
    names = [each.name for each in KINDS]
    unknown = sorted(set(kind or ()) - set(names))
    if unknown:
        console.print(f"No kind {', '.join(unknown)}; there are: {', '.join(names)}")
        raise typer.Exit(2)
    chosen = [each for each in KINDS if not kind or each.name in kind]
    done = run(chosen, count=count, seed=seed, jobs=jobs, keep=keep, shown=console.is_terminal)
    if report:
        report.write_text("".join(json.dumps(asdict(each)) + "\n" for each in done), encoding="utf-8")
    show(done)
    failing = sum(not each.good for each in done)
    if failing:
        console.print(f"{failing} failing files are kept in {keep}", soft_wrap=True)
    unspoilt = [each for each in done if each.index == 0 and each.outcome != "accepted"]
    whole = kill_runs(kills) if kills else True
    raise typer.Exit(1 if failing or unspoilt or not whole else 0)


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    typer.run(main)
