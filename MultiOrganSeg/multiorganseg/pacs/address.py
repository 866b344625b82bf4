"""Addresses of archives, studies and series: what users write and what is shown to them."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from urllib.parse import SplitResult, urlsplit

from multiorganseg.errors import OptionError

SCHEMES = ("dicomweb", "dicomweb+http", "dicomweb+https", "dimse", "dimse+tls", "http", "https")
BACK = ("dicomweb:", "dimse:")
"""As an output: to the archive that the images came from."""

EXAMPLE = "dicomweb://pacs.example.org/dicom-web/studies/1.2.3/series/4.5.6"
_DIMSE_EXAMPLE = "dimse://CALLED_AE@pacs.example.org:104/studies/1.2.3/series/4.5.6"
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64
_AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")


@dataclass(frozen=True)
class Address:
    """An archive, and which of its studies and series are meant.

    Attributes:
        is_web: Whether it speaks DICOMweb; else DIMSE.
        is_encrypted: Whether by TLS.
        host: Name or IP address.
        port: TCP port; None for that of HTTP or HTTPS.
        root: Path of the DICOMweb services, such as "/dicom-web"; empty for DIMSE.
        called: Application Entity title of the archive, for DIMSE.
        study: Study Instance UID, or empty.
        series: Series Instance UID, or empty.
    """

    is_web: bool
    is_encrypted: bool
    host: str
    port: int | None = None
    root: str = ""
    called: str = ""
    study: str = ""
    series: str = ""

    def __str__(self) -> str:
        """Return the address as it is written on the command line."""
        scheme = "dicomweb" if self.is_web else "dimse"
        if self.is_web and self.is_encrypted == self.is_loopback:
            scheme += "+https" if self.is_encrypted else "+http"
        elif not self.is_web and self.is_encrypted:
            scheme += "+tls"
        who = f"{self.called}@" if self.called else ""
        parts = [self.root.strip("/")] if self.root.strip("/") else []
        parts += ["studies", self.study] if self.study else []
        parts += ["series", self.series] if self.series else []
        return f"{scheme}://{who}{self.server}/{'/'.join(parts)}".rstrip("/")

    @property
    def server(self) -> str:
        """Host and port; by this name a keyring knows the login."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """URL of the DICOMweb services."""
        return f"{'https' if self.is_encrypted else 'http'}://{self.server}{self.root}"

    @property
    def is_loopback(self) -> bool:
        """Whether the archive is on this computer."""
        return _is_loopback(self.host)

    @property
    def archive(self) -> Address:
        """The archive alone."""
        return replace(self, study="", series="")


def is_address(text: str) -> bool:
    """Whether a text is an address, not a path."""
    return text.partition("://")[0].lower() in SCHEMES and "://" in text


def parse_address(text: str) -> Address:
    """Read an address.

    `dicomweb://` is encrypted (HTTPS) but on this computer itself; `dicomweb+http://` is not. `https://` and
    `http://` URLs of DICOMweb services are taken as they are.

    Raises:
        OptionError: It is none, or holds a password.
    """
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError as error:
        raise _refused(text, str(error)) from error
    scheme = parts.scheme.lower()
    if scheme not in SCHEMES or not parts.hostname:
        raise _refused(text, "It names no archive.")
    if parts.password is not None or (parts.username and not scheme.startswith("dimse")):
        msg = "An address must not hold a user's name or password."
        raise OptionError(
            msg,
            cause="What stands on the command line is seen by other users and kept in its history.",
            next_step=f"Store it once: multiorganseg pacs login {_without_login(parts)}",
        )
    if parts.query or parts.fragment:
        raise _refused(text, "It has a query or a fragment, which addresses have not.")
    root, study, series = _within(text, parts.path)
    if scheme.startswith("dimse"):
        called = parts.username or ""
        if port is None or not _AE_TITLE.fullmatch(called) or root:
            raise _refused(text, "It lacks the port or the Application Entity title of the archive.")
        return Address(False, scheme == "dimse+tls", parts.hostname, port, "", called, study, series)
    is_encrypted = scheme.endswith("https") or (scheme == "dicomweb" and not _is_loopback(parts.hostname))
    return Address(True, is_encrypted, parts.hostname, port, root, "", study, series)


def check_uid(uid: str, what: str = "UID") -> str:
    """Return a UID that can be sent to an archive.

    Raises:
        OptionError: It is none.
    """
    if not _UID.fullmatch(uid) or len(uid) > _LONGEST_UID:
        msg = f"'{uid[:80]}' is no {what}."
        raise OptionError(msg, cause="It has digits and dots alone.", next_step="Take it from: pacs find")
    return uid


def _within(text: str, path: str) -> tuple[str, str, str]:
    parts = [part for part in path.split("/") if part]
    study = series = ""
    if len(parts) >= 2 and parts[-2] == "series":
        series, parts = check_uid(parts[-1], "Series Instance UID"), parts[:-2]
        if len(parts) < 2 or parts[-2] != "studies":
            raise _refused(text, "A series is named within its study.")
    if len(parts) >= 2 and parts[-2] == "studies":
        study, parts = check_uid(parts[-1], "Study Instance UID"), parts[:-2]
    if {"studies", "series", "instances"} & set(parts):
        raise _refused(text, "It names neither an archive nor a study nor a series.")
    return f"/{'/'.join(parts)}" if parts else "", study, series


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _without_login(parts: SplitResult) -> str:
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _refused(text: str, cause: str) -> OptionError:
    msg = f"'{text.rpartition('@')[2]}' is no address of an archive."
    return OptionError(msg, cause=cause, next_step=f"Write it as {EXAMPLE} or {_DIMSE_EXAMPLE}.")
