"""The network, the method and the optimiser that a recipe asks for."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import Enum
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.bundles.metadata import Metadata
from multiorganseg.bundles.registry import find_bundle
from multiorganseg.errors import TrainingError
from multiorganseg.inference.backends import load_network
from multiorganseg.networks.branching import BranchingNetwork
from multiorganseg.networks.build import build_network, place_network
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg_training.losses.known import SOFTMAX, within_matrix
from multiorganseg_training.methods import Method, Setting, build_method
from multiorganseg_training.recipe.file import recipe_from_dict
from multiorganseg_training.recipe.recipe import NetworkSpec, OptimisationSpec, Recipe
from multiorganseg_training.run.checkpoint import FILE_NAME as CHECKPOINT_FILE
from multiorganseg_training.run.checkpoint import load_checkpoint

THIN_SINCE = 2


class ThinConvolution(nn.Conv3d):
    """A convolution that pads thin images by itself on a CPU.

    The CPU library's (oneDNN's) bfloat16 weight gradient of a padded 3D convolution is wrong, often by as
    much as its own size and at times infinite, when the image has at least two planes along k but fewer than
    the kernel. It is right for the same image with the planes of zeros already there.
    """

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        reach = (self.kernel_size[0] - 1) * self.dilation[0] + 1
        numbers = not isinstance(self.padding, str) and self.padding_mode == "zeros"
        if not numbers or input.device.type != "cpu" or not THIN_SINCE <= input.shape[-3] < reach:
            return super()._conv_forward(input, weight, bias)
        along_k, *others = (int(size) for size in self.padding)
        padded = functional.pad(input, (0, 0, 0, 0, along_k, along_k))
        return torch.conv3d(padded, weight, bias, self.stride, (0, *others), self.dilation, self.groups)


def guard_thin_convolutions(network: nn.Module) -> None:
    """Let every 3D convolution of a network, whose weights stay as they are, be a `ThinConvolution`."""
    for module in network.modules():
        if type(module) is nn.Conv3d:
            module.__class__ = ThinConvolution


PRIOR = 0.01


def widen_state(
    trained: Mapping[str, Tensor], widened: Mapping[str, Tensor], activation: str, prior: float = PRIOR
) -> dict[str, Tensor]:
    """Return a trained network's state to one with more organs, the further ones after its own.

    The network says of its own organs what it said before. Under a softmax the new organs start as the
    background does and take the share `prior` of its probability (as MiB, Cermelli et al. 2020, whose share
    for one organ is a half: too much for one that fills a thousandth of the body); with sigmoids they start
    with the probability `prior` everywhere. A last layer that mixes as many maps as it has channels (MONAI's
    UNet with residual units) takes nothing of the further maps at first; they are made by weights of
    `widened`.

    Args:
        trained: State of the trained network; its last layers have fewer channels.
        widened: State of the network to be, with any weights.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        prior: In (0, 1).

    Returns:
        State for the network to be.

    Raises:
        TrainingError: More than the channels of the last layers differs.
    """
    if trained.keys() != widened.keys():
        raise _unlike(sorted(trained.keys() ^ widened.keys())[0])
    axes = {name: _wider_axes(name, trained[name], widened[name]) for name in trained}
    mixing = {name.rpartition(".")[0] for name in axes if len(axes[name]) == 2}
    if len(mixing) > 1:
        raise _unlike(max(mixing))
    state = {}
    for name, old in trained.items():
        if axes[name] and mixing and name.rpartition(".")[0] not in mixing:
            state[name] = widened[name].clone()
            state[name][tuple(map(slice, old.shape))] = old
        else:
            state[name] = _widen(old, widened[name], axes[name], activation, prior)
    return state


def _wider_axes(name: str, trained: Tensor, widened: Tensor) -> list[int]:
    """Return along which axes there are more channels: none, one, or both of a layer that mixes as many."""
    pairs = enumerate(zip(trained.shape, widened.shape, strict=False))
    axes = [axis for axis, (old, new) in pairs if old != new]
    square = axes == [0, 1] and all(len(set(tensor.shape[:2])) == 1 for tensor in (trained, widened))
    if trained.ndim != widened.ndim or trained.numel() > widened.numel() or (len(axes) > 1 and not square):
        raise _unlike(name)
    return axes


def _widen(trained: Tensor, widened: Tensor, axes: list[int], activation: str, prior: float) -> Tensor:
    if len(axes) == 2:
        shape = (len(trained), len(widened) - len(trained), *trained.shape[2:])
        trained = torch.cat([trained, trained.new_zeros(shape)], dim=1)
    if not axes:
        return trained
    axis = axes[0]
    more = widened.shape[axis] - trained.shape[axis]
    fresh = further_channels(trained, axis, more, activation, prior)
    if activation == SOFTMAX and trained.ndim == 1:
        background = trained[:1] + math.log(1 - prior)
        return torch.cat([background, trained[1:], fresh])
    return torch.cat([trained, fresh], dim=axis)


def further_channels(trained: Tensor, axis: int, more: int, activation: str, prior: float = PRIOR) -> Tensor:
    """Return weights or bias with which further channels of a last layer start; see `widen_state`.

    Args:
        trained: Weights or bias of a trained last layer.
        axis: That of its channels.
        more: How many channels are wanted.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        prior: In (0, 1).
    """
    background = trained.narrow(axis, 0, 1)
    shape = list(trained.shape)
    shape[axis] = more
    is_bias = trained.ndim == 1
    if activation != SOFTMAX:
        return torch.full(shape, math.log(prior / (1 - prior)) if is_bias else 0.0).to(trained)
    return background.expand(shape) + (math.log(prior / more) if is_bias else 0.0)


def _unlike(name: str) -> TrainingError:
    msg = "The base network is not built like the recipe's."
    return TrainingError(
        msg,
        cause=f"They differ in '{name}'.",
        next_step="Copy architecture and arguments from its metadata; name its organs first, in its order.",
    )


def start_branch(network: BranchingNetwork, activation: str, prior: float = PRIOR) -> None:
    """Set the last layer of a network's newest branch: its organs start as those of `widen_state`.

    Under a softmax they share `prior` of the background's probability, with sigmoids each has that
    probability.

    Args:
        network: Trained but for its last branch.
        activation: "softmax" (channel 0 is background) or "sigmoid".
        prior: In (0, 1).
    """
    branch = network.all_branches()[-1]
    start = math.log(prior / branch.organs) if activation == SOFTMAX else math.log(prior / (1 - prior))
    with torch.no_grad():
        parameters = dict(branch.head.named_parameters())
        parameters["weight"].zero_()
        parameters["bias"].fill_(start)


TRUNK = 0
FROM_TO = ("sigmoid", "softmax")
ADDED_LATER = ("background",)
"""Arguments of a network that may differ from what it starts from."""


def recipe_network(recipe: Recipe, resumed: bool = False) -> BranchingNetwork:
    """Build the recipe's network: one channel in; one an organ out, and background under a softmax.

    Args:
        recipe: With what the network starts from.
        resumed: Whether a checkpoint of the run takes the place of that.

    Raises:
        TrainingError: The patch does not suit the network, or what the recipe starts from has another
            network or other organs; organs after those that it has are new to it.
        BundleError: The bundle that it starts from is missing or damaged, or the architecture is unknown.
    """
    spec = recipe.network
    network = _started_network(recipe) if spec.initial and not resumed else new_network(recipe)
    divisor = network.divisor
    if any(size % step for size, step in zip(spec.patch_shape, divisor, strict=True)):
        msg = f"The network cannot take patches of {' × '.join(map(str, spec.patch_shape))} voxels."
        raise TrainingError(
            msg,
            cause=f"Its stages halve the patch down to cells of {' × '.join(map(str, divisor))} voxels.",
            next_step="Set network.patch_shape to multiples of these.",
        )
    guard_thin_convolutions(network)
    return network


def recipe_method(recipe: Recipe, network: BranchingNetwork) -> Method:
    """Build the recipe's method for a network.

    Raises:
        TrainingError: The method is unknown, or its arguments or the activation do not fit.
    """
    table, catalogue = recipe.data.table, load_catalogue()
    parents = {
        channel: table.value(organ.within)
        for channel, key in table.organs.items()
        if (organ := catalogue.organs.get(key)) and organ.within in table.keys
    }
    if parents and recipe.network.activation != SOFTMAX:
        inner, outer = (table.organs[channel] for channel in next(iter(parents.items())))
        msg = f"A network with sigmoids cannot tell {inner} from {outer}."
        raise TrainingError(
            msg,
            cause="The one lies inside the other, where both have a high probability.",
            next_step="Set network.activation to softmax, or leave one of them out.",
        )
    setting = Setting(
        network,
        recipe.network.activation,
        len(table.keys),
        network.feature_channels,
        within_matrix(parents, len(table.keys)),
        table.keys,
        recipe.preprocessing.for_bundle(),
    )
    method = build_method(recipe.method, recipe.method_arguments, setting)
    if recipe.optimisation.batch_size < method.least_batch:
        msg = f"The method '{recipe.method}' mixes cases, and a batch has one."
        raise TrainingError(msg, next_step=f"Set optimisation.batch_size to {method.least_batch} or more.")
    return method


def build_training(recipe: Recipe, device: torch.device, run: Path) -> tuple[BranchingNetwork, Method]:
    """Build the network and the method of a recipe on a device, from the recipe's seed.

    Args:
        recipe: Of the run.
        device: Where to train.
        run: Folder of the run; where it has a checkpoint, what the recipe starts from is not looked for.

    Raises:
        TrainingError: As `recipe_network` and `recipe_method`.
        BundleError: As `recipe_network`.
    """
    torch.manual_seed(recipe.seed)
    network = place_network(recipe_network(recipe, (run / CHECKPOINT_FILE).is_file()), device)
    return network, recipe_method(recipe, network).to(device)


def build_optimiser(
    network: BranchingNetwork, method: Method, spec: OptimisationSpec
) -> torch.optim.Optimizer:
    """Build the optimiser of the network's and the method's parameters that are not frozen.

    Each group of parameters has its own "peak": the learning rate at the top of the schedule. The
    network without the last layers of its decoders is group `TRUNK`.
    """
    last_layers = [
        *network.own_heads(),
        *(branch.head for branch in network.all_branches()),
    ]
    known = {id(parameter) for layer in last_layers for parameter in layer.parameters()}
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    head = [parameter for parameter in moving if id(parameter) in known]
    trunk = [parameter for parameter in moving if id(parameter) not in known]
    own = [parameter for parameter in method.parameters() if parameter.requires_grad]
    groups = [
        {"params": trunk, "peak": spec.learning_rate * spec.trunk_factor},
        {"params": head, "peak": spec.learning_rate * spec.head_factor},
        {"params": own, "peak": spec.learning_rate},
    ]
    if spec.optimiser == "sgd":
        return torch.optim.SGD(
            groups,
            lr=spec.learning_rate,
            momentum=spec.momentum,
            nesterov=spec.nesterov and spec.momentum > 0,
            weight_decay=spec.weight_decay,
        )
    return torch.optim.AdamW(groups, lr=spec.learning_rate, weight_decay=spec.weight_decay)


def new_network(recipe: Recipe) -> BranchingNetwork:
    """Build the recipe's network with random weights."""
    spec = recipe.network
    channels = len(recipe.data.table.keys) + (spec.activation == "softmax")
    return build_network(spec.architecture, {"in_channels": 1, "out_channels": channels, **spec.arguments})


