"""Finding out what the automatic choice of the device comes to, without importing PyTorch into Slicer."""

from __future__ import annotations

from pathlib import Path

import slicer
from slicer.i18n import tr as _

from multiorganseg.children import module_command
from multiorganseg.events import EventKind
from multiorganseg.needs import DEVICE
from MultiOrganSegLib import dependencies
from MultiOrganSegLib.child import child_environment, python_executable
from MultiOrganSegLib.folder import make_private_folder
from MultiOrganSegLib.job import Job
from MultiOrganSegLib.panels.controls import Choice

_MODULE = "multiorganseg.inference.report_device"


class DeviceProbe:
    """A child process that asks PyTorch; it takes some seconds, which nobody waits for."""

    def __init__(self) -> None:
        self._job: Job | None = None
        self._asked = False

    @property
    def running(self) -> bool:
        """Whether an answer is still to come."""
        return self._job is not None

    def ask_once(self) -> bool:
        """Start asking, at the first call with all packages there; whether it was started now.

        Raises:
            ResourceError: The child cannot be started.
        """
        if self._asked or dependencies.missing_packages(DEVICE):
            return False
        self._asked = True
        self.start()
        return True

    def start(self) -> None:
        """Start asking.

        Raises:
            ResourceError: The child cannot be started.
        """
        if self._job is None:
            folder = make_private_folder(Path(slicer.app.temporaryPath))
            job = Job(module_command(_MODULE, (), python_executable()), folder, child_environment())
            job.start()
            self._job = job

    def poll(self) -> str:
        """Return the name of the device once it is known; empty before, and when PyTorch gave no answer."""
        if self._job is None:
            return ""
        running = self._job.running
        found = [event for event in self._job.poll() if event["event"] == EventKind.DEVICE]
        if found or not running:
            self.cancel()
        return _device_text(found[0]["device"], found[0]["name"]) if found else ""

    def cancel(self) -> None:
        """Stop asking."""
        if self._job is not None:
            self._job.cancel()
            self._job = None


def _device_text(device: str, name: str) -> str:
    if device == "cuda":
        return name or _("NVIDIA graphics card")
    return {"cpu": _("CPU"), "mps": _("Apple graphics")}.get(device, device)


def device_choices() -> list[Choice]:
    """The entries of a choice of the device."""
    return [
        Choice("auto", _("Automatic"), _("A graphics card when PyTorch finds one, else the processor.")),
        Choice("cpu", _("Processor (CPU)"), _("Works on every computer.")),
        Choice("cuda", _("NVIDIA graphics card (CUDA)"), _("Needs PyTorch built for CUDA.")),
        Choice("mps", _("Apple graphics (MPS)"), _("For Macs with Apple silicon.")),
        Choice("server", _("Server…"), _("Another machine, on which `multiorganseg serve` runs.")),
    ]
