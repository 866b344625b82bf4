"""Corrections as 3D Slicer sees them: from the click to the changed segment, in the tests' stand-in.

Real MRML, real editing logic (slicer-core) and a real resident process. First and second run of Segment come
along, since both use that process. `--picture` draws a click before and after.
See docs/results/correction.md.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import psutil
import typer
from harness.machine import describe_machine
from harness.report import Report, publish
from numpy.typing import NDArray
from scipy import ndimage

from multiorganseg.refine import Prompt, Session

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = Path("build/benchmarks")
ORGANS = ("liver", "spleen", "kidney_left", "stomach", "pancreas")
PICTURE_SIZE = 420


def main(
    ct: Annotated[Path, typer.Argument(help="A CT file, such as .demo-data/cxr.nii.gz of make demo.")],
    clicks: Annotated[int, typer.Option(min=1, help="For each of five organs.")] = 8,
    quality: Annotated[str, typer.Option(help="Of the runs.")] = "fast",
    output: Annotated[Path, typer.Option(help="Folder for the table and JSON.")] = OUTPUT,
    picture: Annotated[Path | None, typer.Option(help="PNG file for a click before and after.")] = None,
) -> None:
    """Segment twice, correct, and compare with the core in this process on the same prompts."""
    sys.path[:0] = [str(ROOT / "Testing" / "host"), str(ROOT / "MultiOrganSeg")]
    import slicer_host

    machine = describe_machine()
    slicer_host.start()
    import slicer

    from MultiOrganSegLib.correct.correction import Correction
    from MultiOrganSegLib.correct.editors import ScriptEditor
    from MultiOrganSegLib.logic import Logic

    logic = Logic()
    volume = slicer.util.loadVolume(str(ct))
    runs = [_run(logic, volume, quality) for _ in range(2)]
    node = runs[1]["node"]
    node.GetSegmentation().CreateRepresentation("Closed surface")
    editor = ScriptEditor(node, volume)
    correction = Correction(logic.engine, node, volume, editor)
    if picture is not None:
        _draw(correction, picture)
    prompts = _prompts(node, volume, clicks)
    started = time.perf_counter()
    correction.say(*prompts[0])
    correction.wait()
    opening = time.perf_counter() - started
    editor.undo()
    answers = _answer(correction, prompts, logic.engine.pid)
    table = _table(runs, opening, answers, _core(node, volume, prompts, answers["labels"]))
    raw = {
        "runs": [{key: run[key] for key in ("first_event", "seconds")} for run in runs],
        "opening": opening,
        "wall": answers["wall"],
        "engine": answers["engine"],
        "processor": answers["processor"],
    }
    publish("correction_in_slicer", output, machine, [table], raw)
    editor.close()
    logic.close()


def _run(logic: Any, volume: Any, quality: str) -> dict[str, Any]:
    """Segment; the time to the first event is that of starting and importing."""
    began = time.perf_counter()
    run = logic.start(volume, quality=quality, device="cpu")
    first = None
    while run.state == "running":
        run.poll()
        if first is None and run.stage:
            first = time.perf_counter() - began
        time.sleep(0.01)
    if run.error is not None:
        raise run.error
    return {"node": run.segmentation_node, "first_event": first, "seconds": time.perf_counter() - began}


def _prompts(node: Any, volume: Any, count: int) -> list[tuple[str, Prompt]]:
    """Clicks on both sides of each organ's border, drawn with a fixed seed: 4 to 12 mm away from it."""
    from MultiOrganSegLib.correct.segments import read_labels

    generator = np.random.default_rng(0)
    ids, labels = read_labels(node, volume)
    spacing = volume.GetSpacing()[::-1]
    prompts = []
    for organ in (each for each in ORGANS if each in ids):
        mask = labels == 1 + ids.index(organ)
        if not mask.any():
            continue
        box = tuple(
            slice(max(0, part.start - 12), part.stop + 12)
            for part in ndimage.find_objects(mask.view(np.uint8))[0]
        )
        cut = mask[box]
        inside = ndimage.distance_transform_edt(cut, spacing)
        outside = ndimage.distance_transform_edt(~cut, spacing)
        for number in range(count):
            depth = outside if number % 2 else inside
            choice = np.argwhere((depth > 4) & (depth < 12))
            voxel = generator.choice(choice) + [part.start for part in box]
            prompts.append((organ, Prompt.click(voxel.tolist(), positive=bool(number % 2))))
    return prompts


def _answer(correction: Any, prompts: list[tuple[str, Prompt]], pid: int) -> dict[str, Any]:
    """Say prompts one after the other, each once the one before is written."""
    from MultiOrganSegLib.correct.segments import read_labels

    _ids, labels = read_labels(correction.node, correction.volume)
    process = psutil.Process(pid)
    wall, engine, processor = [], [], []
    for organ, prompt in prompts:
        began, used = time.perf_counter(), time.process_time() + sum(process.cpu_times()[:2])
        correction.say(organ, prompt)
        while correction.busy:
            correction.poll()
            time.sleep(0.005)
        if correction.error is not None:
            raise correction.error
        wall.append(time.perf_counter() - began)
        engine.append(correction.engine_seconds)
        processor.append(time.process_time() + sum(process.cpu_times()[:2]) - used)
    return {"wall": wall, "engine": engine, "processor": processor, "labels": labels}


