"""A converted network is built, takes its weights strictly, and answers, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from multiorganseg.convert.converted import Converted
from multiorganseg.convert.read_checkpoint import refused
from multiorganseg.errors import BundleError


def try_network(converted: Converted, path: Path) -> int:
    """Build the network, load each fold strictly and run it on zeros.

    Returns:
        Channels of its features.

    Raises:
        BundleError: The weights do not fit, or it does not answer as its labels ask.
    """
    import torch

    from multiorganseg.networks.build import build_network, load_weights

    channels = len(converted.labels) + (converted.activation == "softmax")
    inputs = len(converted.original.channels)
    try:
        network = build_network(
            converted.architecture,
            {"in_channels": inputs, "out_channels": channels, **converted.arguments},
        ).eval()
    except BundleError as error:
        raise refused(path, error.cause or error.problem) from error
    for weights in converted.weights:
        state: dict[str, Any] = {name: torch.from_numpy(array) for name, array in weights.items()}
        try:
            load_weights(network, state)
        except RuntimeError as error:
            cause = f"Its weights do not fit the network that it describes.{_short(error)}"
            raise refused(path, cause, "Put back the files that its training wrote.") from error
    shape = [min(size, 2 * cell) for size, cell in zip(converted.patch_shape, network.divisor, strict=True)]
    with torch.inference_mode():
        logits = network(torch.zeros((1, inputs, *shape))).logits
    if logits.shape != (1, channels, *shape) or not torch.isfinite(logits).all():
        raise refused(path, f"On zeros it answers {tuple(logits.shape)}, or no numbers.")
    return network.feature_channels


def _short(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines()[1:4]]
    return " " + " ".join(lines)[:400] if lines else ""
