from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from multiorganseg.bundles import load_bundle, read_weights, verify_bundle
from multiorganseg.bundles.safetensors_header import read_header
from multiorganseg.errors import BundleError

_TENSORS = {"a": np.arange(6, dtype=np.float16).reshape(2, 3), "b": np.ones(4, np.float32)}


def _file(header: object, body: bytes, length: int | None = None) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + body


def _one(dtype: str = "F16", shape: object = (2,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"w": {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


def test_a_sound_header_is_read(tmp_path):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(_TENSORS, metadata={"format": "np"}))
    header = read_header(path)
    assert {name: (entry.dtype, entry.shape) for name, entry in header.items()} == {
        "a": ("F16", (2, 3)),
        "b": ("F32", (4,)),
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        _file(_one(), b"1234", length=2**63),
        _file(_one(), b"1234", length=5),
        _file(_one(), b"1234", length=10_000),
        _file(_one(), b"123"),
        _file({"__metadata__": {"a": 1}, **_one()}, b"1234"),
        _file({"__metadata__": "text", **_one()}, b"1234"),
        _file({"__metadata__": None, **_one()}, b"1234"),
        struct.pack("<Q", len(json.dumps(_one())) + 1) + b" " + json.dumps(_one()).encode() + b"1234",
        _file(_one(), b"12345"),
        _file(_one(shape=[3]), b"1234"),
        _file(_one(shape=[-2]), b"1234"),
        _file(_one(shape=[2**40, 2**40]), b"1234"),
        _file(_one(shape=2), b"1234"),
        _file(_one(shape=[True, 2]), b"1234"),
        _file(_one(offsets=[4, 0]), b"1234"),
        _file(_one(offsets=[4, 8]), b"12345678"),
        _file(_one(offsets=[0]), b"1234"),
        _file(_one("I64", [1], [0, 8]), b"12345678"),
        _file(_one("F64", [1], [0, 8]), b"12345678"),
        _file({"w": _one()["w"], "v": _one()["w"]}, b"1234"),
        _file({"w": {"dtype": ["F16"], "shape": [2], "data_offsets": [0, 4]}}, b"1234"),
        _file({"w": None}, b""),
        _file({}, b""),
        _file([], b""),
        struct.pack("<Q", 4) + b"\xff\xff\xff\xff",
    ],
)
def test_a_lying_header_is_refused(tmp_path, bundle, reseal, data):
    path = tmp_path / "w.safetensors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"\w"):
        read_header(path)
    bundle.weights_path.write_bytes(data)
    reseal(bundle.folder)
    with pytest.raises(BundleError, match="safetensors is not valid"):
        verify_bundle(bundle.folder)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, len(save(_TENSORS)) - 1))
def test_every_truncation_is_refused(tmp_path, cut):
    path = tmp_path / "w.safetensors"
    path.write_bytes(save(_TENSORS)[:cut])
    with pytest.raises(ValueError, match=r"\w"):
        read_header(path)


def test_bfloat16_and_float32_are_read(bundle, reseal):
    values = np.array([1.0, -2.5, 3.140625], np.float32)
    halves = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    header = {
        "x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 12]},
        "y": {"dtype": "BF16", "shape": [3], "data_offsets": [12, 18]},
    }
    bundle.weights_path.write_bytes(_file(header, values.tobytes() + halves))
    reseal(bundle.folder)
    weights = read_weights(load_bundle(bundle.folder))
    np.testing.assert_array_equal(weights["x"], values)
    np.testing.assert_array_equal(weights["y"], values)
    assert weights["y"].dtype == np.float32


def test_weights_that_are_no_numbers_are_refused(bundle, reseal):
    bundle.weights_path.write_bytes(save({"x": np.array([1, np.nan], np.float16)}))
    reseal(bundle.folder)
    with pytest.raises(BundleError, match="NaN"):
        read_weights(load_bundle(bundle.folder))
