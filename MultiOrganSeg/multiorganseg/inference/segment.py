"""From a volume and a bundle to a segmentation on the volume's own grid."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from multiorganseg import __version__
from multiorganseg.bundles import Bundle, Metadata
from multiorganseg.bundles.custom_organs import with_custom_organs
from multiorganseg.errors import OptionError, ResourceError, VolumeError
from multiorganseg.geometry.canonical import Canonical
from multiorganseg.inference.backends import (
    Backend,
    choose_device,
    count_decoders,
    free_unused,
    is_out_of_memory,
    load_backend,
)
from multiorganseg.inference.maps import MapRecorder
from multiorganseg.inference.original_space import prepare_original
from multiorganseg.inference.preflight import OVERLAPS, Settings, limit_time, plan_settings
from multiorganseg.inference.prepare import TurnedCanonical, prepare, prepare_converted
from multiorganseg.inference.slab import describe
from multiorganseg.inference.stream import StreamedLabels, stream_labels
from multiorganseg.inference.stream_original import OriginalLabels, stream_original
from multiorganseg.inference.windows import plan_windows
from multiorganseg.intensities import AIR, darkest, seen_window
from multiorganseg.memory import available_memory
from multiorganseg.organs.catalogue import Catalogue, load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.privacy import PROVENANCE_INPUT, folders_of, without_folders
from multiorganseg.progress import Progress, Stage
from multiorganseg.quality.certainty import mean_confidence, mean_uncertainty
from multiorganseg.quality.components import CleanedLabels, Fragmentation, keep_components
from multiorganseg.quality.domain import Judgement, drop_untaught, judge
from multiorganseg.quality.flags import BEYOND_TRAINING, NOT_FOUND, OUT_OF_DOMAIN, worst_first
from multiorganseg.quality.measure import measure
from multiorganseg.quality.statistics import OrganStatistics
from multiorganseg.refine.maps import NetworkMaps
from multiorganseg.results.segmentation import Segmentation
from multiorganseg.volumes.hounsfield import to_hounsfield
from multiorganseg.volumes.modality import modality_warning
from multiorganseg.volumes.volume import Grid, Volume

_Result = TypeVar("_Result")

CPU_TIME_LIMIT_SECONDS = 600.0
SLOWEST_WINDOW_SECONDS = 20.0


@dataclass(frozen=True)
class Options:
    """What the user chose.

    Attributes:
        organs: Organ keys wanted; empty for all of the bundle.
        quality: "fast", "balanced" or "best": how much neighbouring windows overlap.
        device: "auto", "cpu", "cuda" or "mps".
        time_limit: Seconds after which a coarser step is preferred; None for ten minutes on a CPU.
        uncertainty: Whether to map where the network is uncertain; all its decoders run then.
        mode: "faithful" takes the steps of the program that a converted network comes from, "fast" those of
            this engine; "" is faithful for converted networks, and fast for our own, which have no others.
        mirroring: Whether a faithful run also sees mirrored windows where that program does.
    """

    organs: tuple[str, ...] = ()
    quality: str = "balanced"
    device: str = "auto"
    time_limit: float | None = None
    uncertainty: bool = False
    mode: str = ""
    mirroring: bool = True


MODES = ("faithful", "fast")


@dataclass(frozen=True, eq=False)
class _Found:
    """Labels on the input's grid, and what was seen and measured on the network's."""

    labels: NDArray[np.unsignedinteger]
    image: NDArray[np.float32]
    network_labels: NDArray[np.unsignedinteger]
    confidence: Mapping[str, float]
    fragmentation: Mapping[str, Fragmentation]
    uncertainties: Mapping[str, float] | None
    uncertainty: NDArray[np.uint8] | None
    beyond: frozenset[str] = frozenset()


@dataclass(eq=False)
class Timings:
    """Seconds of each stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure one stage."""
        started = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - started, 3)


class Segmenter:
    """Holds a bundle's network ready for one or many volumes.

    Args:
        bundle: The verified bundle.
        options: What the user chose.
        catalogue: Organs; the default one when None.

    Raises:
        BundleError: The uncertainty is asked for and the weights do not fit the architecture.
        OptionError: The quality does not exist.
        OrganError: An organ is asked for that the bundle does not segment.
        ResourceError: The device does not exist.
    """

    def __init__(
        self, bundle: Bundle, options: Options | None = None, catalogue: Catalogue | None = None
    ) -> None:
        self.bundle = bundle
        self.options = options or Options()
        self.catalogue = with_custom_organs(catalogue or load_catalogue(), bundle.metadata.custom_organs)
        self._device = choose_device(self.options.device)
        self._decoders = count_decoders(bundle) if self.options.uncertainty else 1
        self._backends: dict[tuple[str, bool], Backend] = {}
        self._seconds: dict[str, float] = {}
        for key in self.options.organs:
            bundle.metadata.labels.value(key)
        if self.options.quality not in OVERLAPS:
            msg = f"No quality '{self.options.quality}'."
            raise OptionError(msg, next_step=f"Choose among: {', '.join(OVERLAPS)}.")
        if self.options.mode not in ("", *MODES):
            msg = f"No mode '{self.options.mode}'."
            raise OptionError(msg, next_step=f"Choose among: {', '.join(MODES)}.")
        original = bundle.metadata.preprocessing.original
        if self.options.mode == "faithful" and original is None:
            msg = f"The model {bundle.metadata.name} has no faithful mode."
            raise OptionError(msg, cause="It was trained by this program.", next_step="Leave --mode out.")
        self._original = None if self.options.mode == "fast" else original

    def with_options(self, options: Options) -> Segmenter:
        """Return one of the same bundle; networks stay loaded where the options let them.

        Raises:
            BundleError: As the constructor.
            OptionError: As the constructor.
            OrganError: As the constructor.
            ResourceError: As the constructor.
        """
        other = Segmenter(self.bundle, options, self.catalogue)
        if (other._decoders, other._original, other._mirrored) == (
            self._decoders,
            self._original,
            self._mirrored,
        ):
            other._backends, other._seconds = self._backends, self._seconds
        return other

    @property
    def is_faithful(self) -> bool:
        """Whether it takes the steps of the program that a converted network comes from."""
        return self._original is not None

    def in_hounsfield(self, volume: Volume) -> Volume:
        """Bring a CT for this bundle to HU where it evidently is not; other volumes stay as they are."""
        metadata = self.bundle.metadata
        if metadata.modality != "CT":
            return volume
        original = metadata.preprocessing.original
        return to_hounsfield(
            volume, seen_window(original.intensities[0]) if original else metadata.preprocessing.window
        )

    def segment(
        self,
        volume: Volume,
        progress: Progress | None = None,
        others: Sequence[Volume] = (),
        *,
        recorder: MapRecorder | None = None,
    ) -> Segmentation:
        """Segment one volume.

        Args:
            volume: CT or MR, as the bundle's modality says; a CT is brought to HU where it evidently is not.
            progress: Reports each stage; cancelling raises `Cancelled`.
            others: Further channels on the same grid, where the network takes several.
            recorder: Keeps what the network says beside the labels, for corrections; its `maps` are there
                when this returns. A faithful run is followed by a fast one for it.

        Returns:
            Labels on the volume's own grid, numbered as in the bundle's label table, with measurements and
            provenance. Organs that were not asked for are left out after the fact, so that the voxels of
            the others do not depend on the choice; nor do labels depend on whether the uncertainty is mapped.
        """
        progress = progress or Progress()
        metadata, timings, given = self.bundle.metadata, Timings(), volume
        require_channels(metadata, 1 + len(others))
        volume = self.in_hounsfield(volume)
        if self._original is not None:
            result = self._segment_faithfully([volume, *others], progress)
            if recorder is not None:
                self.record(given, progress, recorder, others)
            return result
        with timings.stage("resample"):
            progress(Stage.RESAMPLING, 0.0)
            canonical, image = self._prepare(volume, others)
        with timings.stage("load network"):
            progress(Stage.LOADING, 0.0)
            settings = self._plan(metadata, image.shape[-3:], volume.voxels.size, recorder)
            backend = self._backend(settings.device, recorder is not None)
        with timings.stage("network"):
            backend, settings, streamed = self._run(backend, settings, image, progress, recorder)
            if recorder is not None:
                recorder.finish(_network_grid(canonical), metadata.labels, given)
        with timings.stage("clean"):
            progress(Stage.CLEANING, 0.0)
            cleaned, beyond = self._clean(streamed.labels, canonical.grid)
            confidence = mean_confidence(cleaned.labels, streamed.confidence, metadata.labels)
        with timings.stage("restore"):
            progress(Stage.RESTORING, 0.0)
            labels = canonical.restore(cleaned.labels)
        uncertainties = uncertainty = None
        if streamed.uncertainty is not None:
            with timings.stage("uncertainty"):
                uncertainties = mean_uncertainty(cleaned.labels, streamed.uncertainty, metadata.labels)
                uncertainty = canonical.restore_map(streamed.uncertainty)
        found = _Found(
            labels,
            image,
            cleaned.labels,
            confidence,
            cleaned.fragmentation,
            uncertainties,
            uncertainty,
            beyond,
        )
        return self._finish(volume, found, settings, backend, streamed.windows, timings, progress)

    def _clean(self, labels: NDArray[np.unsignedinteger], grid: Grid) -> tuple[CleanedLabels, frozenset[str]]:
        """Drop small pieces and what was never taught; of a converted network, whose program keeps all, none.

        Returns:
            Labels, and the organs of which something untaught was dropped.
        """
        metadata = self.bundle.metadata
        if metadata.preprocessing.original is not None:
            return CleanedLabels(labels, {}), frozenset()
        cleaned = keep_components(labels, metadata.labels, self.catalogue, voxel_volume=grid.voxel_volume)
        if not metadata.domain:
            return cleaned, frozenset()
        kept, beyond = drop_untaught(cleaned.labels, metadata.labels, grid.spacing, metadata.domain)
        return replace(cleaned, labels=kept), beyond

    def _prepare(
        self, volume: Volume, others: Sequence[Volume]
    ) -> tuple[Canonical | TurnedCanonical, NDArray[np.float32]]:
        """Take this engine's steps to the network's grid."""
        preprocessing, domain = self.bundle.metadata.preprocessing, self.bundle.metadata.domain
        if preprocessing.original is None:
            return prepare(volume, preprocessing, domain.widest_mm if domain else math.inf)
        return prepare_converted([volume, *others], preprocessing)

    def _segment_faithfully(self, channels: Sequence[Volume], progress: Progress) -> Segmentation:
        metadata, original, timings = self.bundle.metadata, self._original, Timings()
        assert original is not None
        volume = channels[0]
        with timings.stage("resample"):
            progress(Stage.RESAMPLING, 0.0)
            space, image = prepare_original(channels, metadata.preprocessing)
        with timings.stage("load network"):
            progress(Stage.LOADING, 0.0)
            settings = self._plan(metadata, space.shape, volume.voxels.size, None, original.overlap)
            backend = self._backend(settings.device, False)
        with timings.stage("network and restore"):

            def run(backend: Backend, settings: Settings) -> OriginalLabels:
                return stream_original(
                    backend.predict,
                    image,
                    space,
                    metadata,
                    batch_size=settings.batch_size,
                    network_device=backend.device,
                    device=settings.accumulate_on,
                    progress=progress,
                    uncertain=settings.uncertain,
                )

            backend, settings, result = self._until_it_fits(backend, settings, False, run)
            streamed = result.streamed
            labels = space.place(result.labels)
        uncertainties = uncertainty = None
        if streamed.uncertainty is not None:
            uncertainties = mean_uncertainty(streamed.labels, streamed.uncertainty, metadata.labels)
            uncertainty = space.restore_map(streamed.uncertainty)
        confidence = mean_confidence(streamed.labels, streamed.confidence, metadata.labels)
        found = _Found(labels, image, streamed.labels, confidence, {}, uncertainties, uncertainty)
        return self._finish(volume, found, settings, backend, streamed.windows, timings, progress)

    def _finish(
        self,
        volume: Volume,
        found: _Found,
        settings: Settings,
        backend: Backend,
        windows: int,
        timings: Timings,
        progress: Progress,
    ) -> Segmentation:
        metadata = self.bundle.metadata
        labels, table = found.labels, metadata.labels
        with timings.stage("measure"):
            progress(Stage.MEASURING, 0.0)
            statistics = measure(
                labels,
                volume,
                table,
                found.confidence,
                self.catalogue,
                found.fragmentation,
                found.uncertainties,
            )
            wrong_kind = modality_warning(volume, metadata.modality, metadata.name)
            judgement = (
                Judgement((wrong_kind,), wrong_kind=True)
                if wrong_kind
                else judge(metadata, found.image, found.network_labels, statistics)
            )
            if judgement.another_part:
                labels = np.zeros_like(labels)
                statistics = measure(labels, volume, table, {}, self.catalogue)
            statistics = _with_flags(statistics, found.beyond, bool(judgement.reasons))
        if self.options.organs:
            labels, table = select_organs(labels, table, self.options.organs)
            statistics = tuple(row for row in statistics if row.key in self.options.organs)
        progress(Stage.MEASURING, 1.0)
        provenance = self._provenance(volume, settings, backend, windows, timings, judgement)
        return Segmentation(labels, volume.affine, table, statistics, provenance, found.uncertainty)

    def record(
        self,
        volume: Volume,
        progress: Progress | None = None,
        recorder: MapRecorder | None = None,
        others: Sequence[Volume] = (),
    ) -> NetworkMaps:
        """Run the network for what a correction needs, without labels; in the fast mode, whatever is chosen.

        Args:
            volume: As in `segment`.
            progress: Reports each stage; cancelling raises `Cancelled`.
            recorder: Says how many bytes may be kept.
            others: As in `segment`.
        """
        progress, recorder = progress or Progress(), recorder or MapRecorder()
        metadata, given = self.bundle.metadata, volume
        require_channels(metadata, 1 + len(others))
        volume = self.in_hounsfield(volume)
        progress(Stage.RESAMPLING, 0.0)
        canonical, image = self._prepare(volume, others)
        progress(Stage.LOADING, 0.0)
        settings = self._plan(metadata, image.shape[-3:], volume.voxels.size, recorder)
        self._run(self._backend(settings.device, True), settings, image, progress, recorder)
        return recorder.finish(_network_grid(canonical), metadata.labels, given)

    def _plan(
        self,
        metadata: Metadata,
        shape: tuple[int, ...],
        output_voxels: int,
        recorder: MapRecorder | None,
        overlap: float | None = None,
    ) -> Settings:
        on_card = torch.cuda.mem_get_info(self._device)[0] if self._device.type == "cuda" else 0
        free = available_memory() - (2 * recorder.limit_bytes if recorder else 0)
        return plan_settings(
            metadata,
            (shape[0], shape[1], shape[2]),
            output_voxels,
            device=self._device,
            quality=self.options.quality,
            ram_free=free,
            device_free=on_card if self._device.type == "cuda" else free,
            decoders=self._decoders,
            uncertain=self.options.uncertainty,
            overlap=overlap,
        )

    @property
    def _mirrored(self) -> tuple[int, ...]:
        return self._original.mirrored if self._original is not None and self.options.mirroring else ()

    def _backend(self, device: torch.device, features: bool) -> Backend:
        wanted = (device.type, features)
        if wanted not in self._backends:
            self._backends[wanted] = (
                load_backend(self.bundle, device, self._decoders, features=features)
                if self._original is None or features
                else load_backend(self.bundle, device, self._decoders, exact=True, mirrored=self._mirrored)
            )
        return self._backends[wanted]

    def _window_seconds(self, backend: Backend) -> float:
        if backend.name not in self._seconds:
            self._seconds[backend.name] = _seconds_per_window(backend, self.bundle.metadata)
        return self._seconds[backend.name]

    def _run(
        self,
        backend: Backend,
        settings: Settings,
        image: NDArray[np.float32],
        progress: Progress,
        recorder: MapRecorder | None,
    ) -> tuple[Backend, Settings, StreamedLabels]:
        metadata = self.bundle.metadata
        shape = (image.shape[-3], image.shape[-2], image.shape[-1])
        if settings.device.type == "cpu":
            windows = {o: plan_windows(shape, metadata.patch_shape, o).count for o in OVERLAPS.values()}
            limit = self.options.time_limit or CPU_TIME_LIMIT_SECONDS
            if windows[settings.overlap] * SLOWEST_WINDOW_SECONDS > limit:
                settings = limit_time(settings, self._window_seconds(backend), windows, limit)

        def run(backend: Backend, settings: Settings) -> StreamedLabels:
            return self._stream(backend, settings, image, progress, recorder)

        return self._until_it_fits(backend, settings, recorder is not None, run)

    def _until_it_fits(
        self,
        backend: Backend,
        settings: Settings,
        features: bool,
        run: Callable[[Backend, Settings], _Result],
    ) -> tuple[Backend, Settings, _Result]:
        while True:
            try:
                return backend, settings, run(backend, settings)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                free_unused(settings.device)
                settings = _after_out_of_memory(settings)
                backend = self._backend(settings.device, features)

    def _stream(
        self,
        backend: Backend,
        settings: Settings,
        image: NDArray[np.float32],
        progress: Progress,
        recorder: MapRecorder | None,
    ) -> StreamedLabels:
        metadata = self.bundle.metadata
        shape = (image.shape[-3], image.shape[-2], image.shape[-1])
        if recorder is not None:
            assert backend.feature_stride is not None
            organs = len(metadata.labels.organs)
            recorder.begin(_first(image), organs + 1, metadata.feature_channels, backend.feature_stride)
        return stream_labels(
            backend.predict,
            image,
            plan_windows(shape, metadata.patch_shape, settings.overlap),
            len(metadata.labels.organs),
            activation=metadata.activation,
            air=_air(metadata),
            batch_size=settings.batch_size,
            network_device=backend.device,
            device=settings.accumulate_on,
            progress=progress,
            decoders=settings.decoders,
            uncertain=settings.uncertain,
            recorder=recorder,
            feet=metadata.preprocessing.feet,
        )

    def _mode_provenance(self) -> dict[str, Any]:
        original = self.bundle.metadata.preprocessing.original
        if original is None:
            return {}
        mode = "fast" if self._original is None else "faithful"
        said = {"mode": mode, "program": original.program, "folds": original.folds}
        return {**said, "mirrored_axes": list(self._mirrored)}

    def _provenance(
        self,
        volume: Volume,
        settings: Settings,
        backend: Backend,
        windows: int,
        timings: Timings,
        judgement: Judgement,
    ) -> dict[str, Any]:
        metadata = self.bundle.metadata
        return {
            "software": f"MultiOrganSeg {__version__}",
            "bundle": {"name": metadata.name, "version": metadata.version, "sha256": self.bundle.digest},
            PROVENANCE_INPUT: Path(volume.source).name,
            "modality": metadata.modality,
            "quality": self.options.quality,
            "overlap": settings.overlap,
            "backend": backend.name,
            "windows": windows,
            **self._mode_provenance(),
            **({"uncertainty": describe(self._decoders)} if self.options.uncertainty else {}),
            "unlike_training": list(judgement.reasons),
            "messages": without_folders(
                [*judgement.messages(metadata.name), *volume.warnings, *settings.messages],
                folders_of(Path(volume.source)),
            ),
            "seconds": dict(timings.seconds),
        }


def require_channels(metadata: Metadata, given: int) -> None:
    """Refuse an input of another number of channels than the network takes.

    Raises:
        VolumeError: It is.
    """
    if given == metadata.in_channels:
        return
    original = metadata.preprocessing.original
    names = ", ".join(original.channels) if original else "one image"
    msg = f"The model {metadata.name} takes {metadata.in_channels} images of a patient, not {given}: {names}."
    raise VolumeError(
        msg, next_step="Lay them side by side as NAME_0000.nii.gz, NAME_0001.nii.gz … and give the first."
    )


def select_organs(
    labels: NDArray[np.unsignedinteger], table: LabelTable, organs: Sequence[str]
) -> tuple[NDArray[np.unsignedinteger], LabelTable]:
    """Keep some organs, with the label values they have."""
    kept = LabelTable({table.value(key): key for key in organs})
    lookup = np.zeros(max(table.organs) + 1, labels.dtype)
    lookup[list(kept.organs)] = list(kept.organs)
    return lookup[labels], kept


def _with_flags(
    statistics: tuple[OrganStatistics, ...], beyond: frozenset[str], out_of_domain: bool
) -> tuple[OrganStatistics, ...]:
    flagged = []
    for row in statistics:
        noticed = set(row.flags) | ({BEYOND_TRAINING} if row.key in beyond else set())
        if out_of_domain and NOT_FOUND not in noticed:
            noticed.add(OUT_OF_DOMAIN)
        flagged.append(replace(row, flags=worst_first(noticed)))
    return tuple(flagged)


def _first(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first channel of (channel, k, j, i), or (k, j, i) itself."""
    return image[0] if image.ndim == 4 else image


