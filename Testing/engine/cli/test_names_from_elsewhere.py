"""Names of files, organs and models are shown as they are, and one case's trouble is only its own."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text
from typer.testing import CliRunner

from multiorganseg.children import module_command, module_environment
from multiorganseg.cli import cohort as cohort_module
from multiorganseg.cli.app import app
from multiorganseg.cli.console import SafeConsole, printable
from multiorganseg.cli.errors import reported_errors
from multiorganseg.text import csv_text

COMMANDS = "\x1b]0;x\x07\x1b[31m\x9b2J\u202e\x00\r\x7f\u2028"
QUICK = ("--no-preview", "--device", "cpu")


def run(*arguments: str | Path):
    return CliRunner().invoke(app, ["segment", *map(str, arguments), *QUICK])


@pytest.mark.parametrize("stderr", [False, True])
def test_a_console_obeys_nothing_in_text(capsys, stderr: bool) -> None:
    console = SafeConsole(stderr=stderr)
    name = f"[red]CT[/red] [link=x]:smile:{COMMANDS}"
    table = Table(name, title=name)
    table.add_row(name)
    table.add_row(Text(name))
    for what in (name, Text(name), table, {"key": name}):
        console.print(what, soft_wrap=True)
    reported = capsys.readouterr()
    text = reported.err if stderr else reported.out
    assert text.count("[red]CT[/red] [link=x]:smile:") == 7
    assert {character for character in text if not character.isprintable()} == {"\n"}


def test_colours_are_still_written() -> None:
    console = SafeConsole()
    console._force_terminal, console._color_system = True, console._color_system
    with console.capture() as captured:
        console.print(Text("done", style="bold"))
    assert "done" in captured.get()


def test_warnings_and_logs_are_shown_the_same_way(tmp_path) -> None:
    code = (
        "import logging, warnings\n"
        "from multiorganseg.cli.console import prepare_output\n"
        "from multiorganseg.pictures import PictureWarning\n"
        "prepare_output()\n"
        "warnings.warn('[a]\\x1b[31m\\udce9', PictureWarning)\n"
        "warnings.warn('[b]\\x1b[31m')\n"
        "logging.getLogger('x').warning('[c]\\x1b[31m %s', 1)\n"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=module_environment(), cwd=tmp_path, capture_output=True, check=True)
    reported = done.stderr.decode()
    assert "Warning: [a]�[31m�\n" in reported
    assert "UserWarning: [b]�[31m" in reported
    assert "[c]�[31m 1\n" in reported
    assert "\x1b" not in reported


def test_words_of_all_languages_stay() -> None:
    text = "肝臓 می‌خواهم Größe\u00a0ä क्‍ष"
    assert printable(text) == text
    assert printable("a\nb\udce9") == "a�b�"
    assert printable("a\nb", lines=True) == "a\nb"


def test_no_line_of_text_can_be_taken_for_an_event(capsys) -> None:
    name = 'x\n{"event": "finished", "files": []}'
    table = Table("case", box=None, pad_edge=False, show_header=False)
    table.add_row(name)
    console = SafeConsole()
    for what in (name, Text(name), table, '{"event": "finished"}'):
        console.print(what, soft_wrap=True)
    assert not any(line.startswith("{") for line in capsys.readouterr().out.splitlines())


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="such names cannot be there")
def test_files_of_any_name_are_segmented_and_tell_no_false_event(ct_file, tiny_bundle, tmp_path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [b"CT [venous].nii.gz", b"CT \xe9\xff.nii.gz", b'x\n{"event": "finished"}\x1b[31m.nii.gz']
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(ct_file.read_bytes())  # noqa: PTH118
    out = tmp_path / "out"
    arguments = ["segment", str(folder), "-o", str(out), "--model", str(tiny_bundle.folder), *QUICK]
    command = module_command("multiorganseg", [*arguments, "--events", "-"])
    environment = module_environment() | {"PYTHONUTF8": "0", "PYTHONIOENCODING": "latin-1", "COLUMNS": "300"}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    assert [event["event"] for event in events].count("finished") == len(names)
    assert len(list(out.glob("*.seg.nrrd"))) == len(names)
    assert b"CT [venous].nii.gz" in done.stdout
    assert b"\x1b" not in done.stdout + done.stderr
    for statistics in out.glob("*.statistics.json"):
        assert json.loads(statistics.read_text(encoding="utf-8"))["organs"]


def test_the_path_of_a_single_result_is_whole(ct_file, tiny_bundle) -> None:
    source = ct_file.rename(ct_file.with_name("CT [venous].nii.gz"))
    result = run(source, "-o", ct_file.parent / "out", "--model", tiny_bundle.folder)
    assert result.exit_code == 0, result.output
    assert f"{ct_file.parent / 'out' / 'CT [venous].seg.nrrd'}\n" in result.output


@pytest.mark.parametrize(
    ("error", "code", "reported"),
    [
        (MemoryError("Unable to allocate 90 GiB"), 6, "90 GiB"),
        (AttributeError("'Dataset' object has no attribute 'PatientID'"), 1, "PatientID"),
        (RecursionError(), 1, "RecursionError"),
        (OSError(5, "Input/output error"), 6, "Input/output"),
        (ModuleNotFoundError("No module named 'highdicom'", name="highdicom"), 7, "pip install highdicom"),
    ],
)
def test_whatever_befalls_a_case_the_others_are_done(
    ct_file, tiny_bundle, monkeypatch, error, code, reported
) -> None:
    folder, bad = ct_file.parent, "a [bad] one.nii.gz"
    (folder / bad).write_bytes(ct_file.read_bytes())
    write = cohort_module.write_results

    def fail(segmentation, volume, *arguments, **options):
        if Path(volume.source).name == bad:
            raise error
        return write(segmentation, volume, *arguments, **options)

    monkeypatch.setattr(cohort_module, "write_results", fail)
    events = folder / "events.jsonl"
    result = run(folder, "-o", folder / "out", "--model", tiny_bundle.folder, "--events", events)
    assert result.exit_code == code, result.output
    assert (folder / "out" / "ct 1.seg.nrrd").is_file()
    seen = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    (failed,) = [event for event in seen if event["event"] == "failed"]
    assert [event["event"] for event in seen].count("finished") == 1
    assert reported in " ".join((failed["cause"], failed["next_step"]))
    assert failed["problem"]
    assert failed["next_step"]
    assert bad in result.output
    assert "Traceback" not in result.output
    if code == 1:
        assert "issues" in failed["next_step"]
        assert f"{Path(__file__).name}:" in failed["cause"]


def test_ctrl_c_is_no_failure_of_a_case(ct_file, tiny_bundle, monkeypatch) -> None:
    def interrupt(*_arguments, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr(cohort_module, "write_results", interrupt)
    result = run(ct_file, "-o", ct_file.parent / "out", "--model", tiny_bundle.folder)
    assert result.exit_code == 130
    assert "Error" not in result.output


def test_a_lack_of_memory_ends_in_words(capsys) -> None:
    import typer

    with pytest.raises(typer.Exit) as caught, reported_errors():
        raise MemoryError
    assert caught.value.exit_code == 6
    reported = capsys.readouterr().err
    assert reported.startswith("Error: There is not enough memory.")
    assert "Next: " in reported


def test_lines_of_a_cause_are_not_taken_for_lines_of_the_program(capsys) -> None:
    import typer

    from multiorganseg.errors import VolumeError

    with pytest.raises(typer.Exit), reported_errors():
        raise VolumeError("a\nNext: x", cause="b\nNext: y", next_step="c\nNext: z")  # noqa: EM101
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("Next:")] == ["Next: c�Next: z"]


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "＝1"])
def test_no_cell_of_a_table_is_a_formula(text: str) -> None:
    written = csv_text(["organ", text], [{"organ": text, text: -1.5}])
    (header, row) = csv.reader(written.splitlines(keepends=True)) if "\r" not in text else (None, None)
    if header is not None:
        assert header == ["organ", f"'{text}"]
        assert row == [f"'{text}", "-1.5"]
    assert f"'{text}" in written


def test_all_tables_are_written_in_one_place() -> None:
    root = Path(__file__).resolve().parents[3]
    writers = {
        path.name
        for folder in (root / "MultiOrganSeg", root / "Training")
        for path in folder.rglob("*.py")
        if "csv.writer" in (text := path.read_text(encoding="utf-8")) or "csv.DictWriter" in text
    }
    consoles = {
        path.name
        for folder in (root / "MultiOrganSeg", root / "Training")
        for path in folder.rglob("*.py")
        if any(
            word in path.read_text(encoding="utf-8") for word in (" Console(", "rich.print", "from_markup")
        )
    }
    assert writers == {"text.py"}
    assert consoles == set()
