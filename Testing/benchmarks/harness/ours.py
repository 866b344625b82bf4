"""The engine as a user runs it."""

from __future__ import annotations

import math
from pathlib import Path

from harness.stages import Recorder
from multiorganseg.bundles import load_bundle
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume


def run_ours(ct: Path, bundle: Path, quality: str, output: Path, recorder: Recorder) -> None:
    """Segment a CT and write the labels.

    The time limit is lifted, so that the windows overlap as the quality says and as the rival's do.
    """
    _run(ct, bundle, Options(quality=quality, device="cpu", time_limit=math.inf), output, recorder)


def run_converted(
    ct: Path, bundle: Path, mode: str, mirroring: bool, output: Path, recorder: Recorder
) -> None:
    """Segment a CT with a converted network and write the labels."""
    options = Options(mode=mode, mirroring=mirroring, device="cpu", time_limit=math.inf)
    _run(ct, bundle, options, output, recorder)


def _run(ct: Path, bundle: Path, options: Options, output: Path, recorder: Recorder) -> None:
    with recorder.stage("read"):
        volume = read_volume(ct)
    with recorder.stage("load bundle"):
        segmenter = Segmenter(load_bundle(bundle), options)
    with recorder.stage("segment"):
        result = segmenter.segment(volume)
    recorder.split("segment", result.provenance["seconds"])
    with recorder.stage("write"):
        write_volume(Volume(result.labels, result.affine), output)
    kept = ("backend", "overlap", "windows", "messages")
    recorder.facts(**{name: result.provenance[name] for name in kept})
