"""The network on a device: torch everywhere, OpenVINO on processors where it is faster."""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles import Bundle, read_weights
from multiorganseg.errors import BundleError, ResourceError
from multiorganseg.inference.stream import Predict
from multiorganseg.networks.build import build_network
from multiorganseg.networks.output import decoder_outputs
from multiorganseg.networks.placing import place_network
from multiorganseg.offline import import_openvino
from multiorganseg.user_folders import user_cache_dir


@dataclass(frozen=True)
class Backend:
    """A loaded network.

    Attributes:
        predict: Takes (batch, 1, k, j, i) float32 on `device`, gives logits of each decoder wanted.
        device: Where it runs.
        name: For messages and provenance, such as "torch, cuda, bf16".
    """

    predict: Predict
    device: torch.device
    name: str


def choose_device(wanted: str) -> torch.device:
    """Resolve "auto" to CUDA, then MPS, then CPU.

    Raises:
        ResourceError: The device does not exist here.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, here in available.items() if here))
    if not available.get(wanted):
        msg = f"The device '{wanted}' is not available."
        raise ResourceError(
            msg,
            cause="This PyTorch finds: " + ", ".join(name for name, here in available.items() if here) + ".",
            next_step="Use --device auto, or install the PyTorch build for your graphics card.",
        )
    return torch.device(wanted)


def load_network(bundle: Bundle) -> nn.Module:
    """Build a bundle's network and load its weights in float32, in evaluation mode.

    Raises:
        BundleError: The weights do not fit the architecture.
    """
    metadata = bundle.metadata
    network = build_network(
        metadata.architecture, {"in_channels": 1, "out_channels": metadata.channels, **metadata.arguments}
    )
    weights = {name: torch.from_numpy(array).float() for name, array in read_weights(bundle).items()}
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        msg = f"The weights of {metadata.name} do not fit its architecture."
        raise BundleError(
            msg,
            cause=str(error),
            next_step="Install the bundle again, or train it again.",
        ) from error
    return network.eval()


def load_backend(bundle: Bundle, device: torch.device, decoders: int = 1) -> Backend:
    """Load a bundle's network in the fastest way that the device offers.

    On a CPU with bfloat16 instructions torch is as fast as OpenVINO and needs no conversion; on other CPUs
    OpenVINO, when installed, takes about four fifths of torch's time. More than one decoder runs in torch
    alone.

    Args:
        bundle: Holds the network.
        device: Where it shall run.
        decoders: 1 for the one that labels, or as many as the network has.
    """
    if decoders == 1 and device.type == "cpu" and not has_bf16() and importlib.util.find_spec("openvino"):
        return openvino_backend(bundle)
    return torch_backend(load_network(bundle), device, decoders)


def torch_backend(network: nn.Module, device: torch.device, decoders: int = 1) -> Backend:
    """Run a network with torch, in bfloat16 where the device computes it; `decoders` as in `load_backend`."""
    network = place_network(network, device)
    reduced = device.type == "cuda" or (device.type == "cpu" and has_bf16())

    @torch.inference_mode()
    def predict(batch: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            answers = (network(batch),) if decoders == 1 else decoder_outputs(network, batch)
        return tuple(answer.logits for answer in answers)

    return Backend(predict, device, f"torch, {device.type}, {'bf16' if reduced else 'fp32'}")


def openvino_backend(bundle: Bundle) -> Backend:
    """Run a bundle's network with OpenVINO on the CPU, in float32."""
    return Backend(_openvino_predict(bundle), torch.device("cpu"), "OpenVINO, cpu, fp32")


def has_bf16() -> bool:
    """Whether the CPU computes in bfloat16, so that torch is fast without OpenVINO."""
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return supported is not None and bool(supported())


class _LogitsOnly(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image).logits
        return logits


def _openvino_predict(bundle: Bundle) -> Predict:
    openvino = import_openvino()

    core = openvino.Core()
    name = f"{bundle.metadata.name}-{bundle.digest[:16]}-{openvino.__version__[:8]}"
    path = user_cache_dir() / name / "model.xml"
    model = _read_converted(core, path) or _convert(bundle, path)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def predict(batch: Tensor) -> tuple[Tensor, ...]:
        outputs = [torch.from_numpy(request.infer([window[None].numpy()])[0].copy()) for window in batch]
        return (torch.cat(outputs),)

    return predict


def _read_converted(core: Any, path: Path) -> Any:
    """Give the model converted before; None if there is none or a file of it is damaged."""
    try:
        return core.read_model(path) if path.is_file() else None
    except RuntimeError:
        return None


def _convert(bundle: Bundle, path: Path) -> Any:
    openvino = import_openvino()

    shape = [1, 1, *bundle.metadata.patch_shape]
    network = _LogitsOnly(load_network(bundle))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)
    with atomic_path(path) as partial:
        openvino.save_model(model, partial, compress_to_fp16=True)
        partial.with_suffix(".bin").replace(path.with_suffix(".bin"))
    return model
