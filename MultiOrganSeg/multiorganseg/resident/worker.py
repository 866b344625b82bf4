"""What a resident process holds, and how it answers a request."""

from __future__ import annotations

import time
import warnings
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np
from numpy.typing import NDArray

from multiorganseg.bundles import Bundle, find_bundle
from multiorganseg.errors import Cancelled, OptionError, ResourceError, VolumeError
from multiorganseg.events import EventKind, EventStream, with_events
from multiorganseg.memory import available_memory
from multiorganseg.organs.labels import LabelTable
from multiorganseg.outputs import keep
from multiorganseg.privacy import folders_of
from multiorganseg.progress import CancelToken, Progress, Stage
from multiorganseg.refine import Change, NetworkMaps, Prompt, Session
from multiorganseg.refine.files import catalogue_with, read_start, write_corrected
from multiorganseg.refine.maps import fingerprint, plain_maps
from multiorganseg.resident.requests import (
    NO_MODEL,
    Ask,
    CloseRequest,
    CorrectRequest,
    ForgetRequest,
    OpenRequest,
    PutRequest,
    SaveRequest,
    SegmentRequest,
    UndoRequest,
)
from multiorganseg.results.segmentation import Author
from multiorganseg.results.write import write_results
from multiorganseg.volumes import VolumeWarning, dicom_files, read_volume
from multiorganseg.volumes.label_map import refuse_label_map
from multiorganseg.volumes.volume import Volume

if TYPE_CHECKING:
    from multiorganseg.inference.segment import Options, Segmenter

MOST_SESSIONS = 8
MOST_NETWORKS = 2
MOST_MAPS = 2
"""So many at once; of networks and maps, those that were used last stay."""

ENOUGH_FOR_MAPS = 4 * 2**30
"""Bytes of free memory from which a segmentation keeps maps."""

_MapKey = tuple[str, str]


@dataclass(eq=False)
class _Opened:
    """A session, and who drew its organs before it."""

    session: Session
    authors: Mapping[str, Author]


