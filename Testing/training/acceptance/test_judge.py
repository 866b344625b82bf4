from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles.bundle import Bundle
from multiorganseg.errors import TrainingError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.pictures import PictureWarning
from multiorganseg.projects.acceptance import Verdict, acceptance_to_json, load_acceptance, save_acceptance
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.acceptance.check import check_run, training_cases
from multiorganseg_training.acceptance.compare import CheckOptions, judge, judge_folds, organs_to_draw
from multiorganseg_training.acceptance.report import report_text

PNG = b"\x89PNG\r\n"


def test_a_network_that_kept_its_organ_and_learned_another_passes(base: Bundle, full, case, tmp_path):
    acceptance = judge(base, full, [case()], ["spleen"], CheckOptions(folder=tmp_path / "Läufe"))
    liver, spleen = acceptance.organs["liver"], acceptance.organs["spleen"]
    assert acceptance.passed
    assert acceptance.how == "hold-out"
    assert acceptance.cases == ("case_c",)
    assert acceptance.base_sha256 == base.digest
    assert list(acceptance.organs) == ["liver", "spleen"]
    assert liver.role == "old"
    assert liver.dice_old is not None
    assert liver.dice_old > 0.75
    assert liver.difference == pytest.approx(liver.dice_new - liver.dice_old)
    assert abs(liver.difference) <= 0.01
    assert spleen.role == "new"
    assert spleen.dice_new > 0.5
    assert spleen.dice_old is spleen.difference is spleen.volume_ml_old is None
    assert spleen.confidence_interval is None, "one case gives no interval"
    assert (tmp_path / "Läufe" / spleen.picture).read_bytes().startswith(PNG)


def test_nothing_changes_against_itself(base: Bundle, case):
    acceptance = judge(base, base, [case()], [])
    assert acceptance.passed
    assert acceptance.organs["liver"].difference == 0.0


def test_a_destroyed_old_organ_fails(base: Bundle, without, case, tmp_path):
    acceptance = judge(base, without("liver"), [case()], ["spleen"], CheckOptions(folder=tmp_path))
    liver = acceptance.organs["liver"]
    assert not acceptance.passed
    assert liver.verdict is Verdict.FAIL
    assert liver.dice_new == 0.0
    assert liver.worst_case == "case_c"
    assert (tmp_path / liver.picture).is_file()
    assert acceptance.organs["spleen"].verdict is Verdict.PASS


def test_a_new_organ_below_the_floor_fails(base: Bundle, full, without, case):
    lost = judge(base, without("spleen"), [case()], ["spleen"])
    assert lost.organs["spleen"].verdict is Verdict.FAIL
    assert lost.organs["liver"].verdict is Verdict.PASS
    strict = judge(base, full, [case()], ["spleen"], CheckOptions(floor=0.999))
    assert "below the 0.999" in strict.organs["spleen"].why
    assert not strict.passed


def test_a_new_organ_that_is_drawn_where_it_is_absent_fails(base: Bundle, full, without, case):
    present, empty = case("case_a"), case("case_c", annotated="liver", absent="spleen")
    acceptance = judge(base, full, [present, empty], ["spleen"])
    spleen = acceptance.organs["spleen"]
    assert spleen.verdict is Verdict.FAIL
    assert "Where it is absent (1 case)" in spleen.why
    assert spleen.worst_case == "case_c"
    alone = judge(base, without("spleen"), [empty], ["spleen"]).organs["spleen"]
    assert alone.verdict is Verdict.UNPROVEN, (
        "nothing is drawn where there is none, but it never was seen either"
    )


def test_an_old_organ_without_annotation_is_judged_by_agreement(base: Bundle, full, without, case):
    hidden = case(annotated="spleen")
    kept = judge(base, full, [hidden], ["spleen"]).organs["liver"]
    assert kept.reference == "base"
    assert kept.dice_old is None
    assert kept.verdict is Verdict.PASS
    assert kept.dice_new > 0.9
    lost = judge(base, without("liver"), [hidden], ["spleen"]).organs["liver"]
    assert lost.verdict is Verdict.FAIL
    assert lost.dice_new == 0.0


def test_without_cases_nothing_is_proven(base: Bundle, full):
    acceptance = judge(base, full, [], ["spleen"])
    assert acceptance.how == "none"
    assert not acceptance.passed
    assert {organ.verdict for organ in acceptance.organs.values()} == {Verdict.UNPROVEN}


def test_folds_are_judged_together(base: Bundle, full, without, case):
    folds = [(full, [case("case_a")]), (without("spleen"), [case("case_b")])]
    acceptance = judge_folds(base, folds, ["spleen"], training_cases={"spleen": 1})
    assert acceptance.how == "cross-validation"
    assert acceptance.cases == ("case_a", "case_b")
    spleen = acceptance.organs["spleen"]
    assert spleen.cases == 2
    assert spleen.worst_case == "case_b"
    assert 0.3 < spleen.dice_new < 0.5, "the mean of a good and a lost one"


