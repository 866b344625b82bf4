"""Who may in: passwords, tokens, keyrings and TLS, and that none of it is ever shown."""

from __future__ import annotations

import base64
import logging
import shutil
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from multiorganseg.cli.app import app
from multiorganseg.errors import OptionError, ServerError
from multiorganseg.pacs import archive as archive_module
from multiorganseg.pacs import open_archive, parse_address
from multiorganseg.pacs.archive import Query
from multiorganseg.pacs.login import Login, login_for, store_login
from multiorganseg.progress import Progress

PASSWORD = "pässword"


def find(address: str) -> list[Any]:
    with open_archive(parse_address(address)) as link:
        return link.find(Query(), Progress())


def test_the_right_password_lets_in(locked_orthanc: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServerError, match="does not know the user") as raised:
        find(locked_orthanc.web)
    assert "pacs login" in raised.value.next_step
    monkeypatch.setenv("MULTIORGANSEG_PACS_USER", "reader")
    with pytest.raises(OptionError, match="MULTIORGANSEG_PACS_PASSWORD is not"):
        find(locked_orthanc.web)
    monkeypatch.setenv("MULTIORGANSEG_PACS_PASSWORD", PASSWORD)
    assert find(locked_orthanc.web) == []


def test_a_wrong_password_is_told_and_not_shown(
    locked_orthanc: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MULTIORGANSEG_PACS_USER", "reader")
    monkeypatch.setenv("MULTIORGANSEG_PACS_PASSWORD", "Loudsecret")
    with caplog.at_level(logging.DEBUG):
        result = CliRunner().invoke(app, ["pacs", "find", locked_orthanc.web])
    assert result.exit_code == ServerError.exit_code
    assert "does not know the user" in result.output
    secret = base64.b64encode(b"reader:Loudsecret").decode()
    for said in (result.output, caplog.text, repr(login_for(parse_address(locked_orthanc.web)))):
        assert "Loudsecret" not in said
        assert secret not in said


def test_a_token_goes_with_every_request(proxy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIORGANSEG_PACS_TOKEN", "tok")
    find(proxy.web)
    assert {said for _, _, said in proxy.asked} == {"Bearer tok"}


def test_no_login_is_taken_from_the_home_folder_and_none_follows_a_redirection(
    proxy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    find(proxy.web)
    assert {said for _, _, said in proxy.asked} == {None}

    def redirect(handler: Any) -> bool:
        handler.send_response(307)
        handler.send_header("Location", "http://127.0.0.1:1/elsewhere")
        handler.send_header("Content-Length", "0")
        handler.end_headers()
        return True

    proxy.rule = redirect
    with pytest.raises(ServerError, match="another address"):
        find(proxy.web)


@pytest.mark.parametrize(
    "address", ["dicomweb+http://pacs.example.org/dicom-web", "http://10.0.0.7:8042/dicom-web"]
)
def test_no_login_goes_over_an_open_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MULTIORGANSEG_PACS_TOKEN", "tok")
    with pytest.raises(ServerError, match="without encryption"), open_archive(parse_address(address)):
        pass


@pytest.mark.parametrize(
    "address", ["dicomweb://anna:Loudsecret@pacs.example.org/dicom-web", "https://anna@pacs.example.org/x"]
)
def test_an_address_with_a_login_is_refused_and_not_repeated(address: str) -> None:
    result = CliRunner().invoke(app, ["pacs", "find", address])
    assert result.exit_code == OptionError.exit_code
    assert "pacs login" in result.output
    assert "Loudsecret" not in result.output


def test_the_keyring_keeps_a_login_by_host_and_port(
    locked_orthanc: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keyring = pytest.importorskip("keyring")
    kept: dict[tuple[str, str], str] = {}

    class Memory(keyring.backend.KeyringBackend):
        priority = 1

        def get_password(self, service: str, username: str) -> str | None:
            return kept.get((service, username))

        def set_password(self, service: str, username: str, password: str) -> None:
            kept[service, username] = password

        def delete_password(self, service: str, username: str) -> None:
            del kept[service, username]

    former = keyring.get_keyring()
    keyring.set_keyring(Memory())
    try:
        typed = f"reader\n{PASSWORD}\n"
        result = CliRunner().invoke(app, ["pacs", "login", locked_orthanc.web], input=typed)
        assert result.exit_code == 0, result.output
        assert PASSWORD not in result.output
        assert find(locked_orthanc.web) == []
        assert not login_for(parse_address("dicomweb://127.0.0.1:1/dicom-web"))
        monkeypatch.setenv("MULTIORGANSEG_PACS_TOKEN", "other")
        assert login_for(parse_address(locked_orthanc.web)).token == "other"
    finally:
        keyring.set_keyring(former)


def test_a_computer_without_a_keyring_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = pytest.importorskip("keyring")
    from keyring.backends.fail import Keyring

    former = keyring.get_keyring()
    keyring.set_keyring(Keyring())
    try:
        address = parse_address("dicomweb://pacs.example.org/dicom-web")
        assert not login_for(address)
        with pytest.raises(ServerError, match="no keyring"):
            store_login(address, Login(token="x"))
    finally:
        keyring.set_keyring(former)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    key, made = tmp_path / "key.pem", tmp_path / "cert.pem"
    subject = ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key]
    subprocess.run([*map(str, command), "-out", str(made), *subject], check=True, capture_output=True)
    return made, key


@pytest.fixture
def encrypted(proxy: Any, certificate: tuple[Path, Path]) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    proxy.server.socket = context.wrap_socket(proxy.server.socket, server_side=True)
    return proxy.web.replace("dicomweb://", "dicomweb+https://")


def test_dimse_over_tls(
    tmp_path: Path,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    make_ct: Callable[..., Any],
    start_orthanc: Callable[..., Any],
) -> None:
    made, key = map(str, certificate)
    server = start_orthanc(
        DicomTlsEnabled=True,
        DicomTlsCertificate=made,
        DicomTlsPrivateKey=key,
        DicomTlsTrustedCertificates=made,
    )
    server.store(make_ct(slices=3).files)
    address = server.dimse.replace("dimse://", "dimse+tls://")
    monkeypatch.setattr(archive_module, "PATIENCE_S", 1.0)
    with pytest.raises(ServerError, match="cannot be reached"):
        find(address)
    monkeypatch.setenv("MULTIORGANSEG_PACS_CA", made)
    monkeypatch.setenv("MULTIORGANSEG_PACS_CERT", made)
    monkeypatch.setenv("MULTIORGANSEG_PACS_KEY", key)
    assert len(find(address)) == 1
    with pytest.raises(ServerError, match="cannot be reached"):
        find(server.dimse)


def test_a_certificate_is_checked(
    encrypted: str,
    certificate: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    orthanc: Any,
    make_ct: Callable[..., Any],
) -> None:
    orthanc.store(make_ct(slices=3).files)
    with pytest.raises(ServerError, match="not trusted") as raised:
        find(encrypted)
    assert "MULTIORGANSEG_PACS_CA" in raised.value.next_step
    monkeypatch.setenv("MULTIORGANSEG_PACS_CA", str(certificate[0]))
    assert len(find(encrypted)) == 1
    monkeypatch.setenv("MULTIORGANSEG_PACS_CA", "/nowhere.pem")
    with pytest.raises(OptionError, match="not there"):
        find(encrypted)
