"""How much memory this process may still take: of the machine, its control groups and its own limits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
_UNLIMITED = 2**60


def available_memory(root: Path = ROOT) -> int:
    """Return the bytes of main memory that this process may still take.

    The least counts of: what is free on the machine; what each control group (version 1 or 2) on the way from
    this process to the top leaves, where its cache of files counts as free; and the limits of the process
    itself on its address space and its data.

    Args:
        root: Where "proc" and "sys" lie.
    """
    return max(0, min([_of_machine(root), *_of_groups(root), *_of_limits(root)]))


def _of_machine(root: Path) -> int:
    said = _table(root / "proc/meminfo")
    if "MemAvailable:" in said:
        return said["MemAvailable:"] * 1024
    import psutil

    return int(psutil.virtual_memory().available)


def _of_groups(root: Path) -> Iterator[int]:
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            yield from _left_in(root, path, "cgroup2", ("memory.max", "memory.high"), "memory.current")
        elif "memory" in controllers.split(","):
            yield from _left_in(root, path, "cgroup", ("memory.limit_in_bytes",), "memory.usage_in_bytes")


def _left_in(root: Path, path: str, kind: str, limits: tuple[str, ...], used: str) -> Iterator[int]:
    for inside, top in _mounts(root, kind):
        relative = Path(path).relative_to(inside) if Path(path).is_relative_to(inside) else Path()
        for depth in range(len(relative.parts), -1, -1):
            group = top.joinpath(*relative.parts[:depth])
            stated = [limit for name in limits if (limit := _number(group / name)) is not None]
            taken = _number(group / used)
            if not stated or taken is None or min(stated) >= _UNLIMITED:
                continue
            statistics = _table(group / "memory.stat")
            files = statistics.get("total_inactive_file", statistics.get("inactive_file", 0))
            yield min(stated) - max(0, taken - files)


def _mounts(root: Path, kind: str) -> Iterator[tuple[Path, Path]]:
    """Return (path of the group at the top of the mount, folder) of each mount that limits memory."""
    for line in _lines(root / "proc/self/mountinfo"):
        before, _, after = line.partition(" - ")
        fields, said = before.split(), after.split()
        if len(fields) < 5 or not said or said[0] != kind:
            continue
        if kind == "cgroup" and "memory" not in said[-1].split(","):
            continue
        yield Path(fields[3]), root / fields[4].lstrip("/")


def _of_limits(root: Path) -> Iterator[int]:
    try:
        import resource
    except ImportError:  # Windows has no such limits
        return
    pages = next(iter(_lines(root / "proc/self/statm")), "").split()
    size = resource.getpagesize()
    for limit, column in ((resource.RLIMIT_AS, 0), (resource.RLIMIT_DATA, 5)):
        soft, _ = resource.getrlimit(limit)
        if soft != resource.RLIM_INFINITY and len(pages) > column:
            yield soft - int(pages[column]) * size


def _table(path: Path) -> dict[str, int]:
    return {
        fields[0]: int(fields[1])
        for line in _lines(path)
        if len(fields := line.split()) >= 2 and fields[1].isdecimal()
    }


def _number(path: Path) -> int | None:
    text = next(iter(_lines(path)), "")
    return int(text) if text.isdecimal() else None


def _lines(path: Path) -> list[str]:
    with suppress(OSError):
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    return []