class Worker:
    """Answers requests one after the other, and holds networks, maps and sessions between them.

    Args:
        folder: Relative names of files start here, and answers are written here.
        sink: Gets the events; None drops them.
    """

    def __init__(self, folder: Path, sink: TextIO | None = None) -> None:
        self._folder = folder.absolute()
        self._sink = sink
        self._networks: OrderedDict[str, Segmenter] = OrderedDict()
        self._maps: OrderedDict[_MapKey, NetworkMaps] = OrderedDict()
        self._sessions: dict[str, _Opened] = {}
        self._last: tuple[Any, Volume] | None = None
        self._answers = 0

    def answer(self, identity: str, ask: Ask, token: CancelToken | None = None) -> bool:
        """Answer a request by events: whatever goes wrong is reported, and leaves all sessions as they were.

        Args:
            identity: Given back in each event.
            ask: What is asked.
            token: Stops the answer from another thread.

        Returns:
            Whether it ended well.
        """
        paths = [
            self._path(getattr(ask, name))
            for name in ("volume", "labels", "output")
            if getattr(ask, name, "")
        ]
        stream = EventStream(self._sink, folders_of(self._folder / "x", *paths), id=identity)
        progress = with_events(stream, Progress(token=token or CancelToken()))
        started = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                if progress.token.cancelled:
                    raise Cancelled
                with keep(paths[:1] if isinstance(ask, SegmentRequest | OpenRequest) else []):
                    end = self._answer(ask, stream, progress)
            except Cancelled:
                stream.emit(EventKind.CANCELLED)
                return False
            except Exception as error:
                stream.fail(error)
                return False
            finally:
                warned = [str(each.message) for each in caught if issubclass(each.category, VolumeWarning)]
                for message in dict.fromkeys(warned):
                    stream.emit(EventKind.WARNING, message=message)
        stream.emit(EventKind.FINISHED, seconds=round(time.perf_counter() - started, 3), **end)
        return True

    def close(self) -> None:
        """Nothing of it is elsewhere."""

    def _answer(self, ask: Ask, stream: EventStream, progress: Progress) -> dict[str, Any]:
        if isinstance(ask, SegmentRequest):
            return self._segment(ask, stream, progress)
        if isinstance(ask, OpenRequest):
            return self._open(ask, progress)
        if isinstance(ask, PutRequest):
            return self._put(ask)
        if isinstance(ask, CorrectRequest):
            return self._correct(ask)
        if isinstance(ask, UndoRequest):
            return self._change(self._opened(ask.session).session.undo())
        if isinstance(ask, SaveRequest):
            return self._save(ask, progress)
        if isinstance(ask, CloseRequest):
            self._sessions.pop(ask.session, None)
        if isinstance(ask, ForgetRequest):
            self._forget(ask)
        return {}

    def _segment(self, ask: SegmentRequest, stream: EventStream, progress: Progress) -> dict[str, Any]:
        from multiorganseg.inference.maps import MapRecorder
        from multiorganseg.inference.segment import Options

        segmenter = self._network(
            find_bundle(ask.model),
            Options(ask.organs, ask.quality, ask.device, uncertainty=ask.uncertainty, mode=ask.mode),
        )
        progress(Stage.READING, 0.0)
        path = self._path(ask.volume)
        volume = self._volume(path)
        metadata = segmenter.bundle.metadata
        keeps = ask.keep_maps and not segmenter.is_faithful and available_memory() > ENOUGH_FOR_MAPS
        recorder = MapRecorder() if keeps else None
        in_hounsfield = segmenter.in_hounsfield(volume)
        result = segmenter.segment(in_hounsfield, progress, recorder=recorder)
        if recorder is not None and recorder.maps is not None:
            self._remember(self._maps, _key(volume, segmenter.bundle), recorder.maps, MOST_MAPS)
        for message in result.provenance.get("messages", []):
            stream.emit(EventKind.WARNING, message=message)
        progress(Stage.WRITING, 0.0)
        files = write_results(
            result,
            in_hounsfield,
            self._path(ask.output),
            formats=frozenset(ask.formats),
            preview=ask.preview,
            dicom_files=dicom_files(path) if "dcm" in ask.formats or ask.output.endswith(".dcm") else None,
            modality=metadata.modality,
            catalogue=segmenter.catalogue,
        )
        return {"files": [file.name for file in files]}

    def _open(self, ask: OpenRequest, progress: Progress) -> dict[str, Any]:
        if ask.session not in self._sessions and len(self._sessions) >= MOST_SESSIONS:
            msg = f"{MOST_SESSIONS} sessions of correction are open."
            raise ResourceError(msg, next_step="Close one of them first.")
        progress(Stage.READING, 0.0)
        volume = self._volume(self._path(ask.volume))
        table, labels, authors = self._start(ask, volume)
        session = Session(volume, labels, table, self._maps_of(volume, ask, progress))
        if ask.steps is not None:
            session.remember(ask.steps)
        self._sessions[ask.session] = _Opened(session, authors)
        return {"organs": session.table.to_json()}

    def _start(
        self, ask: OpenRequest, volume: Volume
    ) -> tuple[LabelTable, NDArray[np.unsignedinteger], Mapping[str, Author]]:
        table = LabelTable.from_json(ask.table or {})
        if not ask.labels:
            return table, np.zeros(volume.voxels.shape, np.uint8), {}
        if ask.labels.endswith(".npy"):
            return table, _array(self._path(ask.labels)), {}
        return read_start(self._path(ask.labels), None, volume.grid)

    def _maps_of(self, volume: Volume, ask: OpenRequest, progress: Progress) -> NetworkMaps:
        if ask.model == NO_MODEL:
            return plain_maps(volume)
        bundle = find_bundle(ask.model)
        key = _key(volume, bundle)
        if (known := self._maps.get(key)) is None:
            from multiorganseg.inference.segment import Options

            segmenter = self._network(bundle, Options(device=ask.device))
            known = segmenter.record(volume, progress)
        self._remember(self._maps, key, known, MOST_MAPS)
        return known

    def _put(self, ask: PutRequest) -> dict[str, Any]:
        session = self._opened(ask.session).session
        table = LabelTable.from_json(ask.table) if ask.table is not None else None
        labels = _array(self._path(ask.labels)) if ask.labels else np.zeros((0, 0, 0), np.uint8)
        whole = ((0, n) for n in session.labels.shape) if ask.labels else ((0, 0),) * 3
        k, j, i = (slice(first, last) for first, last in (ask.box or whole))
        session.put((k, j, i), labels, table)
        if ask.steps is not None:
            session.remember(ask.steps)
        return {}

    def _correct(self, ask: CorrectRequest) -> dict[str, Any]:
        session = self._opened(ask.session).session
        prompts = [Prompt.from_json(prompt) for prompt in ask.prompts]
        joins = ask.new and ask.organ not in session.table.keys
        before = session.table
        if joins:
            session.add_organ(ask.organ)
        try:
            change = session.correct(ask.organ, prompts, ask.locked)
        except BaseException:
            session.table = before
            raise
        return self._change(change) | ({"table": session.table.to_json()} if joins else {})

    def _change(self, change: Change) -> dict[str, Any]:
        if not change.labels.size:
            return {"box": [], "file": "", "organs": [], "voxels": 0}
        self._answers += 1
        name = f"answer-{self._answers}.npy"
        np.save(self._folder / name, change.labels, allow_pickle=False)
        box = [[part.start, part.stop] for part in change.box]
        return {"box": box, "file": name, "organs": list(change.organs), "voxels": change.voxels}

    def _save(self, ask: SaveRequest, progress: Progress) -> dict[str, Any]:
        opened = self._opened(ask.session)
        progress(Stage.WRITING, 0.0)
        session = opened.session
        files = write_corrected(
            session,
            self._path(ask.output),
            ask.formats,
            catalogue_with(session.table.keys),
            opened.authors,
            {},
        )
        return {"files": [file.name for file in files], "steps": session.to_json()}

    def _forget(self, ask: ForgetRequest) -> None:
        self._last = None
        for name in ask.sessions:
            self._sessions.pop(name, None)
        if ask.maps:
            self._maps.clear()

    def _opened(self, name: str) -> _Opened:
        if name not in self._sessions:
            msg = f"There is no session '{name}'."
            raise OptionError(
                msg, cause="It was closed, or the process was started anew.", next_step="Open it again."
            )
        return self._sessions[name]

    def _path(self, name: str) -> Path:
        return self._folder / name

    def _volume(self, path: Path) -> Volume:
        """Read a volume, unless it is the one that was read last and has not changed since."""
        try:
            found = path.stat()
            state = (path, found.st_mtime_ns, found.st_size, found.st_ino)
        except OSError:
            state = None
        if self._last is not None and state is not None and path.is_file() and self._last[0] == state:
            return self._last[1]
        self._last = None
        volume = read_volume(path)
        refuse_label_map(volume.voxels, path.name)
        self._last = (state, volume)
        return volume

    def _network(self, bundle: Bundle, options: Options) -> Segmenter:
        from multiorganseg.inference.segment import Segmenter

        known = self._networks.get(bundle.digest)
        segmenter = known.with_options(options) if known else Segmenter(bundle, options)
        self._remember(self._networks, bundle.digest, segmenter, MOST_NETWORKS)
        return segmenter

    @staticmethod
    def _remember(store: OrderedDict[Any, Any], key: object, value: object, most: int) -> None:
        store[key] = value
        store.move_to_end(key)
        while len(store) > most:
            store.popitem(last=False)


def _key(volume: Volume, bundle: Bundle) -> _MapKey:
    return fingerprint(volume), bundle.digest


def _array(path: Path) -> NDArray[np.unsignedinteger]:
    """Map labels (k, j, i) of a .npy file into memory, without reading them."""
    try:
        labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        msg = f"The labels in {path.name} cannot be read."
        raise VolumeError(msg, cause=str(error), next_step="Write them as a .npy file.") from error
    if labels.ndim != 3 or labels.dtype not in (np.uint8, np.uint16):
        msg = f"The labels in {path.name} are no labels (k, j, i)."
        raise VolumeError(
            msg, cause=f"They are {labels.dtype} {labels.shape}.", next_step="Write uint8 or uint16."
        )
    return labels
