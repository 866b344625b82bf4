import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from multiorganseg.cli.evaluate import evaluate
from multiorganseg.results.nifti import label_table_path
from multiorganseg.volumes import Volume
from multiorganseg.volumes.write import write_volume

SHAPE = (12, 16, 18)
AFFINE = np.array([[0.8, 0, 0, -30.0], [0, 0.8, 0, 12.5], [0, 0, 2.5, 100.0], [0, 0, 0, 1]])
TABLE = {"1": "spleen", "2": "kidney_left", "3": "kidney_right"}
SPLEEN, LEFT, RIGHT = ((2, 8), (2, 8), (2, 8)), ((3, 9), (10, 14), (11, 16)), ((3, 9), (10, 14), (2, 7))

runner = CliRunner()
app = typer.Typer()
app.command()(evaluate)


def run(*arguments):
    return runner.invoke(app, [str(argument) for argument in arguments])


def scene(**boxes):
    labels = np.zeros(SHAPE, np.uint8)
    for name, box in boxes.items():
        labels[tuple(slice(*pair) for pair in box)] = int(name[1:])
    return labels


def save(path, labels, table=TABLE, affine=AFFINE):
    path.parent.mkdir(parents=True, exist_ok=True)
    write_volume(Volume(labels, affine), path)
    if table is not None:
        name = path.name.removesuffix(".nii.gz") + ".labels.json"
        (path.parent / name).write_text(json.dumps({"labels": table}), encoding="utf-8")
    return path


def organ_row(output, key):
    return next(line for line in output.splitlines() if key in line)


@pytest.fixture
def pair(tmp_path):
    folder = tmp_path / "Ärzte und Fälle"
    reference = save(folder / "referenz.nii.gz", scene(v1=SPLEEN, v2=LEFT, v3=RIGHT))
    smaller = ((2, 5), (2, 8), (2, 8))
    renumbered = {"9": "spleen", "4": "kidney_left", "3": "kidney_right"}
    prediction = save(folder / "vorhersage.nii.gz", scene(v9=smaller, v4=LEFT), renumbered)
    return prediction, reference


def test_one_case_is_matched_by_key_and_shown_with_its_gaps(pair, tmp_path):
    prediction, reference = pair
    target = tmp_path / "out" / "scores.json"
    result = run("--prediction", prediction, "--reference", reference, "--json", target)
    assert result.exit_code == 0, result.output
    assert "0.667" in organ_row(result.output, "spleen")
    assert "1.000" in organ_row(result.output, "kidney_left")
    assert "only in" in organ_row(result.output, "kidney_right")
    assert "0.556" in organ_row(result.output, "Mean")
    content = json.loads(target.read_text(encoding="utf-8"))
    (case,) = content["cases"].values()
    assert case["organs"]["spleen"]["dice"] == pytest.approx(2 / 3)
    assert case["organs"]["spleen"]["volume_error_percent"] == pytest.approx(-50.0)
    assert case["organs"]["kidney_right"]["hd95_mm"] is None
    assert case["organs"]["kidney_right"]["presence"] == "only in reference"
    assert content["mean"]["dice"] == {"mean": pytest.approx(5 / 9), "count": 3, "undefined": 0}
    assert content["mean"]["hd95_mm"]["count"] == 2
    assert content["mean"]["hd95_mm"]["undefined"] == 1


def test_folders_go_on_after_a_bad_case_and_end_with_an_error(tmp_path):
    predictions, references = tmp_path / "p", tmp_path / "r"
    for name in ("a", "b", "c", "d"):
        save(references / f"{name}.nii.gz", scene(v1=SPLEEN, v2=LEFT))
    save(predictions / "a.nii.gz", scene(v1=SPLEEN, v2=LEFT))
    save(predictions / "b.nii.gz", scene(v2=LEFT))
    save(predictions / "c.nii.gz", scene(v1=SPLEEN), table=None)
    target = tmp_path / "scores.json"
    result = run("--prediction", predictions, "--reference", references, "--json", target)
    assert result.exit_code == 1
    assert "0.500" in organ_row(result.output, "spleen")
    assert "1 of 3 cases" in result.output
    assert "c.labels.json" in result.output
    assert "Reference without prediction" in result.output
    content = json.loads(target.read_text(encoding="utf-8"))
    assert sorted(content["cases"]) == ["a", "b"]
    assert list(content["failed"]) == ["c"]
    assert content["cases"]["a"]["prediction"] == "a.nii.gz"
    assert str(tmp_path) not in json.dumps(content)
    assert content["without_prediction"] == ["d"]
    assert content["organs"]["kidney_right"]["dice"] == {"mean": None, "count": 0, "undefined": 2}
    assert content["mean"]["dice"]["mean"] == pytest.approx(0.75)


