"""The network on a device: torch everywhere, OpenVINO on processors where it is faster."""

from __future__ import annotations

import importlib.util
import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from multiorganseg.atomic import atomic_path
from multiorganseg.bundles import Bundle, read_weights
from multiorganseg.bundles.bundle import weights_header
from multiorganseg.errors import BundleError, ResourceError
from multiorganseg.folders import user_cache_dir
from multiorganseg.inference.ensemble import Ensemble
from multiorganseg.networks.build import build_network, load_weights, network_on_paper, place_network
from multiorganseg.networks.output import decoder_count, decoder_outputs, feature_stride
from multiorganseg.offline import import_openvino

if TYPE_CHECKING:
    from multiorganseg.inference.stream import Predict

_SLACK = 4
"""Constructors make layers that they replace by others."""

_OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


@dataclass(frozen=True)
class Backend:
    """A loaded network.

    Attributes:
        predict: Takes (batch, channels, k, j, i) float32 on `device`, gives logits of each decoder wanted,
            and after them the first one's features where they are wanted.
        device: Where it runs.
        name: For messages and provenance, such as "torch, cuda, bf16".
        feature_stride: Voxels between features along (k, j, i); None where none are given.
    """

    predict: Predict
    device: torch.device
    name: str
    feature_stride: tuple[int, int, int] | None = None


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


def load_network(bundle: Bundle, fold: int = 0) -> nn.Module:
    """Build a bundle's network and load its weights in float32, in evaluation mode.

    That the weights fit, and that the network takes its own window, is known before any memory is taken.

    Args:
        bundle: Holds it.
        fold: Which of its networks, where it has several.

    Raises:
        BundleError: The weights do not fit the architecture, or the network not its window.
    """
    metadata = bundle.metadata
    _on_paper(bundle, fold)
    network = build_network(metadata.architecture, _arguments(bundle))
    weights = {name: torch.from_numpy(array).float() for name, array in read_weights(bundle, fold).items()}
    try:
        load_weights(network, weights)
    except RuntimeError as error:
        raise _unfit(bundle, str(error)) from error
    return network.eval()


def count_decoders(bundle: Bundle) -> int:
    """Return how many decoders a bundle's network has, without its weights.

    Raises:
        BundleError: As `load_network`.
    """
    return decoder_count(_on_paper(bundle))


def _arguments(bundle: Bundle) -> Mapping[str, Any]:
    metadata = bundle.metadata
    channels = {"in_channels": metadata.in_channels, "out_channels": metadata.channels}
    return {**metadata.arguments, **channels}


def _on_paper(bundle: Bundle, fold: int = 0) -> nn.Module:
    """Build a bundle's network without memory for its weights, and compare both."""
    metadata = bundle.metadata
    stored = {name: entry.shape for name, entry in weights_header(bundle, fold).items()}
    elements = sum(math.prod(shape) for shape in stored.values())
    paper = network_on_paper(
        metadata.architecture, _arguments(bundle), _SLACK * elements + 10**6, _SLACK * len(stored) + 100
    ).eval()
    asked = {
        name: tuple(tensor.shape)
        for name, tensor in paper.state_dict().items()
        if tensor.is_floating_point() or name in stored
    }
    differing = sorted(name for name in asked.keys() | stored.keys() if asked.get(name) != stored.get(name))
    if differing:
        raise _unfit(bundle, f"Other names or shapes: {', '.join(differing[:5])}.")
    try:
        with torch.no_grad():
            answer = paper(torch.empty((1, metadata.in_channels, *metadata.patch_shape), device="meta"))
    except Exception as error:  # whatever torch says of shapes that do not meet
        raise _unfit(bundle, f"It does not take its window: {error}") from error
    if answer.logits.shape != (1, metadata.channels, *metadata.patch_shape):
        raise _unfit(bundle, f"It answers {tuple(answer.logits.shape)}.")
    return paper


def _unfit(bundle: Bundle, cause: str) -> BundleError:
    msg = f"The weights of {bundle.metadata.name} do not fit its architecture."
    return BundleError(msg, cause=cause, next_step="Install the bundle again, or train it again.")


def load_ensemble(bundle: Bundle, mirrored: Sequence[int] = (), *, apart: bool = False) -> nn.Module:
    """Load all networks of a bundle as one, which sees mirrored windows too where axes are given.

    With `apart`, the logits of the networks are not averaged, but stand one after the other.

    Raises:
        BundleError: As `load_network`.
    """
    networks = [load_network(bundle, fold) for fold in range(bundle.metadata.folds)]
    return (
        networks[0]
        if len(networks) == 1 and not mirrored
        else Ensemble(networks, mirrored, apart=apart).eval()
    )


