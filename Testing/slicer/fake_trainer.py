"""A trainer that only pretends: fast events, a made-up acceptance check, a copy of the base as the new model.

Called as `fake_trainer.py multiorganseg_training --events ARGUMENTS`. What is not training goes to the real
commands.
The environment variable MULTIORGANSEG_FAKE_TRAINER holds a JSON object: `iterations`, `seconds` an iteration,
`crash` (an iteration at which a signal ends it), `fail` (one at which it tells why), `acceptance` ("pass",
"fail").
"""

from __future__ import annotations

import json
import math
import os
import runpy
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from filelock import FileLock

from multiorganseg.errors import ResourceError
from multiorganseg.events import event_log

PLAN = json.loads(os.environ.get("MULTIORGANSEG_FAKE_TRAINER", "{}"))


def value(name: str, arguments: list[str]) -> str:
    return arguments[arguments.index(name) + 1] if name in arguments else ""


def add_organ(arguments: list[str]) -> None:
    project = Path(value("--project", arguments))
    run = project / "runs" / value("--run", arguments)
    run.mkdir(parents=True, exist_ok=True)
    organs = [arguments[place + 1] for place, text in enumerate(arguments) if text == "--organ"]
    with FileLock(run / ".lock", timeout=2), event_log(run / "events.jsonl") as events:
        (run / "stop").unlink(missing_ok=True)
        events.emit("started", arguments=arguments)
        checkpoint = run / "checkpoint"
        first = int(checkpoint.read_text()) + 1 if checkpoint.exists() else 1
        count = PLAN.get("iterations", 20)
        for iteration in range(first, count + 1):
            time.sleep(PLAN.get("seconds", 0.01))
            if PLAN.get("crash") == iteration and first == 1:
                os.kill(os.getpid(), signal.SIGKILL)
            if PLAN.get("fail") == iteration:
                error = ResourceError("No memory left.", cause="It is 8 GB.", next_step="Buy some.")
                events.fail(error)
                sys.exit(error.exit_code)
            events.emit(
                "progress",
                **{"iteration": iteration, "iterations": count, "stage": "joint"},
                loss=1.4 * math.exp(-3 * iteration / count) + 0.2 + 0.05 * math.sin(iteration * 1.7),
                seconds_per_iteration=0.01,
                eta_seconds=(count - iteration) * 0.01,
            )
            if iteration % max(1, count // 10) == 0:
                grown = 1 - math.exp(-4 * iteration / count)
                dice = {"liver": 0.93, **{key: round(0.78 * grown, 4) for key in organs}}
                dice["mean"] = sum(dice.values()) / len(dice)
                events.emit(
                    "metric",
                    name="dice of averaged network",
                    iteration=iteration,
                    values=dice,
                )
            if iteration == 3:
                events.emit("warning", message="Few cases: the report will be uncertain.")
            checkpoint.write_text(str(iteration))
            if (run / "stop").exists():
                events.emit("paused")
                return
        write_acceptance(run, organs)
        events.emit("finished")


def write_acceptance(run: Path, organs: list[str]) -> None:
    passed = PLAN.get("acceptance", "pass") == "pass"
    from multiorganseg.bundles import find_bundle

    table = {}
    old = [key for key in find_bundle("abdomen-ct").metadata.labels.keys if key not in organs]
    for number, key in enumerate(old):
        bad = not passed and number == 1
        before, change = 0.93 - 0.02 * number, -0.031 if bad else 0.004 - 0.001 * (number % 7)
        table[key] = entry("old", before, before + change, "fail" if bad else "pass")
    for key in organs:
        table[key] = entry("new", None, 0.781, "pass")
    picture(run / "pictures" / "worst.png")
    cases = ["case_7", "case_8", "case_9"]
    acceptance = acceptance_of(run, cases, dict.fromkeys(organs, PLAN.get("cases", 5)))
    (run / "acceptance.json").write_text(
        json.dumps({**acceptance, "organs": table, "passed": passed}), encoding="utf-8"
    )


def acceptance_of(run: Path, cases: list[str], trained: dict[str, int]) -> dict:
    """All of an acceptance.json but its organs and its verdict."""
    return {
        **{"schema_version": 1, "base": {"name": "abdomen-ct", "version": "1.1.0", "sha256": "0" * 64}},
        **{"run": run.name, "cases": cases, "how": "hold-out", "margin": 0.01, "floor": 0.5},
        "training_cases": trained,
    }


def entry(role: str, old: float | None, new: float, verdict: str) -> dict:
    change = None if old is None else new - old
    why = {
        "pass": "The Dice fell by less than 0.010." if role == "old" else "The Dice is above 0.500.",
        "fail": "The Dice fell by 0.031, more than 0.010.",
    }[verdict]
    interval = None if change is None else [change - 0.012, change + 0.011]
    return {
        **{"role": role, "reference": "annotated", "cases": 3, "dice_old": old, "dice_new": new},
        **dict.fromkeys(("nsd_old", "nsd_new", "volume_ml_old", "volume_ml_new")),
        **{"difference": change, "confidence_interval": interval, "verdict": verdict, "why": why},
        **{"worst_case": "case_8", "picture": "pictures/worst.png" if role == "new" else None},
    }


def picture(path: Path) -> None:
    import numpy as np
    from PIL import Image

    path.parent.mkdir(exist_ok=True)
    rows, columns = np.mgrid[:160, :320]
    body = ((rows - 80) / 70) ** 2 + ((columns % 160 - 80) / 75) ** 2 < 1
    image = np.repeat((60 * body + 30 * np.cos(rows / 9) * body + 20)[..., None], 3, axis=2)
    organ = ((rows - 70) / 16) ** 2 + ((columns % 160 - 60) / 22) ** 2 < 1
    image[organ & (columns < 160)] = (90, 200, 120)
    image[organ & (columns >= 160)] = (230, 160, 60)
    Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path)


def publish(arguments: list[str]) -> None:
    from multiorganseg.bundles import find_bundle, install_bundle, pack_bundle, read_weights, write_bundle

    project, run = Path(arguments[2]), arguments[3]
    base = find_bundle("abdomen-ct")
    made = write_bundle(
        project / "bundles" / f"{run}-1.0.0",
        replace(base.metadata, name=run, version="1.0.0"),
        read_weights(base),
        base.card_path.read_text(encoding="utf-8").replace("abdomen-ct", run) + value("--force", arguments),
        (base.folder / "LICENSE").read_text(encoding="utf-8"),
    )
    install_bundle(pack_bundle(made.folder, project / f"{run}.zip"))


def main() -> None:
    arguments = sys.argv[3:]
    if arguments[0] == "add-organ":
        add_organ(arguments)
    elif arguments[:2] == ["project", "publish"]:
        publish(arguments)
    elif arguments[:2] == ["project", "rollback"]:
        from multiorganseg.bundles import remove_bundle

        remove_bundle(arguments[3])
    else:
        sys.argv[1:] = sys.argv[2:]
        runpy.run_module("multiorganseg_training", run_name="__main__")


if __name__ == "__main__":
    main()
