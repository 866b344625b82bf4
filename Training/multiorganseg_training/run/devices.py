"""Several devices that train one network: a process each, joined by Lightning Fabric.

Every device draws its own part of each batch and computes its own loss; gradients and what networks and
methods remember are averaged before each step, so that all hold the same weights. The first device alone
writes, validates and listens to the user; the others follow it from run to run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from multiorganseg.errors import Cancelled, DependencyError, OptionError, ResourceError
from multiorganseg.projects.runs import Paused
from multiorganseg_training.losses.prototypes import PrototypeBank

_Sent = TypeVar("_Sent")
_LONGEST_WAIT = timedelta(days=7)
"""Of devices for the first one, which may validate or judge for hours."""


class Devices:
    """What the devices of a training do together; of one alone, nothing.

    Args:
        fabric: A launched `lightning_fabric.Fabric`; None for one device.

    Attributes:
        number: Of this device, from 0.
        count: How many there are.
        torn: Whether this device left the others in the middle of a training.
    """

    def __init__(self, fabric: Any = None) -> None:
        self._fabric = fabric
        self.number: int = fabric.global_rank if fabric else 0
        self.count: int = fabric.world_size if fabric else 1
        self.torn = False
        self._device = fabric.device if fabric else None

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.number == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean of a tensor of one shape over all devices.

        Raises:
            ResourceError: Another device's process has ended.
        """
        if not self._fabric:
            return values
        try:
            averaged: Tensor = self._fabric.all_reduce(values.clone(), reduce_op="mean")
        except RuntimeError as error:
            raise _left(error) from error
        return averaged

    def send(self, value: _Sent) -> _Sent:
        """Return on every device what the first one sends.

        Raises:
            ResourceError: The first device's process has ended.
        """
        if not self._fabric:
            return value
        try:
            sent: _Sent = self._fabric.broadcast(value)
        except RuntimeError as error:
            raise _left(error) from error
        return sent

    def together(self, act: Callable[[], None]) -> None:
        """Let the first device act; where the user stops it there, it stops on all.

        Raises:
            Cancelled: The user asked for it.
            Paused: As `act` raises it; on other devices `Cancelled` stands for it.
        """
        stopped: Cancelled | Paused | None = None
        if self.first:
            try:
                act()
            except (Cancelled, Paused) as error:
                stopped = error
        if self.send(stopped is not None):
            raise stopped or Cancelled

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace each gradient by the mean over all devices; one that some devices lack is zero there."""
        if not self._fabric:
            return
        wanted = [parameter for parameter in parameters if parameter.requires_grad]
        found = self.mean(
            torch.tensor([float(each.grad is not None) for each in wanted], device=self._device)
        )
        shared = [parameter for parameter, share in zip(wanted, found.tolist(), strict=True) if share]
        self._average([_gradient(parameter) for parameter in shared])

    def average_buffers(self, *modules: nn.Module) -> None:
        """Replace what modules remember in floating-point buffers by the mean over all devices.

        Prototypes keep their unit length.
        """
        if not self._fabric:
            return
        buffers = [buffer for module in modules for buffer in module.buffers()]
        self._average([buffer for buffer in buffers if buffer.is_floating_point()])
        for module in modules:
            for bank in module.modules():
                if isinstance(bank, PrototypeBank):
                    bank.prototypes.copy_(functional.normalize(bank.prototypes, dim=-1))

    @torch.no_grad()
    def _average(self, tensors: Sequence[Tensor]) -> None:
        if not tensors:
            return
        flat = self.mean(torch.cat([tensor.flatten().float() for tensor in tensors]))
        for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))


@contextmanager
def joined(device: torch.device, wanted: int) -> Iterator[tuple[Devices, torch.device]]:
    """Join the devices of a training, starting a process for each but the first where nobody has.

    Within torchrun or a step of SLURM the processes are there already.

    Args:
        device: The kind to train on.
        wanted: How many; 0 for as many as torchrun or SLURM started, else one.

    Yields:
        The devices, and the one of this process.

    Raises:
        OptionError: Another number than torchrun or SLURM started.
        DependencyError: Lightning Fabric is not installed, and there are several.
        ResourceError: There are not so many devices.
    """
    per_node, nodes = _started_by_others()
    if wanted and per_node and wanted != per_node:
        msg = f"{per_node} processes were started on each node, not {wanted}."
        raise OptionError(msg, next_step="Leave --devices out: torchrun or SLURM says how many there are.")
    count = per_node or wanted or 1
    if count * nodes == 1:
        yield Devices(), device
        return
    fabric = _launched(device, count, nodes, alone=not per_node)
    devices = Devices(fabric)
    if not devices.first:  # the first device decides when it ends
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield devices, fabric.device
    finally:
        if not devices.torn:
            if devices.first:
                devices.send(None)
            torch.distributed.destroy_process_group()  # else threads of gloo may outlive the interpreter


def _started_by_others() -> tuple[int, int]:
    """Return how many processes torchrun or SLURM started on each node, or 0, and on how many nodes."""
    said = os.environ
    if "TORCHELASTIC_RUN_ID" in said:
        here = int(said["LOCAL_WORLD_SIZE"])
        return here, int(said["WORLD_SIZE"]) // here
    tasks, nodes = int(said.get("SLURM_STEP_NUM_TASKS", 1)), int(said.get("SLURM_STEP_NUM_NODES", 1))
    return (tasks // nodes, nodes) if tasks > 1 else (0, 1)


def _launched(device: torch.device, count: int, nodes: int, alone: bool) -> Any:
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.plugins.environments import LightningEnvironment
        from lightning_fabric.strategies import DDPStrategy
        from lightning_fabric.utilities.exceptions import MisconfigurationException
    except ImportError as error:
        msg = "Training on several devices needs Lightning Fabric."
        raise DependencyError(
            msg, cause=str(error), next_step="Install it: pip install 'multiorganseg[train]'"
        ) from error
    try:
        fabric = Fabric(
            accelerator=device.type,
            devices=count,
            num_nodes=nodes,
            strategy=DDPStrategy(timeout=_LONGEST_WAIT),
            plugins=[LightningEnvironment()] if alone else [],
        )
        fabric.launch()
    except (MisconfigurationException, ValueError, RuntimeError) as error:
        msg = f"{count * nodes} devices of the kind {device.type} cannot be joined."
        raise ResourceError(
            msg, cause=str(error).splitlines()[0], next_step="Lower --devices, or choose another --device."
        ) from error
    return fabric


def _gradient(parameter: nn.Parameter) -> Tensor:
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _left(error: RuntimeError) -> ResourceError:
    return ResourceError(
        "The process of another device has ended.",
        cause=str(error).splitlines()[0],
        next_step="See its message above, and repeat the command: it goes on from the last checkpoint.",
    )
