import numpy as np
import pytest

from multiorganseg.organs.labels import LabelTable
from multiorganseg.quality.certainty import mean_confidence, mean_uncertainty

TABLE = LabelTable({1: "spleen", 4: "liver", 7: "aorta"})


def _labels() -> np.ndarray:
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[2, 2:4, 3] = 1
    labels[5, 6, 7] = 4
    labels[0, 0, 0] = 9
    return labels


def test_confidence_is_the_mean_over_the_organs_voxels() -> None:
    confidence = np.full((6, 7, 8), 7, np.uint8)
    confidence[2, 2:4, 3] = 255, 51
    assert mean_confidence(np.minimum(_labels(), 7), confidence, TABLE)["spleen"] == pytest.approx(0.6)


def test_uncertainty_takes_in_the_voxels_that_share_a_face() -> None:
    uncertainty = np.zeros((6, 7, 8), np.uint8)
    uncertainty[2, 1, 3] = 255
    uncertainty[2, 1, 2] = 255
    found = mean_uncertainty(_labels(), uncertainty, TABLE)
    assert found["spleen"] == pytest.approx(1 / 12), "two voxels and the ten that share a face with them"
    assert set(found) == {"spleen", "liver"}


def test_at_the_corner_of_the_image_the_shell_ends() -> None:
    uncertainty = np.zeros((6, 7, 8), np.uint8)
    uncertainty[5, 6, 6:8] = 255
    uncertainty[0] = 255
    assert mean_uncertainty(_labels(), uncertainty, TABLE)["liver"] == pytest.approx(2 / 4)


def test_wide_label_values() -> None:
    labels = np.zeros((3, 3, 3), np.uint16)
    labels[1, 1, 1] = 700
    found = mean_uncertainty(labels, np.full((3, 3, 3), 102, np.uint8), LabelTable({700: "liver"}))
    assert found == {"liver": pytest.approx(0.4)}
