"""`multiorganseg models`: list, show, verify, install, inspect, convert, remove and pack bundles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from multiorganseg.bundles import (
    Bundle,
    BundleProblem,
    Metadata,
    Preprocessing,
    find_bundle,
    install_bundle,
    list_bundles,
    pack_bundle,
    remove_bundle,
    user_models_dir,
)
from multiorganseg.bundles.original import Original
from multiorganseg.cli.console import out, printable
from multiorganseg.cli.convert import convert_model, inspect_model
from multiorganseg.cli.errors import reported_errors, show_error
from multiorganseg.errors import BundleError
from multiorganseg.outputs import keep

models_app = typer.Typer(no_args_is_help=True, help="Trained networks: list, check, install and share them.")

models_app.command("inspect")(inspect_model)
models_app.command("convert")(convert_model)

_Name = Annotated[str, typer.Argument(help="Name of a bundle, or the path of its folder.")]


@models_app.command("list")
@reported_errors()
def list_models() -> None:
    """List the bundles of this computer, the damaged ones too."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("Name", "Version", "Modality", "Organs", "Mean Dice", "Source", "Description"):
        table.add_column(title, overflow="fold")
    entries = list_bundles()
    own = {entry.folder.name for entry in entries if _is_own(entry)}
    for entry in entries:
        source = "user" if _is_own(entry) else "bundled"
        if isinstance(entry, BundleProblem):
            reason = Text(f"damaged: {entry.error.cause}", style="red")
            table.add_row(Text(entry.folder.name, style="red"), "", "", "", "", source, reason)
            continue
        hidden = " (hidden by user's)" if source == "bundled" and entry.folder.name in own else ""
        metadata = entry.metadata
        table.add_row(
            Text(metadata.name, style="bold"),
            metadata.version,
            metadata.modality,
            str(len(metadata.labels.organs)),
            _mean_dice(metadata),
            source + hidden,
            Text(metadata.description),
        )
    if entries:
        out.print(table)
    else:
        out.print("No bundle is installed.")
    out.print(Text(f"User folder: {user_models_dir()}", style="dim"), soft_wrap=True)


@models_app.command("show")
@reported_errors()
def show_model(
    name: _Name,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metadata as JSON.")] = False,
    card: Annotated[bool, typer.Option("--card", help="Print the model card.")] = False,
) -> None:
    """Show what a bundle segments, how well, and where it comes from."""
    bundle = find_bundle(name)
    if as_json:
        text = (bundle.folder / "configs" / "metadata.json").read_text(encoding="utf-8")
        typer.echo(printable(text, lines=True), nl=False)
        return
    if card:
        from rich.markdown import Markdown

        out.print(Markdown(bundle.card_path.read_text(encoding="utf-8"), hyperlinks=False))
        return
    out.print(_facts(bundle))
    out.print()
    out.print(_organs(bundle.metadata))


@models_app.command("verify")
@reported_errors()
def verify_models(
    names: Annotated[
        list[str] | None, typer.Argument(help="Names or folders of bundles; all bundles when none is given.")
    ] = None,
) -> None:
    """Check every byte of bundles against their manifests; the exit code is 4 when something is wrong."""
    entries = [_find_or_problem(name) for name in names] if names else list_bundles()
    for entry in entries:
        if isinstance(entry, BundleProblem):
            show_error(entry.error)
        else:
            line = Text.assemble(("verified ", "green"), f"{entry.metadata.name} {entry.metadata.version}")
            out.print(line.append(f"  {entry.digest[:12]}  {entry.folder}", "dim"), soft_wrap=True)
    if any(isinstance(entry, BundleProblem) for entry in entries):
        raise typer.Exit(BundleError.exit_code)


