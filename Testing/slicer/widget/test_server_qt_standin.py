"""Choosing a server as the device: asked for, tried, used by the resident process, and left again."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

TOKEN = "a-token-of-the-tests"


class _Answers(BaseHTTPRequestHandler):
    """A stand-in for `multiorganseg serve` that knows its token and says what it is."""

    def do_GET(self) -> None:
        known = self.headers["Authorization"] == f"Bearer {TOKEN}"
        said = b'{"protocol": 1, "device": "cuda", "models": ["abdomen-ct"]}'
        said = (
            said if known else b'{"kind": "OptionError", "problem": "The server does not know this token."}'
        )
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MULTIORGANSEG_SERVER", "MULTIORGANSEG_TOKEN"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def _choose(panel: Any, value: str) -> None:
    panel.ui.deviceSelector.currentIndex = panel.ui.deviceSelector.findData(value)


def _command() -> list[str]:
    from MultiOrganSegLib.child import resident_command

    return resident_command()


def test_a_server_is_tried_and_then_used(panel: Any, qt_host: Any, url: str) -> None:
    qt_host.answers.add(url, TOKEN)
    _choose(panel, "server")
    assert panel.parameters.device == "server"
    assert panel.ui.deviceSelector.currentText == f"Server {url}, cuda"
    assert _command()[-2:] == ["--server", url]
    assert TOKEN not in " ".join(_command())
    _choose(panel, "cpu")
    assert panel.parameters.device == "cpu"
    assert "--server" not in _command()


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        ((TOKEN, TOKEN), "no address of a server"),
        (("http://127.0.0.1:1", TOKEN), "does not answer"),
        ((None, "wrong"), "does not know this token"),
        (("",), ""),
        ((None, ""), ""),
    ],
)
def test_a_server_that_cannot_be_used_is_not_chosen(
    panel: Any, qt_host: Any, url: str, answers: tuple[str | None, ...], text: str
) -> None:
    qt_host.answers.add(*(url if answer is None else answer for answer in answers))
    _choose(panel, "server")
    assert panel.parameters.device == "auto"
    assert panel.ui.deviceSelector.itemData(panel.ui.deviceSelector.currentIndex) == "auto"
    assert text in panel.segment.message.text
    assert "--server" not in _command()


def test_a_scene_of_another_session_needs_the_server_again(panel: Any, ct: Any) -> None:
    from multiorganseg.errors import OptionError
    from MultiOrganSegLib.logic import Logic

    with pytest.raises(OptionError, match="No server is connected"):
        Logic().start(ct("Thorax"), device="server")
