"""A training away from its project: what it needs in one file, and what it learned in another.

The other machine needs torch, numpy, safetensors and the packages of this project, nothing else:

    python -m multiorganseg_training.run.packed run.zip learned.safetensors
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles.bundle import load_bundle
from multiorganseg.bundles.install import unpack_zip
from multiorganseg.bundles.json_text import read_json_object
from multiorganseg.bundles.manifest import MANIFEST, build_manifest, bundle_files, manifest_problems
from multiorganseg.errors import MultiOrganSegError, TrainingError
from multiorganseg.events import EventStream
from multiorganseg.inference.backends import choose_device
from multiorganseg.progress import Progress
from multiorganseg.scratch import scratch_folder
from multiorganseg_training.data.batches import Batch
from multiorganseg_training.recipe.file import recipe_from_dict, recipe_to_dict
from multiorganseg_training.recipe.recipe import DataSpec, Recipe
from multiorganseg_training.run.fixed import Draw
from multiorganseg_training.run.loop import train

SCHEMA_VERSION = 1
PACK_FILE, RECIPE_FILE, BASE, BATCHES = "run.json", "recipe.json", "base", "batches"
NETWORK, AVERAGE = "network", "average"
MOST_BYTES, MOST_ENTRIES = 64 * 2**30, 10_000


@contextmanager
def new_pack(target: Path) -> Iterator[Path]:
    """Return a private folder whose content becomes a zip file with a manifest when the block ends.

    Raises:
        ResourceError: The file cannot be written.
    """
    with atomic_path(target, private=True) as partial, scratch_folder(partial.parent) as folder:
        yield folder
        (folder / MANIFEST).write_text(json.dumps(build_manifest(folder)), encoding="utf-8")
        with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            for name in sorted(bundle_files(folder)):
                archive.write(folder / name, name)


def without_cases(recipe: Recipe) -> Recipe:
    """Return a recipe without names of cases and without the place of its first weights."""
    return replace(
        recipe,
        data=DataSpec(recipe.data.labels, modality=recipe.data.modality),
        network=replace(recipe.network, initial=BASE),
    )


def save_training(folder: Path, recipe: Recipe, draw: Draw, progress: Progress) -> None:
    """Write a training into a folder of a pack: its recipe, and its batches by number.

    Args:
        folder: Of the training.
        recipe: With a number of fixed batches.
        draw: Gives them.
        progress: Told each.
    """
    (folder / BATCHES).mkdir(parents=True)
    text = json.dumps(recipe_to_dict(without_cases(recipe)), indent=2)
    (folder / RECIPE_FILE).write_text(text, encoding="utf-8")
    count = recipe.optimisation.fixed_batches
    for number in range(count):
        progress("drawing patches", number / count)
        batch = draw(number)
        stored = {
            "image": batch.image.half().contiguous(),
            "labels": batch.labels.to(torch.uint8).contiguous(),
            "known": batch.known,
        }
        save_file(stored, folder / BATCHES / f"{number}.safetensors")


def stored_batches(folder: Path, device: torch.device) -> Draw:
    """Return what gives the batches of a training by number, on a device."""

    def draw(number: int) -> Batch:
        stored = load_file(folder / BATCHES / f"{number}.safetensors", str(device))
        return Batch(stored["image"].float(), stored["labels"].long(), stored["known"])

    return draw


def train_pack(pack: Path, learned: Path, device: torch.device, progress: Progress | None = None) -> None:
    """Train what a pack holds, and write what was learned: the newest branch's weights of each training.

    Its work lies in a hidden folder beside the result and goes when all is done; the same call after it was
    killed goes on there.

    Args:
        pack: File that `pack_run` wrote.
        learned: File to be written, in the safetensors format.
        device: Where to train.
        progress: Told each iteration.

    Raises:
        TrainingError: The pack is damaged or unsafe, or belongs to another version.
        ResourceError: A file cannot be written, or the memory does not suffice.
        Cancelled: The user asked for it; a checkpoint is kept.
    """
    progress = progress or Progress()
    work = learned.absolute().parent / f".{learned.name}.work"
    work.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder = work / "pack"
    said = _unpacked(pack, folder)
    base = load_bundle(folder / BASE)
    weights: dict[str, Tensor] = {}
    for number, name in enumerate(said["trainings"]):
        recipe = recipe_from_dict(read_json_object(folder / name / RECIPE_FILE))
        recipe = replace(recipe, network=replace(recipe.network, initial=str(base.folder)))
        run = work / "runs" / name
        run.mkdir(parents=True, exist_ok=True)
        reporting = _part(progress, number, len(said["trainings"]))
        draw = stored_batches(folder / name, device)
        trained = train(
            recipe, [], run, device, EventStream(None), reporting, lambda network, done: None, None, draw
        )
        for kind, network in ((NETWORK, trained.last), (AVERAGE, trained.average)):
            branch = f"branches.{len(recipe.network.arguments['branches']) - 1}."
            for key, tensor in network.state_dict().items():
                if key.startswith(branch):
                    weights[f"{name}/{kind}/{key}"] = tensor.cpu().contiguous()
    with atomic_path(learned) as partial:
        save_file(weights, partial, {"token": said["token"], "schema_version": str(SCHEMA_VERSION)})
    shutil.rmtree(work)


def read_learned(path: Path, token: str, wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Read what `train_pack` wrote, and compare it with what it must hold.

    Args:
        path: The file.
        token: That the pack was given.
        wanted: By name, tensors of the shapes and types that are expected.

    Returns:
        The tensors by name.

    Raises:
        TrainingError: The file is damaged, belongs to another run, or holds other tensors or numbers that are
            not finite.
    """
    problem = ""
    tensors: dict[str, Tensor] = {}
    try:
        with safe_open(path, "pt") as file:
            said = file.metadata() or {}
            names = set(file.keys())
            if said.get("token") != token:
                problem = "It belongs to another run."
            elif names != wanted.keys():
                problem = f"It lacks or adds {', '.join(sorted(names ^ wanted.keys())[:3])}."
            else:
                tensors = {name: file.get_tensor(name) for name in names}
    except (OSError, SafetensorError) as error:
        problem = f"It cannot be read: {error}"
    for name, tensor in tensors.items():
        like = wanted[name]
        if tensor.shape != like.shape or tensor.dtype != like.dtype:
            problem = f"{name} is {tuple(tensor.shape)} of {tensor.dtype}."
        elif tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            problem = f"{name} holds numbers that are not finite."
    if problem:
        msg = f"{path.name} does not hold what this run should learn."
        raise TrainingError(msg, cause=problem, next_step="Name the file that belongs to the run's pack.")
    return tensors


