"""A two-decoder network for z-scored MR: its labels, its map, and what it says of a CT."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles import Bundle, Preprocessing
from multiorganseg.inference.backends import load_network
from multiorganseg.inference.segment import Options, Segmenter
from multiorganseg.inference.slab import describe
from multiorganseg.organs.labels import LabelTable
from multiorganseg.volumes import Volume

AXES = {"upright": np.diag([1.0, 1.0, 1.0]), "flipped": np.array([[0, -1.0, 0], [0, 0, 1.0], [-1.0, 0, 0]])}


@pytest.fixture(scope="module")
def atrium(make_bundle: Callable[..., Bundle]) -> Bundle:
    return make_bundle(
        name="tiny-mr",
        modality="MR",
        architecture="vnet",
        arguments={"n_filters": 4, "stages": 3, "normalisation": "instance"},
        labels=LabelTable.numbered(["heart_left_atrium"]),
        preprocessing=Preprocessing((2.0, 2.0, 2.0), "zscore", None),
        patch_shape=(16, 16, 16),
        feature_channels=4,
    )


def _mr(directions: np.ndarray = AXES["upright"], scale: float = 1.0, **said: str) -> Volume:
    """A bright chamber in grey tissue, nothing negative, voxels of 1.2 × 1.5 × 1.8 mm."""
    k, j, i = np.mgrid[-1:1:24j, -1:1:30j, -1:1:36j]
    noise = np.random.default_rng(2).gamma(2, 4, k.shape)
    voxels = noise + 60 * (k**2 + j**2 + i**2 < 0.9) + 60 * (k**2 + j**2 + i**2 < 0.25)
    affine = np.eye(4)
    affine[:3, :3] = directions * [1.2, 1.5, 1.8]
    affine[:3, 3] = [-30, 200, 12]
    return Volume((scale * voxels).astype(np.float32), affine, "chamber", **said)


def _segment(bundle: Bundle, volume: Volume, **options: bool):
    return Segmenter(bundle, Options(device="cpu", quality="fast", **options)).segment(volume)


@pytest.mark.parametrize("directions", AXES.values(), ids=AXES)
def test_the_map_lies_on_the_inputs_grid_and_the_labels_are_the_same(atrium: Bundle, directions) -> None:
    volume = _mr(directions)
    plain, mapped = _segment(atrium, volume), _segment(atrium, volume, uncertainty=True)
    assert plain.uncertainty is None
    assert all(row.uncertainty is None for row in plain.statistics)
    assert "uncertainty" not in plain.provenance
    np.testing.assert_array_equal(mapped.labels, plain.labels)
    assert mapped.uncertainty.shape == volume.voxels.shape
    assert mapped.uncertainty.dtype == np.uint8
    assert np.ptp(mapped.uncertainty) > 50
    (row,) = mapped.statistics
    assert 0 < row.uncertainty < 1
    said = json.loads(json.dumps(dict(mapped.provenance)))
    assert said["uncertainty"] == describe(2)
    assert said["messages"] == []


def test_the_map_stays_with_the_patient(atrium: Bundle) -> None:
    volume = _mr()
    turned = Volume(volume.voxels[::-1, :, ::-1], volume.affine.copy(), volume.source)
    turned.affine[:3, 3] = volume.grid.to_patient((23, 0, 35))
    turned.affine[:3, [0, 2]] *= -1
    first, second = (_segment(atrium, each, uncertainty=True).uncertainty for each in (volume, turned))
    np.testing.assert_allclose(second[::-1, :, ::-1].astype(int), first.astype(int), atol=3)


def test_standardised_intensities_do_not_depend_on_the_scanners_scale(atrium: Bundle) -> None:
    first, second = (_segment(atrium, _mr(scale=scale)) for scale in (1.0, 7.3))
    assert first.labels.any()
    assert (first.labels == second.labels).mean() > 0.995


def test_nothing_of_an_mr_is_cut_away_or_taken_for_air(atrium: Bundle) -> None:
    volume = _mr()
    volume.voxels[:, :, 18:] = 0
    result = _segment(atrium, volume, uncertainty=True)
    assert result.provenance["windows"] == 8, "two along each axis of 22 × 23 × 22 voxels"
    assert (result.uncertainty[:, :, 30:] > 0).any()


def test_weights_of_all_decoders_come_back_from_the_bundle(atrium: Bundle) -> None:
    network = load_network(atrium)
    assert network.decoder_count == 2
    names = set(network.state_dict())
    assert {name.split(".")[1] for name in names if name.startswith("decoders.")} == {"0", "1"}
    assert "other_heads.0.weight" in names


def test_one_decoder_gives_its_entropy_alone(bundle: Bundle) -> None:
    volume = Volume(_mr().voxels - 60, np.diag([2.0, 2.0, 3.0, 1.0]))
    plain, mapped = _segment(bundle, volume), _segment(bundle, volume, uncertainty=True)
    np.testing.assert_array_equal(mapped.labels, plain.labels)
    assert mapped.provenance["uncertainty"] == describe(1)
    assert np.ptp(mapped.uncertainty) > 20


def _ct(**said: str) -> Volume:
    voxels = _mr().voxels.copy()
    voxels[voxels < 30] = -1000
    return Volume(voxels.astype(np.int16), np.diag([2.0, 2.0, 3.0, 1.0]), "ct", **said)


@pytest.mark.parametrize(
    ("of_mr", "volume", "words"),
    [
        (True, _ct(), ("a CT", "tiny-mr", "MR")),
        (False, _mr(), ("an MR", "tiny-ct", "CT")),
        (False, _ct(modality="MR"), ("an MR", "DICOM tag Modality")),
        (True, _mr(), ()),
        (False, _ct(), ()),
        (True, _ct(modality="MR"), ()),
    ],
)
def test_a_volume_of_the_wrong_kind_is_told_and_still_segmented(
    atrium: Bundle, bundle: Bundle, of_mr: bool, volume: Volume, words: tuple[str, ...]
) -> None:
    result = _segment(atrium if of_mr else bundle, volume)
    assert result.labels.shape == volume.voxels.shape
    messages = [text for text in result.provenance["messages"] if text.startswith("This looks like")]
    assert len(messages) == bool(words)
    assert all(word in messages[0] for word in words)
    if words:
        assert result.provenance["unlike_training"] == result.provenance["messages"] == messages
        assert all("out_of_domain" in row.flags for row in result.statistics if row.voxels)


def test_the_map_is_a_file_that_others_read(atrium: Bundle, tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    from multiorganseg.results.write import write_results

    volume = _mr(AXES["flipped"])
    result = _segment(atrium, volume, uncertainty=True)
    write_results(result, volume, tmp_path, formats=set(), preview=False, modality="MR")
    (path,) = tmp_path.iterdir()
    assert path.name == "chamber.uncertainty.nii.gz"
    assert gzip.decompress(path.read_bytes())[70:72] == b"\x02\x00", "datatype 2: uint8"
    image = nibabel.load(path)
    np.testing.assert_array_equal(np.asarray(image.dataobj).T, result.uncertainty)
    np.testing.assert_allclose(np.diag([-1, -1, 1, 1]) @ image.affine, volume.affine, atol=1e-5)
