"""What the section Add organ reads of a project's folder: projects, events, runs and reports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from add_organ_project import write_project

ORGANS = ("liver", "colon")
pytestmark = pytest.mark.usefixtures("host")


def test_a_project_is_read_as_the_training_side_wrote_it(tmp_path: Path) -> None:
    from multiorganseg.bundles.metadata import CustomOrgan
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg_training.project.create import create_project
    from multiorganseg_training.project.organs import add_organ
    from MultiOrganSegLib.add_organ.session import Session

    create_project(tmp_path / "P", "Übung", LabelTable.numbered(["liver"]))
    add_organ(tmp_path / "P", "my_lump", CustomOrgan("My lump", (1, 2, 3)))
    session = Session()
    session.open(tmp_path / "P")
    project = session.project
    assert project is not None
    assert (project.name, project.keys) == ("Übung", ("liver", "my_lump"))
    assert project.catalogue.get("liver").name == "Liver"
    assert project.catalogue.get("my_lump").color == (1, 2, 3)


def test_what_an_earlier_version_remembered_is_found(host: Any, tmp_path: Path) -> None:
    import slicer

    from MultiOrganSegLib.add_organ import case_scene
    from MultiOrganSegLib.add_organ.session import Session

    write_project(tmp_path / "P", {"case": {"annotated": ["colon"]}}, ORGANS)
    folder = str((tmp_path / "P").absolute())
    settings = slicer.app.userSettings()
    settings.setValue("MultiOrganSeg/TeachProject", folder)
    settings.setValue("MultiOrganSeg/TeachBases", json.dumps({folder: "my-base"}))
    session = Session()
    session.reopen()
    assert session.project is not None
    assert session.base == "my-base"
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode")
    assert not case_scene.is_case(node, session.project)
    node.SetAttribute("MultiOrganSeg.TeachCase", "case")
    node.SetAttribute("MultiOrganSeg.TeachProject", folder)
    assert case_scene.is_case(node, session.project)
    assert case_scene.find_node(session.project, "case", "vtkMRMLScalarVolumeNode") is node
    case_scene.mark(node, session.project, "other")
    assert case_scene.find_node(session.project, "case", "vtkMRMLScalarVolumeNode") is None


def test_a_model_that_has_something_to_learn_is_the_likely_base(tmp_path: Path) -> None:
    from MultiOrganSegLib.add_organ.session import Session

    def model(*organs: str) -> Any:
        return SimpleNamespace(metadata=SimpleNamespace(labels=SimpleNamespace(keys=organs)))

    write_project(tmp_path / "P", {"case": {"annotated": ["colon"]}}, ORGANS)
    session = Session()
    session.bundles = {"taught": model("liver", "colon"), "base": model("liver"), "other": model("aorta")}
    session.open(tmp_path / "P")
    assert session.base == "base"
    del session.bundles["base"]
    session.open(tmp_path / "P")
    assert session.base == "taught"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema_version": 2}', '{"schema_version": 99}'])
def test_a_damaged_project_and_one_of_another_version_are_refused(tmp_path: Path, text: str) -> None:
    from multiorganseg.errors import TrainingError
    from MultiOrganSegLib.add_organ.session import Session

    (tmp_path / "project.json").write_text(text, encoding="utf-8")
    session = Session()
    with pytest.raises(TrainingError, match=r"project\.json"):
        session.open(tmp_path)
    assert session.project is None


def test_a_moved_project_finds_its_files(tmp_path: Path) -> None:
    from multiorganseg.projects.file import load_project

    write_project(tmp_path / "here", {"case": {"annotated": ["colon"]}}, ORGANS)
    (tmp_path / "here").rename(tmp_path / "there")
    project = load_project(tmp_path / "there")
    labels = project.labels_path("case")
    assert project.image_path("case").is_file()
    assert labels is not None
    assert labels.is_file()
    assert project.matrix.rows["case"] == {"liver": "unknown", "colon": "annotated"}


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
    from MultiOrganSegLib.add_organ.organ_choice import own_key

    assert own_key(name) == key


def test_an_own_organ_is_offered_only_where_the_catalogue_has_none() -> None:
    from multiorganseg.organs.catalogue import load_catalogue
    from MultiOrganSegLib.add_organ.organ_choice import offers

    def found(words: str) -> list[bool]:
        return [offer.is_own for offer in offers(words, load_catalogue(), ("liver",), (1, 2, 3))]

    assert found("spleen")[0] is False
    assert True not in found("spleen")
    assert found("strange lump")[-1] is True
    assert True not in found("Liver")


def test_curves_stay_short_and_a_resumed_run_overwrites() -> None:
    from MultiOrganSegLib.add_organ.curves import Curve

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
    from MultiOrganSegLib.add_organ.curves import TrainingLog

    log = TrainingLog()
    for event in (
        {"event": "strange"},
        {"event": "progress"},
        {"event": "progress", "iteration": "7", "loss": None, "eta_seconds": "soon"},
        {"event": "metric", "name": "dice", "liver": 0.5},
        {"event": "metric", "name": "seconds", "iteration": 3, "liver": 0.5},
        {"event": "metric", "name": "dice", "iteration": 3, "values": {"liver": "high", "spleen": None}},
    ):
        log.take(event)
    assert (log.iteration, log.fraction, log.loss.points, log.dice) == (0, 0.0, [], {})


@pytest.mark.parametrize("form", ["values", "previous"])
def test_curves_of_metrics_of_this_and_of_earlier_versions(form: str) -> None:
    from MultiOrganSegLib.add_organ.curves import TrainingLog

    log, dice = TrainingLog(), {"liver": 0.5, "mean": 0.4}
    event = {"event": "metric", "time": 1.0, "name": "dice of averaged network", "iteration": 3}
    log.take({**event, "values": dice} if form == "values" else {**event, **dice})
    assert {key: curve.points for key, curve in log.dice.items()} == {"liver": [(3, 0.5)]}
    assert log.mean_dice.points == [(3, 0.4)]


def test_what_the_real_command_refuses_arrives_as_a_typed_error(tmp_path: Path) -> None:
    import time

    from multiorganseg.errors import MultiOrganSegError, TrainingError
    from MultiOrganSegLib.add_organ import commands
    from MultiOrganSegLib.add_organ.trainer import Command, CommandQueue

    queue, done, ended = CommandQueue(), [], []
    for name in ("a", "b"):
        arguments = commands.set_absent(tmp_path / "none", name, "liver")
        queue.add(Command(name, arguments, done.append, lambda: ended.append(1)))

    def wait() -> None:
        while queue.busy:
            queue.poll()
            time.sleep(0.05)

    with pytest.raises(TrainingError, match="is no project") as caught:
        wait()
    assert "project.json" in caught.value.cause
    assert caught.value.next_step
    assert (done, ended, queue.busy) == ([], [1, 1], False)
    queue.add(Command("c", ["no-such-command"], done.append))
    with pytest.raises(MultiOrganSegError) as caught:
        wait()
    assert "no-such-command" in caught.value.cause


def test_warnings_of_the_real_command_reach_the_panel(tmp_path: Path) -> None:
    import time

    from multiorganseg.volumes import Volume, write_volume
    from MultiOrganSegLib.add_organ import commands
    from MultiOrganSegLib.add_organ.trainer import Command, CommandQueue

    project, image = write_project(tmp_path / "P", {}, ORGANS), tmp_path / "CT.nii.gz"
    write_volume(Volume(np.arange(4000, dtype=np.int16).reshape(10, 20, 20), np.diag([-2, -2, 3, 1])), image)
    queue, noticed = CommandQueue(), []
    for name in ("case", "twin"):
        queue.add(Command(name, commands.add_case(project, image, name), noticed.extend))
    while queue.busy:
        queue.poll()
        time.sleep(0.05)
    assert len(noticed) == 1
    assert noticed[0].startswith("twin has the very voxels of case")


def test_a_run_is_alive_while_its_lock_is_held(tmp_path: Path) -> None:
    from multiorganseg.projects.runs import RunState
    from MultiOrganSegLib.add_organ import training_run as runs

    run = runs.TrainingRun(tmp_path / "runs" / "one")
    run.folder.mkdir(parents=True)
    assert run.state("") is RunState.INTERRUPTED
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
        assert run.state("paused") is RunState.RUNNING
        run.ask_to_stop()
        assert run.state("") is RunState.STOPPING
        holder.kill()
        holder.wait()
    assert run.state("paused") is RunState.PAUSED
    assert run.state("finished") is RunState.FINISHED


def test_the_number_of_another_program_is_no_training(tmp_path: Path) -> None:
    from MultiOrganSegLib.add_organ import training_run as runs

    run = runs.TrainingRun(tmp_path / "one")
    run.give_orders(runs.Orders("abdomen-ct", ("colon",), "1h", "cpu", pid=os.getpid()))
    assert not run.is_alive()
    run.kill()
    assert run.orders() == runs.Orders("abdomen-ct", ("colon",), "1h", "cpu", os.getpid())


def test_a_training_that_has_no_arguments_yet_is_starting(tmp_path: Path, monkeypatch) -> None:
    import psutil

    from MultiOrganSegLib.add_organ import training_run as runs

    run = runs.TrainingRun(tmp_path / "one")
    monkeypatch.setattr(psutil.Process, "cmdline", lambda _process: [])
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as started:
        run.give_orders(runs.Orders("abdomen-ct", ("colon",), "1h", "cpu", pid=started.pid))
        assert run.is_alive()
        monkeypatch.setattr(runs, "_STARTING_SECONDS", 0.0)
        assert not run.is_alive()
        started.kill()


def test_names_of_runs_are_not_used_again(tmp_path: Path) -> None:
    from MultiOrganSegLib.add_organ import training_run as runs

    names = []
    for _number in range(3):
        run = runs.new_run(tmp_path, "abdomen-ct", ("colon", "prostate"))
        run.folder.mkdir(parents=True)
        names.append(run.name)
    stem = "abdomen-ct-plus-colon-prostate"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
    assert {run.name for run in runs.list_runs(tmp_path)} == set(names)


def test_every_command_is_one_that_the_training_side_has() -> None:
    """Names of commands and options are compared with its command line; nothing is run."""
    import typer.main

    from multiorganseg.organs.catalogue import load_catalogue
    from multiorganseg_training.cli.app import app
    from MultiOrganSegLib.add_organ import commands

    root, folder = typer.main.get_command(app), Path("P")
    organ = load_catalogue().get("colon")
    for arguments in (
        commands.create(folder, "n", "CT", "abdomen-ct"),
        commands.add_case(folder, Path("i.nrrd"), "n"),
        commands.add_organ(folder, organ, is_own=True),
        commands.annotate(folder, "c", Path("l.nrrd"), "colon"),
        commands.set_absent(folder, "c", "colon"),
        commands.next_case(folder, "abdomen-ct", "colon", Path("a.json")),
        commands.train(folder, "r", "abdomen-ct", ["colon", "prostate"], time="1h", device="cpu"),
        commands.check_acceptance(folder, "r"),
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
    from MultiOrganSegLib.add_organ.answers import new_subfolder, nnunet_folder

    assert nnunet_folder(tmp_path, "Kolon, Übung 1").name == "Dataset501_Kolon_Ubung_1"
    (tmp_path / "Dataset501_Other").mkdir()
    assert nnunet_folder(tmp_path, "器官").name == "Dataset502_Project"
    for _number in range(2):
        new_subfolder(tmp_path, "P DICOM SEG").mkdir()
    assert new_subfolder(tmp_path, "P DICOM SEG").name == "P DICOM SEG 3"


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"organs": 1, "labels": [1], "cases": []}'])
def test_a_damaged_answer_is_reported(host: Any, tmp_path: Path, text: str) -> None:
    from multiorganseg.errors import TrainingError
    from MultiOrganSegLib.add_organ.answers import read_found, read_learned

    answer = tmp_path / "answer.json"
    answer.write_text(text, encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be read"):
        read_found(tmp_path, answer)
    with pytest.raises(TrainingError, match="cannot be read"):
        read_learned(answer)


def test_labels_that_are_left_out_are_background(host: Any) -> None:
    from MultiOrganSegLib.add_organ import commands

    arguments = commands.import_cases(Path("P"), Path("D"), {"Leber": "liver", "-x=y": ""})
    assert arguments[4:6] == ["--label=Leber=liver", "--label=-x=y=background"]


def test_whatever_hinders_a_command_the_queue_is_free_again(host: Any, monkeypatch) -> None:
    from MultiOrganSegLib.add_organ import trainer
    from MultiOrganSegLib.add_organ.trainer import Command, CommandQueue

    def fail(_arguments) -> None:
        raise ModuleNotFoundError(name="psutil")

    monkeypatch.setattr(trainer, "start_command", fail)
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
    from MultiOrganSegLib.add_organ import training_run as runs

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
