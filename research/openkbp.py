"""Make a project of the head-and-neck collection: what a clinic did not contour is unknown, not absent.

    python research/openkbp.py CASES.json DATA PROJECT

DATA holds `images/` and `labels/`; CASES.json maps each case to `labels`, the values of what was contoured.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from multiorganseg.organs.labels import LabelTable
from multiorganseg_training.project import LabelStatus, LabelStatusMatrix, import_folder

TABLE = LabelTable(
    {
        1: "brainstem",
        2: "spinal_cord",
        3: "parotid_gland_left",
        4: "parotid_gland_right",
        5: "esophagus",
        6: "larynx",
        7: "mandible",
    }
)


def contoured(cases: Path) -> LabelStatusMatrix:
    """Return what is known of each organ in each case of the collection."""
    said = json.loads(cases.read_text(encoding="utf-8"))
    rows = {
        name: {TABLE.organs[value]: LabelStatus.ANNOTATED for value in case["labels"]}
        for name, case in said.items()
    }
    return LabelStatusMatrix(TABLE.keys, rows)


def main(
    cases: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="CASES.json of the collection.")],
    data: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="images/ and labels/.")],
    project: Annotated[Path, typer.Argument(help="Folder of the new project.")],
) -> None:
    """Make a project of the head-and-neck collection."""
    made = import_folder(data, project, TABLE, name="openkbp", status=contoured(cases), hardlink=True)
    typer.echo(f"{len(made.cases)} cases in {project}")


if __name__ == "__main__":
    typer.run(main)
