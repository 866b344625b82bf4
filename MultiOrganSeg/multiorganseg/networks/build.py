"""Networks by name: only what stands on the whitelist can be built from a bundle."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from multiorganseg.errors import BundleError
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.networks.names import ARCHITECTURES

_BUILDERS: Mapping[str, str] = {
    "strided_dynunet": "StridedDynUNet",
    "slice_unet": "SliceUNet",
    "monai_segresnet": "MonaiSegResNet",
    "monai_swin_unetr": "MonaiSwinUNETR",
    "vnet": "VNet",
}
"""Class by module, which is imported when it is built: MONAI takes seconds."""


def build_network(architecture: str, arguments: Mapping[str, Any]) -> BranchingNetwork:
    """Build a network with random weights.

    Args:
        architecture: A name of `ARCHITECTURES`.
        arguments: Keyword arguments of its constructor.

    Raises:
        BundleError: The name is not on the whitelist or the arguments do not fit.
    """
    if architecture not in ARCHITECTURES:
        msg = f"The architecture '{architecture}' is not supported."
        raise BundleError(
            msg,
            next_step=f"Supported are: {', '.join(ARCHITECTURES)}. A newer MultiOrganSeg may know more.",
        )
    module = importlib.import_module(f"multiorganseg.networks.{architecture}")
    build: type[BranchingNetwork] = getattr(module, _BUILDERS[architecture])
    try:
        return build(**arguments)
    except (TypeError, ValueError, IndexError, RuntimeError) as error:
        msg = f"The arguments of '{architecture}' do not fit."
        raise BundleError(
            msg,
            cause=str(error),
            next_step="Compare them with the network's documentation.",
        ) from error
