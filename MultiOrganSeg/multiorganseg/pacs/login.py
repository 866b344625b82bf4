"""Who the user is to an archive: from the environment or a keyring, never from the command line."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiorganseg.errors import DependencyError, OptionError, ServerError
from multiorganseg.pacs.address import Address

TOKEN, USER, PASSWORD = "MULTIORGANSEG_PACS_TOKEN", "MULTIORGANSEG_PACS_USER", "MULTIORGANSEG_PACS_PASSWORD"
AUTHORITY = "MULTIORGANSEG_PACS_CA"
"""File with the certificates that are trusted, where those of the system do not do."""

CERTIFICATE, KEY = "MULTIORGANSEG_PACS_CERT", "MULTIORGANSEG_PACS_KEY"
"""Files with this computer's own certificate and its key, for archives that ask for them."""

OWN_TITLE, MOVE_PORT = "MULTIORGANSEG_AE_TITLE", "MULTIORGANSEG_MOVE_PORT"
_KEYRING_USER = "login"


@dataclass(frozen=True)
class Login:
    """What an archive is given to be let in; `repr` shows none of it.

    Attributes:
        token: Bearer token; wins over the others.
        user: Name.
        password: Of the user.
    """

    token: str = field(default="", repr=False)
    user: str = field(default="", repr=False)
    password: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        """Whether there is anything to tell."""
        return bool(self.token or self.user)


@dataclass(frozen=True)
class Certificates:
    """Files for TLS; empty texts for what the system has.

    Attributes:
        authority: Trusted certificates.
        own: This computer's certificate.
        key: Its private key.
    """

    authority: str = ""
    own: str = ""
    key: str = ""


def login_for(address: Address) -> Login:
    """Look a login up: the environment's, else that of the keyring, else none.

    Raises:
        OptionError: The environment names a user without a password.
        ServerError: There is one, and it would go over the network unencrypted.
    """
    token, user, password = (os.environ.get(name, "") for name in (TOKEN, USER, PASSWORD))
    if user and not token and PASSWORD not in os.environ:
        msg = f"{USER} is set, {PASSWORD} is not."
        raise OptionError(msg, next_step=f"Set both, or store them: multiorganseg pacs login {address}")
    found = Login(token, user, password) if token or user else _from_keyring(address)
    if found and not address.is_encrypted and not address.is_loopback:
        msg = f"A login is not sent to {address.server} without encryption."
        raise ServerError(
            msg,
            cause="Anybody on the way could read it, and the images.",
            next_step="Use dicomweb:// or https:// with an archive that speaks TLS.",
        )
    return found


def store_login(address: Address, login: Login) -> None:
    """Keep a login in the system's keyring, under the archive's host and port.

    Raises:
        DependencyError: The package keyring is not installed.
        ServerError: There is no keyring on this computer.
    """
    keyring = _keyring()
    if keyring is None:
        msg = "Storing a login needs the package keyring."
        raise DependencyError(msg, next_step="Install it: pip install 'multiorganseg[pacs]'")
    said = {"token": login.token, "user": login.user, "password": login.password}
    try:
        keyring.set_password(_service(address), _KEYRING_USER, json.dumps(said))
    except keyring.errors.KeyringError as error:
        msg = "This computer has no keyring that can be opened."
        raise ServerError(
            msg,
            cause=f"{type(error).__name__}: {error}",
            next_step=f"Set {TOKEN}, or {USER} and {PASSWORD}, in the environment.",
        ) from error


def certificates() -> Certificates:
    """Return the files for TLS that the environment names.

    Raises:
        OptionError: One is not there.
    """
    found = {name: os.environ.get(name, "") for name in (AUTHORITY, CERTIFICATE, KEY)}
    for name, path in found.items():
        if path and not Path(path).is_file():
            msg = f"{name} names a file that is not there: {path}"
            raise OptionError(msg, next_step=f"Set {name} to a PEM file, or unset it.")
    return Certificates(*found.values())


def _from_keyring(address: Address) -> Login:
    keyring = _keyring()
    if keyring is None:
        return Login()
    try:
        text = keyring.get_password(_service(address), _KEYRING_USER)
        said = json.loads(text) if text else {}
        return Login(**{name: str(said.get(name, "")) for name in ("token", "user", "password")})
    except (keyring.errors.KeyringError, ValueError, AttributeError):
        return Login()


def _service(address: Address) -> str:
    return f"multiorganseg {address.server}"


def _keyring() -> Any:
    try:
        import keyring
        import keyring.errors
    except ImportError:
        return None
    return keyring
