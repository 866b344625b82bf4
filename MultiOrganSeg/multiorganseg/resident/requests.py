"""What a resident process can be asked: one JSON object a line on its standard input.

Every line has "request", one of `REQUESTS`, and "id", a text that is given back in all events of the answer;
the other fields are those of the dataclass, and those with a default may be left out. The answer is the event
stream of `multiorganseg.events`: progress and warnings, then one of "finished", "failed" and "cancelled".
Requests are answered one after the other, in order. Names of files are relative to the process's folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

from multiorganseg.errors import OptionError, TrainingError
from multiorganseg.schema import typed

PROTOCOL = 1
"""Told by the first event, "started"; grows when an older reader would misunderstand."""

TOKEN = "MULTIORGANSEG_TOKEN"
"""Variable of the environment that holds the token of a server which answers."""

NO_MODEL = "none"
LONGEST_LINE = 16 * 2**20
LONGEST_ID = 100

Range: TypeAlias = tuple[int, int]


@dataclass(frozen=True)
class SegmentRequest:
    """Segment a volume. The end tells "files", and "seconds".

    Attributes:
        volume: File or DICOM folder.
        output: A .seg.nrrd, .nii.gz or .dcm file, or a folder.
        model: Name of a bundle, or a path to one.
        organs: Organ keys; all when empty.
        quality: "fast", "balanced" or "best".
        device: "auto", "cpu", "cuda" or "mps".
        mode: See `Options.mode`.
        formats: Further formats beside the one that `output` names.
        preview: Whether to draw a picture.
        uncertainty: Whether to map where the network is uncertain.
        keep_maps: Whether to keep what a correction of this volume needs. Nothing is kept of a faithful run,
            which would take a second one, and where less than 4 GiB of memory are free.
    """

    volume: str
    output: str
    model: str = "abdomen-ct"
    organs: tuple[str, ...] = ()
    quality: str = "balanced"
    device: str = "auto"
    mode: str = ""
    formats: tuple[str, ...] = ()
    preview: bool = False
    uncertainty: bool = False
    keep_maps: bool = False


@dataclass(frozen=True)
class OpenRequest:
    """Open a session of correction, or open it anew. The end tells "organs", the label table.

    Maps that no segmentation of the same volume by the same model has kept are computed, with progress.

    Attributes:
        session: Its name, chosen by who asks.
        volume: File or DICOM folder.
        labels: Array (k, j, i) on the volume's grid as a .npy file, or a label map or segmentation of any
            format that brings its label table; empty to start from nothing.
        table: Organ key by label value, as in a label table; needed for a .npy file.
        model: Whose maps are used; `NO_MODEL` for intensity alone.
        device: Where the network runs when it must.
        steps: What was said of these labels before, as `Session.to_json` gives it.
    """

    session: str
    volume: str
    labels: str = ""
    table: Mapping[str, str] | None = None
    model: str = "abdomen-ct"
    device: str = "auto"
    steps: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class PutRequest:
    """Take over what was changed elsewhere; `UndoRequest` does not go back beyond.

    Attributes:
        session: Its name.
        labels: .npy file with the labels in the box; empty when none changed.
        box: First and last + 1 along k, j and i; the whole volume when None.
        table: The whole label table, when it changed.
        steps: All that was said and still holds, when it changed.
    """

    session: str
    labels: str = ""
    box: tuple[Range, Range, Range] | None = None
    table: Mapping[str, str] | None = None
    steps: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class CorrectRequest:
    """Answer prompts. The end tells "box", "file", "organs", "voxels" and "seconds".

    "box" has first and last + 1 along k, j and i, and "file" is a .npy file with the labels in it, for the
    reader to delete; both are empty when nothing changed. "organs" are the keys of those that gained or lost
    voxels.

    Attributes:
        session: Its name.
        organ: Key of the organ.
        prompts: As `Prompt.to_json` gives them.
        locked: Keys of organs that must not change.
        new: Whether an organ that the label table lacks joins; the end then tells "table".
    """

    session: str
    organ: str
    prompts: tuple[Mapping[str, Any], ...]
    locked: tuple[str, ...] = ()
    new: bool = False


@dataclass(frozen=True)
class UndoRequest:
    """Take back the last prompts of a session; the end is that of `CorrectRequest`."""

    session: str


@dataclass(frozen=True)
class SaveRequest:
    """Write a session's labels as they are. The end tells "files" and "steps", what was said so far.

    Attributes:
        session: Its name.
        output: A .seg.nrrd or .nii.gz file, or a folder.
        formats: Further formats.
    """

    session: str
    output: str
    formats: tuple[str, ...] = ()


@dataclass(frozen=True)
class CloseRequest:
    """Forget a session; one that is not there is no error."""

    session: str


@dataclass(frozen=True)
class ForgetRequest:
    """Forget the volume that was read last, so that no image stays in memory; networks stay.

    Attributes:
        sessions: Names of sessions to be closed.
        maps: Whether to forget the maps that were kept, too; open sessions keep theirs.
    """

    sessions: tuple[str, ...] = ()
    maps: bool = False


@dataclass(frozen=True)
class CancelRequest:
    """Stop a request, or drop it from the queue; this one has no answer but that of the other.

    Attributes:
        of: Its id; one that has ended is no error.
    """

    of: str


Ask: TypeAlias = (
    SegmentRequest
    | OpenRequest
    | PutRequest
    | CorrectRequest
    | UndoRequest
    | SaveRequest
    | CloseRequest
    | ForgetRequest
    | CancelRequest
)

REQUESTS: dict[str, type[Ask]] = {
    "segment": SegmentRequest,
    "open": OpenRequest,
    "put": PutRequest,
    "correct": CorrectRequest,
    "undo": UndoRequest,
    "save": SaveRequest,
    "close": CloseRequest,
    "forget": ForgetRequest,
    "cancel": CancelRequest,
}
_NAMES = {kind: name for name, kind in REQUESTS.items()}


def format_request(identity: str, ask: Ask) -> bytes:
    """Return the line that asks, its end included."""
    line = {"request": _NAMES[type(ask)], "id": identity, **asdict(ask)}
    return json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"


class RequestError(OptionError):
    """A line is no request.

    Attributes:
        identity: Its id; empty when it has none.
    """

    def __init__(self, problem: str, identity: str = "", *, cause: str = "", next_step: str = "") -> None:
        known = "The module multiorganseg.resident.requests says what can be asked."
        super().__init__(problem, cause=cause, next_step=next_step or known)
        self.identity = identity


def parse_request(line: bytes) -> tuple[str, Ask]:
    """Read a line: the id and what is asked.

    Raises:
        RequestError: It is no request.
    """
    from multiorganseg.bundles.json_text import parse_json_object

    try:
        data = parse_json_object(line)
    except ValueError as error:
        msg = "This is no request."
        raise RequestError(msg, cause=f"It is no JSON object: {error}") from error
    identity, name = data.pop("id", None), data.pop("request", None)
    if not isinstance(identity, str) or not 0 < len(identity) <= LONGEST_ID:
        msg = "A request needs an id."
        raise RequestError(msg, cause=f"It must be a text of 1 to {LONGEST_ID} characters.")
    kind = REQUESTS.get(name) if isinstance(name, str) else None
    if kind is None:
        msg = f"There is no request '{name}'."
        raise RequestError(msg, identity, cause=f"Known are: {', '.join(REQUESTS)}.")
    try:
        return identity, typed(kind, data, f"The request '{name}'")
    except TrainingError as error:
        raise RequestError(error.problem, identity, cause=error.cause, next_step=error.next_step) from error
