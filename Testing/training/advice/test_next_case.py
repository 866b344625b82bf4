from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from multiorganseg.errors import TrainingError
from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.advice import CaseFacts, next_cases, rank_cases
from multiorganseg_training.advice.network_view import Viewer
from multiorganseg_training.advice.next_case import mean_prototypes, prototype_distance
from multiorganseg_training.cli.app import app
from multiorganseg_training.project import LabelStatus, Project, import_folder, save_project
from multiorganseg_training.project.organs import add_organ

NAN = float("nan")


@pytest.fixture
def project(phantom_data: Path, tmp_path: Path) -> Project:
    """The phantom's cases; the liver is annotated in one of them alone, the spleen in all."""
    made = import_folder(phantom_data, tmp_path / "Projekt", LabelTable({1: "spleen", 6: "liver"}), name="p")
    matrix = made.matrix.with_statuses(["case_b", "case_c"], ["liver"], LabelStatus.UNKNOWN)
    changed = made.with_matrix(matrix)
    save_project(changed)
    return changed


def test_unsure_and_strange_cases_come_first():
    ranked = rank_cases(
        [CaseFacts("easy", 0.1, 0.01), CaseFacts("hard", 0.5, 0.4), CaseFacts("odd", 0.2, 0.2)]
    )
    assert [entry.facts.case for entry in ranked] == ["hard", "odd", "easy"]
    assert [entry.score for entry in ranked] == [1.0, 0.5, 0.0]
    assert (
        ranked[0].reason
        == "the network is less certain than in the others and less like the annotated cases than the others"
    )
    assert ranked[2].reason == "more certain and more like the annotated cases than the others"


def test_the_scale_of_neither_fact_matters():
    small = rank_cases([CaseFacts("a", 0.1, 1e-6), CaseFacts("b", 0.2, 3e-6), CaseFacts("c", 0.3, 2e-6)])
    large = rank_cases([CaseFacts("a", 0.1, 0.1), CaseFacts("b", 0.2, 1.9), CaseFacts("c", 0.3, 0.2)])
    assert [entry.score for entry in small] == [entry.score for entry in large]


def test_what_is_missing_counts_as_the_middle_and_what_was_missed_as_unsure():
    ranked = rank_cases(
        [CaseFacts("a", NAN, NAN), CaseFacts("b", 0.9, NAN), CaseFacts("missed", NAN, NAN, missed=True)]
    )
    assert ranked[0].facts.case == "missed"
    assert "finds none" in ranked[0].reason
    assert all(0 <= entry.score <= 1 for entry in ranked)
    assert rank_cases([]) == []
    assert rank_cases([CaseFacts("alone", 0.5, NAN)])[0].reason == "no annotated case to compare with"


def test_the_distance_is_that_of_directions():
    east, north = np.array([2.0, 0.0], np.float32), np.array([0.0, 0.5], np.float32)
    prototypes = mean_prototypes([{"liver": east}, {"liver": 10 * east}])
    assert prototype_distance({"liver": 3 * east}, prototypes) == pytest.approx(0)
    assert prototype_distance({"liver": north}, prototypes) == pytest.approx(1)
    assert prototype_distance({"liver": -east}, prototypes) == pytest.approx(2)
    assert np.isnan(prototype_distance({"spleen": east}, prototypes))


def test_a_network_is_asked_about_the_cases_that_lack_the_organ(project, bundle, tmp_path):
    ranked = next_cases(project, bundle, "liver", tmp_path / "views", device="cpu")
    assert {entry.facts.case for entry in ranked} == {"case_b", "case_c"}
    for entry in ranked:
        assert np.isnan(entry.facts.uncertainty) or 0 <= entry.facts.uncertainty <= 1
        assert 0 <= entry.facts.distance < 0.5, "random weights see three phantoms much alike"
    again = next_cases(project, bundle, "liver", tmp_path / "views", device="cpu")
    assert [entry.facts for entry in again] == [entry.facts for entry in ranked]
    assert len(list((tmp_path / "views").glob("*.npz"))) == 3


def test_a_view_is_remembered_for_the_image_it_was_made_of(project, bundle, tmp_path, add_case):
    viewer = Viewer(bundle, "cpu", tmp_path / "views")
    image = project.image_path("case_a")
    first = viewer.look(image)
    assert {key: tuple(mean) for key, mean in viewer.look(image).prototypes.items()} == {
        key: tuple(mean) for key, mean in first.prototypes.items()
    }
    assert "background" in first.prototypes
    assert all(len(mean) == bundle.metadata.feature_channels for mean in first.prototypes.values())
    add_case(project.folder, "case_a", 77)
    viewer.look(image)
    assert len(list((tmp_path / "views").glob("*.npz"))) == 2
    with pytest.raises(TrainingError, match="does not exist"):
        viewer.look(tmp_path / "nothing.nii.gz")


def test_an_organ_that_every_case_knows(project, bundle, tmp_path):
    with pytest.raises(TrainingError, match="No case lacks"):
        next_cases(project, bundle, "spleen", tmp_path)
    with pytest.raises(TrainingError, match="no organ 'pancreas'"):
        next_cases(project, bundle, "pancreas", tmp_path)


def test_the_command_ranks_and_writes(project, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "Reihenfolge.json"
    arguments = ["project", "next", str(project.folder), "--model", str(bundle.folder), "--limit", "1"]
    result = CliRunner().invoke(app, [*arguments, "--json", str(path), "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "Annotate next: liver" in result.output, "the organ that most cases lack"
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["organ"] == "liver"
    assert {row["case"] for row in written["cases"]} == {"case_b", "case_c"}
    assert written["cases"][0]["score"] >= written["cases"][1]["score"]
    add_organ(project.folder, "pancreas")
    result = CliRunner().invoke(app, [*arguments, "--device", "cpu"])
    assert "Annotate next: pancreas" in result.output, "which the bundle lacks"
