"""Weights into a network: all of them, and no others."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn


def load_weights(network: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load weights strictly; what is no floating-point number, such as a counter, the network has itself.

    Raises:
        RuntimeError: One is missing, of another shape, or of no use.
    """
    state = network.state_dict()
    own = {name: tensor for name, tensor in state.items() if not tensor.is_floating_point()}
    network.load_state_dict({**own, **weights})
