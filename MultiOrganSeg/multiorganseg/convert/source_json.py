"""JSON files of other programs: read within limits, never trusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from multiorganseg.convert.read_checkpoint import refused

LARGEST = 32 << 20


def read_source_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; NaN and infinity, which Python writes, are given as None.

    Raises:
        BundleError: It is missing, too large, or no JSON object.
    """
    try:
        if path.stat().st_size > LARGEST:
            raise refused(path, f"It has more than {LARGEST >> 20} MiB.")
        data = json.loads(path.read_text(encoding="utf-8-sig"), parse_constant=lambda name: None)
    except FileNotFoundError as error:
        raise refused(path.parent, f"{path.name} is missing.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise refused(path, f"It is no JSON file: {error}.") from error
    if not isinstance(data, dict):
        raise refused(path, "It holds no JSON object.")
    return data
