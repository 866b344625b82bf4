from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from multiorganseg.cli.parent import EXIT_CODE

PACKAGE = Path(__file__).resolve().parents[3] / "MultiOrganSeg"
PREPARE = f"import sys; sys.path.insert(0, {str(PACKAGE)!r})\n"
WORK = """
import time
from pathlib import Path
from multiorganseg.atomic import atomic_path
from multiorganseg.cli.parent import stop_with_parent
stop_with_parent()
with atomic_path(Path(sys.argv[1])) as partial:
    partial.write_text("half")
    print("under way", flush=True)
    time.sleep({seconds})
print("done", flush=True)
"""


def start(target: Path, seconds: float) -> subprocess.Popen[bytes]:
    code = PREPARE + textwrap.dedent(WORK.format(seconds=seconds))
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(target)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout.readline() == b"under way\n"
    return child


def test_the_process_ends_at_once_with_its_input_and_leaves_no_partial_file(tmp_path: Path) -> None:
    child = start(tmp_path / "out.txt", 600)
    child.stdin.write(b"\n")
    child.stdin.flush()
    assert len(list(tmp_path.iterdir())) == 1
    child.stdin.close()
    assert child.wait(20) == EXIT_CODE
    assert list(tmp_path.iterdir()) == []


def test_an_input_that_was_never_connected_ends_nothing(tmp_path: Path) -> None:
    child = start(tmp_path / "out.txt", 0.5)
    child.stdin.close()
    assert child.wait(20) == 0
    assert (tmp_path / "out.txt").read_text() == "half"


def test_a_process_that_ends_by_itself_while_the_parent_lives_ends_cleanly(tmp_path: Path) -> None:
    child = start(tmp_path / "out.txt", 0.1)
    child.stdin.write(b"\n")
    child.stdin.flush()
    assert child.wait(20) == 0, child.stderr.read()
    assert child.stderr.read() == b""


def test_the_command_has_the_option() -> None:
    command = [sys.executable, "-m", "multiorganseg", "segment", "no file", "-o", "out", "--stop-with-parent"]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": str(PACKAGE), "PATH": ""},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3, done.stderr
    assert "Nothing to segment" in done.stderr
