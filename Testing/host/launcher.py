#!/usr/bin/env python3
"""Stand-in for the Slicer executable that ctest calls: loads scripted modules and runs Python code.

    launcher.py --no-splash --testing --additional-module-paths DIR... --python-code CODE
    launcher.py --no-splash --testing --additional-module-paths DIR... --python-script FILE [ARGUMENTS...]

Ends with 0 if everything went well and with 1 if a module did not load or the code raised.
"""

from __future__ import annotations

import argparse
import runpy
import sys
import traceback
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Stand-in for the Slicer executable.", allow_abbrev=False)
    parser.add_argument("--no-splash", action="store_true")
    parser.add_argument("--no-main-window", action="store_true")
    parser.add_argument("--testing", action="store_true", help="dialogs answer themselves")
    parser.add_argument("--additional-module-path", "--additional-module-paths", nargs="+", default=[])
    parser.add_argument("--python-code", help="code to run after the modules are loaded")
    parser.add_argument("--python-script", nargs=argparse.REMAINDER, help="file to run, and its arguments")
    return parser


def scripted_modules(folder: Path) -> list[str]:
    """Names of the scripted modules in a folder: files that define a class of their own name."""
    return [
        path.stem
        for path in sorted(folder.glob("*.py"))
        if f"\nclass {path.stem}(" in path.read_text(encoding="utf-8")
    ]


def load_modules(host: Any, folders: list[Path]) -> None:
    """Load every scripted module of the folders, with its widget where there are widgets.

    Raises:
        NotADirectoryError: A folder does not exist.
    """
    for folder in folders:
        if not folder.is_dir():
            raise NotADirectoryError(folder)
        for name in scripted_modules(folder):
            host.load_module(name, folder).widgetRepresentation()


def main(arguments: list[str] | None = None) -> int:
    """Run as the executable; gives the exit code."""
    options = _parser().parse_args(arguments)
    import slicer_host

    host = slicer_host.start(widgets=not options.no_main_window)
    host.app.testing = options.testing
    try:
        load_modules(host, [Path(folder) for folder in options.additional_module_path])
        if options.python_code:
            exec(compile(options.python_code, "<python-code>", "exec"), {"__name__": "__main__"})
        if options.python_script:
            sys.argv = list(options.python_script)
            sys.path.insert(0, str(Path(options.python_script[0]).resolve().parent))
            runpy.run_path(options.python_script[0], run_name="__main__")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        host.reset()
    return 1 if host.errors else 0


if __name__ == "__main__":
    sys.exit(main())
