"""Networks by name, with their weights: only what stands on the whitelist can be built from a bundle."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook
from torch.overrides import TorchFunctionMode

from multiorganseg.errors import BundleError
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.networks.names import ARCHITECTURES

MOST_PARAMETERS = 10**9
MOST_TENSORS = 20_000
_LARGEST_ARGUMENT = 8192
_LONGEST_ARGUMENT = 64

_BUILDERS: Mapping[str, str] = {
    "strided_dynunet": "StridedDynUNet",
    "slice_unet": "SliceUNet",
    "monai_segresnet": "MonaiSegResNet",
    "monai_swin_unetr": "MonaiSwinUNETR",
    "vnet": "VNet",
    "nnunet": "NnUNet",
    "monai_segresnet_ds": "MonaiSegResNetDS",
    "monai_unet": "MonaiUNet",
    "monai_dynunet": "MonaiDynUNet",
}
"""Class by module, which is imported when it is built: MONAI takes seconds."""

_FITTING: set[tuple[str, str]] = set()
"""Networks that were built on paper already, which takes about as long as to build them."""


def build_network(architecture: str, arguments: Mapping[str, Any]) -> BranchingNetwork:
    """Build a network with random weights, after `network_on_paper` was once built without trouble.

    Args:
        architecture: A name of `ARCHITECTURES`.
        arguments: Keyword arguments of its constructor.

    Raises:
        BundleError: The name is not on the whitelist, the arguments do not fit, or the network is too large.
    """
    if _key(architecture, arguments) not in _FITTING:
        network_on_paper(architecture, arguments)
    return _build(architecture, _builder(architecture), arguments)


def network_on_paper(
    architecture: str,
    arguments: Mapping[str, Any],
    most_parameters: int = MOST_PARAMETERS,
    most_tensors: int = MOST_TENSORS,
) -> BranchingNetwork:
    """Build a network whose tensors have shapes and no memory; no randomness is used up.

    Args:
        architecture: A name of `ARCHITECTURES`.
        arguments: Keyword arguments of its constructor.
        most_parameters: How many numbers its tensors may hold together.
        most_tensors: How many tensors it may have.

    Raises:
        BundleError: As `build_network`.
    """
    if architecture not in ARCHITECTURES:
        msg = f"The architecture '{architecture}' is not supported."
        raise BundleError(
            msg,
            next_step=f"Supported are: {', '.join(ARCHITECTURES)}. A newer MultiOrganSeg may know more.",
        )
    _require_plain(architecture, arguments)
    builder = _builder(architecture)
    most = min(most_parameters, MOST_PARAMETERS), min(most_tensors, MOST_TENSORS)
    with _counted(architecture, *most), _OnPaper():
        network = _build(architecture, builder, arguments).to("meta")
    if sum(buffer.numel() for buffer in network.buffers()) > MOST_PARAMETERS:
        raise _unfit(architecture, f"It would keep more than {MOST_PARAMETERS} numbers.")
    _FITTING.add(_key(architecture, arguments))
    return network


def _key(architecture: str, arguments: Mapping[str, Any]) -> tuple[str, str]:
    return architecture, repr(sorted(arguments.items()))


def _builder(architecture: str) -> Callable[..., BranchingNetwork]:
    module = importlib.import_module(f"multiorganseg.networks.{architecture}")
    builder: type[BranchingNetwork] = getattr(module, _BUILDERS[architecture])
    return builder


def _build(
    architecture: str, builder: Callable[..., BranchingNetwork], arguments: Mapping[str, Any]
) -> BranchingNetwork:
    try:
        return builder(**arguments)
    except (BundleError, MemoryError):
        raise
    except Exception as error:  # whatever a constructor of another library says
        raise _unfit(architecture, f"{type(error).__name__}: {error}") from error


def _require_plain(architecture: str, value: Any, depth: int = 0) -> None:
    """Refuse arguments that would keep a constructor busy before its first tensor."""
    items = list(value.values()) if isinstance(value, Mapping) else value
    if isinstance(items, (list, tuple)):
        if depth > 3 or len(items) > _LONGEST_ARGUMENT:
            raise _unfit(architecture, "One of them is too long.")
        for item in items:
            _require_plain(architecture, item, depth + 1)
    elif isinstance(value, (int, float)):
        if not abs(value) <= _LARGEST_ARGUMENT:
            raise _unfit(architecture, "A number is too large.")
    elif isinstance(value, str) and len(value) > _LONGEST_ARGUMENT:
        raise _unfit(architecture, "A text is too long.")


@contextmanager
def _counted(architecture: str, most_parameters: int, most_tensors: int) -> Iterator[None]:
    parameters = tensors = 0

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal parameters, tensors
        if parameter is None:
            return
        parameters, tensors = parameters + parameter.numel(), tensors + 1
        if parameters > most_parameters or tensors > most_tensors:
            cause = f"It would have more than {most_parameters} parameters or {most_tensors} tensors."
            raise _unfit(architecture, cause)

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


class _OnPaper(TorchFunctionMode):
    """Makes new tensors without memory, but those from whose values a constructor computes."""

    _CONSTRUCTORS = (
        torch.empty,
        torch.zeros,
        torch.ones,
        torch.full,
        torch.rand,
        torch.randn,
        torch.arange,
    )

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Tensor:
        """Return constructors of tensors the device "meta"."""
        kwargs = kwargs or {}
        if func in self._CONSTRUCTORS and kwargs.get("device") is None:
            kwargs = {**kwargs, "device": "meta"}
        answer: Tensor = func(*args, **kwargs)
        return answer


def _unfit(architecture: str, cause: str) -> BundleError:
    msg = f"The arguments of '{architecture}' do not fit."
    return BundleError(msg, cause=cause, next_step="Compare them with the network's documentation.")


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights strictly; what is no floating-point number, such as a counter, the network has itself.

    Raises:
        RuntimeError: One is missing, of another shape, or of no use.
    """
    state = network.state_dict()
    own = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    network.load_state_dict({**own, **weights})


NetworkT = TypeVar("NetworkT", bound=nn.Module)

_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def place_network(network: NetworkT, device: torch.device) -> NetworkT:
    """Move a network to a device, with the channels of its convolutions innermost, where they are fastest.

    Weights of two- and of three-dimensional convolutions may stand side by side, which `Module.to` with a
    memory format refuses.

    Returns:
        The network itself.
    """
    network.to(device)
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.ndim in _FORMATS:
            tensor.data = tensor.data.contiguous(memory_format=_FORMATS[tensor.ndim])
    return network
