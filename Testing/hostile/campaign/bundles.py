"""Bundles: zip files, metadata and weights."""

from __future__ import annotations

import hashlib
import json
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from campaign.kind import Kind
from campaign.mutate import spoil_bytes, spoil_file, spoil_json, spoil_tree, write_json

ORGANS = ("spleen", "liver", "kidney_left")
METADATA, INFERENCE, WEIGHTS = "configs/metadata.json", "configs/inference.json", "models/model.safetensors"


def write_sample_bundle(folder: Path) -> None:
    """Write a bundle with random weights."""
    import torch

    from multiorganseg.bundles import Metadata, Preprocessing, write_bundle
    from multiorganseg.networks.build import build_network
    from multiorganseg.organs.labels import LabelTable

    said = Metadata(
        schema_version=1,
        name="tiny-ct",
        version="0.1.0",
        description="Random weights for tests.",
        modality="CT",
        architecture="strided_dynunet",
        arguments={"filters": [8, 8, 8], "stem_stride": [1, 2, 2]},
        activation="softmax",
        labels=LabelTable.numbered(ORGANS),
        preprocessing=Preprocessing((3.0, 2.0, 2.0), "window", (-160.0, 240.0)),
        patch_shape=(16, 32, 32),
        feature_channels=8,
        license="Apache-2.0",
    )
    torch.manual_seed(5)
    network = build_network(
        said.architecture, {"in_channels": 1, "out_channels": said.channels, **said.arguments}
    )
    weights = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    write_bundle(folder, said, weights, "# Tiny", "Licence text")


def _prepare_folder(folder: Path) -> None:
    write_sample_bundle(folder / "tiny-ct")


def _prepare_zip(folder: Path) -> None:
    from multiorganseg.bundles import pack_bundle

    write_sample_bundle(folder / "tiny-ct")
    pack_bundle(folder / "tiny-ct", folder / "tiny-ct.zip")


def _list_anew(folder: Path) -> None:
    """Make the manifest fit, as somebody would who spoils a bundle on purpose."""
    files = {}
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.name != "manifest.json"):
        data = path.read_bytes()
        name = path.relative_to(folder).as_posix()
        files[name] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data)}
    (folder / "manifest.json").write_text(json.dumps({"schema_version": 1, "files": files}), encoding="utf-8")


def _use(folder: Path) -> Any:
    """Load a bundle, build its network and load the weights, as a segmentation does."""
    from multiorganseg.bundles import load_bundle, read_weights
    from multiorganseg.inference.backends import load_network
    from multiorganseg.inference.segment import Segmenter

    bundle = load_bundle(folder)
    weights = read_weights(bundle)
    Segmenter(bundle)
    load_network(bundle)
    return bundle.metadata, weights


# ── Zip ─────────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = (
    "../evil.txt", "/tmp/evil.txt", "tiny-ct/../../evil.txt", "C:\\evil.txt", "con.txt", "a" * 300 + ".txt",
    "LICENSE", "license", "docs/README.md/x", "models/model.pt", "x.py", "\u202egnp.md", "é.md", "e\u0301.md",
    " ", ".", "a\x00b.md", "manifest.json", "configs", "new/",
)  # fmt: skip


ZIP_TRICKS = (
    "metadata", "inference", "weights", "manifest", "entry", "entry", "name", "link", "method", "encrypted",
    "ratio", "size", "many", "twice", "comment", "before", "nested",
)  # fmt: skip


