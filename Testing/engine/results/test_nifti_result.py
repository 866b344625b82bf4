from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest

from multiorganseg.errors import OrganError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.results.nifti import label_table_path, read_label_table, write_nifti

CATALOGUE = load_catalogue()


def test_labels_and_table(tmp_path, phantom):
    _, segmentation = phantom.case()
    path, table_path = write_nifti(segmentation, tmp_path / "Fall 1.nii.gz", CATALOGUE)
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, segmentation.labels)
    np.testing.assert_allclose(image.affine, np.diag([-1, -1, 1, 1]) @ segmentation.affine, atol=1e-4)
    table = json.loads(table_path.read_text(encoding="utf-8"))
    assert table_path == tmp_path / "Fall 1.labels.json"
    assert table["provenance"] == phantom.PROVENANCE
    assert table["organs"]["kidney_right"]["name"] == "Right kidney"
    assert table["organs"]["kidney_right"]["modifier"]["meaning"] == "Right"
    assert table["organs"]["liver"]["color"] == list(CATALOGUE.get("liver").color)
    assert read_label_table(path) == phantom.TABLE


@pytest.mark.parametrize(
    ("name", "table"),
    [
        ("a.nii.gz", "a.labels.json"),
        ("a.b.nii", "a.b.labels.json"),
        ("x.seg.nrrd", "x.seg.labels.json"),
        ("v1.2.mha", "v1.2.labels.json"),
    ],
)
def test_table_lies_beside_the_labels(tmp_path, name, table):
    assert label_table_path(tmp_path / name) == tmp_path / table


def test_missing_table_is_an_error(tmp_path):
    with pytest.raises(OrganError, match="no label table"):
        read_label_table(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"labels": [1]}', '{"labels": {"liver": 1.5}}', "\xff"])
def test_damaged_table_is_an_error(tmp_path, text):
    (tmp_path / "a.labels.json").write_text(text, encoding="latin-1")
    with pytest.raises(OrganError, match="label table"):
        read_label_table(tmp_path / "a.nii.gz")
