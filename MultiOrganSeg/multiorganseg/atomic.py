"""Finished files appear at once or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from multiorganseg.errors import ResourceError
from multiorganseg.outputs import require_free

_under_way: set[str] = set()


@contextmanager
def atomic_path(target: Path) -> Iterator[Path]:
    """Give a temporary path beside `target` and move it there when the block ends without an error.

    The temporary name keeps all suffixes of the target, since writers choose the format by them.

    Raises:
        ResourceError: The folder cannot be written, the disk is full, or the target is an input.
    """
    target = Path(target)
    require_free(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix=".partial-", dir=target.parent)
    except OSError as error:
        raise _not_writable(target, error) from error
    with folder as name:
        _under_way.add(name)
        partial = Path(name) / target.name
        try:
            yield partial
            partial.replace(target)
        except OSError as error:
            raise _not_writable(target, error) from error
        finally:
            _under_way.discard(name)


def discard_partial_files() -> None:
    """Delete what open `atomic_path` blocks wrote so far, for a process that is about to end without them."""
    for name in tuple(_under_way):
        shutil.rmtree(name, ignore_errors=True)


def write_text_atomically(target: Path, text: str) -> None:
    """Write UTF-8 text through `atomic_path`; bytes of file names that are no character as JSON escapes."""
    with atomic_path(target) as partial:
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")


def _not_writable(target: Path, error: OSError) -> ResourceError:
    return ResourceError(
        f"Cannot write {target}.",
        cause=str(error),
        next_step="Choose a folder with write permission and enough free space.",
    )
