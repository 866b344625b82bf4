"""Whatever stands in a file that is read: it is taken, or there is an error that says what to do."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from multiorganseg.bundles import load_bundle
from multiorganseg.bundles.json_text import format_json
from multiorganseg.bundles.manifest import MANIFEST, build_manifest
from multiorganseg.errors import MultiOrganSegError, TrainingError
from multiorganseg.events import EventStream, event_log
from multiorganseg.inference.backends import load_network
from multiorganseg.networks.build import build_network
from multiorganseg.progress import Progress
from multiorganseg.projects.acceptance import (
    AcceptanceReport,
    OrganVerdict,
    Verdict,
    load_acceptance,
    save_acceptance,
)
from multiorganseg.projects.runs import ACCEPTANCE_FILE
from multiorganseg_training.acceptance.plan import PLAN_FILE, Plan, load_plan, save_plan
from multiorganseg_training.project import LabelStatus, load_matrix, load_project, project_state, save_matrix
from multiorganseg_training.recipe.file import load_recipe, recipe_from_dict, recipe_to_dict
from multiorganseg_training.run.checkpoint import FILE_NAME, Checkpoint, load_checkpoint
from multiorganseg_training.run.loop import train
from research.evaluation.finished import read_run

NESTED: Any = 0
for _ in range(400):
    NESTED = [NESTED]
WRONG: tuple[Any, ...] = (
    None,
    True,
    -1,
    2,
    10**400,
    1.5,
    float("1e300"),
    "",
    "x",
    "\0",
    "../..",
    "\udc80",
    [],
    [None],
    [1, 2, 3, 4],
    {},
    {"": None},
    NESTED,
)


def mutations(value: Any) -> Iterator[tuple[str, Any]]:
    """Return copies of a document in which one value at any place is another, or is missing, or is new."""
    for where, setter in _places(value, ""):
        for number, wrong in enumerate(WRONG):
            yield f"{where} is wrong {number}", setter(wrong)
    if isinstance(value, dict):
        yield "a field more", {**value, "stranger": 1}
        for key in value:
            yield f"without {key}", {name: item for name, item in value.items() if name != key}


def _places(value: Any, where: str) -> Iterator[tuple[str, Callable[[Any], Any]]]:
    yield where or "all", lambda wrong: wrong
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        for inner, setter in _places(item, f"{where}/{key}"):
            yield inner, _inside(value, key, setter)


def _inside(value: Any, key: Any, setter: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def changed(wrong: Any) -> Any:
        copied = copy.copy(value)
        copied[key] = setter(wrong)
        return copied

    return changed


def untyped(read: Callable[[Any], object], document: Any) -> list[str]:
    found = []
    for where, changed in mutations(document):
        try:
            read(changed)
        except MultiOrganSegError:
            continue
        except Exception as error:
            found.append(f"{where}: {type(error).__name__}: {str(error)[:100]}")
    return found


def reading_json(path: Path, read: Callable[[], object]) -> Callable[[Any], object]:
    def write_and_read(document: Any) -> object:
        path.write_text(json.dumps(document), encoding="utf-8")
        return read()

    return write_and_read


@pytest.fixture
def recipe(phantom_recipe):
    return phantom_recipe(
        network={"arguments": {"filters": [8, 8], "branches": [1]}}, data={"known": {"case_a": ["liver"]}}
    )


def test_recipes(recipe):
    document = json.loads(json.dumps(recipe_to_dict(recipe)))
    assert untyped(recipe_from_dict, document) == []


def test_gates(tmp_path):
    figures = (0.8, 0.9, 0.7, 0.7, 12.0, 13.0, 0.1)
    organ = OrganVerdict("old", "annotated", 3, *figures, (0.0, 0.2), Verdict.PASS, "Good.", "a", "p.png")
    acceptance = AcceptanceReport(
        "b", "1.0.0", "ab", "r", ("a",), "hold-out", 0.01, 0.5, {"liver": organ}, {"spleen": 2}
    )
    save_acceptance(acceptance, tmp_path)
    assert load_acceptance(tmp_path) == acceptance
    path = tmp_path / ACCEPTANCE_FILE
    document = json.loads(path.read_text(encoding="utf-8"))
    assert untyped(reading_json(path, lambda: load_acceptance(tmp_path)), document) == []


def test_plans(tmp_path, recipe):
    save_plan(Plan(recipe, (("case_a",),), "ab"), tmp_path)
    assert load_plan(tmp_path) == Plan(recipe, (("case_a",),), "ab")
    path = tmp_path / PLAN_FILE
    document = json.loads(path.read_text(encoding="utf-8"))

    def read() -> object:
        plan = load_plan(tmp_path)
        return plan and plan.new_organs

    assert untyped(reading_json(path, read), document) == []


@pytest.fixture
def project_document(tmp_path) -> tuple[Path, dict[str, Any]]:
    document = {
        "schema_version": 1,
        "name": "p",
        "modality": "CT",
        "labels": {"1": "liver", "2": "mass"},
        "custom_organs": {"mass": {"name": "Mass", "color": [200, 10, 0]}},
        "sources": {"msd": {"licence": "CC"}},
        "cases": {
            "a": {
                "image": "images/a.nii.gz",
                "labels": "labels/a.nii.gz",
                "source": "msd",
                "status": {"annotated": ["liver"], "absent": ["mass"]},
            }
        },
    }
    return tmp_path / "project.json", document


def test_projects(tmp_path, project_document):
    path, document = project_document

    def read() -> object:
        return format_json(project_state(load_project(tmp_path)))

    path.write_text(json.dumps(document), encoding="utf-8")
    assert read()
    assert untyped(reading_json(path, read), document) == []


def test_label_status_matrices(tmp_path, project_document):
    project_document[0].write_text(json.dumps(project_document[1]), encoding="utf-8")
    matrix = load_project(tmp_path).matrix
    assert matrix.status("a", "liver") is LabelStatus.ANNOTATED
    path = tmp_path / "matrix.json"
    save_matrix(matrix, path)
    document = json.loads(path.read_text(encoding="utf-8"))
    assert untyped(reading_json(path, lambda: load_matrix(path)), document) == []


def test_events_and_states_of_runs(tmp_path, project_document):
    project_document[0].write_text(json.dumps(project_document[1]), encoding="utf-8")
    run = tmp_path / "runs" / "r"
    run.mkdir(parents=True)
    with event_log(run / "events.jsonl") as events:
        events.emit("started", recipe="r", training=2)
    line = json.loads((run / "events.jsonl").read_text(encoding="utf-8"))
    progress = {"event": "progress", "iteration": 1, "loss": 0.5}
    metric = {"event": "metric", "name": "dice of last network", "iteration": 1, "liver": 0.5}
    (run / "acceptance.json").write_text('{"passed": true}', encoding="utf-8")

    def read(document: Any) -> object:
        lines = document if isinstance(document, list) else [document]
        (run / "events.jsonl").write_text(
            "\n".join(json.dumps(entry) for entry in lines) + "\n", encoding="utf-8"
        )
        return format_json(project_state(load_project(tmp_path)))

    document = [line, progress, metric, {"event": "failed", "problem": "p", "cause": "c", "next_step": "n"}]
    assert read(document)
    assert untyped(read, document) == []
    for raw in (b"\xff\xfe\n", b'"text"\n', b"[" * 10_000 + b"\n", b'{"event": 1e999}\n', b"9" * 5000, b""):
        (run / "events.jsonl").write_bytes(raw)
        assert format_json(project_state(load_project(tmp_path)))


def test_finished_runs(phantom_run, tmp_path):
    names = ("events.jsonl", "recipe.json", "result.json")
    for name in names:
        (tmp_path / name).write_bytes((phantom_run.place.run / name).read_bytes())
    assert read_run(tmp_path).losses
    lines = [
        json.loads(line) for line in (tmp_path / "events.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    kinds = {event["event"]: event for event in lines}

    def read(document: Any) -> object:
        entries = document if isinstance(document, list) else [document]
        (tmp_path / "events.jsonl").write_text("\n".join(map(json.dumps, entries)), encoding="utf-8")
        return read_run(tmp_path)

    assert untyped(read, list(kinds.values())) == []


@pytest.mark.slow
def test_bundles(bundle, tmp_path, make_bundle):
    own = make_bundle(name="tiny-wrong", custom_organs={}, metrics={"liver": {"dice": 0.5}})
    path = own.folder / "configs" / "metadata.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    for key in [key for key in document if key in ("network_data_format", "required_packages_version")]:
        del document[key]

    def read(changed: Any) -> object:
        path.write_text(json.dumps(changed), encoding="utf-8")
        (own.folder / MANIFEST).write_text(format_json(build_manifest(own.folder)), encoding="utf-8")
        return load_network(load_bundle(own.folder))

    assert untyped(read, document) == []
    read(document)
    manifest = json.loads((own.folder / MANIFEST).read_text(encoding="utf-8"))
    assert untyped(reading_json(own.folder / MANIFEST, lambda: load_bundle(own.folder)), manifest) == []


def test_arguments_of_networks(architecture):
    document = {
        "strided_dynunet": {"filters": [4, 8, 8], "stem_stride": [1, 2, 2], "branches": [1]},
        "slice_unet": {"filters": [4, 6, 8], "branches": [1]},
        "vnet": {"n_filters": 4, "stages": 2, "dropout": 0.0},
        "nnunet": {
            "filters": [4, 6],
            "kernels": [[1, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2]],
            "encoder": [1, 2],
            "decoder": [1],
            "residual": True,
        },
        "monai_segresnet": {"filters": 8, "blocks_down": [1, 1], "blocks_up": [1]},
        "monai_segresnet_ds": {"filters": 4, "blocks_down": [1, 1]},
        "monai_unet": {"filters": [4, 6], "strides": [[2, 2, 2]], "norm": "batch", "branches": [1]},
        "monai_dynunet": {
            "filters": [4, 6, 8],
            "kernels": [[1, 3, 3], [3, 3, 3], [3, 3, 3]],
            "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
        },
        "monai_swin_unetr": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
    }[architecture]

    def read(arguments: Any) -> object:
        whole = arguments if isinstance(arguments, dict) else {"filters": arguments}
        return build_network(architecture, {"in_channels": 1, "out_channels": 3, **whole})

    assert untyped(read, document) == []


@pytest.mark.slow
def test_checkpoints(phantom_recipe, prepared, tmp_path):
    recipe = phantom_recipe(optimisation={"iterations": 1}, data={"validation": []})
    nothing = (EventStream(), Progress(), lambda *_: None)
    train(recipe, prepared, tmp_path, torch.device("cpu"), *nothing)
    whole = torch.load(tmp_path / FILE_NAME, weights_only=True)
    small = {
        **whole,
        "network": {name: whole["network"][name] for name in list(whole["network"])[:1]},
        "average": {name: whole["average"][name] for name in list(whole["average"])[:1]},
        "recipe": {**whole["recipe"], "data": {"labels": {"1": "liver"}}},
        "optimiser": {**whole["optimiser"], "state": {0: whole["optimiser"]["state"][0]}},
        "method": {"prototypes": torch.ones(2)},
    }

    def read(content: Any) -> object:
        torch.save(content, tmp_path / FILE_NAME)
        checkpoint = load_checkpoint(tmp_path)
        assert isinstance(checkpoint, Checkpoint)
        return recipe_from_dict(checkpoint.recipe)

    assert untyped(read, small) == []
    resumed = phantom_recipe(optimisation={"iterations": 1}, data={"validation": []})
    for part in ("network", "average", "method", "optimiser", "generator"):
        for wrong in ({"x": 1}, {"x": torch.ones(3)}, {"state": 3, "param_groups": 4}, {"bit_generator": 1}):
            torch.save({**whole, part: wrong}, tmp_path / FILE_NAME)
            with pytest.raises(TrainingError):
                train(resumed, prepared, tmp_path, torch.device("cpu"), *nothing)


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 5000,
        'base = "\\u0000"',
        'base = "/dev/zero"',
        'base = "."',
        'base = "missing.toml"',
        "base = 3",
        "\udc80",
        "x = 1e999",
        "seed = nan",
        'name = "a"\ndata = 3',
    ],
)
def test_recipe_files(tmp_path, text):
    path = tmp_path / "recipe.toml"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(TrainingError):
        load_recipe(path)


def test_a_tensor_that_is_larger_than_its_storage(tmp_path, phantom_recipe):
    huge = torch.zeros(1).expand(2**40)
    generator = dict(np.random.default_rng(5).bit_generator.state)
    content = {"iteration": 1, "recipe": recipe_to_dict(phantom_recipe()), "network": {"w": huge}}
    rest = {"average": {}, "average_updates": 1, "method": {}, "optimiser": {}, "generator": generator}
    torch.save({**content, **rest}, tmp_path / FILE_NAME)
    with pytest.raises(TrainingError, match="no state of a network"):
        load_checkpoint(tmp_path)
