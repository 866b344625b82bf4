from __future__ import annotations

import csv
import json
import shutil
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from typer.testing import CliRunner, Result

from multiorganseg.bundles import Bundle
from multiorganseg.bundles.metadata import Domain
from multiorganseg.cli.app import app
from multiorganseg.cli.inputs import expand_inputs
from multiorganseg.errors import VolumeError
from multiorganseg.volumes import Volume, VolumeWarning, read_labels, read_volume, write_volume

QUICK = ("--no-preview", "--device", "cpu")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["segment", *map(str, arguments)])


def test_one_case_gives_every_file_on_the_inputs_grid(ct_file: Path, tiny_bundle: Bundle) -> None:
    out = ct_file.parent / "results"
    result = run(
        ct_file, "-o", out, "--model", tiny_bundle.folder, "--formats", "seg.nrrd,nii.gz,csv,json", *QUICK
    )
    assert result.exit_code == 0, result.output
    names = {path.name for path in out.iterdir()}
    assert names == {
        "ct 1.seg.nrrd",
        "ct 1.seg.nii.gz",
        "ct 1.seg.labels.json",
        "ct 1.statistics.csv",
        "ct 1.statistics.json",
    }
    source, labels = read_volume(ct_file), read_labels(out / "ct 1.seg.nrrd")
    assert labels.grid.same_as(source.grid)
    with (out / "ct 1.statistics.csv").open(encoding="utf-8", newline="") as rows:
        voxels = {row["organ"]: int(row["voxels"]) for row in csv.DictReader(rows)}
    assert voxels == {
        key: int((labels.voxels == value).sum()) for value, key in tiny_bundle.metadata.labels.organs.items()
    }
    provenance = json.loads((out / "ct 1.statistics.json").read_text(encoding="utf-8"))["provenance"]
    assert provenance["bundle"]["sha256"] == tiny_bundle.digest


def test_a_subset_of_organs_has_the_same_voxels(ct_file: Path, tiny_bundle: Bundle) -> None:
    everything, subset = ct_file.parent / "all.seg.nrrd", ct_file.parent / "one.seg.nrrd"
    for out, extra in ((everything, ()), (subset, ("--organs", "spleen"))):
        assert run(ct_file, "-o", out, "--model", tiny_bundle.folder, *extra, *QUICK).exit_code == 0
    whole, part = read_labels(everything).voxels, read_labels(subset).voxels
    spleen = tiny_bundle.metadata.labels.value("spleen")
    assert (whole == spleen).any()
    np.testing.assert_array_equal(part == spleen, whole == spleen)
    assert set(np.unique(part)) <= {0, spleen}


