from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from multiorganseg.cli.app import app
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.refine import NetworkMaps
from multiorganseg.refine.maps import plain_maps
from multiorganseg.results.nifti import read_label_table
from multiorganseg.results.seg_nrrd import read_seg_nrrd_authors, write_seg_nrrd
from multiorganseg.results.segmentation import Author, Segmentation
from multiorganseg.volumes import Volume, read_labels, write_volume

TABLE = LabelTable({2: "liver", 5: "spleen"})
ALONE = ("--model", "none")


@pytest.fixture(scope="module")
def scene() -> tuple[Volume, np.ndarray]:
    """A CT with a bright and a middling block, on an affine that turns j round; labels of both."""
    k, j, i = np.indices((12, 30, 32))
    liver = (k > 2) & (k < 10) & (j > 6) & (j < 22) & (i > 4) & (i < 15)
    spleen = (k > 2) & (k < 10) & (j > 6) & (j < 22) & (i > 18) & (i < 28)
    hu = np.select([liver, spleen], [130, 50], -90) + np.random.default_rng(3).normal(0, 6, liver.shape)
    affine = np.diag([1.5, -1.5, 3.0, 1.0])
    affine[:3, 3] = (-20.0, 40.0, 7.0)
    labels = np.where(liver, 2, np.where(spleen, 5, 0)).astype(np.uint8)
    return Volume(hu.astype(np.int16), affine, "scene", "CT"), labels


@pytest.fixture
def folder(scene: tuple[Volume, np.ndarray], tmp_path: Path) -> Path:
    """The CT, and a segmentation that lacks the right half of the liver."""
    volume, labels = scene
    write_volume(volume, tmp_path / "ct.nii.gz")
    half = labels.copy()
    half[:, :, :10][half[:, :, :10] == 2] = 0
    segmentation = Segmentation(half, volume.affine, TABLE, authors={"liver": Author.NETWORK})
    write_seg_nrrd(segmentation, tmp_path / "half.seg.nrrd", load_catalogue())
    return tmp_path


def run(folder: Path, *arguments: str | Path) -> Result:
    return CliRunner().invoke(app, ["correct", str(folder / "ct.nii.gz"), *map(str, arguments)])


def _dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


def test_a_voxel_and_its_point_in_the_patient_are_the_same(scene, folder) -> None:
    volume, labels = scene
    x, y, z = volume.grid.to_patient((6.0, 14.0, 7.0))
    half = read_labels(folder / "half.seg.nrrd").voxels
    results = []
    for name, said in (("a", ("--add", "7,14,6")), ("b", ("--lps", f"{x:.3f},{y:.3f},{z:.3f}"))):
        out = folder / f"{name}.seg.nrrd"
        result = run(folder, folder / "half.seg.nrrd", "--organ", "Liver", *said, "-o", out, *ALONE)
        assert result.exit_code == 0, result.output
        results.append(read_labels(out))
        assert read_label_table(out) == TABLE
    after = results[0].voxels
    np.testing.assert_array_equal(after, results[1].voxels)
    assert results[0].grid.same_as(volume.grid)
    assert after[6, 14, 7] == 2
    assert _dice(after == 2, labels == 2) > max(0.9, _dice(half == 2, labels == 2))
    np.testing.assert_array_equal(after == 5, labels == 5)
    authors = read_seg_nrrd_authors(folder / "a.seg.nrrd")
    assert authors == {"liver": Author.CORRECTED, "spleen": Author.NETWORK}


def test_an_organ_from_nothing_with_a_scribble_and_a_removed_point(scene, folder) -> None:
    _, labels = scene
    out = folder / "new.nii.gz"
    said = ("--add", "20,14,6 26,14,6", "--remove", "10,14,6", "--remove", "1,1,1")
    result = run(folder, "none", "--organ", "My mass", "--new", *said, "-o", out, *ALONE)
    assert result.exit_code == 0, result.output
    assert read_label_table(out).to_json() == {"1": "my_mass"}
    mass = read_labels(out).voxels == 1
    assert mass[6, 14, 20:27].all()
    assert not mass[6, 14, 10]
    assert _dice(mass, labels == 5) > 0.8


def test_locked_organs_stay(folder) -> None:
    before = read_labels(folder / "half.seg.nrrd").voxels
    arguments = ("--organ", "liver", "--add", "17,14,6 20,14,6", "-o", folder / "o.seg.nrrd", *ALONE)
    assert run(folder, folder / "half.seg.nrrd", *arguments, "--lock", "all").exit_code == 0
    after = read_labels(folder / "o.seg.nrrd").voxels
    np.testing.assert_array_equal(before == 5, after == 5)
    assert (after[6, 14, 17:19] == 2).all()
    assert run(folder, folder / "half.seg.nrrd", *arguments).exit_code == 0
    assert (read_labels(folder / "o.seg.nrrd").voxels[6, 14, 17:21] == 2).all()


