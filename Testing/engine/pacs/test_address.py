"""Addresses of archives, and which series of a study are segmented."""

from __future__ import annotations

import pytest

from multiorganseg.cli.remote import sending
from multiorganseg.errors import OptionError
from multiorganseg.pacs.address import is_address, parse_address
from multiorganseg.pacs.archive import RemoteSeries, main_series, result_series


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("dicomweb://pacs.example.org/dicom-web", "https://pacs.example.org/dicom-web"),
        ("dicomweb://127.0.0.1:8042/dicom-web/studies/1.2/series/3.4", "http://127.0.0.1:8042/dicom-web"),
        ("dicomweb+http://pacs:8042/a/b/studies/1.2", "http://pacs:8042/a/b"),
        ("dicomweb+https://localhost:8042/dicom-web", "https://localhost:8042/dicom-web"),
        ("dicomweb://[::1]:8042/dicom-web", "http://[::1]:8042/dicom-web"),
    ],
)
def test_an_address_is_written_as_it_is_read(text: str, url: str) -> None:
    address = parse_address(text)
    assert (str(address), address.url) == (text, url)
    assert parse_address(str(address)) == address


def test_urls_are_addresses_too() -> None:
    assert (
        str(parse_address("https://pacs/dicom-web/studies/1.2/")) == "dicomweb://pacs/dicom-web/studies/1.2"
    )
    assert str(parse_address("http://127.0.0.1:1/x")) == "dicomweb://127.0.0.1:1/x"
    assert str(parse_address("http://pacs/x")) == "dicomweb+http://pacs/x"
    assert not is_address("C:/images/ct.nii.gz")
    assert not is_address("dicomweb:")


def test_dimse_names_title_and_port() -> None:
    address = parse_address("dimse+tls://ARCHIVE@pacs.example.org:104/studies/1.2/series/3.4")
    assert (address.called, address.port, address.is_encrypted) == ("ARCHIVE", 104, True)
    assert (address.study, address.series) == ("1.2", "3.4")
    assert str(address) == "dimse+tls://ARCHIVE@pacs.example.org:104/studies/1.2/series/3.4"


@pytest.mark.parametrize(
    "text",
    [
        "dicomweb://",
        "ftp://pacs/dicom-web",
        "dicomweb://pacs:port/dicom-web",
        "dicomweb://pacs/dicom-web/series/1.2",
        "dicomweb://pacs/dicom-web/studies/1.2/instances/3",
        "dicomweb://pacs/dicom-web/studies/../etc",
        "dicomweb://pacs/dicom-web/studies/1.2?x=1",
        f"dicomweb://pacs/dicom-web/studies/{'1' * 65}",
        "dimse://pacs:104",
        "dimse://ARCHIVE@pacs",
        "dimse://A_TITLE_THAT_IS_TOO_LONG@pacs:104",
        "dimse://ARCHIVE@pacs:104/dicom-web",
        "dimse://ARCHIVE:secret@pacs:104",
    ],
)
def test_what_is_no_address_is_refused_with_a_way_out(text: str) -> None:
    with pytest.raises(OptionError) as raised:
        parse_address(text)
    assert raised.value.next_step
    assert "secret" not in str(raised.value)


def test_an_output_is_a_path_or_an_archive() -> None:
    assert sending("results", None, False) is None
    back = sending("dicomweb:", None, False)
    assert back is not None
    assert (back.archive, back.formats) == (None, ("dcm", "sr"))
    named = sending("dicomweb://pacs/dicom-web", "rtstruct,sr", False)
    assert named is not None
    assert named.formats == ("dcm", "sr", "rtstruct")
    with pytest.raises(OptionError, match=r"seg\.nrrd"):
        sending("dicomweb:", "dcm,seg.nrrd", False)
    with pytest.raises(OptionError, match="need not be named"):
        sending("dicomweb://pacs/dicom-web/studies/1.2", None, False)


def test_the_series_of_a_study_are_chosen_as_in_a_folder() -> None:
    def series(uid: str, modality: str, images: int | None) -> RemoteSeries:
        return RemoteSeries("1", uid, modality, images=images)

    scout, ct, mr = series("1", "CT", 2), series("2", "CT", 90), series("3", "MR", None)
    assert main_series([scout, ct, mr, series("4", "SEG", 1)]) == [ct, mr]
    assert main_series([scout, series("4", "SR", 1)]) == [scout]
    assert main_series([scout, series("5", "CT", 3)]) == []


def test_results_have_one_name_a_series_and_settings() -> None:
    one = result_series("1.2", "model a")
    assert one == result_series("1.2", "model a")
    assert len({*one.values(), *result_series("1.3", "model a").values()}) == 2 * len(one)
    assert len({*one.values(), *result_series("1.2", "model b").values()}) == 2 * len(one)
    assert all(len(uid) <= 62 and uid.startswith("2.25.") for uid in one.values())
