"""The child process that reads a file of PyTorch: `python -m` this, PATH, FOLDER, BYTES of memory.

It writes `tree.json` and `tensors.safetensors` to the folder. What is wrong with the file goes to standard
output as one line of JSON, `{"problem": …}`, with exit code 2.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

TREE = "tree.json"
TENSORS = "tensors.safetensors"
REFUSED = 2
OUT_OF_MEMORY = 3


def limit_memory(size: int) -> None:
    """Let this process have no more than so many bytes; Windows has no such limit."""
    if sys.platform == "win32":
        return
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    limit = size if hard == resource.RLIM_INFINITY else min(size, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))


def main() -> None:
    """Read the file and write what is in it."""
    path, folder, memory = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    from safetensors.numpy import save_file

    from multiorganseg.convert.checkpoint_file import read_checkpoint_file

    limit_memory(memory)
    try:
        tree, tensors = read_checkpoint_file(path)
    except ValueError as error:
        sys.stdout.write(json.dumps({"problem": str(error)}) + "\n")
        raise SystemExit(REFUSED) from None
    except MemoryError:
        raise SystemExit(OUT_OF_MEMORY) from None
    save_file({str(number): tensor for number, tensor in tensors.items()}, folder / TENSORS)
    (folder / TREE).write_text(json.dumps(tree), encoding="utf-8")


if __name__ == "__main__":
    main()