def _core(
    node: Any, volume: Any, prompts: list[tuple[str, Prompt]], labels: NDArray[np.unsignedinteger]
) -> dict[str, list[float]]:
    """The same prompts answered by `Session` in this process, with maps of its own run."""
    from multiorganseg.bundles import find_bundle
    from multiorganseg.inference.segment import Options, Segmenter
    from multiorganseg.organs.labels import LabelTable
    from MultiOrganSegLib.mrml import volume_from_node

    scan = volume_from_node(volume)
    maps = Segmenter(find_bundle("abdomen-ct"), Options(quality="fast", device="cpu")).record(scan)
    table = LabelTable.numbered(node.GetSegmentation().GetSegmentIDs())
    session = Session(scan, labels, table, maps)
    wall, processor = [], []
    for organ, prompt in prompts:
        began, used = time.perf_counter(), time.process_time()
        session.correct(organ, [prompt])
        wall.append(time.perf_counter() - began)
        processor.append(time.process_time() - used)
    return {"wall": wall, "processor": processor}


def _table(
    runs: list[dict[str, Any]], opening: float, answers: dict[str, Any], core: dict[str, list[float]]
) -> Report:
    def row(name: str, seconds: list[float]) -> tuple[str, ...]:
        return name, f"{np.median(seconds):.3f}", f"{np.percentile(seconds, 95):.3f}"

    ratio = np.array(answers["wall"]) / np.array(answers["engine"])
    return Report(
        "From the click to the changed segment, seconds",
        ("", "p50", "p95"),
        [
            row("core alone, processor", core["processor"]),
            row("click to written segment, processor of both processes", answers["processor"]),
            row("core alone, wall", core["wall"]),
            row("in the resident process, wall", answers["engine"]),
            row("click to written segment, wall", answers["wall"]),
            ("the last over the one before", f"{np.median(ratio):.2f}", f"{np.percentile(ratio, 95):.2f}"),
        ],
        notes=(
            f"{len(answers['wall'])} prompts. First answer, with opening the session: {opening:.2f} s.",
            *(
                f"{name} run: {run['first_event']:.2f} s to its first event, {run['seconds']:.1f} s in all."
                for name, run in zip(("First", "Second"), runs, strict=True)
            ),
        ),
    )


def _draw(correction: Any, path: Path) -> None:
    """Cut a part off the liver, click where it is missing, put both views side by side, and give it back."""
    import rendering
    import slicer
    from PIL import Image, ImageDraw

    from MultiOrganSegLib.correct.segments import read_labels

    node, volume = correction.node, correction.volume
    correction.lock_others = True
    ids, labels = read_labels(node, volume)
    mask = labels == 1 + ids.index("liver")
    k = int(np.argmax(mask.sum(axis=(1, 2))))
    columns = np.flatnonzero(mask[k].any(axis=0))
    middle = int(columns[0] + 0.55 * (columns[-1] - columns[0]))
    halves = (np.arange(mask.shape[2]) < middle, np.arange(mask.shape[2]) >= middle)
    lost = mask & min(halves, key=lambda half: np.count_nonzero(mask & half))
    kept = (mask & ~lost).astype(np.uint8)
    slicer.util.updateSegmentBinaryLabelmapFromArray(kept, node, "liver", volume)
    depth = ndimage.distance_transform_edt(lost[k], volume.GetSpacing()[1::-1])
    j, i = (int(part) for part in np.unravel_index(int(depth.argmax()), depth.shape))
    tiles = []
    for name in ("before", "after"):
        if name == "after":
            correction.say("liver", Prompt.click((k, j, i)))
            correction.wait()
        ras = _ras(volume, (k, j, i))
        tile = path.with_name(f"{path.stem}-{name}.png")
        size = (2 * PICTURE_SIZE, 2 * PICTURE_SIZE)
        rendering.slice_view(volume, node, tile, "Axial", ras[2], size)
        tiles.append(Image.open(tile).convert("RGB"))
        tile.unlink()
    x, y = _pixel(volume, ras, tiles[0].size)
    draw = ImageDraw.Draw(tiles[0])
    for color, width, arm in (("black", 12, 25), ("#3cdc5a", 6, 22)):
        draw.line((x - arm, y, x + arm, y), fill=color, width=width)
        draw.line((x, y - arm, x, y + arm), fill=color, width=width)
    canvas = Image.new("RGB", (2 * PICTURE_SIZE + 6, PICTURE_SIZE), "white")
    for number, tile in enumerate(tiles):
        small = tile.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.LANCZOS)
        canvas.paste(small, (number * (PICTURE_SIZE + 6), 0))
    path.parent.mkdir(parents=True, exist_ok=True)
    canvas.quantize(192, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
    correction.lock_others = False
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask.astype(np.uint8), node, "liver", volume)


def _ras(volume: Any, voxel: tuple[int, int, int]) -> NDArray[np.float64]:
    import slicer
    import vtk

    matrix = vtk.vtkMatrix4x4()
    volume.GetIJKToRASMatrix(matrix)
    return (slicer.util.arrayFromVTKMatrix(matrix) @ (*voxel[::-1], 1.0))[:3]


def _pixel(volume: Any, ras: NDArray[np.float64], size: tuple[int, int]) -> tuple[float, float]:
    """Where a point lies in an axial view that shows the whole volume in its middle."""
    bounds = [0.0] * 6
    volume.GetRASBounds(bounds)
    width, height = bounds[1] - bounds[0], bounds[3] - bounds[2]
    scale = min(size[0] / width, size[1] / height)
    centre = ((bounds[0] + bounds[1]) / 2, (bounds[2] + bounds[3]) / 2)
    return size[0] / 2 - (ras[0] - centre[0]) * scale, size[1] / 2 - (ras[1] - centre[1]) * scale


if __name__ == "__main__":
    typer.run(main)