def test_uncertainty_adds_a_map_and_a_column_and_leaves_the_labels(
    ct_file: Path, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    out, plain = ct_file.parent / "mapped", ct_file.parent / "plain.seg.nrrd"
    result = run(ct_file, "-o", out, "--model", tiny_bundle.folder, "--uncertainty", *QUICK)
    assert result.exit_code == 0, result.output
    assert "uncertainty" in result.output.partition("Written:")[0]
    assert "ct 1.uncertainty.nii.gz" in {path.name for path in out.iterdir()}
    uncertain = read_volume(out / "ct 1.uncertainty.nii.gz")
    assert uncertain.voxels.dtype == np.uint8
    assert uncertain.grid.same_as(read_volume(ct_file).grid)
    document = json.loads((out / "ct 1.statistics.json").read_text(encoding="utf-8"))
    assert "one decoder" in document["provenance"]["uncertainty"]
    found = [row for row in document["organs"] if row["voxels"]]
    assert found
    assert all(0 <= row["uncertainty"] <= 1 for row in found)

    quiet = run(ct_file, "-o", plain, "--model", tiny_bundle.folder, *QUICK)
    assert "uncertainty" not in quiet.output.partition("Written:")[0]
    np.testing.assert_array_equal(read_labels(out / "ct 1.seg.nrrd").voxels, read_labels(plain).voxels)
    shutil.copy(out / "ct 1.uncertainty.nii.gz", ct_file.parent)
    assert [case.path for case in expand_inputs([ct_file.parent])] == [ct_file]


def test_a_ct_for_a_network_of_mr_is_reported(ct_file: Path, tiny_mr: Bundle) -> None:
    events = ct_file.parent / "events.jsonl"
    out = ct_file.parent / "o"
    result = run(ct_file, "-o", out, "--model", tiny_mr.folder, "--events", events, *QUICK)
    assert result.exit_code == 0, result.output
    reported = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    (warning,) = [event["message"] for event in reported if event["event"] == "warning"]
    assert warning.startswith("This looks like a CT")
    assert "tiny-mr was trained on MR" in warning


@pytest.mark.parametrize("target", ["events", "output", "slice", "link"])
def test_no_output_replaces_an_input(target: str, ct_file: Path, tiny_bundle: Bundle) -> None:
    folder, options = ct_file.parent, ["--model", tiny_bundle.folder, *QUICK]
    before = ct_file.read_bytes()
    if target == "events":
        arguments: list[str | Path] = [ct_file, "-o", folder / "o", "--events", ct_file]
    elif target == "output":
        arguments = [ct_file, "-o", folder / "x" / ".." / ct_file.name, "--formats", "csv"]
    elif target == "slice":
        arguments = [folder, "-o", folder / "o", "--events", ct_file]
    else:
        (folder / "events").symlink_to(ct_file)
        arguments = [ct_file, "-o", folder / "o", "--events", folder / "events"]
    (folder / "x").mkdir()
    result = run(*arguments, *options)
    assert result.exit_code == 6, result.output
    assert "replace the input" in result.output
    assert ct_file.read_bytes() == before
    assert not (folder / "o").exists()


def test_the_data_of_a_detached_header_is_an_input(ct_file: Path, tiny_bundle: Bundle) -> None:
    folder = ct_file.parent
    sitk.WriteImage(sitk.ReadImage(str(ct_file)), str(folder / "two.mhd"))
    before = (folder / "two.raw").read_bytes()
    result = run(
        folder / "two.mhd",
        "-o",
        folder / "o",
        "--events",
        folder / "two.raw",
        "--model",
        tiny_bundle.folder,
        *QUICK,
    )
    assert result.exit_code == 6, result.output
    assert (folder / "two.raw").read_bytes() == before


def test_the_result_of_a_sheared_nifti_opens_where_the_input_does(ct_file: Path, tiny_bundle: Bundle) -> None:
    folder = ct_file.parent
    volume = read_volume(ct_file)
    qform = volume.affine.copy()
    sheared = qform.copy()
    sheared[0, 2] += 0.6 * sheared[2, 2]
    write_volume(replace(volume, affine=sheared), folder / "tilted.nii.gz", qform=qform)
    options = ("--model", tiny_bundle.folder, "--formats", "nii.gz", "--uncertainty", *QUICK)
    assert run(folder / "tilted.nii.gz", "-o", folder / "o", *options).exit_code == 0
    source = sitk.ReadImage(str(folder / "tilted.nii.gz"))
    for name in ("tilted.seg.nii.gz", "tilted.uncertainty.nii.gz"):
        result = sitk.ReadImage(str(folder / "o" / name))
        last = [size - 1 for size in source.GetSize()]
        for index in ((0, 0, 0), last):
            point = source.TransformIndexToPhysicalPoint(index)
            assert np.allclose(result.TransformIndexToPhysicalPoint(index), point, atol=1e-3)
        assert np.allclose(read_volume_affine(folder / "o" / name), sheared, atol=1e-4)


def read_volume_affine(path: Path) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VolumeWarning)
        return read_labels(path).affine


def test_a_bad_case_does_not_stop_the_others(ct_file: Path, tiny_bundle: Bundle) -> None:
    folder = ct_file.parent
    (folder / "broken.nii.gz").write_text("no volume")
    shutil.copy(ct_file, folder / "second.nii.gz")
    events = folder / "events.jsonl"
    result = run(folder, "-o", folder / "out", "--model", tiny_bundle.folder, "--events", events, *QUICK)
    assert result.exit_code == 3
    assert (folder / "out" / "ct 1.seg.nrrd").is_file()
    assert (folder / "out" / "second.seg.nrrd").is_file()
    assert "failed" in result.output
    seen = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    kinds = [event["event"] for event in seen]
    assert kinds[0] == "started"
    assert kinds.count("finished") == 2
    failed = next(event for event in seen if event["event"] == "failed")
    assert failed["cause"]
    assert failed["next_step"]


