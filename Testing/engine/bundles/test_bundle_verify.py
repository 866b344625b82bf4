from __future__ import annotations

import json
import os
import pickle
import re
import sys

import pytest

from multiorganseg.bundles import load_bundle, verify_bundle
from multiorganseg.errors import BundleError


def _findings(folder) -> str:
    with pytest.raises(BundleError) as caught:
        verify_bundle(folder)
    assert caught.value.next_step
    return caught.value.cause


def test_a_sound_bundle_passes(bundle):
    verify_bundle(bundle.folder)


@pytest.mark.parametrize(
    "name", ["models/model.safetensors", "docs/README.md", "configs/metadata.json", "LICENSE"]
)
def test_one_changed_byte_is_found(bundle, name):
    data = bytearray((bundle.folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (bundle.folder / name).write_bytes(data)
    assert f"{name} was changed" in _findings(bundle.folder)


def test_one_byte_more_is_found(bundle):
    with (bundle.folder / "docs" / "README.md").open("ab") as stream:
        stream.write(b" ")
    assert "docs/README.md has 8 bytes instead of 7" in _findings(bundle.folder)


@pytest.mark.parametrize(
    "name",
    [
        "models/model.safetensors",
        "docs/README.md",
        "configs/metadata.json",
        "configs/inference.json",
        "LICENSE",
    ],
)
@pytest.mark.parametrize("sealed", [False, True])
def test_a_missing_file_is_found(bundle, reseal, name, sealed):
    (bundle.folder / name).unlink()
    if sealed:
        reseal(bundle.folder)
    assert _findings(bundle.folder) == f"{name} is missing"


def test_a_missing_manifest_is_found(bundle):
    (bundle.folder / "manifest.json").unlink()
    assert "manifest.json is missing" in _findings(bundle.folder)


def test_an_extra_file_is_found(bundle):
    (bundle.folder / "models" / "more.txt").write_text("x", encoding="utf-8")
    assert "models/more.txt is not in manifest.json" in _findings(bundle.folder)


def test_everything_wrong_is_listed(bundle):
    (bundle.folder / "extra.txt").write_text("x", encoding="utf-8")
    (bundle.folder / "LICENSE").unlink()
    (bundle.folder / "docs" / "README.md").write_text("abcdef\n", encoding="utf-8")
    assert len(_findings(bundle.folder).splitlines()) == 3


def test_what_file_managers_leave_is_ignored(bundle):
    (bundle.folder / ".DS_Store").write_bytes(b"\0")
    (bundle.folder / "docs" / "Thumbs.db").write_bytes(b"\0")
    verify_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["models/model.pt", "run.py", "models/model.pkl"])
def test_other_kinds_of_file_are_refused_and_never_unpickled(bundle, reseal, name):
    class Bomb:
        def __reduce__(self):
            return (os._exit, (3,))

    (bundle.folder / name).write_bytes(pickle.dumps(Bomb()))
    reseal(bundle.folder)
    assert f"{name} is of a kind that bundles do not hold" in _findings(bundle.folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links need privileges on Windows")
def test_a_link_is_refused(bundle, reseal, tmp_path):
    outside = tmp_path / "outside.md"
    outside.write_text("# Card\n", encoding="utf-8")
    card = bundle.folder / "docs" / "README.md"
    card.unlink()
    card.symlink_to(outside)
    assert "docs/README.md is a link" in _findings(bundle.folder)
    card.unlink()
    card.write_text("# Card\n", encoding="utf-8")
    (bundle.folder / "more").symlink_to(tmp_path, target_is_directory=True)
    assert "more is not in manifest.json" in _findings(bundle.folder)


@pytest.mark.parametrize(
    "name", ["../outside.md", "/etc/hosts.txt", "C:/x.txt", "docs\\x.md", "docs/../LICENSE"]
)
def test_a_manifest_that_points_elsewhere_is_refused(bundle, name):
    path = bundle.folder / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["files"][name] = {"sha256": "0" * 64, "size": 1}
    path.write_text(json.dumps(manifest), encoding="utf-8")
    assert name in _findings(bundle.folder)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        "null",
        '{"schema_version": 2, "files": {}}',
        '{"schema_version": 1, "files": []}',
        '{"schema_version": 1, "files": {"LICENSE": {"size": 1}}}',
        '{"files": 1, "files": 2}',
        "[" * 100_000,
    ],
    ids=lambda text: text[:50],
)
def test_a_manifest_that_is_none_is_refused(bundle, text):
    (bundle.folder / "manifest.json").write_text(text, encoding="utf-8")
    assert "manifest.json is not valid" in _findings(bundle.folder)


