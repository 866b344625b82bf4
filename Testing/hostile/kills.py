"""Kill a program at every step that it does in the file system, and look at what is left.

A step is what Python's audit events tell before it is done (open, rename, mkdir, rmdir, remove, link, chmod,
utime, truncate), and each `os.fsync`. The program runs in a child made by fork, which ends by `os._exit`
right before its n-th step: nothing is flushed, closed or deleted, as after SIGKILL.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

KILLED, FAILED = 99, 98
_CALLS = ("rename", "mkdir", "rmdir", "remove", "link", "symlink", "chmod", "utime", "truncate")
_EVENTS = frozenset(f"os.{name}" for name in _CALLS)
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_LEFTOVERS = (".partial-*", ".multiorganseg-work-*", "*.tmp", "replaced", "removed")

Action = Callable[[Path], object]


@dataclass
class Campaign:
    """What came of the kills of one action.

    Attributes:
        name: Of the action.
        steps: Names of its steps in order.
        kills: How many of them it was killed before.
        lost: By step, what was missing or damaged after the kill, or after the run that followed.
        leftovers: By step, what still lay there after the run that followed.
    """

    name: str
    steps: list[str]
    kills: int = 0
    lost: dict[int, str] = field(default_factory=dict)
    leftovers: dict[int, list[str]] = field(default_factory=dict)

    def row(self) -> tuple[str, int, int, int]:
        """One row of a table: action, kills, lost, leftovers."""
        return self.name, self.kills, len(self.lost), len(self.leftovers)


def kill_everywhere(
    name: str,
    make: Action,
    act: Action,
    check: Action,
    folder: Path,
    again: Action | None = None,
    most: int | None = None,
) -> Campaign:
    """Run an action once to count its steps, and then once for each step, killed right before it.

    Args:
        name: Of the action.
        make: Puts what was there before into an empty folder.
        act: What is killed; gets the same folder.
        check: Raises AssertionError if something that was there before, or that is there since, is not whole.
            It runs after the kill, and once more after `again`.
        folder: Where a folder for each kill is made.
        again: The run that follows; `act` by default.
        most: How many steps at most; all by default.
    """
    counted = _fresh(folder, 0, make)
    campaign = Campaign(name, _steps(act, counted, folder / "steps"))
    for number in range(1, len(campaign.steps[:most]) + 1):
        campaign.kills += 1
        place = _fresh(folder, number, make)
        code = _in_child(lambda place=place: act(place), _killer(number))
        if code != KILLED:
            campaign.lost[number] = f"exit code {code} instead of the kill"
            continue
        for moment, then in (("after the kill", None), ("after the next run", again or act)):
            problem = _problem(then, check, place)
            if problem:
                campaign.lost[number] = f"{moment}, before {campaign.steps[number - 1]}: {problem}"
                break
        found = leftovers(place)
        if found:
            campaign.leftovers[number] = found
    return campaign


def main(count: int) -> Iterator[tuple[str, int, int, int]]:
    """Kill the actions of `kill_actions` in turn until so many kills are done, or all of them are.

    Returns:
        Rows of a table: action, kills, lost, leftovers.
    """
    from kill_actions import ACTIONS

    for action in ACTIONS:
        if count <= 0:
            return
        with tempfile.TemporaryDirectory(prefix="kills-") as folder:
            found = kill_everywhere(
                action.name, action.make, action.act, action.check, Path(folder), most=count
            )
        count -= found.kills
        yield found.row()


def leftovers(folder: Path) -> list[str]:
    """List what work under way looks like, anywhere below a folder."""
    return sorted({path.relative_to(folder).as_posix() for kind in _LEFTOVERS for path in folder.rglob(kind)})


def _fresh(folder: Path, number: int, make: Action) -> Path:
    place = folder / f"{number:04d}"
    place.mkdir(parents=True)
    make(place)
    return place


def _steps(act: Action, place: Path, log: Path) -> list[str]:
    def install() -> None:
        sink = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        _on_each_step(lambda step: os.write(sink, f"{step}\n".encode()))

    code = _in_child(lambda: act(place), install)
    assert code == 0, f"the action itself fails ({code})"
    return log.read_text(encoding="utf-8").splitlines()


def _killer(number: int) -> Callable[[], None]:
    def install() -> None:
        left = number

        def step(_: str) -> None:
            nonlocal left
            left -= 1
            if left == 0:
                os._exit(KILLED)

        _on_each_step(step)

    return install


def _on_each_step(tell: Callable[[str], object]) -> None:
    """Audit hooks cannot be taken away: for a child that ends afterwards."""
    fsync = os.fsync

    def reporting_fsync(handle: int) -> None:
        tell("os.fsync")
        fsync(handle)

    def hook(event: str, arguments: tuple) -> None:
        if event in _EVENTS or (event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES):
            tell(f"{event} {arguments[0]}")

    os.fsync = reporting_fsync
    sys.addaudithook(hook)


def _problem(then: Action | None, check: Action, place: Path) -> str:
    if then is not None:
        code = _in_child(lambda: then(place))
        if code:
            return f"the next run ends with {code}"
    try:
        check(place)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _in_child(act: Callable[[], object], install: Callable[[], None] | None = None) -> int:
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        code = FAILED
        try:
            if install is not None:
                install()
            act()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)
