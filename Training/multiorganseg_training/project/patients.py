"""Which cases belong to one patient, so that no patient is on both sides of a comparison."""

from __future__ import annotations

import hmac
import secrets
import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from multiorganseg.errors import VolumeError
from multiorganseg.projects.file import load_project, project_lock, save_project
from multiorganseg.projects.project import Project
from multiorganseg.volumes.check import VolumeWarning
from multiorganseg.volumes.dicom_header import open_dicom
from multiorganseg.volumes.dicom_series import dicom_files

if TYPE_CHECKING:
    import pydicom

PREFIX, DIGITS = "dicom-", 12


def patient_in(image: Path) -> str:
    """Return whom a DICOM file, or a folder with a series, names; see `patient_of`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VolumeWarning)
        try:
            data = open_dicom(dicom_files(image)[0])
        except VolumeError:
            return ""
    return "" if data is None else patient_of(data)


def patient_of(data: pydicom.Dataset) -> str:
    """Return Patient ID and its issuer as one text, not to be kept; empty where there is no Patient ID."""
    said = [str(data.get(name) or "").strip() for name in ("PatientID", "IssuerOfPatientID")]
    return "\\".join(said) if said[0] else ""


def patient_code(patient: str, key: str) -> str:
    """Return a code of a patient; empty where nobody is named.

    It is a keyed hash (HMAC-SHA-256): equal for equal patients, and it tells nobody who they are who does not
    have the project's key and a list of identifiers to try.

    Args:
        patient: As `patient_of` gives it.
        key: Of the project, in hexadecimal digits.
    """
    if not patient:
        return ""
    return PREFIX + hmac.digest(bytes.fromhex(key), patient.encode(), "sha256").hex()[:DIGITS]


def with_key(project: Project) -> Project:
    """Return the project with a key for `patient_code`."""
    return project if project.patient_key else replace(project, patient_key=secrets.token_hex(16))


def set_patient(folder: Path, cases: Collection[str], patient: str) -> Project:
    """Say that cases belong to one patient, and save the project.

    Args:
        folder: Of the project.
        cases: Names of the cases.
        patient: A code that is no name; empty to forget whose they are.

    Returns:
        The project as it is now.

    Raises:
        TrainingError: There is no such case, or the project is in use.
        ResourceError: The project cannot be written.
    """
    with project_lock(folder):
        project = load_project(folder).with_patient(cases, patient)
        save_project(project)
    return project
