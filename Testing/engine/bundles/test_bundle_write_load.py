from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.bundles import (
    Bundle,
    CustomOrgan,
    Metadata,
    Preprocessing,
    load_bundle,
    read_weights,
    write_bundle,
)
from multiorganseg.bundles.metadata import Domain
from multiorganseg.errors import BundleError
from multiorganseg.organs.labels import LabelTable


def _contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_bundle_comes_back_as_it_was_written(bundle, metadata, weights):
    loaded = load_bundle(bundle.folder)
    assert loaded == bundle
    assert loaded.metadata == metadata
    assert loaded.card_path.read_text(encoding="utf-8") == "# Card\n"
    read = read_weights(loaded)
    assert set(read) == set(weights)
    for name, array in weights.items():
        assert read[name].dtype == np.float16
        assert read[name].shape == array.shape
        np.testing.assert_array_equal(read[name], array.astype(np.float16))
        read[name][...] = 0


def test_equal_arguments_give_equal_bytes(make, tmp_path, metadata):
    first = make(tmp_path / "a" / "x")
    shuffled = dataclasses.replace(
        metadata,
        metrics=dict(reversed(metadata.metrics.items())),
        training=dict(reversed(metadata.training.items())),
    )
    second = make(tmp_path / "b" / "x", shuffled)
    assert _contents(first.folder) == _contents(second.folder)
    assert first.digest == second.digest


def test_the_digest_changes_with_one_weight(make, tmp_path, metadata, weights):
    first = make(tmp_path / "a")
    weights["stem.bias"][3] = 0.25
    assert make(tmp_path / "b").digest != first.digest


def test_labels_beyond_nine_keep_their_order(tmp_path, make, metadata):
    keys = [f"part_{number}" for number in range(1, 13)]
    custom = {key: CustomOrgan(key.title(), (number, 0, 255)) for number, key in enumerate(keys)}
    said = dataclasses.replace(
        metadata, labels=LabelTable.numbered(keys), custom_organs=custom, metrics={}, arguments={}
    )
    made = make(said=said)
    assert made.metadata.labels.keys == tuple(keys)
    assert made.metadata.custom_organs == custom


def test_channels_follow_the_activation(metadata):
    assert metadata.channels == 3
    assert metadata.channel("liver") == 2
    sigmoid = dataclasses.replace(metadata, activation="sigmoid")
    assert sigmoid.channels == 2
    assert sigmoid.channel("liver") == 1


def test_zscore_has_no_window(make, metadata):
    said = dataclasses.replace(
        metadata, modality="MR", preprocessing=Preprocessing((2.0, 1.0, 1.0), "zscore", None)
    )
    assert make(said=said).metadata == said


