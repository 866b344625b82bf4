"""Files of a training: recipe, project, matrix, events and the report of old against new."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from random import Random
from typing import Any

from campaign.kind import Kind
from campaign.mutate import spoil_file, spoil_json, spoil_tree

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

# ── Recipe ──────────────────────────────────────────────────────────────────────────────────────────────────

RECIPE = """base = "base.toml"
name = "tiny-ct"
description = "Two organs"
method = "supervised"
seed = 0

[data]
modality = "CT"
validation = ["case_c"]
known = { case_a = ["liver"], "*" = ["liver", "spleen"] }

[data.labels]
1 = "spleen"
6 = "liver"

[preprocessing]
spacing_mm = [3.0, 1.5, 1.5]
window = [-125.0, 275.0]

[network]
arguments = { filters = [8, 16, 16] }
patch_shape = [16, 32, 32]

[augmentation]
organ_centred = 0.8
scale = [0.9, 1.1]

[optimisation]
iterations = 100
batch_size = 1
learning_rate = 3e-3
precision = "fp32"
"""
VALUES = (
    "0", "-1", "1", "true", '""', '"x"', "nan", "inf", "-inf", "1e400", "[]", "{}", "[[]]", "9" * 30,
    "99999999999", "2024-01-01", '"a\\u0000b"', "[1]", '["liver"]', '{a = 1}', "[" * 3000 + "]" * 3000,
    "0.5", '["x", 1]', '"ct"',
)  # fmt: skip
BASES = (
    '"recipe.toml"', '"."', '"a\\u0000b"', '"/etc/passwd"', '"missing.toml"', "3",
    '["base.toml", "base.toml"]', '[["base.toml"]]', '"' + "x" * 5000 + '"', '""', '"~"', '"base.toml/x"',
)  # fmt: skip


def _prepare_recipe(folder: Path) -> None:
    (folder / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    (folder / "base.toml").write_text("[optimisation]\nbatch_size = 2\nwarmup = 0.1\n", encoding="utf-8")


def _mutate_recipe(random: Random, folder: Path) -> str:
    path = folder / "recipe.toml"
    if random.random() < 0.15:
        return spoil_file(random, path)
    lines, done = path.read_text(encoding="utf-8").splitlines(), []
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.choice([number for number, line in enumerate(lines) if line])
        key, equals, _ = lines[at].partition(" = ")
        name = random.choice(("value",) * 4 + ("drop", "twice", "key", "move", "nested"))
        if name == "value" and equals:
            lines[at] = key + equals + random.choice(BASES if key == "base" else VALUES)
        elif name == "drop":
            lines[at] = ""
        elif name == "twice":
            lines.insert(at, lines[at])
        elif name == "key" and equals:
            lines[at] = random.choice(('"*"', '""', "x", '"9999999999999999"', "a.b.c", "'1'")) + equals + "1"
        elif name == "nested":
            lines.insert(at, ".".join(["a"] * random.choice((3, 2000))) + " = 1")
        else:
            lines.append(lines.pop(at))
        done.append(f"{name} {key[:20]}")
    path.write_text("\n".join(lines), encoding="utf-8")
    return ", ".join(done)


def _read_recipe(folder: Path) -> Any:
    from multiorganseg_training.recipe.file import load_recipe, recipe_to_dict

    recipe = load_recipe(folder / "recipe.toml")
    recipe.data.table, recipe.data.channels, recipe.data.known_channels("case_a")
    recipe.preprocessing.for_bundle()
    return recipe_to_dict(recipe)


def _judge_recipe(folder: Path, result: dict[str, Any]) -> str:
    said = tomllib.loads((folder / "recipe.toml").read_text(encoding="utf-8"))
    said.pop("base", None)
    plain = json.loads(json.dumps(result, default=str))
    for table, fields in said.items():
        own = fields if isinstance(fields, dict) else {"": fields}
        for key, value in own.items():
            read = plain[table][key] if key else plain[table]
            if read != value and not isinstance(value, (int, float)):
                return f"{table}.{key} is {read!r} instead of {value!r}"
            if isinstance(value, (int, float)) and float(read) != float(value) and value == value:
                return f"{table}.{key} is {read!r} instead of {value!r}"
    return ""


# ── Project and matrix ──────────────────────────────────────────────────────────────────────────────────────

STATUS = {"annotated": ["liver"], "absent": ["spleen"]}
PROJECT = {
    "schema_version": 1,
    "name": "A project",
    "modality": "CT",
    "labels": {"1": "spleen", "2": "liver", "3": "my_lump"},
    "custom_organs": {"my_lump": {"name": "My lump", "color": [1, 2, 3]}},
    "sources": {"here": {"modality": "CT"}},
    "cases": {
        name: {
            "image": f"images/{name}.nii.gz",
            "labels": f"labels/{name}.nii.gz",
            "source": "here",
            "status": STATUS,
        }
        for name in ("case_a", "case_b")
    },
}
MATRIX = {"schema_version": 1, "organs": ["spleen", "liver"], "cases": {"case_a": STATUS, "case_b": {}}}


def _prepare_project(folder: Path) -> None:
    (folder / "project.json").write_text(json.dumps(PROJECT), encoding="utf-8")
    (folder / "matrix.json").write_text(json.dumps(MATRIX), encoding="utf-8")


def _mutate_project(random: Random, folder: Path) -> str:
    name = random.choice(("project.json", "project.json", "matrix.json"))
    return f"{name}: {spoil_json(random, folder / name)}"


def _read_project(folder: Path) -> Any:
    from multiorganseg_training.project import load_matrix, load_project, project_catalogue, project_state

    project = load_project(folder)
    project_catalogue(project)
    project_state(project)
    return project, load_matrix(folder / "matrix.json")


def _judge_project(folder: Path, result: Any) -> str:
    project, matrix = result
    said = json.loads((folder / "project.json").read_bytes())
    if {str(value): key for value, key in project.table.organs.items()} != said["labels"]:
        return f"labels {project.table.organs} instead of {said['labels']}"
    if list(project.cases) != list(said["cases"]):
        return "other cases"
    statuses = {name: entry["status"] for name, entry in said["cases"].items()}
    for rows, read in (
        (statuses, project.matrix),
        (json.loads((folder / "matrix.json").read_bytes())["cases"], matrix),
    ):
        for case, groups in rows.items():
            for status, organs in groups.items():
                if any(read.rows[case][organ].value != status for organ in organs):
                    return f"another status in {case}"
    return ""


# ── Runs: events, plan and the report of old against new ────────────────────────────────────────────────────

EVENTS = (
    {"event": "started", "time": 1.0, "model": "x", "cases": []},
    {"event": "progress", "time": 2.0, "stage": "training", "fraction": 0.5, "iteration": 3, "iterations": 9},
    {"event": "metric", "time": 3.0, "case": "case_a", "dice": {"liver": 0.5}},
    {"event": "warning", "time": 4.0, "message": "x"},
    {"event": "failed", "time": 5.0, "problem": "p", "cause": "c", "next_step": "n"},
)


def _prepare_events(folder: Path) -> None:
    run = folder / "runs" / "run-1"
    run.mkdir(parents=True)
    lines = "".join(json.dumps(event) + "\n" for event in EVENTS)
    (run / "events.jsonl").write_text(lines, encoding="utf-8")
    (run / "acceptance.json").write_text('{"passed": true}', encoding="utf-8")


def _mutate_events(random: Random, folder: Path) -> str:
    path = folder / "runs" / "run-1" / "events.jsonl"
    if random.random() < 0.3:
        return spoil_file(random, path)
    if random.random() < 0.1:
        return "acceptance.json: " + spoil_json(random, path.with_name("acceptance.json"))
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    at = random.randrange(len(lines))
    spoilt, what = spoil_tree(random, lines[at])
    texts: list[bytes] = [json.dumps(line).encode() for line in lines]
    texts[at] = json.dumps(spoilt, ensure_ascii=False).encode(
        random.choice(("utf-8", "latin-1", "utf-16")), "replace"
    )
    texts.insert(
        at, random.choice((b"", b"5", b'"x"', b"null", b"[]", b"{}", b"\xff", b"{" * 5000, b"[" * 5000))
    )
    path.write_bytes(random.choice((b"\n", b"\r\n", b"\n\n", "\u2028".encode())).join(texts))
    return f"event {at}: {what}"


def _read_events(folder: Path) -> Any:
    from multiorganseg.projects.runs import run_states

    states = run_states(folder)
    json.dumps(states)
    return states


def _judge_events(folder: Path, states: Any) -> str:
    data = (folder / "runs" / "run-1" / "events.jsonl").read_bytes()
    ends = []
    for line in data.split(b"\n"):
        try:
            event = json.loads(line)
            if event["event"] in ("failed", "finished", "paused", "started"):
                ends.append(event["event"])
        except (ValueError, TypeError, KeyError, RecursionError):
            continue
    expected = ends[-1] if ends and ends[-1] != "started" else "failed"
    if states[0]["state"] != expected:
        return f"state {states[0]['state']} instead of {expected}"
    return ""


def _prepare_acceptance(folder: Path) -> None:
    from multiorganseg.projects.acceptance import AcceptanceReport, OrganVerdict, Verdict, save_acceptance

    verdicts = {
        organ: OrganVerdict(
            role, "annotated", 4, 0.9, 0.91, 1.0, 1.0, 10.0, 10.1, 0.01, (-0.01, 0.03), Verdict("pass"),
            "Why.", "case_a",
        )
        for organ, role in (("liver", "old"), ("spleen", "new"))
    }  # fmt: skip
    made = AcceptanceReport(
        "tiny-ct", "1.0.0", "ab" * 32, "run-1", ("case_a",), "hold-out", 0.01, 0.5, verdicts, {"spleen": 3}
    )
    save_acceptance(made, folder)


def _mutate_acceptance(random: Random, folder: Path) -> str:
    return spoil_json(random, folder / "acceptance.json")


def _read_acceptance(folder: Path) -> Any:
    from multiorganseg.projects.acceptance import acceptance_to_json, load_acceptance

    acceptance = load_acceptance(folder)
    assert acceptance is not None
    return acceptance_to_json(acceptance)


def _judge_acceptance(folder: Path, result: Any) -> str:
    said = json.loads((folder / "acceptance.json").read_bytes())
    if list(said["organs"]) != list(result["organs"]):
        return "other organs"
    verdicts = [organ["verdict"] for organ in said["organs"].values()]
    if verdicts != [organ["verdict"] for organ in result["organs"].values()]:
        return "other verdicts"
    return ""


KINDS = (
    Kind("recipe", _prepare_recipe, _mutate_recipe, _read_recipe, _judge_recipe),
    Kind("project", _prepare_project, _mutate_project, _read_project, _judge_project),
    Kind("events", _prepare_events, _mutate_events, _read_events, _judge_events),
    Kind("acceptance", _prepare_acceptance, _mutate_acceptance, _read_acceptance, _judge_acceptance),
)