def test_features_serve_the_volume_that_they_are_of(scene, folder) -> None:
    volume, _ = scene
    kept, out = folder / "features.npz", folder / "o.seg.nrrd"
    arguments = (
        folder / "half.seg.nrrd",
        "--organ",
        "liver",
        "--add",
        "7,14,6",
        "--features",
        kept,
        "-o",
        out,
    )
    plain_maps(Volume(volume.voxels + 1, volume.affine)).save(kept)
    result = run(folder, *arguments)
    assert result.exit_code == 3, result.output
    assert "features" in result.output
    assert not out.exists()
    plain_maps(volume).save(kept)
    assert run(folder, *arguments).exit_code == 0
    kept.write_bytes(kept.read_bytes()[:400])
    assert run(folder, *arguments).exit_code == 3


def test_features_are_computed_once(folder, tiny_bundle) -> None:
    kept = folder / "features.npz"
    arguments = (folder / "half.seg.nrrd", "--organ", "liver", "--add", "7,14,6", "--features", kept)
    said = ("--model", tiny_bundle.folder, "--device", "cpu")
    assert run(folder, *arguments, *said, "-o", folder / "one.seg.nrrd").exit_code == 0
    assert NetworkMaps.load(kept).table == tiny_bundle.metadata.labels
    assert run(folder, *arguments, "--model", "nonsuch", "-o", folder / "two.seg.nrrd").exit_code == 0
    one, two = (read_labels(folder / f"{name}.seg.nrrd").voxels for name in ("one", "two"))
    np.testing.assert_array_equal(one, two)


BAD = {
    "outside": (("--organ", "liver", "--add", "7,14,60"), 3, "outside the volume"),
    "negative": (("--organ", "liver", "--add=-1,14,6"), 3, "outside the volume"),
    "no organ": (("--organ", "livr", "--add", "7,14,6"), 5, "--new"),
    "there already": (("--organ", "liver", "--new", "--add", "7,14,6"), 5, "already"),
    "no point": (
        (
            "--organ",
            "liver",
        ),
        2,
        "--add",
    ),
    "no numbers": (("--organ", "liver", "--add", "7,14"), 2, "i,j,k"),
    "no whole numbers": (("--organ", "liver", "--add", "7,14,6.5"), 2, "i,j,k"),
    "infinite": (("--organ", "liver", "--lps", "inf,0,0"), 2, "x,y,z"),
    "no name": (("--organ", "!?", "--new", "--add", "7,14,6"), 5, "name"),
    "locked itself": (("--organ", "liver", "--lock", "liver", "--add", "7,14,6"), 5, "Unlock"),
    "locked unknown": (("--organ", "liver", "--lock", "heart", "--add", "7,14,6"), 5, "spleen"),
    "in a locked one": (("--organ", "liver", "--lock", "spleen", "--add", "22,14,6"), 5, "locked"),
    "no model": (("--organ", "liver", "--add", "7,14,6", "--model", "nonsuch"), 4, "nonsuch"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), BAD.values(), ids=BAD)
def test_what_cannot_be_meant_is_told_and_nothing_written(folder, arguments, code, said) -> None:
    out = folder / "out.seg.nrrd"
    alone = () if "--model" in arguments else ALONE
    result = run(folder, folder / "half.seg.nrrd", *arguments, "-o", out, *alone)
    assert result.exit_code == code, result.output
    assert said in " ".join(result.output.split())
    assert not out.exists()


def test_labels_of_another_image_are_refused(scene, folder) -> None:
    volume, labels = scene
    moved = volume.affine.copy()
    moved[0, 3] += 0.7
    write_seg_nrrd(Segmentation(labels, moved, TABLE), folder / "moved.seg.nrrd", load_catalogue())
    write_seg_nrrd(
        Segmentation(labels[:-1], volume.affine, TABLE), folder / "less.seg.nrrd", load_catalogue()
    )
    said = ("--organ", "liver", "--add", "7,14,6", "-o", folder / "o.seg.nrrd", *ALONE)
    result = run(folder, folder / "moved.seg.nrrd", *said)
    assert result.exit_code == 3
    assert "grid" in result.output
    assert run(folder, folder / "less.seg.nrrd", *said).exit_code == 0
    assert read_labels(folder / "o.seg.nrrd").voxels.shape == labels.shape


def test_the_input_is_never_replaced(folder) -> None:
    said = ("--organ", "liver", "--add", "7,14,6", *ALONE)
    before = (folder / "half.seg.nrrd").read_bytes()
    result = run(folder, folder / "half.seg.nrrd", *said, "-o", folder / "half.seg.nrrd")
    assert result.exit_code == 6
    assert (folder / "half.seg.nrrd").read_bytes() == before
