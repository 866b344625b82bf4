"""The commands that the documents show can be typed: they and their options exist, and nothing is missing."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("research/**/*.md")]
    if path.name != "CHANGELOG.md"
)
APPS = {
    ("multiorganseg",): "multiorganseg.cli.app",
    ("multiorganseg-train",): "multiorganseg_training.cli.app",
    ("python", "-m", "research"): "research.cli",
}
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.DOTALL | re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command in a document's blocks, without comments and what follows a pipe."""
    for block in BLOCK.findall(text):
        if block.startswith("git checkout"):
            continue  # of an earlier state
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line.partition(" #")[0])
            except ValueError:
                continue
            yield words[: next((n for n, word in enumerate(words) if word in ("|", ">", "&&", "2>&1")), None)]


def problem(command: Any, words: list[str], context: Any = None) -> str:
    """Say why words cannot be typed after a command; empty where they can."""
    context = command.context_class(command, parent=context, info_name=command.name)
    try:
        said, rest, _ = command.make_parser(context).parse_args(list(words))
    except Exception as error:  # whatever the parser raises, that is what a user would see
        return f"{command.name}: {error}"
    if "--help" in words:
        return ""
    if hasattr(command, "commands"):
        if not rest or rest[0] not in command.commands:
            return f"{command.name} has no command {' '.join(rest[:1])!r}"
        return problem(command.commands[rest[0]], rest[1:], context)
    lacking = [param.name for param in command.params if param.required and not said.get(param.name)]
    return f"{command.name} lacks {', '.join(lacking)}" if lacking else rest and f"{rest[0]!r} is too much"


def shown() -> list[Any]:
    found = []
    for document in DOCUMENTS:
        for words in commands(document.read_text(encoding="utf-8")):
            for start, module in APPS.items():
                if tuple(words[: len(start)]) == start and "…" not in "".join(words):
                    given = words[len(start) :]
                    name = f"{document.relative_to(ROOT)}: {' '.join(words)}"
                    found.append(pytest.param(module, given, id=name[:120]))
    return found


@pytest.mark.parametrize(("module", "words"), shown())
def test_a_command_of_the_documents_can_be_typed(module: str, words: list[str]) -> None:
    app = typer.main.get_command(importlib.import_module(module).app)
    assert not problem(app, words)


def test_the_programs_and_recipes_that_commands_name_are_there() -> None:
    named = {
        word
        for document in DOCUMENTS
        for words in commands(document.read_text(encoding="utf-8"))
        for word in words
        if word.startswith(("research/", "Testing/", "Training/")) and not set(word) & set("*[{$")
    }
    assert "research/sweep.py" in named
    assert not {word for word in named if not (ROOT / word).exists()}


@pytest.mark.parametrize("module", sorted(set(APPS.values())))
def test_every_command_says_what_it_does(module: str) -> None:
    app = importlib.import_module(module).app

    def told(command: Any, words: list[str]) -> None:
        said = CliRunner().invoke(app, [*words, "--help"])
        assert said.exit_code == 0, (words, said.exception)
        for name, inner in getattr(command, "commands", {}).items():
            told(inner, [*words, name])

    told(typer.main.get_command(app), [])


def test_what_cannot_be_typed_is_found() -> None:
    app = typer.main.get_command(importlib.import_module("multiorganseg_training.cli.app").app)
    text = "```sh\nmultiorganseg-train fit A.toml --data D --run R --device cpu  # a comment\n```\n"
    ((_, *words),) = commands(text)
    assert not problem(app, words)
    for wrong, said in (
        ("fit A.toml --run R", "data"),
        ("fit A.toml B.toml --data D --run R", "B.toml"),
        ("fit A.toml --data D --run R --no-such 1", "no-such"),
        ("project merge both spleen liver", "output"),
        ("prject", "prject"),
    ):
        assert said in problem(app, wrong.split())