def _started_network(recipe: Recipe) -> BranchingNetwork:
    spec = recipe.network
    checkpoint = load_checkpoint(Path(spec.initial))
    said: NetworkSpec | Metadata
    if checkpoint is not None:
        theirs = recipe_from_dict(checkpoint.recipe)
        said, organs, state = theirs.network, theirs.data.table.keys, checkpoint.network
    else:
        bundle = find_bundle(spec.initial)
        said, organs, state = bundle.metadata, bundle.metadata.labels.keys, load_network(bundle).state_dict()
    kinship = _kinship(recipe, said, organs)
    network = new_network(recipe)
    if said.activation != spec.activation:
        state = _with_background(network, state)
    if kinship is Kinship.MERGED:
        state = {name: tensor for name, tensor in state.items() if not name.startswith("branches.")}
    if kinship is Kinship.BRANCHED:
        fresh = {name: tensor for name, tensor in network.state_dict().items() if name not in state}
        network.load_state_dict({**state, **fresh})
        start_branch(network, spec.activation)
    else:
        network.load_state_dict(widen_state(state, network.state_dict(), spec.activation))
    return network


def _with_background(network: BranchingNetwork, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the state of a network with sigmoids to one with a softmax: the logit of background is 0.

    Where one organ alone is likely, its probability is what it was: e^z / (1 + e^z).
    """
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    widened = dict(state)
    for head in network.own_heads():
        axes = (int(isinstance(head, nn.ConvTranspose3d)), 0)
        for parameter, axis in zip(head.parameters(), axes, strict=True):
            organs = state[names[id(parameter)]]
            none = torch.zeros_like(organs.narrow(axis, 0, 1))
            widened[names[id(parameter)]] = torch.cat([none, organs], dim=axis)
    return widened


class Kinship(Enum):
    """What a recipe's network has beyond that from which it starts.

    Attributes:
        WIDENED: Nothing, or further organs in its last layers.
        BRANCHED: A branch for further organs.
        MERGED: The same organs, those of branches in its last layers.
    """

    WIDENED = "widened"
    BRANCHED = "branched"
    MERGED = "merged"


def _kinship(recipe: Recipe, said: NetworkSpec | Metadata, organs: tuple[str, ...]) -> Kinship:
    """Say how the recipe's network comes from what it starts from.

    Raises:
        TrainingError: It differs otherwise.
    """
    spec, keys = recipe.network, recipe.data.table.keys
    ours, theirs = (
        {name: value for name, value in arguments.items() if name not in ADDED_LATER}
        for arguments in (spec.arguments, said.arguments)
    )
    branches, further = theirs.get("branches", ()), len(keys) - len(organs)
    branching = further > 0 and ours == {**theirs, "branches": [*branches, further]}
    widened = ours == theirs and not (branches and further)
    alone = {name: value for name, value in theirs.items() if name != "branches"}
    merged = bool(branches) and not further and ours == alone
    same = spec.architecture == said.architecture and keys[: len(organs)] == organs
    same = same and (spec.activation == said.activation or (said.activation, spec.activation) == FROM_TO)
    if not same or not (branching or widened or merged):
        msg = f"The training cannot start from '{spec.initial}'."
        raise TrainingError(
            msg,
            cause="Its architecture, arguments or activation are not those of the recipe (but sigmoids may "
            "become a softmax), or its organs are not the recipe's first ones.",
            next_step="Copy them from its metadata or recipe, or leave network.initial away.",
        )
    if branching:
        return Kinship.BRANCHED
    return Kinship.MERGED if merged else Kinship.WIDENED
