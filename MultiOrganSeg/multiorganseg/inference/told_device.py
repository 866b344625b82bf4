"""Tells as one JSON line which device the automatic choice comes to, for a program that imports no PyTorch.

Run as a child process: `multiorganseg.children.module_command("multiorganseg.inference.told_device")`.
"""

from __future__ import annotations

import json
import sys


def main() -> None:
    """Write `{"event": "device", "device": …, "name": …}` to standard output; `name` is the card's."""
    import torch

    from multiorganseg.inference.backends import choose_device

    device = choose_device("auto").type
    name = torch.cuda.get_device_name() if device == "cuda" else ""
    sys.stdout.write(json.dumps({"event": "device", "device": device, "name": name}) + "\n")


if __name__ == "__main__":
    main()