def test_no_folder_and_a_file_are_told_apart(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        load_bundle(tmp_path / "nowhere")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(BundleError, match="It is a file"):
        load_bundle(tmp_path / "file")


@pytest.mark.parametrize(
    "wrong",
    [
        {"schema_version": "1"},
        {"schema_version": True},
        {"name": "Abdomen"},
        {"name": "con/../x"},
        {"name": "a" * 65},
        {"version": "1.0"},
        {"version": "1.0.0-beta"},
        {"version": "01.0.0"},
        {"description": ""},
        {"description": "\u001b[31mred"},
        {"modality": "PET"},
        {"architecture": "os.system"},
        {"architecture": ["strided_dynunet"]},
        {"arguments": []},
        {"activation": "relu"},
        {"labels": {}},
        {"labels": {"0": "spleen", "1": "liver"}},
        {"labels": {"1": "spleen", "3": "liver"}},
        {"labels": {"1": "liver", "2": "liver"}},
        {"labels": {"1": "spleen", " 2": "liver"}},
        {"labels": ["spleen", "liver"]},
        {"preprocessing": {"spacing_mm": [3, 1.5], "intensity": "window", "window": [-160, 240]}},
        {"preprocessing": {"spacing_mm": [3, 1.5, 0], "intensity": "window", "window": [-160, 240]}},
        {"preprocessing": {"spacing_mm": [3, 1.5, 1.5], "intensity": "window", "window": [240, -160]}},
        {"preprocessing": {"spacing_mm": [3, 1.5, 1.5], "intensity": "window", "window": None}},
        {"preprocessing": {"spacing_mm": [3, 1.5, 1.5], "intensity": "zscore", "window": [-160, 240]}},
        {"preprocessing": {"spacing_mm": [3, 1.5, 1.5], "intensity": "none", "window": None}},
        {"preprocessing": {"spacing_mm": [10**400, 1.5, 1.5], "intensity": "zscore", "window": None}},
        {"patch_shape": [64, 96]},
        {"patch_shape": [64.0, 96, 96]},
        {"patch_shape": [1024, 1024, 1024]},
        {"patch_shape": [2, 96, 96]},
        {"patch_shape": [96, 1, 96]},
        {"feature_channels": 0},
        {"license": " "},
        {"metrics": {"liver": 0.9}},
        {"metrics": {"liver": {"dice": 1.2}}},
        {"metrics": {"liver": {"hd95": -1}}},
        {"metrics": {"kidney_left": {"dice": 0.9}}},
        {"training": "long"},
        {"custom_organs": {"liver": {"name": "Liver"}}},
        {"custom_organs": {"liver": {"name": "Liver", "color": [0, 0, 256]}}},
        {"custom_organs": {"tail": {"name": "Tail", "color": [0, 0, 0]}}},
    ],
    ids=lambda wrong: str(wrong)[1:60],
)
def test_wrong_fields_are_named(edit_metadata, wrong):
    assert re.search(rf"'{next(iter(wrong))}['.\[]", _findings(edit_metadata(**wrong)))


def test_missing_and_unknown_fields_are_named(edit_metadata):
    findings = _findings(edit_metadata(patch_shape=None, patchshape=[64, 96, 96]))
    assert "lacks 'patch_shape'" in findings
    assert "unknown field 'patchshape'" in findings


def test_a_newer_schema_is_said_to_be_newer(edit_metadata):
    findings = _findings(edit_metadata(schema_version=3, new=1))
    assert "schema version 3; this MultiOrganSeg reads 1 and 2" in findings


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "lacks 'original'"),
        ({"activation": "regions", "arguments": {}}, "schema version 2 is needed"),
    ],
)
def test_what_only_converted_bundles_say_needs_their_schema(edit_metadata, change, message):
    assert message in _findings(edit_metadata(**change))


def test_channels_must_fit_the_label_table(edit_metadata):
    assert "4 output channels" in _findings(edit_metadata(arguments={"out_channels": 4}))


def test_an_organ_must_be_known_or_declared(edit_metadata):
    labels, metrics = {"1": "spleen", "2": "unheard_of"}, {}
    assert "unheard_of" in _findings(edit_metadata(labels=labels, metrics=metrics))
    declared = {"unheard_of": {"name": "Unheard of", "color": [1, 2, 3]}}
    loaded = load_bundle(edit_metadata(labels=labels, metrics=metrics, custom_organs=declared))
    assert loaded.metadata.custom_organs["unheard_of"].color == (1, 2, 3)


@pytest.mark.parametrize(
    "text", ["{}", "[]", "", '{"name": NaN}', '{"name": 1, "name": 2}', '{"name": "\\ud800"}', "\xff"]
)
def test_broken_metadata_is_refused(bundle, reseal, text):
    (bundle.folder / "configs" / "metadata.json").write_bytes(text.encode("latin-1"))
    reseal(bundle.folder)
    assert "metadata.json" in _findings(bundle.folder)


@pytest.mark.parametrize(
    "config",
    [
        {"imports": ["$import os"]},
        {"run": {"_target_": "os.system", "command": "true"}},
        {"network_def": "%http://example.org/config.json"},
        {"nested": [{"deep": "$__import__('os')"}]},
    ],
)
def test_a_configuration_that_runs_code_is_refused(bundle, reseal, config):
    (bundle.folder / "configs" / "inference.json").write_text(json.dumps(config), encoding="utf-8")
    reseal(bundle.folder)
    assert "inference.json" in _findings(bundle.folder)
