"""What networks give back, be they of one decoder or of several."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn


class NetworkOutput(NamedTuple):
    """What every network of the project gives back.

    Attributes:
        logits: Tensor (batch, channels, k, j, i) on the input's grid.
        features: Tensor (batch, features, k', j', i') before the last layer, on the input's grid or on a
            coarser one that the last layer refines.
    """

    logits: Tensor
    features: Tensor


def decoder_count(network: nn.Module) -> int:
    """Return how many decoders a network has: its `decoder_count`, 1 when it says nothing."""
    count = getattr(network, "decoder_count", 1)
    return int(count)


def feature_stride(network: nn.Module) -> tuple[int, int, int]:
    """Return how many voxels lie between features along (k, j, i): its `stride`, 1 when it says nothing."""
    k, j, i = getattr(network, "stride", (1, 1, 1))
    return int(k), int(j), int(i)


def decoder_outputs(network: nn.Module, image: Tensor) -> tuple[NetworkOutput, ...]:
    """Run all decoders of a network, in evaluation too; the first one's output is the network's own.

    Args:
        network: With an `outputs` of its own where it has several decoders.
        image: Tensor (batch, channels, k, j, i).
    """
    if decoder_count(network) == 1:
        output = network(image)
        return (NetworkOutput(output.logits, output.features),)
    outputs: tuple[NetworkOutput, ...] = network.outputs(image)  # type: ignore[operator]
    return outputs
