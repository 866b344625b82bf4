"""Reading a file of PyTorch that nobody has vouched for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from multiorganseg.children import run_module
from multiorganseg.convert import checkpoint_child as child
from multiorganseg.errors import BundleError, ResourceError
from multiorganseg.scratch import work_folder

LARGEST_FILE = 8 << 30
BASE_MEMORY = 2 << 30
MEMORY_PER_BYTE = 3
SECONDS = 600

Weights = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Checkpoint:
    """What a file of PyTorch holds.

    Attributes:
        path: The file.
        tree: JSON values, in which `{"tensor": n}` stands for a tensor.
        tensors: Floating-point tensors by n.
    """

    path: Path
    tree: Mapping[str, Any]
    tensors: Mapping[int, NDArray[np.float32]]

    def weights(self, entries: Mapping[str, Any]) -> Weights:
        """Return the tensors of a part of the tree by name, without counters.

        Names that PyTorch puts before all others, "module." and "_orig_mod.", are taken off.

        Raises:
            BundleError: The part holds something else than tensors, or a NaN or an infinity.
        """
        found: Weights = {}
        for name, entry in entries.items():
            if entry is None:
                continue
            if not isinstance(entry, Mapping) or set(entry) != {"tensor"}:
                raise refused(self.path, f"Its weights have an entry '{name}' that is no tensor.")
            array = self.tensors[entry["tensor"]]
            if not np.isfinite(array).all():
                raise refused(
                    self.path,
                    f"The weight {name} holds a NaN or an infinity.",
                    "Its training diverged, or the file is damaged: take another checkpoint.",
                )
            found[_without_prefixes(name)] = array
        if not found:
            raise refused(self.path, "It holds no weights.")
        return found


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file that `torch.save` wrote, in a child process with a limit of memory.

    Raises:
        BundleError: It is none, damaged, or names what could run a program.
        ResourceError: Memory or disk do not suffice.
    """
    try:
        size = path.stat().st_size
    except OSError as error:
        raise refused(path, str(error), "Check the path, and that you may read it.") from error
    if size > LARGEST_FILE:
        raise refused(path, f"It has {size >> 30} GiB; at most {LARGEST_FILE >> 30} GiB are read.")
    with work_folder() as folder:
        arguments = [str(path.absolute()), str(folder), str(BASE_MEMORY + MEMORY_PER_BYTE * size)]
        try:
            done = run_module(child.__name__, arguments, folder, seconds=SECONDS, threads=1)
        except subprocess.TimeoutExpired as error:
            raise refused(path, f"Reading it took more than {SECONDS} s.") from error
        if done.returncode:
            raise _failed(path, done)
        tree = json.loads((folder / child.TREE).read_text(encoding="utf-8"))
        return Checkpoint(path, tree, _read_tensors(folder / child.TENSORS))


def refused(path: Path, cause: str, next_step: str = "") -> BundleError:
    """Return the error of a file or folder that cannot become a bundle."""
    return BundleError(
        f"{path.name or path} was not converted.",
        cause=cause,
        next_step=next_step or "Get it again from its source. docs/foreign-networks.md says what is refused.",
    )


def _failed(path: Path, done: subprocess.CompletedProcess[str]) -> BundleError | ResourceError:
    if done.returncode == child.REFUSED:
        problem = str(json.loads(done.stdout.splitlines()[-1])["problem"])
        script = "TorchScript" in problem
        way_out = "Take the file with the weights alone, models/model.pt of a MONAI Bundle." if script else ""
        return refused(path, problem[:1].upper() + problem[1:] + ".", way_out)
    if done.returncode == child.OUT_OF_MEMORY or "MemoryError" in done.stderr or done.returncode < 0:
        return ResourceError(
            f"{path.name} was not converted.",
            cause="Reading it takes more memory than its size explains, or than there is.",
            next_step="Close other programs; if that does not help, the file is damaged.",
        )
    lines = done.stderr.strip().splitlines()
    return refused(path, f"The process that reads it failed: {lines[-1] if lines else done.returncode}.")


def _read_tensors(path: Path) -> dict[int, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return {int(name): array for name, array in load_file(path).items()}


def _without_prefixes(name: str) -> str:
    for prefix in ("module.", "_orig_mod."):
        name = name.removeprefix(prefix)
    return name.removeprefix("module.")
