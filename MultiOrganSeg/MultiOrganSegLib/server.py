"""Another machine that computes: asked for once a session, tried before it is used, and forgotten at will.

The address stays in Slicer's settings; the token only in the environment of this application, from which the
resident process takes it.
"""

from __future__ import annotations

import os

import slicer
from slicer.i18n import tr as _

from multiorganseg.errors import OptionError
from multiorganseg.needs import SEGMENT, SERVER
from multiorganseg.resident.remote import TOKEN, Server

DEVICE = "server"
"""Value of the device."""

ADDRESS = "MULTIORGANSEG_SERVER"
_SETTING = "MultiOrganSeg/server"


def address() -> str:
    """The address of the server that is used; empty for none."""
    return os.environ.get(ADDRESS, "")


def needed() -> str:
    """The entry of `multiorganseg.needs` for runs and corrections; with a server, no network is needed."""
    return SERVER if address() else SEGMENT


def require(device: str) -> None:
    """Refuse a server that is not connected, as in a scene from another session.

    Raises:
        OptionError: It is not.
    """
    if device == DEVICE and not address():
        raise OptionError(
            _("No server is connected."), next_step=_("Choose the device “Server…” again, and connect.")
        )


def connect() -> str:
    """Ask for address and token, try them, and use the server from now on.

    Returns:
        What to call it; empty when the user cancelled.

    Raises:
        OptionError: The address is none, or the server does not know the token.
        ResourceError: It does not answer, or is another version's.
    """
    import qt  # here, because the logic needs this file and runs without a window too

    settings = qt.QSettings()
    title = _("Server")
    known = str(settings.value(_SETTING) or "https://")
    label = _("Address, such as https://gpu.example.org:8711")
    url = qt.QInputDialog.getText(None, title, label, qt.QLineEdit.Normal, known).strip()
    if not url:
        return ""
    token = qt.QInputDialog.getText(None, title, _("Token"), qt.QLineEdit.Password, "").strip()
    if not token:
        return ""
    with slicer.util.WaitCursor():
        said = Server(url, token, patience_seconds=5.0).status()
    settings.setValue(_SETTING, url)
    os.environ[ADDRESS], os.environ[TOKEN] = url, token
    return _("Server {address}, {device}").format(address=url, device=said.get("device", ""))


def disconnect() -> None:
    """Compute on this machine again."""
    for name in (ADDRESS, TOKEN):
        os.environ.pop(name, None)
