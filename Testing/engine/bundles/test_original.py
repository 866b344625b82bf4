from __future__ import annotations

import json
from dataclasses import fields

import pytest

from multiorganseg.bundles.original import Intensity, Original, is_orientation
from multiorganseg.schema import SchemaError

ORIGINAL = Original(
    program="nnU-Net 2",
    orientation="RAS",
    axes=(2, 0, 1),
    in_slices=False,
    channels=("T1", "T2"),
    intensities=(Intensity("zscore", {"masked": 1.0}), Intensity("none", {})),
    normalise_first=True,
    crop="nonzero",
    margin=0,
    resampling="spline",
    spacing_tolerance=0.0,
    step="even",
    overlap=0.5,
    padding="zero",
    weights="centred_delta",
    mirrored=(0, 2),
    folds=2,
    half_precision=True,
    restore="logits",
)


def test_it_comes_back_as_it_was():
    data = json.loads(json.dumps(ORIGINAL.to_json()))
    assert Original.from_json(data) == ORIGINAL


@pytest.mark.parametrize("name", [field.name for field in fields(Original)])
def test_every_field_must_be_there_and_of_its_kind(name):
    data = ORIGINAL.to_json()
    with pytest.raises(SchemaError, match=f"'{name}"):
        Original.from_json({**data, name: {"no": "value"}})
    del data[name]
    with pytest.raises(SchemaError, match=f"lacks '{name}'"):
        Original.from_json(data)


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"axes": [0, 0, 1]},
        {"axes": [0.0, 1.0, 2.0]},
        {"mirrored": [2, 0]},
        {"folds": 0},
        {"folds": True},
        {"overlap": 1.0},
        {"overlap": float("nan")},
        {"channels": []},
        {"channels": ["one"]},
        {"intensities": [{"kind": "zscore"}, {"kind": "none"}]},
        {"intensities": [{"kind": "os.system"}, {"kind": "none"}]},
        {"intensities": [{"kind": "zscore", "masked": 0.5}, {"kind": "none"}]},
        {
            "channels": ["CT"],
            "intensities": [{"kind": "clip_zscore", "low": 5, "high": 1, "mean": 0, "std": 1}],
        },
        {
            "channels": ["CT"],
            "intensities": [{"kind": "clip_zscore", "low": 0, "high": 1, "mean": 0, "std": 0}],
        },
    ],
)
def test_values_out_of_their_range_are_found(change):
    with pytest.raises(SchemaError):
        Original.from_json({**ORIGINAL.to_json(), **change})


def test_orientations_are_three_directions():
    assert all(map(is_orientation, ("RAS", "LPS", "PIR", "SAL")))
    assert not any(map(is_orientation, ("", "RA", "RAX", "RLS", "ras", None, 3)))
