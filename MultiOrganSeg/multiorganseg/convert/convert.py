"""From a network of another program to a bundle."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from multiorganseg.bundles import Bundle, Metadata, Preprocessing, user_models_dir, write_bundle
from multiorganseg.bundles.manifest import file_digest
from multiorganseg.bundles.metadata import CONVERTED_SCHEMA_VERSION
from multiorganseg.bundles.original import is_orientation
from multiorganseg.convert.card import converted_card
from multiorganseg.convert.converted import Converted
from multiorganseg.convert.flips import Check, check_orientations
from multiorganseg.convert.folders import opened
from multiorganseg.convert.organ_names import NamedOrgan, custom_organs, match_organs, require_distinct
from multiorganseg.convert.recognise import read_network
from multiorganseg.convert.try_network import try_network
from multiorganseg.errors import BundleError, OptionError
from multiorganseg.organs.catalogue import load_catalogue
from multiorganseg.organs.labels import LabelTable
from multiorganseg.progress import Progress, Stage

if TYPE_CHECKING:
    from multiorganseg.volumes.volume import Volume

STORED = "stored"
"""What the user says for images that are taken as they are stored."""


@dataclass(frozen=True)
class ConvertOptions:
    """What the user says.

    Attributes:
        configuration: Of several models in a folder; see `choose_folder`.
        folds: Of nnU-Net, separated by commas; empty for all.
        orientation: Where the axes of its images run to, such as "RAS", or `STORED`; empty where it is known
            or to be found by a check.
        labels: Organ key by name of a label in the source.
        name: Of the bundle; empty for one made of the source's.
        licence: Under which the weights are used; empty for what the source states.
        replace: Whether a bundle of that name is replaced.
        read_check: Reads a case for a check, its channels and its labels, given how many channels there are.
    """

    configuration: str = ""
    folds: str = ""
    orientation: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    name: str = ""
    licence: str = ""
    replace: bool = False
    read_check: Callable[[int], tuple[tuple[Volume, ...], Volume]] | None = None


@dataclass(frozen=True)
class Conversion:
    """What became of a network.

    Attributes:
        bundle: It.
        organs: What became of its labels.
        check: Of the case that was given.
        orientation: Of its images; "" when they are taken as stored.
    """

    bundle: Bundle
    organs: tuple[NamedOrgan, ...]
    check: Check | None
    orientation: str


def convert(
    path: Path,
    into: Path | None = None,
    options: ConvertOptions | None = None,
    progress: Progress | None = None,
    ask_orientation: Callable[[], str] | None = None,
) -> Conversion:
    """Convert a network; nothing of it is executed, and nothing is written unless all is right.

    Args:
        path: Folder, zip file or model file.
        into: Folder of bundles; the user's when None.
        options: What the user says.
        progress: Reports each stage.
        ask_orientation: Asks the user for an orientation or `STORED`; without it, it must be given.

    Raises:
        BundleError: The source is damaged, unsafe, inconsistent or not supported, or a bundle is in the way.
        OptionError: Something must be said, or is said that cannot be.
        OrganError: Two labels would be one organ.
        ResourceError: Memory or disk do not suffice.
        VolumeError: The case for the check does not fit.
    """
    options, progress = options or ConvertOptions(), progress or Progress()
    if options.orientation and options.orientation != STORED and not is_orientation(options.orientation):
        msg = f"'{options.orientation}' is no orientation."
        raise OptionError(msg, next_step=f"Say three letters such as RAS or LPS, or '{STORED}'.")
    with opened(path) as place:
        converted, features = _read(place, path, options, progress)
        hashes = {_relative(file, place): file_digest(file) for file in converted.files}
    organs = match_organs(converted.labels, options.labels, load_catalogue())
    require_distinct(organs)
    target = (into.absolute() if into is not None else user_models_dir()) / bundle_name(
        options.name or converted.name
    )
    _check_free(target, options.replace)

    def write(orientation: str, folder: Path, check: Check | None = None) -> Bundle:
        metadata = _metadata(converted, organs, hashes, options, orientation, folder.name, features)
        if check is not None:
            metadata = replace(metadata, training={**metadata.training, "check": _check_facts(check)})
        return write_bundle(
            folder,
            metadata,
            converted.weights[0],
            converted_card(converted, organs, hashes, metadata.license, orientation, check),
            converted.licence_text
            if not options.licence
            else f"{options.licence}\n\n{converted.licence_text}",
            further_folds=converted.weights[1:],
            exact=True,
            replace=options.replace,
        )

    said = "" if options.orientation == STORED else options.orientation or converted.orientation
    check = None
    if options.read_check is not None:
        channels, reference = options.read_check(len(converted.original.channels))
        values = _values(converted, organs)
        check = check_orientations(write, channels, reference, values, said, progress)
        said = check.best
    if said is None:
        answer = _ask(converted, ask_orientation)
        said = "" if answer == STORED else answer
    progress(Stage.WRITING, 0.0)
    bundle = write(said, target, check)
    return Conversion(bundle, organs, check, said)


@dataclass(frozen=True)
class Inspection:
    """What can be said of a network before it is converted.

    Attributes:
        name: What its bundle would be called.
        description: One sentence.
        program: What it was trained with.
        modality: "CT" or "MR".
        channels: Names of its images of a patient.
        networks: How many there are.
        orientation: Of its images, such as "RAS"; "" when it is not known.
        license: Of its weights.
        organs: What would become of its labels.
    """

    name: str
    description: str
    program: str
    modality: str
    channels: tuple[str, ...]
    networks: int
    orientation: str
    license: str
    organs: tuple[NamedOrgan, ...]


def inspect_network(
    path: Path, options: ConvertOptions | None = None, progress: Progress | None = None
) -> Inspection:
    """Say what a network is, as strictly read and tried as for its conversion; nothing is written.

    Args:
        path: As for `convert`.
        options: As for `convert`; what is said of orientation and check is not needed.
        progress: Told each stage.

    Raises:
        BundleError: As `convert`.
        OptionError: As `convert`.
        ResourceError: As `convert`.
    """
    options = options or ConvertOptions()
    with opened(path) as place:
        converted, _ = _read(place, path, options, progress or Progress())
    return Inspection(
        bundle_name(options.name or converted.name),
        converted.description,
        str(converted.facts["converted_from"]),
        converted.modality,
        converted.original.channels,
        converted.original.folds,
        converted.orientation or "",
        options.licence or converted.license,
        match_organs(converted.labels, options.labels, load_catalogue()),
    )


def _read(place: Path, path: Path, options: ConvertOptions, progress: Progress) -> tuple[Converted, int]:
    """Read a network and try it; also return the number of its features."""
    progress(Stage.READING, 0.0)
    converted = read_network(place, options.configuration, options.folds, options.licence, path)
    progress("trying the network", 0.0)
    return converted, try_network(converted, path)


def bundle_name(text: str) -> str:
    """Make a name that a bundle may have."""
    name = re.sub(r"[^a-z0-9.]+", "-", text.casefold()).strip("-.")[:60].strip("-.")
    return name or "converted"


def _metadata(
    converted: Converted,
    organs: tuple[NamedOrgan, ...],
    hashes: Mapping[str, str],
    options: ConvertOptions,
    orientation: str,
    name: str,
    features: int,
) -> Metadata:
    sources = {organ.key: organ.name for organ in organs}
    return Metadata(
        schema_version=CONVERTED_SCHEMA_VERSION,
        name=name,
        version="1.0.0",
        description=converted.description[:2000],
        modality=converted.modality,
        architecture=converted.architecture,
        arguments=converted.arguments,
        activation=converted.activation,
        labels=LabelTable.numbered(organ.key for organ in organs),
        preprocessing=Preprocessing(
            converted.spacing_mm, "original", None, replace(converted.original, orientation=orientation)
        ),
        patch_shape=converted.patch_shape,
        feature_channels=features,
        license=(options.licence or converted.license)[:200],
        metrics={
            organ.key: {"dice": round(converted.dice[organ.name], 4)}
            for organ in organs
            if organ.name in converted.dice
        },
        training={
            **converted.facts,
            "figures": "the source's own",
            "source_files": dict(hashes),
            "source_labels": sources,
        },
        custom_organs=custom_organs(organs, load_catalogue()),
    )


def _check_facts(check: Check) -> dict[str, object]:
    return {
        "dice_by_orientation": {way or STORED: round(dice, 4) for way, dice in check.dice.items()},
        "fast_against_faithful_dice": round(check.fast, 4),
    }


def _values(converted: Converted, organs: tuple[NamedOrgan, ...]) -> dict[str, int]:
    values = converted.facts.get("label_values") or {}
    return {organ.key: values.get(organ.name, number) for number, organ in enumerate(organs, start=1)}


def _ask(converted: Converted, ask: Callable[[], str] | None) -> str:
    if ask is None:
        msg = f"{converted.original.program} does not say which way its images ran in training."
        raise OptionError(
            msg,
            cause="The same network gives other results on images that are turned.",
            next_step="Say it: --orientation RAS for NIfTI files in closest canonical order, LPS for those "
            "of SimpleITK from DICOM; or find it: --check IMAGE LABELS; or --orientation stored to take "
            f"every image as it is stored, as {converted.original.program} does.",
        )
    answer = ask().strip()
    if answer != STORED and not is_orientation(answer):
        msg = f"'{answer}' is no orientation."
        raise OptionError(msg, next_step=f"Say three letters such as RAS or LPS, or '{STORED}'.")
    return answer


def _check_free(target: Path, replaced: bool) -> None:
    if target.exists() and not replaced:
        msg = f"Something lies at {target} already."
        raise BundleError(msg, next_step="Choose another name with --name, or replace it with --replace.")


def _relative(file: Path, root: Path) -> str:
    return str(file.relative_to(root).as_posix()) if file != root and file.is_relative_to(root) else file.name
