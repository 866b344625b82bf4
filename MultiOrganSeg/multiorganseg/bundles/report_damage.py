"""Tells as JSON lines which bundles of this computer are damaged, for a program that must not wait for it.

Run as a child process: `multiorganseg.children.module_command("multiorganseg.bundles.report_damage")`.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Write an event "failed" with its `folder` for each damaged bundle to standard output."""
    from multiorganseg.bundles.registry import BundleProblem, list_bundles
    from multiorganseg.events import EventStream

    stream = EventStream(sys.stdout)
    for entry in list_bundles():
        if isinstance(entry, BundleProblem):
            stream.fail(entry.error, folder=str(entry.folder))


if __name__ == "__main__":
    main()
