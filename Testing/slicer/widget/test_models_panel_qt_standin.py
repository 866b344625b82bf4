"""Installing, verifying and removing models on stand-in Qt; the bundles are real."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The bundled model as a zip file."""
    from multiorganseg.bundles import find_bundle, pack_bundle

    return pack_bundle(find_bundle("abdomen-ct").folder, tmp_path / "abdomen-ct.zip")


@pytest.fixture
def models(panel: Any) -> Any:
    panel.ui.modelsSection.collapsed = False
    return panel


def _rows(panel: Any) -> list[list[str]]:
    table = panel.ui.modelsTable
    return [[table.item(row, column).text() for column in range(6)] for row in range(table.rowCount)]


def _install(panel: Any, host: Any, path: Path, *more: Any) -> str:
    host.answers.add(str(path), *more)
    panel.ui.installModelButton.click()
    return str(panel.models.message.text)


def _verify(panel: Any, host: Any) -> None:
    panel.ui.verifyModelsButton.click()
    assert not panel.ui.verifyModelsButton.enabled
    host.process_events(lambda: panel.ui.verifyModelsButton.enabled, 120)


def test_bundled_model_is_listed_with_its_card(models: Any) -> None:
    from multiorganseg.bundles import find_bundle

    said = find_bundle("abdomen-ct").metadata
    dice = sum(organ["dice"] for organ in said.metrics.values()) / len(said.metrics)
    row = ["abdomen-ct", said.version, "13", f"{dice:.2f}", "Apache-2.0", "MultiOrganSeg"]
    assert _rows(models)[0] == row
    assert {row[5] for row in _rows(models)} == {"MultiOrganSeg"}
    assert "portal-venous" in models.ui.modelCard.plainText
    assert "Limits" in models.ui.modelCard.plainText
    assert not models.ui.removeModelButton.enabled


def test_models_are_not_read_before_the_section_is_opened(panel: Any) -> None:
    assert panel.ui.modelsTable.rowCount == 0


def test_install_verify_and_remove(models: Any, qt_host: Any, archive: Path) -> None:
    import qt

    from multiorganseg.bundles import find_bundle

    bundled, version = _rows(models), find_bundle("abdomen-ct").metadata.version
    assert f"Installed abdomen-ct {version};" in _install(models, qt_host, archive)
    assert [row[5] for row in _rows(models)] == ["installed by you", *(row[5] for row in bundled)]
    _verify(models, qt_host)
    assert f"{len(bundled) + 1} models verified" in models.models.message.text
    assert models.ui.removeModelButton.enabled
    qt_host.answers.add(qt.QMessageBox.No)
    models.ui.removeModelButton.click()
    assert len(_rows(models)) == len(bundled) + 1
    qt_host.answers.add(qt.QMessageBox.Yes)
    models.ui.removeModelButton.click()
    assert _rows(models) == bundled


def test_same_version_is_replaced_only_after_a_question(models: Any, qt_host: Any, archive: Path) -> None:
    import qt

    _install(models, qt_host, archive)
    assert _install(models, qt_host, archive, qt.QMessageBox.No) == ""
    assert "installed already" in qt_host.answers.texts[-1]
    assert "Installed" in _install(models, qt_host, archive, qt.QMessageBox.Yes)


def test_bad_zip_is_refused_with_the_reason(models: Any, qt_host: Any, tmp_path: Path) -> None:
    bundled = _rows(models)
    bad = tmp_path / "evil.zip"
    with zipfile.ZipFile(bad, "w") as made:
        made.writestr("../../evil.py", "boom")
        made.writestr("models/model.pkl", b"\x80\x04")
    reported = _install(models, qt_host, bad)
    assert "evil.zip was not installed" in reported
    assert "evil.py" in reported
    assert _rows(models) == bundled


def test_file_that_is_no_zip_is_refused(models: Any, qt_host: Any, tmp_path: Path) -> None:
    text = tmp_path / "text.zip"
    text.write_text("hello", encoding="utf-8")
    assert "was not installed" in _install(models, qt_host, text)


def test_cancelled_dialog_installs_nothing(models: Any, qt_host: Any) -> None:
    qt_host.answers.add("")
    models.ui.installModelButton.click()
    assert models.models.message.text == ""


def test_tampered_model_is_found_by_verify(models: Any, qt_host: Any, archive: Path) -> None:
    from multiorganseg.bundles import user_models_dir

    _install(models, qt_host, archive)
    weights = user_models_dir() / "abdomen-ct" / "models" / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    _verify(models, qt_host)
    assert "abdomen-ct cannot be used" in models.models.message.text
    assert ["abdomen-ct", "damaged"] in [[row[0], row[5]] for row in _rows(models)]
    assert "sha256" in models.ui.modelCard.plainText.lower()
    assert models.ui.removeModelButton.enabled


def test_installed_model_can_be_chosen_at_once(models: Any, qt_host: Any, tmp_path: Path) -> None:
    from dataclasses import replace

    from multiorganseg.bundles import find_bundle, pack_bundle, read_weights, write_bundle

    own = find_bundle("abdomen-ct")
    made = write_bundle(
        tmp_path / "second-ct",
        replace(own.metadata, name="second-ct", version="2.1.0"),
        read_weights(own),
        own.card_path.read_text(encoding="utf-8").replace("abdomen-ct", "second-ct"),
        (own.folder / "LICENSE").read_text(encoding="utf-8"),
    )
    assert "Installed second-ct 2.1.0" in _install(
        models, qt_host, pack_bundle(made.folder, tmp_path / "b.zip")
    )
    assert models.ui.modelSelector.findData("second-ct") >= 0
    assert models.parameters.model == "abdomen-ct"
