"""An image that is in a project already, under another name."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes.read import read_volume
from multiorganseg.volumes.volume import Volume
from multiorganseg.volumes.write import write_volume
from multiorganseg_training.project import add_case, create_project
from multiorganseg_training.project.add_case import doubled_images


@pytest.fixture
def image(tmp_path, write_case):
    path = tmp_path / "ct.nii.gz"
    write_case(path, tmp_path / "labels.nii.gz", (1,))
    return path


@pytest.fixture
def project(tmp_path, image):
    folder = create_project(tmp_path / "project", "study", LabelTable({1: "liver"})).folder
    return add_case(folder, "first", image)


@pytest.mark.parametrize("kind", ["copy", "format", "order of the axes", "type"])
def test_the_same_voxels_are_found(tmp_path, image, project, kind):
    volume = read_volume(image)
    path = tmp_path / "other.nrrd"
    if kind == "copy":
        path = tmp_path / "other.nii.gz"
        shutil.copy(image, path)
    elif kind == "order of the axes":
        flip = np.diag([1.0, 1.0, -1.0, 1.0])
        flip[2, 3] = volume.voxels.shape[0] - 1
        write_volume(Volume(volume.voxels[::-1].copy(), volume.affine @ flip), path)
    else:
        voxels = volume.voxels.astype(np.float32) if kind == "type" else volume.voxels
        write_volume(Volume(voxels, volume.affine), path)
    project = add_case(project.folder, "second", path)
    assert doubled_images(project, ["second"]) == {"second": ["first"]}
    assert doubled_images(project, ["first"]) == {}


def test_other_voxels_and_other_sizes_are_not(tmp_path, image, project):
    volume = read_volume(image)
    changed = volume.voxels.copy()
    changed[0, 0, 0] += 1
    for name, voxels in (("changed", changed), ("shorter", volume.voxels[1:])):
        write_volume(Volume(np.ascontiguousarray(voxels), volume.affine), tmp_path / "other.nrrd")
        project = add_case(project.folder, name, tmp_path / "other.nrrd")
    assert doubled_images(project, project.cases) == {}
