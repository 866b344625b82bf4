from __future__ import annotations

import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from multiorganseg.bundles import Bundle
from multiorganseg.errors import BundleError, ResourceError
from multiorganseg.folders import user_cache_dir
from multiorganseg.inference import backends
from multiorganseg.inference.backends import (
    Backend,
    choose_device,
    load_backend,
    load_network,
    openvino_backend,
    torch_backend,
)

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIORGANSEG_CACHE", str(tmp_path / "Zwischenspeicher é"))


@pytest.fixture(scope="module")
def converted(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which OpenVINO's form of the network lies."""
    pytest.importorskip("openvino")
    folder = tmp_path_factory.mktemp("converted") / "Zwischenspeicher é"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MULTIORGANSEG_CACHE", str(folder))
        openvino_backend(bundle)
    return folder


@pytest.fixture
def cached(converted: Path) -> Path:
    """A copy of it, as this test's cache."""
    return Path(shutil.copytree(converted, user_cache_dir(), dirs_exist_ok=True))


@pytest.fixture
def batch(bundle: Bundle) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand((3, 1, *bundle.metadata.patch_shape), generator=generator) * 2 - 1


def _hide(monkeypatch: pytest.MonkeyPatch, **here: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: here.get("cuda", False))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: here.get("mps", False))


def _plain(bundle: Bundle, batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return load_network(bundle)(batch).logits


@pytest.mark.parametrize(
    ("here", "chosen"), [({}, "cpu"), ({"mps": True}, "mps"), ({"cuda": True, "mps": True}, "cuda")]
)
def test_auto_takes_the_fastest_device(monkeypatch, here, chosen) -> None:
    _hide(monkeypatch, **here)
    assert choose_device("auto").type == chosen
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize("wanted", ["cuda", "mps", "tpu", ""])
def test_a_device_that_is_not_there_is_refused(monkeypatch, wanted) -> None:
    _hide(monkeypatch)
    with pytest.raises(ResourceError) as caught:
        choose_device(wanted)
    assert f"'{wanted}'" in caught.value.problem
    assert "cpu" in caught.value.cause
    assert "--device auto" in caught.value.next_step


def test_a_network_comes_back_as_it_was_stored(bundle: Bundle, batch: torch.Tensor) -> None:
    network = load_network(bundle)
    assert not network.training
    assert {tensor.dtype for tensor in network.state_dict().values()} == {torch.float32}
    logits = _plain(bundle, batch)
    assert logits.shape == (3, 4, *bundle.metadata.patch_shape)
    assert len(torch.unique(logits.argmax(dim=1))) > 1


def test_weights_of_another_shape_are_refused(bundle: Bundle) -> None:
    other = replace(bundle, metadata=replace(bundle.metadata, arguments={"filters": [8, 16, 8]}))
    with pytest.raises(BundleError) as caught:
        load_network(other)
    assert "tiny-ct" in caught.value.problem
    assert "Other names or shapes: trunk.next_layer" in caught.value.cause


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"arguments": {"filters": [6000, 6000, 6000]}}, "more than"),
        ({"arguments": {"filters": [8] * 60}}, "do not fit"),
        ({"arguments": {"filters": [8, 10**9, 8]}}, "too large"),
        ({"arguments": {"filters": [8] * 100}}, "too long"),
        ({"arguments": {"filters": "many"}}, "do not fit"),
        ({"patch_shape": (16, 32, 33)}, "window"),
    ],
    ids=["12 GB", "deep", "huge", "long", "text", "window"],
)
def test_what_does_not_fit_is_refused_before_it_is_built(bundle, monkeypatch, changes, cause) -> None:
    monkeypatch.setattr(backends, "build_network", lambda *_: pytest.fail("built"))
    with pytest.raises(BundleError, match=cause):
        load_network(replace(bundle, metadata=replace(bundle.metadata, **changes)))


def test_torch_in_float32_is_exact(bundle, batch, monkeypatch) -> None:
    monkeypatch.setattr(backends, "has_bf16", lambda: False)
    backend = torch_backend(load_network(bundle), CPU)
    assert backend.name == "torch, cpu, fp32"
    (logits,) = backend.predict(batch)
    torch.testing.assert_close(logits, _plain(bundle, batch), rtol=1e-4, atol=1e-4)


def test_bfloat16_stays_within_its_tolerance(bundle, batch, monkeypatch) -> None:
    monkeypatch.setattr(backends, "has_bf16", lambda: True)
    backend = torch_backend(load_network(bundle), CPU)
    assert backend.name == "torch, cpu, bf16"
    reduced, exact = backend.predict(batch)[0].float(), _plain(bundle, batch)
    assert 0 < (reduced - exact).abs().max() < 0.05 * (exact.max() - exact.min())
    assert (reduced.argmax(dim=1) == exact.argmax(dim=1)).float().mean() > 0.97