def test_an_error_before_the_first_case_is_an_event_too(ct_file: Path, tiny_bundle: Bundle) -> None:
    events = ct_file.parent / "events.jsonl"
    result = run(
        ct_file,
        "-o",
        ct_file.parent / "o",
        "--model",
        tiny_bundle.folder,
        "--organs",
        "x",
        "--events",
        events,
    )
    assert result.exit_code == 5
    (reported,) = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    assert reported["event"] == "failed"
    assert reported["problem"] == "No organ 'x' here."
    assert "Choose among" in reported["next_step"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        (("--organs", "heart"), 5, "Choose among"),
        (("--model", "no-such-model"), 4, "no-such-model"),
        (("--device", "abacus"), 6, "abacus"),
        (("--quality", "superb"), 2, "balanced"),
        (("--formats", "stl"), 6, "stl"),
    ],
)
def test_wrong_choices_are_told_before_any_work(
    ct_file: Path, tiny_bundle: Bundle, arguments: tuple[str, ...], code: int, text: str
) -> None:
    model = () if "--model" in arguments else ("--model", str(tiny_bundle.folder))
    result = run(ct_file, "-o", ct_file.parent / "out", *model, *arguments)
    assert result.exit_code == code, result.output
    assert text in result.output
    assert "Next:" in result.output
    assert not (ct_file.parent / "out").exists()


def test_the_input_is_never_overwritten(ct_file: Path, tiny_bundle: Bundle) -> None:
    before = ct_file.read_bytes()
    result = run(ct_file, "-o", ct_file, "--model", tiny_bundle.folder, *QUICK)
    assert result.exit_code == 6
    assert ct_file.read_bytes() == before


def test_two_inputs_of_one_name_keep_their_folders(ct_file: Path, tiny_bundle: Bundle) -> None:
    twin = ct_file.parent / "other" / ct_file.name
    twin.parent.mkdir()
    shutil.copy(ct_file, twin)
    out = ct_file.parent / "out"
    result = run(ct_file, twin, "-o", out, "--model", tiny_bundle.folder, *QUICK)
    assert result.exit_code == 0, result.output
    assert (out / "ct 1.seg.nrrd").is_file()
    assert (out / "other" / "ct 1.seg.nrrd").is_file()
    assert str(Path("other") / ct_file.name) in result.output.replace("\n", ""), "the cases can be told apart"
    result = run(ct_file, twin, "-o", out / "one.seg.nrrd", "--model", tiny_bundle.folder, *QUICK)
    assert result.exit_code == 6
    assert "both" in result.output


def test_inputs_are_found_and_results_left_out(ct_file: Path) -> None:
    folder = ct_file.parent
    for name in ("x.seg.nrrd", "x.seg.nii.gz", "notes.txt", ".hidden.nii.gz"):
        (folder / name).write_bytes(b"")
    for inputs in ([folder], [folder, ct_file], [folder.parent]):
        assert [case.path for case in expand_inputs(inputs)] == [ct_file]
    with pytest.raises(VolumeError, match="does not exist"):
        expand_inputs([folder / "absent"])


def test_doctor_names_what_is_broken(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(tiny_bundle.folder, tmp_path / "tiny")
    monkeypatch.setenv("MULTIORGANSEG_MODELS", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "160")
    good = CliRunner().invoke(app, ["doctor"])
    assert "model tiny" in good.output
    weights = tmp_path / "tiny" / "models" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    bad = CliRunner().invoke(app, ["doctor"])
    assert bad.exit_code == 1
    assert "✗" in bad.output


def test_cases_unlike_the_training_stand_on_top(tmp_path: Path, ct_file: Path, make_bundle) -> None:
    """The table lists a short scan before one that is long enough, whatever their names."""
    domain = Domain({"length_mm": (54.0, 60.0)}, {}, {})
    bundle = make_bundle(name="knowing", domain=domain)
    inputs = tmp_path / "in"
    inputs.mkdir()
    whole = read_volume(ct_file)
    write_volume(whole, inputs / "a_whole.nii.gz")
    write_volume(Volume(whole.voxels[:6], whole.affine), inputs / "b_short.nii.gz")
    result = run(inputs, "-o", tmp_path / "out", "--model", bundle.folder, *QUICK)
    assert result.exit_code == 0, result.output
    table = result.output[result.output.index("to look at") :]
    assert table.index("b_short") < table.index("a_whole")
    assert "18 mm along the body" in " ".join(result.output.split())
    reported = json.loads((tmp_path / "out" / "b_short.statistics.json").read_text(encoding="utf-8"))
    assert reported["provenance"]["unlike_training"]
    assert all("out_of_domain" in row["flags"] for row in reported["organs"] if row["voxels"])
    other = json.loads((tmp_path / "out" / "a_whole.statistics.json").read_text(encoding="utf-8"))
    assert other["provenance"]["unlike_training"] == []
