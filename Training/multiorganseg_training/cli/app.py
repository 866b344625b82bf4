"""The command `multiorganseg-train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from multiorganseg.cli.console import out, prepare_output
from multiorganseg.cli.progress_bar import progress_bar
from multiorganseg.earlier import COMMANDS
from multiorganseg.errors import OptionError
from multiorganseg.folders import user_cache_dir
from multiorganseg.offline import keep_files_together
from multiorganseg.outputs import keep
from multiorganseg.projects.file import data_inputs
from multiorganseg.scratch import clean_up
from multiorganseg_training.cli.acceptance import acceptance_command
from multiorganseg_training.cli.add_organ import DeviceCount, add_organ_command, merge_branches_command
from multiorganseg_training.cli.away import pack_command, train_pack_command, unpack_command
from multiorganseg_training.cli.progress import begin_events, reported_errors, warn
from multiorganseg_training.cli.project import project_app


@reported_errors()
def cache_command(
    folder: Annotated[
        Path | None, typer.Option("--cache", help="Folder of prepared cases, as for fit and add-organ.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="Delete all prepared cases.")] = False,
) -> None:
    """Tell how much the prepared cases take, or delete them; they are made again where they are needed.

    They hold voxels of images and labels. Only their owner can read them. Beyond 20 GiB, or what the variable
    MULTIORGANSEG_CACHE_GIB says, those used longest ago are deleted.
    """
    from multiorganseg_training.data.cache import bound_bytes, entries, shrink

    folder = folder or user_cache_dir() / "cases"
    if clear:
        clean_up(folder)
        freed = shrink(folder, 0)
        out.print(Text(f"Deleted {freed / 2**20:.1f} MiB in {folder}"), soft_wrap=True)
        return
    found = entries(folder)
    total = sum(about.st_size for _, about in found)
    allowed = f"{bound_bytes() / 2**30:g} GiB allowed"
    out.print(Text(f"{len(found)} cases, {total / 2**20:.1f} MiB, {allowed}: {folder}"), soft_wrap=True)


_ANY_ARGUMENTS = {"allow_extra_args": True, "ignore_unknown_options": True}


@reported_errors()
def moved_command(context: typer.Context) -> None:
    """Say where the commands for experiments are now.

    Raises:
        OptionError: Always.
    """
    msg = f"The command '{context.info_name}' belongs to the experiments now."
    raise OptionError(
        msg, next_step=f"In a checkout of MultiOrganSeg: python -m research {context.info_name} --help"
    )


def renamed_command(command: Callable[..., None], earlier: str, now: str) -> Callable[..., None]:
    """Return a command under its earlier name, which says how it is called now."""

    @wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        warn(f"The command '{earlier}' is called '{now}' now, and the next version will not know it.")
        command(*arguments, **options)

    return run


app = typer.Typer(no_args_is_help=True, add_completion=False, help="Train networks for MultiOrganSeg.")
app.add_typer(project_app, name="project")
app.command("add-organ")(add_organ_command)
app.command("merge-branches")(merge_branches_command)
app.command("pack")(pack_command)
app.command("train-pack")(train_pack_command)
app.command("unpack")(unpack_command)
app.command("acceptance")(acceptance_command)
app.command("cache")(cache_command)
_RENAMED: dict[str, Callable[..., None]] = {"add-organ": add_organ_command, "acceptance": acceptance_command}
for _earlier, _now in COMMANDS.items():
    app.command(_earlier, hidden=True)(renamed_command(_RENAMED[_now], _earlier, _now))
for _name in ("evaluate", "compare", "features"):
    app.command(_name, hidden=True, context_settings=_ANY_ARGUMENTS)(moved_command)

Data = Annotated[
    Path, typer.Option(help="Folder with images/ and labels/ of equal file names, or of a project.")
]


@app.callback()
def main_options(
    events: Annotated[
        bool,
        typer.Option(
            "--events",
            help="Write progress, warnings and the failure as JSON lines too, for programs.",
        ),
    ] = False,
) -> None:
    """Train networks for MultiOrganSeg and publish them as bundles."""
    begin_events(events)


@app.command()
@reported_errors()
def fit(
    recipe: Annotated[Path, typer.Argument(help="A TOML file, such as Training/recipes/abdomen-ct.toml.")],
    data: Data,
    run: Annotated[
        Path | None, typer.Option(help="Folder of the run; else runs/ and the recipe's name.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: DeviceCount = 0,
    cache: Annotated[Path | None, typer.Option(help="Folder for prepared cases.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    initial: Annotated[
        str | None, typer.Option(help="Run or bundle to start from, other than the recipe's.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Another value than the recipe's: optimisation.iterations=300; repeatable."
        ),
    ] = None,
) -> None:
    """Train a network; the same command again goes on where a stopped run was.

    Ctrl-C saves a checkpoint first, and so does an empty file `stop` in the run's folder, after which the
    command ends as if all were done. A run that was killed goes on from its last checkpoint.

    In a project the label-status matrix says which organs each case knows; the recipe names the organs.
    """
    from multiorganseg.inference.backends import choose_device
    from multiorganseg.projects.runs import Paused, process_start
    from multiorganseg_training.recipe.file import load_recipe
    from multiorganseg_training.run.devices import joined
    from multiorganseg_training.run.fit import Place, follow
    from multiorganseg_training.run.fit import fit as run_fit

    loaded = load_recipe(recipe, change or ())
    if seed is not None:
        loaded = replace(loaded, seed=seed)
    if initial is not None:
        loaded = replace(loaded, network=replace(loaded.network, initial=initial))
    run = run or Path("runs") / loaded.name
    folders = (data, run, cache or user_cache_dir() / "cases")
    try:
        with keep([recipe, *data_inputs(data)]), joined(choose_device(device), devices) as (together, own):
            if not together.first:
                return follow(together, own)
            with progress_bar() as progress:
                scores = run_fit(loaded, Place(*folders, own, together), progress, process_start())
    except Paused as pause:
        out.print(Text(f"{pause.problem} {pause.next_step}"), soft_wrap=True)
        return
    if scores:
        table = Table("organ", *scores, title="Mean Dice on the validation fold")
        for key in scores["averaged"]:
            table.add_row(key, *(f"{values[key]:.3f}" for values in scores.values()))
        out.print(table)
    out.print(Text(f"Next: multiorganseg-train publish {run} --data {data} --help"), soft_wrap=True)


@app.command()
@reported_errors()
def publish(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    data: Data,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the bundle to write.")],
    notes: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help="Markdown for the card: data, intended use, limits."),
    ],
    license_file: Annotated[
        Path, typer.Option(exists=True, dir_okay=False, help="Full text of the weights' licence.")
    ],
    license_name: Annotated[str, typer.Option("--license", help="Its SPDX identifier.")],
    version: Annotated[str, typer.Option(help="Of the bundle, three numbers.")] = "1.0.0",
    name: Annotated[str, typer.Option(help="Of the bundle; else the recipe's.")] = "",
    mix_with: Annotated[
        str, typer.Option(help="Bundle that the run started from; the weights of both are averaged.")
    ] = "",
    share: Annotated[float, typer.Option(min=0.0, max=1.0, help="Of the run in that average.")] = 0.5,
) -> None:
    """Write the averaged network of a run as a bundle, measured on the validation fold."""
    from multiorganseg.bundles import find_bundle
    from multiorganseg_training.acceptance.publish import Publication
    from multiorganseg_training.acceptance.publish import publish as write_publication
    from multiorganseg_training.run.checkpoint import FILE_NAME as CHECKPOINT_FILE

    publication = Publication(
        version,
        license_name,
        _text(license_file),
        _text(notes),
        name=name,
        mixed_with=find_bundle(mix_with) if mix_with else None,
        share=share,
    )
    kept = [notes, license_file, run / CHECKPOINT_FILE, *data_inputs(data)]
    with keep(kept), progress_bar() as progress:
        bundle = write_publication(run, data, output, publication, progress)
    out.print(Markdown(bundle.card_path.read_text(encoding="utf-8"), hyperlinks=False))
    out.print(Text(f"Written: {bundle.folder}"), soft_wrap=True)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        msg = f"Cannot read {path}."
        raise OptionError(msg, cause=str(error), next_step="Save it as text in UTF-8.") from error


def main() -> None:
    """Entry point."""
    prepare_output()
    keep_files_together()
    app()