def _network_grid(canonical: Canonical | TurnedCanonical) -> Grid:
    return canonical.turned_grid if isinstance(canonical, TurnedCanonical) else canonical.grid


def _air(metadata: Metadata) -> float | None:
    """Return the normalised intensity of air; None when the network must see every window."""
    original = metadata.preprocessing.original
    if original is None:
        return AIR if metadata.preprocessing.intensity == "window" else None
    return darkest(original.intensities[0]) if len(original.intensities) == 1 else None


def _seconds_per_window(backend: Backend, metadata: Metadata) -> float:
    sample = torch.zeros((1, metadata.in_channels, *metadata.patch_shape))
    backend.predict(sample)
    started = time.perf_counter()
    backend.predict(sample)
    return time.perf_counter() - started


def _after_out_of_memory(settings: Settings) -> Settings:
    """Return up what the card lacks memory for.

    Raises:
        ResourceError: It was the CPU that ran out.
    """
    if settings.device.type == "cpu":
        msg = "Memory ran out."
        raise ResourceError(
            msg, next_step="Close other programs, crop the volume, or use a machine with more memory."
        )
    if settings.batch_size > 1:
        smaller = settings.batch_size // 2
        return settings.degrade(
            f"The graphics card ran out of memory: batches of {smaller}.", batch_size=smaller
        )
    cpu = torch.device("cpu")
    if settings.accumulate_on.type != "cpu":
        return settings.degrade(
            "The graphics card ran out of memory: classes are summed in main memory.", accumulate_on=cpu
        )
    return settings.degrade("The graphics card ran out of memory: the CPU is used.", device=cpu)