def test_label_tables_can_be_given(tmp_path):
    prediction = save(tmp_path / "p.nii.gz", scene(v1=SPLEEN), table=None)
    reference = save(tmp_path / "r.nii.gz", scene(v5=SPLEEN), table=None)
    plain, nested = tmp_path / "plain.json", tmp_path / "nested.json"
    plain.write_text('{"1": "spleen"}', encoding="utf-8")
    nested.write_text('{"labels": {"5": "spleen"}}', encoding="utf-8")
    paths = ("--prediction", prediction, "--reference", reference)
    result = run(*paths, "--prediction-labels", plain, "--reference-labels", nested)
    assert result.exit_code == 0, result.output
    assert "1.000" in organ_row(result.output, "spleen")
    assert run(*paths).exit_code == 5


def test_of_many_organs_that_one_table_has_some_are_named(tmp_path):
    labels = {"1": "spleen"} | {str(number): f"vertebra_t{number}" for number in range(2, 22)}
    tables = tmp_path / "few.json", tmp_path / "many.json"
    for table, known in zip(tables, ({"1": "spleen"}, labels), strict=True):
        table.write_text(json.dumps(known), encoding="utf-8")
    image = save(tmp_path / "p.nii.gz", scene(v1=SPLEEN), table=None)
    said = ("--prediction-labels", tables[0], "--reference-labels", tables[1])
    result = run("--prediction", image, "--reference", image, *said, "--json", tmp_path / "scores.json")
    assert result.exit_code == 0, result.output
    assert "and 8 more." in " ".join(result.output.split())
    assert "vertebra_t21" in (tmp_path / "scores.json").read_text(encoding="utf-8")


def test_a_damaged_label_table_is_named(pair, tmp_path):
    damaged = tmp_path / "damaged.json"
    damaged.write_text("[1, 2", encoding="utf-8")
    result = run("--prediction", pair[0], "--reference", pair[1], "--reference-labels", damaged)
    assert result.exit_code == 5
    assert "damaged.json" in result.output


def test_chosen_organs_and_unions(pair, tmp_path):
    prediction, reference = pair
    result = run("--prediction", prediction, "--reference", reference, "--organs", "kidney_left, spleen")
    assert "kidney_right" not in result.output.split("Mean over organs")[0]
    joined = save(tmp_path / "kidneys.nii.gz", scene(v1=LEFT), {"1": "kidneys"})
    union = run(
        "--prediction", joined, "--reference", reference, "--merge", "kidneys=kidney_left+kidney_right"
    )
    assert union.exit_code == 0, union.output
    assert "0.667" in organ_row(union.output, "kidneys")
    assert run("--prediction", prediction, "--reference", reference, "--organs", "colon").exit_code == 5
    assert run("--prediction", prediction, "--reference", reference, "--merge", "kidneys").exit_code == 5


def test_other_grids_are_refused_unless_resampled(pair, tmp_path):
    _, reference = pair
    shifted = AFFINE.copy()
    shifted[2, 3] -= 1.8 * 2.5
    labels = np.zeros(SHAPE, np.uint8)
    labels[2:] = scene(v1=SPLEEN, v2=LEFT, v3=RIGHT)[:-2]
    prediction = save(tmp_path / "moved.nii.gz", labels, affine=shifted)
    refused = run("--prediction", prediction, "--reference", reference)
    assert refused.exit_code == 3
    assert "--resample" in refused.output
    accepted = run("--prediction", prediction, "--reference", reference, "--resample")
    assert accepted.exit_code == 0, accepted.output
    assert "1.000" in organ_row(accepted.output, "Mean")


def scores_of(tmp_path, prediction, reference, *options):
    target = tmp_path / "scores.json"
    result = run("--prediction", prediction, "--reference", reference, "--json", target, *options)
    assert result.exit_code == 0, result.output
    (case,) = json.loads(target.read_text(encoding="utf-8"))["cases"].values()
    return case, result.output