@models_app.command("install")
@reported_errors()
def install_model(
    zip_file: Annotated[Path, typer.Argument(help="Zip file of a bundle.")],
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the same version, a newer one or a damaged bundle.")
    ] = False,
) -> None:
    """Check a zip file and install its bundle into the user's folder."""
    with keep([zip_file]):
        bundle = install_bundle(zip_file, replace=replace)
    out.print(
        Text(f"Installed {bundle.metadata.name} {bundle.metadata.version} at {bundle.folder}"), soft_wrap=True
    )


@models_app.command("remove")
@reported_errors()
def remove_model(
    name: Annotated[str, typer.Argument(help="Name of a bundle in the user's folder.")],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a bundle from the user's folder."""
    if not yes:
        typer.confirm(f"Delete the bundle {printable(name)} from {user_models_dir()}?", abort=True)
    remove_bundle(name)
    out.print(Text(f"Removed {name}"))


@models_app.command("pack")
@reported_errors()
def pack_model(
    name: _Name,
    zip_file: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Zip file to write; else NAME-VERSION.zip here."),
    ] = None,
) -> None:
    """Write a bundle as a zip file that others can install."""
    bundle = find_bundle(name)
    target = zip_file or Path(f"{bundle.metadata.name}-{bundle.metadata.version}.zip")
    with keep([bundle.folder]):
        pack_bundle(bundle.folder, target)
    out.print(Text(f"Packed {bundle.metadata.name} into {target}"), soft_wrap=True)


def _is_own(entry: Bundle | BundleProblem) -> bool:
    return entry.folder.parent == user_models_dir()


def _find_or_problem(name: str) -> Bundle | BundleProblem:
    try:
        return find_bundle(name)
    except BundleError as error:
        return BundleProblem(Path(name), error)


def _mean_dice(metadata: Metadata) -> str:
    dice = [measured["dice"] for measured in metadata.metrics.values() if "dice" in measured]
    return f"{sum(dice) / len(dice):.3f}" if dice else ""


def _facts(bundle: Bundle) -> Table:
    metadata, preprocessing = bundle.metadata, bundle.metadata.preprocessing
    original = preprocessing.original
    facts = {
        "Name": f"{metadata.name} {metadata.version}",
        "Description": metadata.description,
        "Modality": metadata.modality,
        "Network": f"{metadata.architecture} {_one_line(metadata.arguments)}",
        "Activation": metadata.activation,
        "Voxel size": " × ".join(f"{size:g}" for size in preprocessing.spacing_mm) + " mm (k, j, i)",
        "Intensity": _intensity(preprocessing),
        "Window shape": " × ".join(str(size) for size in metadata.patch_shape),
        **({} if original is None else _original(original)),
        "Licence": metadata.license,
        "Training": _one_line(metadata.training),
        "Sha256": bundle.digest,
        "Folder": str(bundle.folder),
    }
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for title, fact in facts.items():
        table.add_row(title, Text(fact))
    return table


def _intensity(preprocessing: Preprocessing) -> str:
    window = preprocessing.window
    if preprocessing.original is not None:
        said = zip(preprocessing.original.channels, preprocessing.original.intensities, strict=True)
        return "; ".join(f"{name}: {entry.kind} {_one_line(entry.values)}" for name, entry in said)
    return "z-score" if window is None else f"{window[0]:g}…{window[1]:g} HU"


def _original(original: Original) -> dict[str, str]:
    return {
        "Converted from": original.program,
        "Images run to": original.orientation or "as they are stored",
        "Networks": f"{original.folds}, mirrored along {len(original.mirrored)} axes in faithful mode",
    }


def _organs(metadata: Metadata) -> Table:
    names = list(dict.fromkeys(name for measured in metadata.metrics.values() for name in measured))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("Label", justify="right")
    table.add_column("Organ")
    for name in names:
        table.add_column(Text(name), justify="right")
    for value, key in metadata.labels.organs.items():
        measured = metadata.metrics.get(key, {})
        table.add_row(
            str(value), key, *(f"{measured[name]:.3f}" if name in measured else "" for name in names)
        )
    return table


def _one_line(values: Mapping[str, Any]) -> str:
    return json.dumps(values, ensure_ascii=False)
