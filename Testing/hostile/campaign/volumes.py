"""Images and label maps in NIfTI, NRRD and MetaImage."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from campaign.kind import Kind
from campaign.mutate import NUMBERS, spoil_bytes, spoil_file, spoil_json, spoil_lines

SHAPE = (5, 6, 7)
AFFINE = np.array([[0.8, 0, 0, -30.0], [0, 0.8, 0, 12.0], [0, 0, 2.5, 100.0], [0, 0, 0, 1]])
ORGANS = {1: "spleen", 2: "liver", 3: "kidney_left"}


def _voxels() -> np.ndarray:
    return np.random.default_rng(3).integers(-1000, 1500, SHAPE).astype(np.int16)


def _labels() -> np.ndarray:
    return np.random.default_rng(4).integers(0, 4, SHAPE).astype(np.uint8)


def _read_volume(name: str) -> Callable[[Path], Any]:
    def read(folder: Path) -> Any:
        from multiorganseg.volumes import read_volume

        return read_volume(folder / name)

    return read


# ── NIfTI ───────────────────────────────────────────────────────────────────────────────────────────────────


def _prepare_nifti(folder: Path) -> None:
    import nibabel

    ras = np.diag([-1.0, -1.0, 1.0, 1.0]) @ AFFINE
    image = nibabel.Nifti1Image(_voxels().transpose(2, 1, 0), ras)
    image.set_qform(ras, 1)
    image.set_sform(ras, 1)
    nibabel.save(image, folder / "ct.nii")


def _mutate_nifti(random: Random, folder: Path) -> str:
    path = folder / "ct.nii"
    data, what = _spoil_nifti(random, path.read_bytes())
    path.write_bytes(data)
    return what


def _spoil_nifti(random: Random, data: bytes) -> tuple[bytes, str]:
    from nibabel.nifti1 import header_dtype

    if random.random() < 0.25:
        where = random.choice((352, len(data)))
        head, what = spoil_bytes(random, data[:where])
        return head + data[where:], what
    header = np.frombuffer(data[:348], header_dtype).copy()
    done = []
    for _ in range(random.choice((1, 1, 2, 3))):
        name = random.choice(
            ("dim", "dim", "pixdim", "pixdim", "datatype", "bitpix", "vox_offset", "scl_slope", "scl_inter",
             "qform_code", "sform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "quatern_c", "quatern_d",
             "qoffset_x", "magic", "sizeof_hdr", "xyzt_units", "intent_code")
        )  # fmt: skip
        field = header[name]
        place = (0, random.randrange(field.shape[1])) if field.ndim > 1 else (0,)
        field[place] = _extreme_of(random, field.dtype)
        done.append(f"{name}{list(place[1:])}={field[place]}")
    raw = header.tobytes()
    if random.random() < 0.15:
        raw, done = header.byteswap().tobytes(), [*done, "swapped"]
    return raw + data[348:], ", ".join(done)


def _extreme_of(random: Random, dtype: np.dtype) -> Any:
    if dtype.kind == "S":
        return random.choice((b"n+1", b"n+2", b"ni1", b"", b"\xff\xff"))
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            value = random.choice(
                (0, -1, 1, 2, 0.5, np.nan, np.inf, -np.inf, 1e38, 1e-38, -2, 352, 351.5, 1e9)
            )
            return dtype.type(value)
    limits = np.iinfo(dtype)
    return random.choice((0, 1, 2, 3, 4, 5, 7, 8, 16, 64, 100, 127, limits.max, limits.min, limits.max - 1))


def _mutate_nifti_gz(random: Random, folder: Path) -> str:
    path = folder / "ct.nii.gz"
    plain = gzip.decompress(path.read_bytes())
    name = random.choice(
        ("inside",) * 4 + ("bytes", "members", "junk after", "checksum", "twice", "zeros", "cut")
    )
    if name == "inside":
        plain, what = _spoil_nifti(random, plain)
        path.write_bytes(gzip.compress(plain))
        return what
    data = gzip.compress(plain)
    middle = random.randrange(len(plain))
    path.write_bytes(
        {
            "bytes": lambda: spoil_bytes(random, data)[0],
            "members": lambda: gzip.compress(plain[:middle]) + gzip.compress(plain[middle:]),
            "junk after": lambda: data + random.randbytes(random.choice((1, 50, 5000))),
            "checksum": lambda: data[:-8] + random.randbytes(8),
            "twice": lambda: gzip.compress(data),
            "zeros": lambda: gzip.compress(plain + bytes(random.choice((1, 10**6, 10**8)))),
            "cut": lambda: data[: random.randrange(len(data))],
        }[name]()
    )
    return name


def _prepare_nifti_gz(folder: Path) -> None:
    _prepare_nifti(folder)
    (folder / "ct.nii.gz").write_bytes(gzip.compress((folder / "ct.nii").read_bytes()))
    (folder / "ct.nii").unlink()


def _judge_nifti(name: str) -> Callable[[Path, Any], str]:
    def judge(folder: Path, volume: Any) -> str:
        import nibabel

        try:
            image = nibabel.load(folder / name)
            voxels = np.asarray(image.get_fdata(), dtype=np.float64)
            affine, header = image.affine, image.header
            units = header.get_xyzt_units()[0]
            opened = gzip.open if name.endswith(".gz") else Path.open
            with opened(folder / name) as file:
                stored = type(header).from_fileobj(file, check=False)
        except Exception:
            return ""
        repaired = any(stored[code] != header[code] for code in ("sform_code", "qform_code"))
        if not np.isfinite([*header.get_slope_inter()] if header.get_slope_inter()[0] else [0.0]).all():
            return ""
        while voxels.ndim > 3 and voxels.shape[-1] == 1:
            voxels = voxels[..., 0]
        placed = int(header["sform_code"]) > 0 or int(header["qform_code"]) > 0
        if placed and not repaired and units in ("mm", "unknown"):
            expected = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
            if not np.allclose(volume.affine, expected, rtol=1e-4, atol=1e-3):
                return f"affine {volume.affine.tolist()} instead of {expected.tolist()}"
        return _compare_voxels(volume.voxels, voxels.transpose(2, 1, 0) if voxels.ndim == 3 else voxels)

    return judge


def _compare_voxels(ours: np.ndarray, theirs: np.ndarray) -> str:
    if ours.shape != theirs.shape:
        return f"shape {ours.shape} instead of {theirs.shape}"
    if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-3, equal_nan=True):
        return f"{np.count_nonzero(~np.isclose(ours, theirs, rtol=1e-4, atol=1e-3))} other voxels"
    return ""


# ── NRRD and MetaImage ──────────────────────────────────────────────────────────────────────────────────────


def _prepare_itk(name: str, *, compressed: bool = False) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        import SimpleITK as sitk

        image = sitk.GetImageFromArray(_voxels())
        image.SetSpacing(np.diag(AFFINE)[:3].tolist())
        image.SetOrigin(AFFINE[:3, 3].tolist())
        sitk.WriteImage(image, str(folder / name), compressed)

    return prepare


def _mutate_headed(name: str, separator: bytes, last: bytes | None) -> Callable[[Random, Path], str]:
    """Spoil the header of a file; `last` begins its last line, None where a blank line follows it."""

    def mutate(random: Random, folder: Path) -> str:
        path = folder / name
        if random.random() < 0.2:
            others = sorted(each for each in folder.iterdir() if each.is_file())
            return spoil_file(random, random.choice(others))
        data = path.read_bytes()
        if last is None:
            end = data.find(b"\n\n")
            end = len(data) if end < 0 else end
        else:
            end = data.index(b"\n", data.index(last))
        head, rest, done = data[:end], data[end:], []
        for _ in range(random.choice((1, 1, 2, 3))):
            head, what = spoil_lines(random, head, separator)
            done.append(what)
        path.write_bytes(head + rest)
        return "; ".join(done)

    return mutate


_NOT_IN_ITK = (
    b"units",
    b"anterior",
    b"right",
    b"inferior",
    b"las",
    b"slope",
    b"offset",
    b"tocenter",
    b"min",
    b"frame",
)
"""What SimpleITK does not honour, or reads in its own way: there it cannot judge."""


def _judge_itk(name: str) -> Callable[[Path, Any], str]:
    def judge(folder: Path, volume: Any) -> str:
        import SimpleITK as sitk

        path = folder / name
        raw = path.read_bytes()
        header = raw[: (raw.find(b"\n\n") if b"NRRD" in raw[:4] else raw.find(b"LOCAL")) % len(raw)].lower()
        if any(word in header for word in _NOT_IN_ITK):
            return ""
        try:
            image = sitk.ReadImage(str(path))
        except RuntimeError:
            return ""
        if image.GetDimension() != 3 or image.GetNumberOfComponentsPerPixel() != 1:
            return ""
        expected = np.eye(4)
        expected[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * image.GetSpacing()
        expected[:3, 3] = image.GetOrigin()
        if not np.allclose(volume.affine, expected, rtol=1e-5, atol=1e-3):
            return f"affine {volume.affine.tolist()} instead of {expected.tolist()}"
        return _compare_voxels(volume.voxels, sitk.GetArrayFromImage(image))

    return judge


# ── Label maps and their tables ─────────────────────────────────────────────────────────────────────────────


def _prepare_seg_nrrd(folder: Path) -> None:
    from multiorganseg.organs.catalogue import load_catalogue
    from multiorganseg.organs.labels import LabelTable
    from multiorganseg.results.seg_nrrd import write_seg_nrrd
    from multiorganseg.results.segmentation import Segmentation

    made = Segmentation(_labels(), AFFINE, LabelTable(ORGANS))
    write_seg_nrrd(made, folder / "organs.seg.nrrd", load_catalogue())


def _read_seg_nrrd(folder: Path) -> Any:
    from multiorganseg.results.nifti import read_label_table
    from multiorganseg.volumes import read_labels

    path = folder / "organs.seg.nrrd"
    return read_labels(path), read_label_table(path)


def _judge_seg_nrrd(folder: Path, result: Any) -> str:
    volume, table = result
    wrong = _judge_itk("organs.seg.nrrd")(folder, volume)
    if wrong:
        return wrong
    header = (folder / "organs.seg.nrrd").read_bytes().split(b"\n\n")[0].decode("utf-8", "replace")
    keys = [line.split(":=", 1)[0].strip() for line in header.splitlines() if ":=" in line]
    said = {found[1] for key in keys if (found := re.fullmatch(r"(Segment\d+)_(ID|Name)", key))}
    if len(said) != len(table.organs):
        return f"{len(table.organs)} of {len(said)} segments"
    return ""


def _prepare_label_table(folder: Path) -> None:
    import SimpleITK as sitk

    sitk.WriteImage(sitk.GetImageFromArray(_labels()), str(folder / "organs.nii.gz"))
    table = {"labels": {str(value): key for value, key in ORGANS.items()}}
    (folder / "organs.labels.json").write_text(json.dumps(table), encoding="utf-8")


def _mutate_label_table(random: Random, folder: Path) -> str:
    path = folder / "organs.labels.json"
    if random.random() < 0.5:
        keys = [
            random.choice(("1", "01", " 1", "+1", "2", "3", "٣", "1.0", "1e0", *NUMBERS)) for _ in range(3)
        ]
        rows = ", ".join(
            f"{json.dumps(key)}: {json.dumps(organ)}"
            for key, organ in zip(keys, ORGANS.values(), strict=True)
        )
        path.write_text(f'{{"labels": {{{rows}}}}}', encoding="utf-8")
        return f"values {keys}"
    return spoil_json(random, path)


def _read_label_table(folder: Path) -> Any:
    from multiorganseg.results.nifti import read_label_table

    return read_label_table(folder / "organs.nii.gz")


def _judge_label_table(folder: Path, table: Any) -> str:
    try:
        text = (folder / "organs.labels.json").read_bytes().decode("utf-8-sig")
        said = json.loads(text, object_pairs_hook=list)
        labels = [value for key, value in said if key == "labels"][-1]
        rows = [(int(key), str(value).strip()) for key, value in labels]
    except (ValueError, TypeError, IndexError):
        return ""
    rows = [(value, key) for value, key in rows if value or key != "background"]
    if any(not key.strip() for key in table.keys):
        return "an organ without a name"
    if sorted(rows) != sorted((value, key.strip()) for value, key in table.organs.items()):
        return f"{table.organs} instead of {rows}"
    return ""


KINDS = (
    Kind("nifti", _prepare_nifti, _mutate_nifti, _read_volume("ct.nii"), _judge_nifti("ct.nii")),
    Kind(
        "nifti-gz", _prepare_nifti_gz, _mutate_nifti_gz, _read_volume("ct.nii.gz"), _judge_nifti("ct.nii.gz")
    ),
    *(
        Kind(
            name.rpartition(".")[2],
            _prepare_itk(name, compressed=compressed),
            _mutate_headed(name, separator, last),
            _read_volume(name),
            _judge_itk(name),
        )
        for name, compressed, separator, last in (
            ("ct.nrrd", True, b":", None),
            ("ct.nhdr", False, b":", None),
            ("ct.mha", False, b"=", b"ElementDataFile"),
            ("ct.mhd", False, b"=", b"ElementDataFile"),
        )
    ),
    Kind(
        "seg-nrrd",
        _prepare_seg_nrrd,
        _mutate_headed("organs.seg.nrrd", b":=", None),
        _read_seg_nrrd,
        _judge_seg_nrrd,
    ),
    Kind("label-table", _prepare_label_table, _mutate_label_table, _read_label_table, _judge_label_table),
)