@pytest.mark.parametrize("half", [0.0, 0.4])
def test_what_is_predicted_outside_of_the_references_image_counts(tmp_path, half):
    """A reference cropped around its organ: the prediction is as much too large as with the whole image."""
    whole, organ = SHAPE, ((3, 5), (3, 6), (3, 6))
    truth, predicted = scene(v1=organ), np.zeros(whole, np.uint8)
    predicted[1:7, 1:8, 1:8] = 1
    cropped = AFFINE.copy()
    cropped[:3, 3] += AFFINE[:3, :3] @ [3, 3, 3]
    moved = AFFINE.copy()
    moved[:3, 3] += AFFINE[:3, :3] @ [half, 0, 0]
    prediction = save(tmp_path / "p.nii.gz", predicted, {"1": "spleen"}, moved)
    full = save(tmp_path / "full.nii.gz", truth, {"1": "spleen"})
    small = save(tmp_path / "small.nii.gz", truth[3:5, 3:6, 3:6], {"1": "spleen"}, cropped)
    options = ("--resample",) if half else ()
    expected, _ = scores_of(tmp_path, prediction, full, *options)
    case, output = scores_of(tmp_path, prediction, small, *options)
    assert case["organs"] == expected["organs"]
    assert case["organs"]["spleen"]["dice"] == pytest.approx(2 * 18 / (18 + 294))
    assert (case["extended"], expected["extended"]) == (True, False)
    assert "outside the reference's image" in output.replace("\n", " ")
    assert (case["resampled"], "Brought onto" in output) == (half > 0, half > 0)


def test_other_axes_of_the_same_lattice_need_no_resampling(tmp_path):
    labels = scene(v1=SPLEEN, v2=LEFT, v3=RIGHT)
    turned = AFFINE[:, [2, 0, 1, 3]].copy()
    turned[:3, 3] += AFFINE[:3, 0] * (SHAPE[2] - 1)
    turned[:3, 1] *= -1
    prediction = save(tmp_path / "p.nii.gz", labels.transpose(1, 2, 0)[:, ::-1], affine=turned)
    case, _ = scores_of(tmp_path, prediction, save(tmp_path / "r.nii.gz", labels))
    assert {organ["dice"] for organ in case["organs"].values()} == {1.0}
    assert not case["resampled"]


def test_images_far_apart_are_refused(tmp_path):
    away = AFFINE.copy()
    away[:3, 3] += 1e5
    reference = save(tmp_path / "r.nii.gz", scene(v1=SPLEEN))
    prediction = save(tmp_path / "p.nii.gz", scene(v1=SPLEEN), affine=away)
    result = run("--prediction", prediction, "--reference", reference, "--resample")
    assert result.exit_code == 3
    assert "far apart" in result.output


@pytest.mark.parametrize("replaced", ["reference", "prediction", "its label table", "given table"])
def test_the_scores_replace_nothing_that_is_read(pair, tmp_path, replaced):
    prediction, reference = pair
    table = tmp_path / "table.json"
    table.write_text('{"1": "spleen"}', encoding="utf-8")
    beside = label_table_path(reference)
    target = dict(
        zip(("reference", "prediction", "its label table"), (reference, prediction, beside), strict=True)
    )
    target = target.get(replaced, table)
    before = target.read_bytes()
    options = () if target == beside else ("--reference-labels", table)
    result = run("--prediction", prediction, "--reference", reference, "--json", target, *options)
    assert result.exit_code == 6, result.output
    assert "replace the input" in result.output
    assert target.read_bytes() == before
    folders = run(
        "--prediction", prediction, "--reference", reference, "--json", tmp_path / "new.json", *options
    )
    assert folders.exit_code == 0


def test_the_tolerance_is_in_millimetres(tmp_path):
    reference = save(tmp_path / "r.nii.gz", scene(v1=((2, 8), (2, 8), (2, 8))))
    prediction = save(tmp_path / "p.nii.gz", scene(v1=((3, 9), (2, 8), (2, 8))))
    scores = []
    for tolerance in ("2.4", "2.5"):
        target = tmp_path / f"{tolerance}.json"
        paths = ("--prediction", prediction, "--reference", reference, "--json", target)
        assert run(*paths, "--tolerance-mm", tolerance).exit_code == 0
        content = json.loads(target.read_text(encoding="utf-8"))
        scores.append(content["organs"]["spleen"]["nsd"]["mean"])
    assert scores[0] < 1.0
    assert scores[1] == pytest.approx(1.0)


def test_a_missing_path_is_a_volume_error(tmp_path):
    result = run("--prediction", tmp_path / "none.nii.gz", "--reference", tmp_path)
    assert result.exit_code == 3
    assert "does not exist" in result.output
