"""Where the weights of a network lie in memory."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

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