def test_openvino_gives_the_same_labels(bundle, batch, cached) -> None:
    backend = openvino_backend(bundle)
    assert backend.device == CPU
    (logits,), exact = backend.predict(batch), _plain(bundle, batch)
    assert logits.shape == exact.shape
    assert (logits.argmax(dim=1) == exact.argmax(dim=1)).float().mean() >= 0.995
    np.testing.assert_allclose(logits.numpy(), exact.numpy(), atol=0.02 * float(exact.max() - exact.min()))


@pytest.mark.parametrize("damaged", ["model.xml", "model.bin"])
def test_openvino_converts_again_what_was_damaged(bundle, batch, cached, damaged) -> None:
    first = openvino_backend(bundle).predict(batch)
    (file,) = cached.rglob(damaged)
    file.write_bytes(file.read_bytes()[:40])
    torch.testing.assert_close(openvino_backend(bundle).predict(batch), first)
    assert file.stat().st_size > 40


def test_openvino_converts_once(bundle, batch, cached, monkeypatch) -> None:
    import openvino

    written = sorted(path.name for path in cached.rglob("*") if path.is_file())
    assert written == ["model.bin", "model.xml"]
    monkeypatch.setattr(openvino, "convert_model", pytest.fail)
    (logits,) = openvino_backend(bundle).predict(batch)
    assert logits.shape == _plain(bundle, batch).shape


@pytest.mark.parametrize(
    ("bf16", "installed", "name"),
    [
        (True, True, "torch, cpu, bf16"),
        (False, True, "OpenVINO, cpu, fp32"),
        (False, False, "torch, cpu, fp32"),
    ],
)
def test_the_fastest_backend_is_taken(bundle, monkeypatch, bf16, installed, name) -> None:
    monkeypatch.setattr(backends, "has_bf16", lambda: bf16)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _: object() if installed else None)
    monkeypatch.setattr(backends, "_openvino_predict", lambda *_: lambda batch: batch)
    backend = load_backend(bundle, CPU)
    assert isinstance(backend, Backend)
    assert backend.name == name


@pytest.fixture(scope="module")
def two_decoders(make_bundle) -> Bundle:
    return make_bundle(
        name="tiny-two",
        architecture="vnet",
        arguments={"n_filters": 4, "stages": 3, "normalisation": "instance"},
        feature_channels=4,
    )


@pytest.mark.parametrize("bf16", [True, False])
def test_all_decoders_run_in_torch_and_the_first_answers_as_alone(
    two_decoders, batch, monkeypatch, bf16
) -> None:
    monkeypatch.setattr(backends, "has_bf16", lambda: bf16)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _: object())
    monkeypatch.setattr(backends, "openvino_backend", pytest.fail)
    both = load_backend(two_decoders, CPU, 2)
    assert both.name == f"torch, cpu, {'bf16' if bf16 else 'fp32'}"
    first, second = both.predict(batch)
    (alone,) = torch_backend(load_network(two_decoders), CPU).predict(batch)
    assert torch.equal(first, alone)
    assert (first - second).abs().max() > 0.01


def test_openvino_keeps_the_first_of_several_decoders(two_decoders, batch) -> None:
    pytest.importorskip("openvino")
    (logits,), exact = openvino_backend(two_decoders).predict(batch), _plain(two_decoders, batch)
    np.testing.assert_allclose(logits.numpy(), exact.numpy(), atol=0.02 * float(exact.max() - exact.min()))


@pytest.mark.parametrize(
    ("instruction", "known", "fast"),
    [
        (True, {"cpu_name": "AMD EPYC", "amx_bf16": False}, True),
        (True, {"cpu_name": "Intel Xeon", "amx_bf16": True}, True),
        (True, {"cpu_name": "Intel Xeon", "amx_bf16": False}, False),
        (True, {}, True),
        (False, {"cpu_name": "AMD EPYC", "amx_bf16": False}, False),
    ],
    ids=["AMD", "AMX", "AVX-512 of Intel", "unknown", "none"],
)
def test_bfloat16_is_taken_where_it_is_faster(monkeypatch, instruction, known, fast) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instruction, raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known, raising=False)
    assert backends.has_bf16() is fast


@pytest.mark.parametrize("missing", ["_is_avx512_bf16_supported", "get_capabilities"])
def test_another_torch_says_less_of_the_processor(monkeypatch, missing) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True, raising=False)
    monkeypatch.delattr(torch.cpu, missing, raising=False)
    assert backends.has_bf16() is (missing == "get_capabilities")


@pytest.mark.skipif(sys.platform != "linux", reason="the variable is that of Linux")
def test_the_cache_lies_where_the_platform_wants_it(monkeypatch, tmp_path) -> None:
    monkeypatch.delenv("MULTIORGANSEG_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert user_cache_dir() == tmp_path / "multiorganseg"