def test_a_network_that_lacks_an_organ_is_refused(base: Bundle, full, case):
    with pytest.raises(TrainingError, match="cannot be judged") as caught:
        judge(base, full, [case()], ["pancreas"])
    assert "pancreas" in caught.value.cause
    with pytest.raises(TrainingError, match="cannot be judged"):
        judge(full, base, [case()], [])


def test_labels_on_another_grid_are_refused(base: Bundle, full, case, tmp_path):
    here = case()
    write_volume(Volume(np.zeros((4, 8, 8), np.uint8), np.eye(4)), tmp_path / "other.nii.gz")
    moved = type(here)(here.name, here.image, tmp_path / "other.nii.gz", here.organs, here.annotated)
    with pytest.raises(TrainingError, match="not lie on its image's grid"):
        judge(base, full, [moved], ["spleen"])


def test_the_json_comes_back_as_it_was(base: Bundle, without, case, tmp_path):
    acceptance = judge(base, without("liver"), [case()], ["spleen"], training_cases={"spleen": 2})
    save_acceptance(acceptance, tmp_path)
    loaded = load_acceptance(tmp_path)
    assert (
        acceptance_to_json(loaded)
        == acceptance_to_json(acceptance)
        == json.loads((tmp_path / "acceptance.json").read_text("utf-8"))
    )
    assert loaded.passed is acceptance.passed is False
    assert loaded.training_cases == {"spleen": 2}


def test_a_damaged_json_is_reported(tmp_path):
    assert load_acceptance(tmp_path) is None
    (tmp_path / "acceptance.json").write_text('{"schema_version": 1, "base": {}}', encoding="utf-8")
    with pytest.raises(TrainingError, match="cannot be used"):
        load_acceptance(tmp_path)
    (tmp_path / "acceptance.json").write_text('{"schema_version": 2}', encoding="utf-8")
    with pytest.raises(TrainingError, match="schema version 2"):
        load_acceptance(tmp_path)


def test_the_report_says_what_happened_and_what_to_do(base: Bundle, full, without, case, tmp_path):
    catalogue = load_catalogue()
    good = report_text(judge(base, full, [case()], ["spleen"]), catalogue)
    assert "**Passed." in good
    assert "project publish" in good
    bad = judge(base, without("liver"), [case()], ["spleen"], CheckOptions(folder=tmp_path))
    text = report_text(bad, catalogue)
    assert "**Not passed. Not good enough: Liver.**" in text
    assert "lost part of it" in text
    for link in (organ.picture for organ in bad.organs.values() if organ.picture):
        assert f"({link})" in text
        assert (tmp_path / link).is_file()
    nothing = report_text(judge(base, full, [], ["spleen"]), catalogue)
    assert "could not be shown" in nothing
    assert "nan" not in (good + text + nothing).lower().replace("finance", "")


def test_the_new_and_the_failing_organs_are_drawn_first(base: Bundle, without, case):
    acceptance = judge(base, without("liver"), [case()], ["spleen"])
    assert organs_to_draw(acceptance.organs) == ["spleen", "liver"]


def test_a_run_is_judged_on_its_fold(run: Path, project, installed_base):
    acceptance = check_run(run, project, base=installed_base)
    assert acceptance.passed
    assert acceptance.cases == ("case_c",)
    assert acceptance.run == run.name
    assert acceptance.training_cases == {"spleen": 2}
    assert load_acceptance(run) is not None
    assert (run / "report.md").is_file()
    assert (run / acceptance.organs["spleen"].picture).is_file()
    assert (run / "candidate" / "manifest.json").is_file()


@pytest.mark.parametrize("error", [ModuleNotFoundError("No module named 'matplotlib'"), MemoryError()])
def test_a_picture_that_cannot_be_drawn_costs_no_report(
    run: Path, project, installed_base, monkeypatch, error
):
    saved = []

    def fail(*_arguments) -> None:
        saved.append((load_acceptance(run), (run / "report.md").read_text(encoding="utf-8")))
        raise error

    monkeypatch.setattr(sys.modules["multiorganseg_training.acceptance.compare"], "draw_organ", fail)
    with pytest.warns(PictureWarning, match=f"spleen could not be drawn: {type(error).__name__}"):
        acceptance = check_run(run, project, base=installed_base)
    assert acceptance.passed
    assert all(organ.picture is None for organ in acceptance.organs.values())
    assert saved[0][0] is not None, "saved before anything is drawn"
    assert saved[0][0] == load_acceptance(run)
    assert saved[0][1] == (run / "report.md").read_text(encoding="utf-8")


def test_a_run_that_learned_nothing_new_is_refused(run: Path, project, full):
    with pytest.raises(TrainingError, match="learned no organ"):
        check_run(run, project, base=full)


def test_annotations_that_a_recipe_hides_do_not_count(project, phantom_recipe):
    def count(**data) -> dict[str, int]:
        return training_cases(phantom_recipe(data={"validation": [], **data}), project, ["spleen"])

    assert count() == {"spleen": 3}
    assert count(validation=["case_c"]) == {"spleen": 2}
    assert count(known={"case_a": ["liver"]}) == {"spleen": 2}
    assert count(known={"case_a": ["spleen"], "*": ["liver"]}) == {"spleen": 1}
