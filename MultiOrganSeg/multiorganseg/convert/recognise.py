"""Which program a network comes from."""

from __future__ import annotations

from pathlib import Path

from multiorganseg.convert.auto3dseg import convert_auto3dseg, is_auto3dseg
from multiorganseg.convert.converted import Converted
from multiorganseg.convert.folders import is_torch_file
from multiorganseg.convert.monai_bundle import convert_monai_bundle, find_bundle_folder
from multiorganseg.convert.nnunet import choose_folder, convert_nnunet, model_folders
from multiorganseg.convert.read_checkpoint import read_checkpoint, refused
from multiorganseg.convert.totalsegmentator import as_task, recognise_task

KINDS = (
    "a model folder of nnU-Net 2 or TotalSegmentator (with plans.json), its exported zip, a MONAI Bundle "
    "(with configs and models), or model.pt of Auto3DSeg"
)


def read_network(place: Path, configuration: str, folds: str, licence: str, path: Path) -> Converted:
    """Recognise and read a network.

    Args:
        place: Folder or file.
        configuration: See `choose_folder`.
        folds: See `find_folds`.
        licence: Under which the user says to have the weights.
        path: What the user gave, for messages.

    Raises:
        BundleError: It is of no known kind, or cannot be converted.
        OptionError: It must be said which of several models is meant.
    """
    if place.is_dir():
        models = model_folders(place)
        if models:
            folder = choose_folder(models, configuration, path)
            converted = convert_nnunet(folder, folds)
            task = recognise_task(str(converted.facts["dataset"])) or recognise_task(folder.parent.name)
            return as_task(converted, task, licence) if task else converted
        bundle = find_bundle_folder(place)
        if bundle is not None:
            return convert_monai_bundle(bundle)
        if place.name.startswith("fold_"):
            raise refused(path, "It is one fold of a model.", f"Give the folder around it: {path.parent}.")
        place = place / "model.pt"
    if place.suffix == ".pth":
        raise refused(
            path,
            "It is a checkpoint alone, without the plans of its network.",
            f"Give the folder with plans.json around it: {path.parent.parent}.",
        )
    if place.is_file() and is_torch_file(place):
        checkpoint = read_checkpoint(place)
        if is_auto3dseg(checkpoint):
            return convert_auto3dseg(checkpoint)
        cause = "It holds weights, but not the network that they belong to."
        raise refused(path, cause, f"Give {KINDS}.")
    raise refused(path, "It is of no known kind.", f"Give {KINDS}.")
