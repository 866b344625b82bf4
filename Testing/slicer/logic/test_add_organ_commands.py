"""A failure of each command that the panel starts is a typed event on standard output."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest
from typer.testing import CliRunner

from multiorganseg.errors import MultiOrganSegError
from multiorganseg.events import EventKind, failure, parse_event
from multiorganseg.organs.catalogue import load_catalogue

pytestmark = pytest.mark.usefixtures("host")


def _commands(folder: Path) -> dict[str, list[str]]:
    from MultiOrganSegLib.add_organ import commands

    file, organ = folder / "file.nii.gz", load_catalogue().get("colon")
    return {
        "create": commands.create(folder, "n", "CT", "no-such-base"),
        "add": commands.add_case(folder, file, "n"),
        "add-organ": commands.add_organ(folder, organ, is_own=False),
        "annotate": commands.annotate(folder, "c", file, "colon"),
        "corrected": commands.annotate(folder, "c", file, "colon", corrected=True),
        "absent": commands.set_absent(folder, "c", "colon"),
        "next": commands.next_case(folder, "abdomen-ct", "colon", folder / "a.json"),
        "inspect": commands.inspect(folder, folder, folder / "a.json"),
        "import": commands.import_cases(folder, folder, {"Leber": "liver"}),
        "export-nnunet": commands.export_nnunet(folder, folder / "out"),
        "export-dicom-seg": commands.export_dicom_seg(folder, folder / "out", folder),
        "learning-curve": commands.learning_curve(folder, folder / "a.json"),
        "train": commands.train(folder, "r", "abdomen-ct", ["colon"], time="1h", device="cpu"),
        "acceptance": commands.check_acceptance(folder, "r"),
        "publish": commands.publish(folder, "r", "because"),
        "rollback": commands.rollback(folder, "m"),
    }


NAMES = (
    *(
        "create",
        "add",
        "add-organ",
        "annotate",
        "corrected",
        "absent",
        "next",
        "inspect",
        "import",
        "export-nnunet",
    ),
    *("export-dicom-seg", "learning-curve", "train", "acceptance", "publish", "rollback"),
)


@pytest.mark.parametrize("name", NAMES)
def test_a_failure_is_an_event(tmp_path: Path, name: str) -> None:
    from multiorganseg_training.cli.app import app

    commands = _commands(tmp_path / "none")
    done = CliRunner().invoke(app, ["--events", *commands[name]])
    events = [event for line in done.stdout.encode().splitlines() if (event := parse_event(line))]
    failed = [event for event in events if event["event"] == EventKind.FAILED]
    assert len(failed) == 1
    error = failure(failed[0])
    assert type(error) is not MultiOrganSegError, "its kind is known"
    assert error.exit_code == done.exit_code
    assert error.problem
    assert error.next_step


def test_without_the_option_there_are_no_events_after_a_command_with_it(tmp_path: Path) -> None:
    from multiorganseg_training.cli.app import app

    arguments = _commands(tmp_path / "none")["add"]
    for options in (["--events"], []):
        done = CliRunner().invoke(app, [*options, *arguments])
        assert ("failed" in done.stdout) == bool(options)


def test_every_function_that_makes_a_command_is_tried() -> None:
    from MultiOrganSegLib.add_organ import commands

    made = {
        name
        for name, value in vars(commands).items()
        if getattr(value, "__module__", "") == commands.__name__
    }
    calls = (node for node in ast.walk(ast.parse(inspect.getsource(_commands))) if isinstance(node, ast.Call))
    names = [ast.unparse(call.func).rpartition(".") for call in calls]
    assert {name for module, _, name in names if module == "commands"} == made
    assert tuple(_commands(Path("P"))) == NAMES
