from __future__ import annotations

import pytest
import torch

from multiorganseg.errors import BundleError
from multiorganseg.networks.build import build_network
from multiorganseg.networks.names import ARCHITECTURES

ARGUMENTS = {"in_channels": 1, "out_channels": 3, "filters": [8, 8, 8]}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_name_on_the_whitelist_is_built(name) -> None:
    network = build_network(name, ARGUMENTS)
    assert network(torch.zeros(1, 1, 8, 16, 16)).logits.shape == (1, 3, 8, 16, 16)


def test_other_names_are_refused() -> None:
    with pytest.raises(BundleError, match=r"os\.system") as caught:
        build_network("os.system", {"command": "true"})
    assert ARCHITECTURES[0] in caught.value.next_step


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {**ARGUMENTS, "depth": 3},
        {**ARGUMENTS, "filters": 8},
        {**ARGUMENTS, "filters": []},
        {**ARGUMENTS, "filters": [8]},
        {**ARGUMENTS, "filters": [8, 8]},
        {**ARGUMENTS, "filters": [-8, 8, 8]},
        {**ARGUMENTS, "stem_stride": [1, 2]},
        {**ARGUMENTS, "stem_stride": "fast"},
        {**ARGUMENTS, "out_channels": -1},
        {**ARGUMENTS, "filters": ["a", "b", "c"]},
    ],
)
def test_arguments_that_do_not_fit_are_a_bundle_error(arguments) -> None:
    with pytest.raises(BundleError, match="do not fit"):
        build_network(ARCHITECTURES[0], arguments)
