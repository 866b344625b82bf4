"""Cohorts: skipping what is finished, and workers on a Ray cluster of which a node is killed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from multiorganseg.bundles import Bundle
from multiorganseg.cli.app import app
from multiorganseg.volumes import read_labels, write_volume
from Testing.engine.cli.conftest import make_ct

QUICK = ("--no-preview", "--device", "cpu", "--formats", "seg.nrrd,json")
PATIENCE_SECONDS = 1200
ROOT = Path(__file__).resolve().parents[3]


def run(folder: Path, bundle: Bundle, *arguments: str | Path) -> Result:
    words = ["segment", folder, "-o", folder.parent / "out", "--model", bundle.folder, *QUICK, *arguments]
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    for number in range(3):
        write_volume(make_ct(number), tmp_path / "in" / f"c{number}.nii.gz")
    return tmp_path / "in"


def _changed(out: Path, before: dict[str, int]) -> set[str]:
    return {name for name, time in _times(out).items() if before.get(name) != time}


def _times(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in out.glob("*.seg.nrrd")}


def test_what_is_finished_is_skipped_until_anything_of_it_changes(cohort: Path, tiny_bundle: Bundle) -> None:
    out = cohort.parent / "out"
    assert run(cohort, tiny_bundle).exit_code == 0
    assert not (out / ".multiorganseg-finished").exists(), "nothing is recorded unasked"
    for _ in range(2):
        before = _times(out)
        result = run(cohort, tiny_bundle, "--resume")
        assert result.exit_code == 0, result.output
    assert _changed(out, before) == set()
    assert result.output.count("done before") == 3
    write_volume(make_ct(9), cohort / "c1.nii.gz")
    (out / "c2.seg.nrrd").unlink()
    (out / ".multiorganseg-finished" / "c0.finished.json").write_text('{"key": 3}')
    assert run(cohort, tiny_bundle, "--resume").output.count("done before") == 0
    assert _changed(out, before) == {"c0.seg.nrrd", "c1.seg.nrrd", "c2.seg.nrrd"}
    before = _times(out)
    assert run(cohort, tiny_bundle, "--resume", "--quality", "fast").exit_code == 0
    assert len(_changed(out, before)) == 3, "other options are other results"


def test_results_among_the_inputs_are_resumed_too(cohort: Path, tiny_bundle: Bundle) -> None:
    words = ("-o", cohort, "--resume", "--quality")
    for quality in ("fast", "balanced"):
        assert run(cohort, tiny_bundle, *words, quality).exit_code == 0
    assert run(cohort, tiny_bundle, *words, "balanced").output.count("done before") == 3


def test_a_record_is_no_more_readable_than_its_input(cohort: Path, tiny_bundle: Bundle) -> None:
    (cohort / "c0.nii.gz").chmod(0o600)
    assert run(cohort, tiny_bundle, "--resume").exit_code == 0
    records = cohort.parent / "out" / ".multiorganseg-finished"
    assert records.joinpath("c0.finished.json").stat().st_mode & 0o077 == 0


def test_without_ray_nothing_of_it_is_imported(cohort: Path, tiny_bundle: Bundle) -> None:
    assert run(cohort, tiny_bundle, "--resume").exit_code == 0
    code = (
        "import sys; from multiorganseg.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "print('loaded:', *({'ray', 'fastapi', 'uvicorn', 'lightning_fabric'} & set(sys.modules)))"
    )
    words = ["segment", cohort, "-o", cohort.parent / "o", "--model", tiny_bundle.folder, *QUICK]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded:"


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Any, list[Any]]]:
    """A Ray cluster: a head without processors and two nodes of one each, where opening "deadly" kills."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import os, sys\n"
        "def watch(event, said):\n"
        "    if event == 'open' and 'deadly.nii' in str(said[0]):\n"
        "        os._exit(9)\n"
        "sys.addaudithook(watch)\n"
    )
    path = os.pathsep.join([str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH", "")])])
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    small = {"object_store_memory": 80 * 2**20, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        with monkeypatch.context() as environment:
            environment.setenv("PYTHONPATH", path)
            workers = [cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20) for _ in range(2)]
        yield cluster, workers
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_killed_node_and_a_deadly_case_lose_nothing(
    tmp_path: Path, tiny_bundle: Bundle, nodes: tuple[Any, list[Any]]
) -> None:
    cluster, workers = nodes
    inputs, out, events = tmp_path / "in", tmp_path / "out", tmp_path / "events.jsonl"
    names = [f"c{number:02d}" for number in range(14)]
    for number, name in enumerate(names):
        write_volume(make_ct(number), inputs / f"{name}.nii.gz")
    (inputs / "broken.nii.gz").write_text("no volume")
    shutil.copy(inputs / "c00.nii.gz", inputs / "deadly.nii.gz")
    words = ["segment", inputs, "-o", out, "--model", tiny_bundle.folder, *QUICK, "--events", events]
    command = [sys.executable, "-m", "multiorganseg", *words, "--ray-address", cluster.address]
    child = subprocess.Popen(
        [str(word) for word in command], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + PATIENCE_SECONDS
    while child.poll() is None and len(list(out.glob("*.json"))) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert child.poll() is None, child.communicate()[0]
    cluster.remove_node(workers[0], allow_graceful=False)
    printed, _ = child.communicate(timeout=PATIENCE_SECONDS)
    assert child.returncode in (3, 6), printed
    seen = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    finished = Counter(event["case"] for event in seen if event["event"] == "finished")
    assert finished == {f"{name}.nii.gz": 1 for name in names}, printed
    failed = [event["problem"] + event["cause"] for event in seen if event["event"] == "failed"]
    assert len(failed) == 2, failed
    assert any("begun 3 times" in text for text in failed)
    assert {path.name for path in out.glob("*.seg.nrrd")} == {f"{name}.seg.nrrd" for name in names}
    assert not list(out.glob(".partial-*")), "nothing half-written stays"
    plain = tmp_path / "plain"
    alone = CliRunner().invoke(app, [str(w) for w in [*words[:2], "-o", plain, *words[4:-2]]])
    assert alone.exit_code == 3, alone.output
    for name in names:
        mine, theirs = (read_labels(folder / f"{name}.seg.nrrd") for folder in (out, plain))
        assert (mine.voxels == theirs.voxels).all()
        assert _facts(out / f"{name}.statistics.json") == _facts(plain / f"{name}.statistics.json")


def _facts(path: Path) -> dict[str, Any]:
    said = json.loads(path.read_text(encoding="utf-8"))
    del said["provenance"]["seconds"]
    return dict(said)


@pytest.mark.slow
def test_a_cluster_of_this_machine_leaves_nothing_in_the_home_folder(
    cohort: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    pytest.importorskip("ray")
    home, out = tmp_path / "home", tmp_path / "out"
    home.mkdir()
    words = ["segment", cohort, "-o", out, "--model", tiny_bundle.folder, *QUICK, "--ray"]
    done = subprocess.run(
        [sys.executable, "-m", "multiorganseg", *map(str, words)],
        cwd=ROOT,
        env={**os.environ, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(out.glob("*.seg.nrrd"))) == 3
    assert not (home / ".ray").exists(), (
        "Ray keeps a token there, which later turns on tokens for `ray start`"
    )


def test_a_cluster_that_is_not_there_is_told(cohort: Path, tiny_bundle: Bundle) -> None:
    pytest.importorskip("ray")
    result = run(cohort, tiny_bundle, "--ray-address", "127.0.0.1:1")
    assert result.exit_code == 6, result.output
    assert "No Ray cluster answers" in result.output
