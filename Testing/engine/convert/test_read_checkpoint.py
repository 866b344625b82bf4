"""Files of PyTorch are read without running anything of them."""

from __future__ import annotations

import collections
import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.convert.checkpoint_file import read_checkpoint_file
from multiorganseg.convert.checkpoint_pickle import read_pickle
from multiorganseg.convert.read_checkpoint import read_checkpoint
from multiorganseg.errors import BundleError, MultiOrganSegError


class _Runs:
    """Runs a program when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.path}",)


def _archive(path: Path, data: bytes, entries: dict[str, bytes] | None = None, **settings) -> Path:
    with zipfile.ZipFile(path, "w", **settings) as archive:
        for name, content in {"x/data.pkl": data, "x/byteorder": b"little", **(entries or {})}.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_tensors_come_as_torch_has_them(tmp_path, kind):
    base = torch.arange(60, dtype=torch.float32).reshape(3, 4, 5).to(kind)
    module = torch.nn.Linear(3, 2)
    entries = {
        "module.a": base,
        "turned": base.permute(2, 0, 1),
        "part": base[1:, 2, ::2],
        "weight": module.weight,
        "empty": torch.zeros(0, 3),
        "single": torch.tensor(2.5),
        "num_batches_tracked": torch.tensor(7),
    }
    torch.save(
        {"state_dict": collections.OrderedDict(entries), "config": {"n": (1, 2.5, None)}}, tmp_path / "x"
    )
    checkpoint = read_checkpoint(tmp_path / "x")
    assert checkpoint.tree["config"] == {"n": [1, 2.5, None]}
    weights = checkpoint.weights(checkpoint.tree["state_dict"])
    assert set(weights) == (set(entries) - {"module.a", "num_batches_tracked"}) | {"a"}
    for name, array in weights.items():
        wanted = entries.get(name, base).detach().float().numpy()
        np.testing.assert_array_equal(array, wanted)


def test_one_tensor_with_two_names_is_read_once(tmp_path):
    tensor = torch.ones(4)
    torch.save(
        {"network_weights": {"a": tensor, "b": tensor}, "optimizer_state": {"m": torch.ones(9)}},
        tmp_path / "x",
    )
    checkpoint = read_checkpoint(tmp_path / "x")
    assert len(checkpoint.tensors) == 1
    assert checkpoint.tree["optimizer_state"] is None


def test_numbers_of_numpy_are_passed_over(tmp_path):
    torch.save({"w": torch.ones(1), "best": np.float32(3), "device": torch.device("cuda:0")}, tmp_path / "x")
    assert read_checkpoint(tmp_path / "x").tree == {"w": {"tensor": 0}, "best": None, "device": None}


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_runs_a_program_is_refused_and_not_run(tmp_path, protocol):
    data = pickle.dumps({"w": _Runs(tmp_path / "was-here")}, protocol=protocol)
    path = _archive(tmp_path / "evil.pth", data)
    with pytest.raises(BundleError, match="system, which could run a program; nothing was run"):
        read_checkpoint(path)
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize(
    "text",
    [b"cbuiltins\neval\n(S'1'\ntR.", b"(S'1'\nibuiltins\neval\n.", b"\x82\x01.", b"c__main__\nx\n."],
    ids=["global", "inst", "extension", "main"],
)
def test_no_way_to_name_something_else_is_open(text):
    with pytest.raises(ValueError, match=r"which could run a program|damaged"):
        read_pickle(text)


@pytest.mark.parametrize(
    "text",
    [
        b"ctorch._utils\n_rebuild_tensor_v2\n}S'_answer'\nNsb.",
        b"ctorch._utils\n_rebuild_tensor_v2\n(N}S'_answer'\nNstb.",
        b"ctorch\nFloatStorage\n}S'dtype'\nS'F16'\nsb.",
        b"ctorch\nFloatStorage\n(K\x01tR.",
    ],
    ids=["state", "slots", "kind", "call"],
)
def test_what_may_be_named_cannot_be_changed(text):
    with pytest.raises(ValueError, match="damaged"):
        read_pickle(text)
    torch.save({"w": torch.ones(2)}, buffer := io.BytesIO())
    with zipfile.ZipFile(buffer) as archive:
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        assert read_pickle(archive.read(name))["w"].storage.dtype == "F32"


def test_a_reference_beyond_the_file_takes_no_memory():
    with pytest.raises(ValueError, match="refers to 4000000000 values"):
        read_pickle(b"\x80\x02}r" + struct.pack("<I", 4_000_000_000) + b".")


def test_deep_nesting_is_refused(tmp_path):
    path = _archive(tmp_path / "x", b"]" * 5000 + b"a" * 4999 + b".")
    with pytest.raises(BundleError, match=r"holds a list"):
        read_checkpoint(path)
    path = _archive(tmp_path / "y", b"}S'a'\n" + b"]" * 5000 + b"a" * 4999 + b"s.")
    with pytest.raises(BundleError, match="nested too deeply"):
        read_checkpoint(path)


def test_a_value_that_holds_itself_is_refused():
    with pytest.raises(ValueError, match="nested too deeply"):
        read_checkpoint_file_of(b"}q\x00S'a'\nh\x00s.")


def read_checkpoint_file_of(data: bytes) -> object:
    buffer = io.BytesIO()
    _archive(buffer, data)  # type: ignore[arg-type]
    return read_checkpoint_file(buffer)  # type: ignore[arg-type]


@pytest.fixture
def saved(tmp_path) -> Path:
    torch.save({"network_weights": {"a": torch.arange(1000.0)}}, tmp_path / "model.pth")
    return tmp_path / "model.pth"


@pytest.mark.parametrize("share", [0.0, 0.2, 0.6, 0.98])
def test_a_truncated_file_is_refused(saved, share):
    data = saved.read_bytes()
    saved.write_bytes(data[: int(share * len(data))])
    with pytest.raises(BundleError, match="damaged, or no file of PyTorch"):
        read_checkpoint(saved)


def test_a_changed_byte_is_refused(saved):
    data = bytearray(saved.read_bytes())
    place = data.index(np.arange(1000, dtype="<f4")[500:510].tobytes())
    data[place] ^= 1
    saved.write_bytes(data)
    with pytest.raises(BundleError, match="CRC"):
        read_checkpoint(saved)


@pytest.mark.parametrize(
    ("entries", "settings", "message"),
    [
        ({"x/data/0": b"123"}, {}, "missing or cut off"),
        ({}, {}, "missing or cut off"),
        ({"x/data/0": bytes(4000)}, {"compression": zipfile.ZIP_DEFLATED}, "compressed"),
        ({"x/byteorder": b"big"}, {}, "byte order"),
        ({"x/constants.pkl": b""}, {}, "TorchScript"),
    ],
)
def test_archives_that_torch_does_not_write_are_refused(saved, tmp_path, entries, settings, message):
    with zipfile.ZipFile(saved) as archive:
        data = archive.read("model/data.pkl")
    with pytest.raises(BundleError, match=message):
        read_checkpoint(_archive(tmp_path / "x", data, entries, **settings))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    torch.save({"w": torch.tensor([1.0, value])}, tmp_path / "x")
    checkpoint = read_checkpoint(tmp_path / "x")
    with pytest.raises(BundleError, match="NaN or an infinity"):
        checkpoint.weights(checkpoint.tree)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x80\x02}q\x00.", b"<html>"])
def test_other_files_are_refused(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(MultiOrganSegError, match="x was not converted") as caught:
        read_checkpoint(tmp_path / "x")
    assert caught.value.cause
    assert caught.value.next_step
