"""Tells as one JSON line which device the automatic choice comes to, for a program that imports no PyTorch.

Run as a child process: `multiorganseg.children.module_command("multiorganseg.inference.report_device")`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Write the event "device" with `device`, and the card's `name`, to standard output."""
    import torch

    from multiorganseg.events import EventKind, EventStream
    from multiorganseg.inference.backends import choose_device

    device = choose_device("auto").type
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    EventStream(sys.stdout).emit(EventKind.DEVICE, device=device, name=name)


if __name__ == "__main__":
    main()