def test_monai_finds_its_fields(bundle, metadata):
    data = json.loads((bundle.folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
    output = data["network_data_format"]["outputs"]["pred"]
    assert output["num_channels"] == 3
    assert output["channel_def"] == {"0": "background", "1": "spleen", "2": "liver"}
    config = json.loads((bundle.folder / "configs" / "inference.json").read_text(encoding="utf-8"))
    assert config["network_def"]["architecture"] == metadata.architecture
    assert config["inferer"]["roi_size"] == [64, 96, 96]


def test_the_target_of_the_network_definition_exists(bundle):
    config = json.loads((bundle.folder / "configs" / "inference.json").read_text(encoding="utf-8"))
    module, _, function = config["network_def"]["_target_"].rpartition(".")
    path = Path(sys.modules["multiorganseg"].__file__).parent.parent / (module.replace(".", "/") + ".py")
    assert f"def {function}(" in path.read_text(encoding="utf-8")


def test_folders_with_blanks_and_without_ascii(tmp_path, make):
    made = make(tmp_path / "Bündel für Ärzte" / "腹部 ct")
    assert load_bundle(str(made.folder)) == made
    assert read_weights(made)


def test_a_taken_folder_is_left_alone(make, tmp_path, metadata):
    first = make(tmp_path / "x")
    before = _contents(first.folder)
    with pytest.raises(BundleError, match="already"):
        make(tmp_path / "x", dataclasses.replace(metadata, version="2.0.0"))
    assert _contents(first.folder) == before


def test_only_a_bundle_is_replaced(bundle, metadata, weights, tmp_path):
    newer = dataclasses.replace(metadata, version="2.0.0")
    assert write_bundle(bundle.folder, newer, weights, "c", "l", replace=True).metadata == newer
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.md").write_text("years of work", encoding="utf-8")
    with pytest.raises(BundleError, match="no bundle"):
        write_bundle(tmp_path / "thesis", newer, weights, "c", "l", replace=True)
    assert (tmp_path / "thesis" / "chapter.md").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "../up"},
        {"version": "1.0"},
        {"architecture": "resnet"},
        {"patch_shape": (0, 96, 96)},
        {"metrics": {"kidney_left": {"dice": 0.9}}},
        {"metrics": {"liver": {"hd95": float("nan")}}},
        {"training": {"when": object()}},
        {"labels": LabelTable({1: "spleen", 3: "liver"})},
        {"labels": LabelTable.numbered(["spleen", "unheard_of"])},
    ],
    ids=lambda change: "-".join(f"{key}={str(value)[:20]}" for key, value in change.items()),
)
def test_wrong_metadata_writes_nothing(make, tmp_path, metadata, change):
    with pytest.raises(BundleError) as caught:
        make(tmp_path / "out" / "x", dataclasses.replace(metadata, **change))
    assert caught.value.cause
    assert caught.value.next_step
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


def test_a_window_of_single_slices_is_allowed(make, tmp_path, metadata):
    flat = dataclasses.replace(metadata, patch_shape=(1, 96, 96))
    assert make(tmp_path / "flat", flat).metadata.patch_shape == (1, 96, 96)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e6])
def test_weights_that_float16_cannot_hold_are_refused(make, weights, bad):
    weights["stem.bias"][0] = bad
    with pytest.raises(BundleError, match=r"stem\.bias"):
        make()


def test_counters_are_refused(make, weights):
    weights["steps"] = np.arange(3)
    with pytest.raises(BundleError, match="int64"):
        make()


def test_weights_changed_after_loading_are_not_used(bundle: Bundle):
    data = bytearray(bundle.weights_path.read_bytes())
    data[-1] ^= 1
    bundle.weights_path.write_bytes(data)
    with pytest.raises(BundleError, match="changed while"):
        read_weights(bundle)


def test_loading_needs_no_torch(bundle: Bundle):
    code = (
        "import sys\n"
        "from multiorganseg.bundles import load_bundle, read_weights\n"
        f"read_weights(load_bundle({str(bundle.folder)!r}))\n"
        "import multiorganseg.cli.models\n"
        "print(sorted({'torch', 'monai'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_metadata_is_a_value(metadata: Metadata):
    with pytest.raises(dataclasses.FrozenInstanceError):
        metadata.name = "other"  # type: ignore[misc]


def test_what_the_training_scans_were_like_comes_back(make, metadata):
    domain = Domain({"length_mm": (120.0, 400.5)}, {"liver": (80.0, 120.0)}, {"liver": 6.0})
    said = dataclasses.replace(metadata, domain=domain)
    made = make(said=said)
    assert made.metadata == said
    assert load_bundle(made.folder).metadata.domain == domain


@pytest.mark.parametrize(
    "domain",
    [
        Domain({"length_mm": (400.0, 120.0)}, {}, {}),
        Domain({}, {"heart": (1.0, 2.0)}, {}),
        Domain({}, {}, {"heart": 2.0}),
        Domain({}, {}, {"liver": float("nan")}),
        Domain({"length_mm": (float("-inf"), 1.0)}, {}, {}),
    ],
)
def test_a_domain_that_cannot_be_is_refused(make, metadata, domain):
    with pytest.raises((BundleError, ValueError)):
        make(said=dataclasses.replace(metadata, domain=domain))
