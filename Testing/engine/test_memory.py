from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from multiorganseg.memory import available_memory

GIB = 2**30
PACKAGE = Path(__file__).parents[2] / "MultiOrganSeg"


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """A machine with 64 GiB free and no limits."""
    _write(tmp_path, "proc/meminfo", f"MemTotal: {128 * 2**20} kB\nMemAvailable: {64 * 2**20} kB\n")
    _write(tmp_path, "proc/self/cgroup", "")
    _write(tmp_path, "proc/self/mountinfo", "")
    return tmp_path


def _write(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _second(root: Path, path: str, **groups: tuple[str, int, int]) -> None:
    _write(root, "proc/self/cgroup", f"0::{path}\n")
    _write(root, "proc/self/mountinfo", "30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n")
    for name, (limit, used, files) in groups.items():
        folder = f"sys/fs/cgroup/{name.replace('__', '/').strip('/')}"
        _write(root, f"{folder}/memory.max", f"{limit}\n")
        _write(root, f"{folder}/memory.current", f"{used}\n")
        _write(root, f"{folder}/memory.stat", f"anon {used - files}\ninactive_file {files}\n")


def test_without_limits_it_is_what_the_machine_has(machine):
    assert available_memory(machine) == 64 * GIB


def test_a_group_of_version_two_counts_less_what_it_uses_but_for_files(machine):
    _second(machine, "/job", job=(str(4 * GIB), 3 * GIB, 2 * GIB))
    assert available_memory(machine) == 3 * GIB


def test_the_tightest_of_nested_groups_counts(machine):
    _second(
        machine,
        "/slice/job/step",
        slice=(str(8 * GIB), 7 * GIB, 0),
        slice__job=("max", 1 * GIB, 0),
        slice__job__step=(str(6 * GIB), 1 * GIB, 0),
    )
    assert available_memory(machine) == 1 * GIB


def test_a_soft_limit_counts_too(machine):
    _second(machine, "/job", job=("max", 0, 0))
    _write(machine, "sys/fs/cgroup/job/memory.high", f"{2 * GIB}\n")
    assert available_memory(machine) == 2 * GIB


@pytest.mark.parametrize(
    ("inside", "path"), [("/", "/docker/a/b"), ("/docker/a", "/docker/a/b"), ("/x", "/docker/a/b")]
)
def test_a_group_of_version_one(machine, inside, path):
    _write(machine, "proc/self/cgroup", f"5:cpu,memory:{path}\n1:name=systemd:/other\n")
    _write(
        machine,
        "proc/self/mountinfo",
        "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n"
        f"32 23 0:28 {inside} /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n",
    )
    below = {"/": "/docker/a/b", "/docker/a": "/b", "/x": ""}[inside]
    folder = f"sys/fs/cgroup/memory{below}"
    _write(machine, f"{folder}/memory.limit_in_bytes", f"{5 * GIB}\n")
    _write(machine, f"{folder}/memory.usage_in_bytes", f"{4 * GIB}\n")
    _write(machine, f"{folder}/memory.stat", f"total_inactive_file {GIB}\n")
    assert available_memory(machine) == 2 * GIB
    _write(machine, f"{folder}/memory.limit_in_bytes", "9223372036854771712\n")
    assert available_memory(machine) == 64 * GIB


def test_more_used_than_allowed_is_nothing_left(machine):
    _second(machine, "/job", job=(str(GIB), 2 * GIB, 0))
    assert available_memory(machine) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="limits of Linux")
def test_a_limit_of_the_address_space():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))\n"
        "from multiorganseg.memory import available_memory; print(available_memory())"
    )
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, check=True)
    assert GIB < int(done.stdout) < 2 * GIB


def test_here_it_is_no_more_than_what_is_free():
    assert 0 < available_memory() < 1.1 * psutil.virtual_memory().available