def load_backend(
    bundle: Bundle,
    device: torch.device,
    decoders: int = 1,
    *,
    exact: bool = False,
    mirrored: Sequence[int] = (),
    features: bool = False,
) -> Backend:
    """Load a bundle's network in the fastest way that the device offers.

    On a CPU that is fast in bfloat16 torch is as fast as OpenVINO and needs no conversion; on other CPUs
    OpenVINO, when installed, takes about four fifths of torch's time. More than one decoder, and features,
    come from torch alone.

    Args:
        bundle: Holds the network.
        device: Where it shall run.
        decoders: 1 for the one that labels, or as many as the network has.
        exact: Whether it computes in float32, and gives the logits of each network of the bundle.
        mirrored: Axes along which it also sees mirrored windows.
        features: Whether the first decoder's features follow the logits.
    """
    plain = decoders == bundle.metadata.folds == 1 and not (mirrored or exact or features)
    if plain and device.type == "cpu" and not has_bf16() and importlib.util.find_spec("openvino"):
        return openvino_backend(bundle)
    network = load_ensemble(bundle, mirrored, apart=exact)
    return torch_backend(network, device, decoders, exact=exact, features=features)


def torch_backend(
    network: nn.Module,
    device: torch.device,
    decoders: int = 1,
    *,
    exact: bool = False,
    features: bool = False,
) -> Backend:
    """Run a network with torch, in bfloat16 where the device computes it and it need not be exact.

    The other arguments are those of `load_backend`.
    """
    stride = feature_stride(network) if features else None
    network = place_network(network, device)
    reduced = not exact and computes_bf16(device)

    @torch.inference_mode()
    def predict(batch: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, torch.bfloat16, enabled=reduced):
            answers = (network(batch),) if decoders == 1 else decoder_outputs(network, batch)
        logits = tuple(answer.logits for answer in answers)
        return (*logits, answers[0].features) if features else logits

    return Backend(predict, device, f"torch, {device.type}, {'bf16' if reduced else 'fp32'}", stride)


def openvino_backend(bundle: Bundle, precision: str = "f32") -> Backend:
    """Run a bundle's network with OpenVINO on the CPU, in "f32" or "bf16"."""
    name = {"f32": "fp32"}.get(precision, precision)
    return Backend(_openvino_predict(bundle, precision), torch.device("cpu"), f"OpenVINO, cpu, {name}")


def computes_bf16(device: torch.device) -> bool:
    """Whether a device computes in bfloat16 itself; what only imitates it is faster in float32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and has_bf16()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, on any device, or of Python says that memory ran out."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _OUT_OF_MEMORY)


def free_unused(device: torch.device) -> None:
    """Return back the memory that torch keeps for itself on a device."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps" and torch.backends.mps.is_available():
        torch.mps.empty_cache()


def has_bf16() -> bool:
    """Whether the CPU computes faster in bfloat16 than in float32, so that torch is fast without OpenVINO.

    AMD's processors do with AVX-512, Intel's with AMX alone: there the instruction of AVX-512 gains nothing,
    and a window takes 1.1 to 1.5 times as long. With versions of torch that cannot tell them apart both do.
    """
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    if supported is None or not supported():
        return False
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(known.get("amx_bf16", True)) or not str(known.get("cpu_name", "")).startswith("Intel")


class _LogitsOnly(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits: Tensor = self.network(image).logits
        return logits


def _openvino_predict(bundle: Bundle, precision: str) -> Predict:
    openvino = import_openvino()

    core = openvino.Core()
    name = f"{bundle.metadata.name}-{bundle.digest[:16]}-{openvino.__version__[:8]}"
    path = user_cache_dir() / name / "model.xml"
    model = _read_converted(core, path) or _convert(bundle, path)
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    request = core.compile_model(model, "CPU", settings).create_infer_request()

    def predict(batch: Tensor) -> tuple[Tensor, ...]:
        outputs = [torch.from_numpy(request.infer([window[None].numpy()])[0].copy()) for window in batch]
        return (torch.cat(outputs),)

    return predict


def _read_converted(core: Any, path: Path) -> Any:
    """Return the model converted before; None if there is none or a file of it is damaged."""
    try:
        return core.read_model(path) if path.is_file() else None
    except RuntimeError:
        return None


def _convert(bundle: Bundle, path: Path) -> Any:
    openvino = import_openvino()

    shape = [1, bundle.metadata.in_channels, *bundle.metadata.patch_shape]
    network = _LogitsOnly(load_network(bundle))
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit.TracerWarning)
        model = openvino.convert_model(network, example_input=torch.zeros(shape), input=shape)
    with atomic_path(path) as partial:
        openvino.save_model(model, partial, compress_to_fp16=True)
        partial.with_suffix(".bin").replace(path.with_suffix(".bin"))
    return model