def _unpacked(pack: Path, folder: Path) -> dict[str, Any]:
    """Unpack a pack into a folder, where it does not lie there whole already, and return what it says."""
    if not folder.is_dir() or manifest_problems(folder):
        shutil.rmtree(folder, ignore_errors=True)
        unpack_zip(pack, folder, _refused, MOST_BYTES, MOST_ENTRIES)
    problems = manifest_problems(folder)
    try:
        said = read_json_object(folder / PACK_FILE)
        if said.get("schema_version") != SCHEMA_VERSION:
            problems.append(f"Its schema version is not {SCHEMA_VERSION}")
        elif not all((folder / name / RECIPE_FILE).is_file() for name in said["trainings"]):
            problems.append("A training is missing")
    except (OSError, ValueError, KeyError, TypeError) as error:
        problems.append(f"{PACK_FILE}: {error}")
        said = {}
    if problems:
        raise _refused(pack, "\n".join(problems))
    return said


def _refused(pack: Path, cause: str) -> MultiOrganSegError:
    msg = f"{pack.name} is no packed run."
    return TrainingError(msg, cause=cause, next_step="Pack the run again: multiorganseg-train pack --help")


def _part(progress: Progress, number: int, count: int) -> Progress:
    def report(stage: str, fraction: float) -> None:
        progress.report(f"{number + 1} of {count}: {stage}" if count > 1 else stage, fraction)

    return Progress(report, progress.token)


def main() -> int:
    """Train a pack from the command line, with no more than torch, numpy and safetensors installed."""
    parser = argparse.ArgumentParser(description="Train a packed run; the same command again goes on.")
    parser.add_argument("pack", type=Path, help="File of `multiorganseg-train pack`.")
    parser.add_argument("learned", type=Path, help="File to write, for `multiorganseg-train unpack`.")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps.")
    asked = parser.parse_args()
    began, last = time.monotonic(), [0.0]

    def report(stage: str, fraction: float) -> None:
        now = time.monotonic()
        if now - last[0] > 2 or fraction >= 1:
            last[0] = now
            left = (now - began) * (1 - fraction) / fraction if fraction else 0.0
            sys.stderr.write(f"\r{stage}, {100 * fraction:.0f} %, {left / 60:.0f} min left   ")

    try:
        train_pack(asked.pack, asked.learned, choose_device(asked.device), Progress(report))
    except MultiOrganSegError as error:
        sys.stderr.write(f"\n{error}\n")
        return error.exit_code
    back = f"multiorganseg-train unpack {asked.learned.name} RUN -p PROJECT"
    sys.stderr.write(f"\nBring back {asked.learned}: {back}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
