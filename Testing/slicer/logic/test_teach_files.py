"""What teaching reads of a project's folder: projects, events, runs and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from teach_project import write_project

ORGANS = ("liver", "colon")
pytestmark = pytest.mark.usefixtures("host")


def test_a_project_is_read_as_the_training_side_wrote_it(tmp_path: Path) -> None:
    from multiorganseg.bundles.metadata import CustomOrgan
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg_training.project.create import create_project
    from multiorganseg_training.project.organs import add_organ
    from MultiOrganSegLib.teach.project_file import read_project

    create_project(tmp_path / "P", "Übung", LabelTable.numbered(["liver"]))
    add_organ(tmp_path / "P", "my_lump", CustomOrgan("My lump", (1, 2, 3)))
    project = read_project(tmp_path / "P")
    assert (project.name, project.keys) == ("Übung", ("liver", "my_lump"))
    assert project.taught(("liver",)) == ("my_lump",)
    assert project.catalogue.get("my_lump").color == (1, 2, 3)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 99}'])
def test_a_damaged_project_is_told(tmp_path: Path, text: str) -> None:
    from multiorganseg.errors import TrainingError
    from MultiOrganSegLib.teach.project_file import read_project

    (tmp_path / "project.json").write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be used"):
        read_project(tmp_path)


def test_a_moved_project_finds_its_files(tmp_path: Path) -> None:
    from MultiOrganSegLib.teach.project_file import read_project

    write_project(tmp_path / "here", {"case": {"annotated": ["colon"]}}, ORGANS)
    (tmp_path / "here").rename(tmp_path / "there")
    case = read_project(tmp_path / "there").cases["case"]
    assert case.image.is_file()
    assert case.labels is not None
    assert case.labels.is_file()
    assert case.status == {"liver": "unknown", "colon": "annotated"}


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("Meckel's diverticulum", "meckels_diverticulum"),
        ("Left atrial appendage", "atrial_appendage_left"),
        ("Größe 2", "groe_2"),
        ("2nd organ", ""),
        ("left right", ""),
        ("  ", ""),
        ("all", ""),
    ],
)
def test_keys_of_own_organs(name: str, key: str) -> None:
    from MultiOrganSegLib.teach.organ_choice import own_key

    assert own_key(name) == key


def test_an_own_organ_is_offered_only_where_the_catalogue_has_none() -> None:
    from multiorganseg.organs.catalogue import load_catalogue
    from MultiOrganSegLib.teach.organ_choice import offers

    def found(words: str) -> list[bool]:
        return [offer.is_own for offer in offers(words, load_catalogue(), ("liver",), (1, 2, 3))]

    assert found("spleen")[0] is False
    assert True not in found("spleen")
    assert found("strange lump")[-1] is True
    assert True not in found("Liver")


def test_events_come_in_parts_and_a_cut_line_waits(tmp_path: Path) -> None:
    from MultiOrganSegLib.teach.event_tail import EventTail

    path = tmp_path / "events.jsonl"
    tail = EventTail(path)
    assert tail.poll() == []
    path.write_bytes(b'{"event": "started"}\nnonsense\n[1]\n{"event": "prog')
    assert [event["event"] for event in tail.poll()] == ["started"]
    with path.open("ab") as sink:
        sink.write(b'ress"}\n')
    assert [event["event"] for event in tail.poll()] == ["progress"]
    path.write_bytes(b'{"event": "finished"}\n')
    assert [event["event"] for event in tail.poll()] == ["finished"]


def test_curves_stay_short_and_a_resumed_run_overwrites() -> None:
    from MultiOrganSegLib.teach.curves import Curve

    curve = Curve()
    for iteration in range(1, 20_001):
        curve.add(iteration, 1.0 / iteration)
    curve.add(20_001, float("nan"))
    assert len(curve.points) <= 600
    assert curve.points == sorted(curve.points)
    assert curve.points[-1][0] > 19_900
    curve = Curve()
    for iteration in (1, 2, 3, 4, 3, 4, 5):
        curve.add(iteration, float(iteration))
    assert [point[0] for point in curve.points] == [1, 2, 3, 4, 5]


def test_unknown_or_damaged_events_change_nothing() -> None:
    from MultiOrganSegLib.teach.curves import TrainingLog

    log = TrainingLog()
    for event in (
        {"event": "strange"},
        {"event": "progress"},
        {"event": "progress", "iteration": "7", "loss": None, "eta_seconds": "soon"},
        {"event": "metric", "name": "dice", "liver": 0.5},
        {"event": "metric", "name": "seconds", "iteration": 3, "liver": 0.5},
    ):
        log.take(event)
    assert (log.iteration, log.fraction, log.loss.points, log.dice) == (0, 0.0, [], {})


def test_an_error_of_a_command_is_read_back() -> None:
    from multiorganseg.errors import VolumeError
    from MultiOrganSegLib.teach.told_error import command_error

    log = "working\nError: The grids differ.\nOne is 3 mm.\nand one 2 mm\nNext: Draw again.\nor export.\n"
    error = command_error(log, 3)
    assert type(error) is VolumeError
    assert error.problem == "The grids differ."
    assert error.cause == "One is 3 mm.\nand one 2 mm"
    assert error.next_step == "Draw again.\nor export."
    assert "no such command" in command_error("Usage: …\nno such command\n", 2).cause


def test_what_the_real_command_refuses_is_told(tmp_path: Path) -> None:
    import time

    from multiorganseg.errors import MultiOrganSegError
    from MultiOrganSegLib.teach import commands
    from MultiOrganSegLib.teach.command_queue import Command, CommandQueue

    queue, done, ended = CommandQueue(), [], []
    for name in ("a", "b"):
        arguments = commands.set_absent(tmp_path / "none", name, "liver")
        queue.add(Command(name, arguments, done.append, lambda: ended.append(1)))

    def wait() -> None:
        while queue.busy:
            queue.poll()
            time.sleep(0.05)

    with pytest.raises(MultiOrganSegError, match="is no project"):
        wait()
    assert (done, ended, queue.busy) == ([], [1, 1], False)


def test_a_run_is_alive_while_its_lock_is_held(tmp_path: Path) -> None:
    from MultiOrganSegLib.teach import training_run as runs

    run = runs.TrainingRun(tmp_path / "runs" / "one")
    run.folder.mkdir(parents=True)
    assert run.state("") == runs.INTERRUPTED
    code = (
        "import sys, filelock\n"
        "with filelock.FileLock(sys.argv[1]):\n"
        "    print('held', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(run.folder / ".lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        assert run.state("paused") == runs.RUNNING
        run.ask_to_stop()
        assert run.state("") == runs.STOPPING
        holder.kill()
        holder.wait()
    assert run.state("paused") == runs.PAUSED
    assert run.state("finished") == runs.FINISHED


def test_the_number_of_another_program_is_no_training(tmp_path: Path) -> None:
    from MultiOrganSegLib.teach import training_run as runs

    run = runs.TrainingRun(tmp_path / "one")
    run.give_orders(runs.Orders("abdomen-ct", ("colon",), "1h", "cpu", pid=os.getpid()))
    assert not run.is_alive()
    run.kill()
    assert run.orders() == runs.Orders("abdomen-ct", ("colon",), "1h", "cpu", os.getpid())


def test_names_of_runs_are_not_used_again(tmp_path: Path) -> None:
    from MultiOrganSegLib.teach import training_run as runs

    names = []
    for _number in range(3):
        run = runs.new_run(tmp_path, "abdomen-ct", ("colon", "prostate"))
        run.folder.mkdir(parents=True)
        names.append(run.name)
    stem = "abdomen-ct-plus-colon-prostate"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
    assert {run.name for run in runs.list_runs(tmp_path)} == set(names)


def _gate(path: Path, **changes: Any) -> Path:
    entry = {"role": "old", "reference": "annotated", "cases": 2, "dice_old": 0.9, "dice_new": 0.91}
    entry |= {"difference": 0.01, "confidence_interval": [0.0, 0.02], "verdict": "pass", "why": "Fine."}
    organs = {"liver": entry, "spleen": {**entry, "verdict": "fail"}}
    organs["colon"] = {**entry, "role": "new", "dice_old": None, "difference": None, "reference": "base"}
    data = {"schema_version": 1, "cases": ["a", "b"], "how": "hold-out", "organs": organs, "passed": False}
    path.write_text(json.dumps({**data, **changes}), encoding="utf-8")
    return path


def test_a_report_has_new_organs_first_and_then_the_worst(tmp_path: Path) -> None:
    from MultiOrganSegLib.teach.gate_report import read_gate

    report = read_gate(_gate(tmp_path / "gate.json"))
    assert [organ.key for organ in report.organs] == ["colon", "spleen", "liver"]
    assert report.organs[0].dice_old is None
    assert report.organs[0].by_base
    assert report.organs[1].interval == (0.0, 0.02)
    assert not report.passed


def test_a_damaged_report_is_told(tmp_path: Path) -> None:
    from multiorganseg.errors import TrainingError
    from MultiOrganSegLib.teach.gate_report import read_gate

    with pytest.raises(TrainingError, match="cannot be read"):
        read_gate(_gate(tmp_path / "gate.json", organs=[]))


def test_every_command_is_one_that_the_training_side_has() -> None:
    """Names of commands and options are compared with its command line; nothing is run."""
    import typer.main

    from multiorganseg.organs.catalogue import load_catalogue
    from multiorganseg_training.cli.app import app
    from MultiOrganSegLib.teach import commands

    root, folder = typer.main.get_command(app), Path("P")
    organ = load_catalogue().get("colon")
    for arguments in (
        commands.create(folder, "n", "CT", "abdomen-ct"),
        commands.add_case(folder, Path("i.nrrd"), "n"),
        commands.add_organ(folder, organ, is_own=True),
        commands.annotate(folder, "c", Path("l.nrrd"), "colon"),
        commands.set_absent(folder, "c", "colon"),
        commands.next_case(folder, "abdomen-ct", "colon", Path("a.json")),
        commands.extend(folder, "r", "abdomen-ct", ["colon", "prostate"], time="1h", device="cpu"),
        commands.gate(folder, "r"),
        commands.publish(folder, "r", "because"),
        commands.rollback(folder, "m"),
    ):
        command, rest = root, list(arguments)
        while hasattr(command, "commands"):
            name = rest.pop(0)
            assert name in command.commands, arguments
            command = command.commands[name]
        command.make_context(command.name, rest)


def test_a_free_number_is_taken_for_an_nnunet_dataset(host: Any, tmp_path: Path) -> None:
    from MultiOrganSegLib.teach.found_dataset import new_subfolder, nnunet_folder

    assert nnunet_folder(tmp_path, "Kolon, Übung 1").name == "Dataset501_Kolon_Ubung_1"
    (tmp_path / "Dataset501_Other").mkdir()
    assert nnunet_folder(tmp_path, "器官").name == "Dataset502_Project"
    for _number in range(2):
        new_subfolder(tmp_path, "P DICOM SEG").mkdir()
    assert new_subfolder(tmp_path, "P DICOM SEG").name == "P DICOM SEG 3"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"organs": 1, "labels": [1], "cases": []}'])
def test_a_damaged_answer_is_told(host: Any, tmp_path: Path, text: str) -> None:
    from multiorganseg.errors import TrainingError
    from MultiOrganSegLib.teach.found_dataset import read_found
    from MultiOrganSegLib.teach.learned import read_learned

    answer = tmp_path / "answer.json"
    answer.write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_found(tmp_path, answer)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_learned(answer)


def test_labels_that_are_left_out_are_background(host: Any) -> None:
    from MultiOrganSegLib.teach import commands

    arguments = commands.import_cases(Path("P"), Path("D"), {"Leber": "liver", "-x=y": ""})
    assert arguments[4:6] == ["--label=Leber=liver", "--label=-x=y=background"]


def test_whatever_hinders_a_command_the_queue_is_free_again(host: Any, monkeypatch) -> None:
    from MultiOrganSegLib.teach import command_queue
    from MultiOrganSegLib.teach.command_queue import Command, CommandQueue

    def fail(_arguments) -> None:
        raise ModuleNotFoundError(name="psutil")

    monkeypatch.setattr(command_queue, "start_command", fail)
    queue, ended = CommandQueue(), []
    queue.add(Command("Creating the project", ["x"], lambda _log: None, lambda: ended.append(1)))
    with pytest.raises(ModuleNotFoundError):
        queue.poll()
    assert (queue.busy, queue.text, ended) == (False, "", [1])


@pytest.mark.skipif(os.name != "posix", reason="links need rights on Windows")
@pytest.mark.parametrize(
    "linked", ["runs", "runs/one", "runs/one/stop", "runs/one.log", "runs/one.orders.json"]
)
def test_no_link_in_a_project_leads_what_is_written_of_a_training_out_of_it(tmp_path, linked):
    from multiorganseg.errors import MultiOrganSegError
    from MultiOrganSegLib.teach import training_run as runs

    outside, project = tmp_path / "outside", tmp_path / "project"
    (outside / "one").mkdir(parents=True)
    for name in ("one/stop", "one.log", "one.orders.json", "one/checkpoint.pt"):
        (outside / name).write_text("mine", encoding="utf-8")
    (project / linked).parent.mkdir(parents=True)
    (project / linked).symlink_to(outside / linked.removeprefix("runs").removeprefix("/"))
    run = runs.TrainingRun(project / "runs" / "one")
    for step in (
        lambda: run.give_orders(runs.Orders("base", ("liver",), "1h", "cpu")),
        run.ask_to_stop,
        run.withdraw_stop,
        run.delete,
    ):
        with suppress(MultiOrganSegError):
            step()
    kept = {path.relative_to(outside).as_posix(): path.read_text() for path in outside.rglob("*.*")}
    assert kept == dict.fromkeys(("one.log", "one.orders.json", "one/checkpoint.pt"), "mine")
    assert (outside / "one" / "stop").read_text(encoding="utf-8") == "mine"
