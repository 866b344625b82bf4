"""The engine as a user runs it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch

from harness.stages import Recorder
from multiorganseg.bundles import Bundle, load_bundle
from multiorganseg.inference.backends import Backend, load_network, openvino_backend, torch_backend
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume

BACKENDS: dict[str, Callable[[Bundle], Backend]] = {
    "torch-f32": lambda bundle: torch_backend(load_network(bundle), torch.device("cpu"), exact=True),
    "torch-bf16": lambda bundle: torch_backend(load_network(bundle), torch.device("cpu")),
    "openvino-f32": openvino_backend,
    "openvino-bf16": lambda bundle: openvino_backend(bundle, "bf16"),
}
"""Ways to run a network on the CPU; bfloat16 with torch where the CPU computes in it."""


def run_ours(ct: Path, bundle: Path, quality: str, output: Path, recorder: Recorder) -> None:
    """Segment a CT and write the labels.

    The time limit is lifted, so that the windows overlap as the quality says and as the rival's do.
    """
    _run(ct, bundle, Options(quality=quality, device="cpu", time_limit=math.inf), output, recorder)


def run_converted(
    ct: Path, bundle: Path, mode: str, backend: str, mirroring: bool, output: Path, recorder: Recorder
) -> None:
    """Segment a CT with a converted network of one fold and write the labels.

    The backend is a key of `BACKENDS`, which do not mirror, or "" for the engine's own choice.
    """
    options = Options(mode=mode, mirroring=mirroring, device="cpu", time_limit=math.inf)
    _run(ct, bundle, options, output, recorder, backend)


def _run(
    ct: Path, bundle: Path, options: Options, output: Path, recorder: Recorder, backend: str = ""
) -> None:
    with recorder.stage("read"):
        volume = read_volume(ct)
    with recorder.stage("load bundle"):
        segmenter = Segmenter(load_bundle(bundle), options)
        if backend:
            segmenter._backends["cpu", False] = BACKENDS[backend](segmenter.bundle)
    with recorder.stage("segment"):
        result = segmenter.segment(volume)
    recorder.split("segment", result.provenance["seconds"])
    with recorder.stage("write"):
        write_volume(Volume(result.labels, result.affine), output)
    kept = ("backend", "overlap", "windows", "messages")
    recorder.facts(**{name: result.provenance[name] for name in kept})