def _mutate_zip(random: Random, folder: Path) -> str:
    path = folder / "tiny-ct.zip"
    if random.random() < 0.3:
        return spoil_file(random, path)
    name = random.choice(ZIP_TRICKS)
    what = name
    if name in ("metadata", "inference", "weights"):
        part = folder / "tiny-ct" / {"metadata": METADATA, "inference": INFERENCE, "weights": WEIGHTS}[name]
        what += ": " + (spoil_file(random, part) if name == "weights" else spoil_json(random, part))
        _list_anew(folder / "tiny-ct")
    elif name == "manifest":
        what += ": " + spoil_json(random, folder / "tiny-ct" / "manifest.json")
    files = {
        each.relative_to(folder).as_posix(): each.read_bytes()
        for each in sorted((folder / "tiny-ct").rglob("*"))
        if each.is_file()
    }
    spoilt = random.choice(list(files))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file, data in files.items():
            entry = zipfile.ZipInfo(random.choice(NAMES) if (name, spoilt) == ("name", file) else file)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if file == spoilt:
                if name == "link":
                    entry.external_attr, data = (stat.S_IFLNK | 0o777) << 16, b"/etc/passwd"
                elif name == "method":
                    entry.compress_type = random.choice((zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
                elif name == "encrypted":
                    entry.flag_bits |= 1
                elif name == "ratio":
                    data = bytes(random.choice((10**6, 10**7)))
                elif name == "entry":
                    data, what = spoil_bytes(random, data)
                elif name == "twice":
                    archive.writestr(zipfile.ZipInfo(file), b"other")
            archive.writestr(entry, data)
        if name == "comment":
            archive.comment = random.randbytes(2000)
        for number in range(300 if name == "many" else 0):
            archive.writestr(f"tiny-ct/docs/{number}.md", b"")
        if name == "nested":
            archive.writestr("other/manifest.json", b"{}")
    if name == "size":  # sizes in the central directory lie
        data = bytearray(path.read_bytes())
        at = data.rfind(b"PK\x01\x02")
        data[at + 20 : at + 28] = random.choice((b"\xff" * 8, bytes(8), struct.pack("<II", 10, 10**9)))
        path.write_bytes(bytes(data))
    if name == "before":
        path.write_bytes(random.randbytes(random.choice((1, 5000))) + path.read_bytes())
    return what


def _read_zip(folder: Path) -> Any:
    from multiorganseg.bundles import install_bundle

    outside = {path for path in folder.rglob("*") if "models-here" not in path.parts}
    bundle = install_bundle(folder / "tiny-ct.zip", folder / "models-here")
    new = {path for path in folder.rglob("*") if "models-here" not in path.parts} - outside
    return bundle, _use(bundle.folder), new


def _judge_zip(folder: Path, result: Any) -> str:
    bundle, _, new = result
    if new:
        return f"wrote outside its folder: {new}"
    with zipfile.ZipFile(folder / "tiny-ct.zip") as archive:
        entries = {
            entry.filename.removeprefix("tiny-ct/"): archive.read(entry) for entry in archive.infolist()
        }
    for path in bundle.folder.rglob("*"):
        name = path.relative_to(bundle.folder).as_posix()
        if path.is_file() and entries.get(name) != path.read_bytes():
            return f"{name} is not what the zip file holds"
    return ""


# ── Metadata ────────────────────────────────────────────────────────────────────────────────────────────────


def _mutate_metadata(random: Random, folder: Path) -> str:
    bundle = folder / "tiny-ct"
    name = random.choice((METADATA,) * 5 + (INFERENCE, "arguments", "arguments"))
    if name == "arguments":
        what = _spoil_arguments(random, bundle / METADATA)
    else:
        what = spoil_json(random, bundle / name)
    _list_anew(bundle)
    return f"{name}: {what}"


def _spoil_arguments(random: Random, path: Path) -> str:
    """Choose any architecture with arguments that are too large, of another type or of another network."""
    said = json.loads(path.read_bytes())
    said["architecture"] = random.choice(
        ("strided_dynunet", "slice_unet", "vnet", "monai_segresnet", "monai_swin_unetr")
    )
    sizes = (0, -1, 1, 8, 6000, 10**6, 2**31, 1.5, True, None, "8", [8], [])
    arguments = {
        "filters": [random.choice(sizes) for _ in range(random.choice((1, 3, 5, 60)))],
        "stem_stride": [random.choice((0, 1, 2, 10**6, -1)) for _ in range(3)],
        "n_filters": random.choice(sizes),
        "stages": random.choice((0, 1, 3, 30, 10**6, -1)),
        "dropout": random.choice((0.0, -1, 2, "x", float("1e9"))),
        "blocks_down": [random.choice((1, 2, 10**5, -1)) for _ in range(3)],
        "blocks_up": [random.choice((1, 2, 10**5)) for _ in range(2)],
        "feature_size": random.choice(sizes),
        "depths": [random.choice((1, 2, 10**4)) for _ in range(4)],
        "num_heads": [random.choice((1, 2, 3, 0)) for _ in range(4)],
        "branches": random.choice(([1, 2], [3], [10**6], [0, 3], "x", [-1, 4])),
        "in_channels": random.choice((1, 2, 10**6)),
        "x": 1,
    }
    said["arguments"] = {key: value for key, value in arguments.items() if random.random() < 0.3}
    path.write_text(json.dumps(said), encoding="utf-8")
    return f"{said['architecture']} {str(said['arguments'])[:200]}"


def _read_bundle(folder: Path) -> Any:
    return _use(folder / "tiny-ct")


def _judge_metadata(folder: Path, result: Any) -> str:
    metadata, _ = result
    said = json.loads((folder / "tiny-ct" / METADATA).read_bytes())
    ours = {
        "labels": {str(value): key for value, key in metadata.labels.organs.items()},
        "modality": metadata.modality,
        "patch_shape": list(metadata.patch_shape),
        "architecture": metadata.architecture,
    }
    other = [key for key, value in ours.items() if said[key] != value]
    return f"{other} differ" if other else ""


# ── Weights ─────────────────────────────────────────────────────────────────────────────────────────────────


def _mutate_weights(random: Random, folder: Path) -> str:
    path = folder / "tiny-ct" / WEIGHTS
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, tensors = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = random.choice(("header",) * 4 + ("text", "bytes", "length", "values", "blank", "metadata"))
    if name == "bytes":
        what = spoil_file(random, path, random.choice((8, 8 + length, len(data))))
    elif name == "length":
        lie = random.choice((0, 1, length - 1, length + 1, len(data), 2**31, 2**63, 10**8))
        path.write_bytes(struct.pack("<Q", lie) + data[8:])
        what = f"{lie} bytes of header"
    elif name == "values":
        what, values = "NaN", np.frombuffer(tensors, "<f2").copy()
        values[random.randrange(len(values))] = random.choice((np.nan, np.inf, 65504, 0))
        path.write_bytes(data[: 8 + length] + values.tobytes())
    else:
        what = ""
        if name == "header":
            header, what = spoil_tree(random, header)
        elif name == "metadata":
            header["__metadata__"] = random.choice(({"a": 1}, {"a": None}, 5, {"a": "b"}, [], {"": {}}))
        write_json(random, header, path) if name == "text" else path.write_text(
            json.dumps(header), encoding="utf-8"
        )
        raw = (b" " if name == "blank" else b"") + path.read_bytes()
        path.write_bytes(struct.pack("<Q", len(raw)) + raw + tensors)
    _list_anew(folder / "tiny-ct")
    return f"{name} {what}"


def _judge_weights(folder: Path, result: Any) -> str:
    from safetensors.numpy import load_file

    try:
        expected = load_file(folder / "tiny-ct" / WEIGHTS)
    except Exception:
        return ""
    _, weights = result
    if set(weights) != set(expected):
        return "other names"
    other = [name for name in expected if not np.array_equal(weights[name], expected[name])]
    return f"{other} differ" if other else ""


_judged: tuple[tuple[str, Callable[[Random, Path], str], Callable[[Path, Any], str]], ...] = (
    ("bundle-metadata", _mutate_metadata, _judge_metadata),
    ("safetensors", _mutate_weights, _judge_weights),
)
KINDS = (
    Kind("bundle-zip", _prepare_zip, _mutate_zip, _read_zip, _judge_zip),
    *(Kind(name, _prepare_folder, mutate, _read_bundle, judge) for name, mutate, judge in _judged),
)
