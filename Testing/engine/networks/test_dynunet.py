from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from monai.networks.nets import DynUNet

from multiorganseg.networks.dynunet import build_trunk
from multiorganseg.networks.strided_dynunet import StridedDynUNet

FILTERS = (8, 12, 16, 24)


@pytest.mark.parametrize("stride", [(1, 2, 2), (1, 1, 1)])
def test_it_is_the_trunk_of_monais_dynunet(stride) -> None:
    theirs = DynUNet(
        3,
        1,
        1,
        [3] * len(FILTERS),
        [list(stride), *[2] * (len(FILTERS) - 1)],
        [2] * (len(FILTERS) - 1),
        filters=list(FILTERS),
        norm_name=("instance", {"affine": True}),
    ).skip_layers
    ours = StridedDynUNet(1, 3, FILTERS, stride)
    assert list(ours.trunk.state_dict()) == list(theirs.state_dict())
    ours.trunk.load_state_dict(theirs.state_dict())
    image = torch.randn(1, 1, 16, 16 * stride[1], 16 * stride[2])
    with torch.inference_mode():
        torch.testing.assert_close(ours(image).features, theirs(image), atol=1e-5, rtol=1e-4)


def test_weights_start_as_wide_as_the_rectifier_needs() -> None:
    torch.manual_seed(0)
    trunk = build_trunk(1, (32, 48, 64), (1, 2, 2))
    weight = trunk.downsample.conv2[0].weight
    assert float(weight.detach().std()) == pytest.approx((2 / (1 + 0.01**2) / (32 * 27)) ** 0.5, rel=0.05)


def test_two_stages_are_too_few() -> None:
    with pytest.raises(ValueError, match="three"):
        build_trunk(1, (8, 16), (1, 1, 1))


def test_segmenting_with_it_imports_no_monai() -> None:
    code = (
        "import sys, multiorganseg.cli.app, multiorganseg.inference.segment\n"
        "from multiorganseg.networks.build import build_network\n"
        "build_network('strided_dynunet', dict(in_channels=1, out_channels=2, filters=[4, 8, 8]))\n"
        "print(sorted({'monai', 'matplotlib', 'sklearn'} & set(sys.modules)))"
    )
    reported = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert reported.stdout.strip() == "[]"
