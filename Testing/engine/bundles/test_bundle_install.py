from __future__ import annotations

import dataclasses
import os
import stat
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from multiorganseg.bundles import (
    AlreadyInstalledError,
    find_bundle,
    install_bundle,
    install_folder,
    list_bundles,
    load_bundle,
    pack_bundle,
)
from multiorganseg.bundles.safe_names import clashes, name_problem
from multiorganseg.errors import BundleError, ResourceError
from multiorganseg.scratch import scratch_folder


@pytest.fixture
def packed(bundle, tmp_path) -> Path:
    return pack_bundle(bundle.folder, tmp_path / "Paket ü.zip")


def _zip_with(packed: Path, name: str | zipfile.ZipInfo, data: bytes = b"x", **options) -> Path:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(name, data, **options)
    return packed


def _refusal(path: Path, user: Path) -> str:
    with pytest.raises(BundleError) as caught:
        install_bundle(path)
    assert "was not installed" in caught.value.problem
    assert caught.value.next_step
    assert not user.exists() or list(user.iterdir()) == []
    return caught.value.cause


def test_a_packed_bundle_installs(places, packed, bundle):
    installed = install_bundle(packed)
    assert installed.folder == places[1] / "abdomen-test"
    assert installed.metadata == bundle.metadata
    assert installed.digest == bundle.digest
    assert find_bundle("abdomen-test") == installed
    assert [path.name for path in places[1].iterdir()] == ["abdomen-test"]


def test_packing_twice_gives_equal_bytes(bundle, packed, tmp_path):
    assert pack_bundle(bundle.folder, tmp_path / "again.zip").read_bytes() == packed.read_bytes()


def test_a_damaged_bundle_is_not_packed(bundle, tmp_path):
    (bundle.folder / "LICENSE").unlink()
    with pytest.raises(BundleError):
        pack_bundle(bundle.folder, tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_a_zip_file_of_the_bare_files_installs_elsewhere(places, bundle, tmp_path):
    path = tmp_path / "bare.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(bundle.folder.rglob("*")):
            archive.write(file, file.relative_to(bundle.folder))
    installed = install_bundle(path, tmp_path / "into")
    assert installed.folder == tmp_path / "into" / "abdomen-test"


def test_what_the_finder_adds_is_left_out(places, packed):
    _zip_with(packed, "__MACOSX/abdomen-test/._LICENSE")
    _zip_with(packed, "abdomen-test/.DS_Store")
    assert not (install_bundle(packed).folder / ".DS_Store").exists()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../evil.txt", "leaves its folder"),
        ("abdomen-test/../../evil.txt", "leaves its folder"),
        ("abdomen-test/./x.txt", "leaves its folder"),
        ("abdomen-test//x.txt", "leaves its folder"),
        ("/tmp/evil.txt", "absolute"),
        ("//host/share/evil.txt", "absolute"),
        ("C:/evil.txt", "drive letter"),
        ("C:evil.txt", "drive letter"),
        ("abdomen-test/x.txt:stream.txt", "drive letter"),
        ("..\\evil.txt", "backslash"),
        ("abdomen-test/new\nline.txt", "not allowed"),
        ("abdomen-test/con.txt", "device name"),
        ("abdomen-test/Nul .md", "device name"),
        ("abdomen-test/COM¹.json", "device name"),
        ("abdomen-test/lpt1/x.txt", "device name"),
        ("abdomen-test/x.txt.", "ends in a dot"),
        ("abdomen-test/dir /x.txt", "ends in a dot"),
        ("abdomen-test/" + "n" * 200 + ".txt", "200 characters"),
        ("abdomen-test/run.py", "of a kind"),
        ("abdomen-test/models/model.pt", "of a kind"),
        ("abdomen-test/archive.zip", "of a kind"),
        ("abdomen-test/license", "of a kind"),
    ],
)
def test_unsafe_names_are_refused(places, packed, tmp_path, name, reason):
    before = set(tmp_path.iterdir())
    assert reason in _refusal(_zip_with(packed, name), places[1])
    assert set(tmp_path.iterdir()) - before <= {places[1]}


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_special_files_are_refused(places, packed, mode):
    entry = zipfile.ZipInfo("abdomen-test/docs/link.md")
    entry.create_system = 3
    entry.external_attr = (mode | 0o777) << 16
    assert "symbolic link" in _refusal(_zip_with(packed, entry, b"/etc/passwd"), places[1])


@pytest.mark.parametrize(
    "name",
    [
        "abdomen-test/LICENSE",
        "abdomen-test/Docs/readme.md",
        "Abdomen-Test/LICENSE",
        "abdomen-test/LICENSE/x.md",
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_that_overwrite_one_another_are_refused(places, packed, name):
    assert "clashes" in _refusal(_zip_with(packed, name), places[1])


def test_names_equal_in_unicode_clash():
    assert clashes(["caf\u00e9.md", "CAFE\u0301.md"])
    assert not clashes(["cafe.md", "caf\u00e9.md", "x/cafe.md"])


@pytest.mark.parametrize(
    "name", ["LICENSE", "docs/README.md", "docs/conform.md", "a.b-c_d/e (1).png", "ü.txt"]
)
def test_ordinary_names_are_safe(name):
    assert name_problem(name) is None


def test_a_bomb_is_refused_before_it_unpacks(places, packed):
    _zip_with(packed, "abdomen-test/zeros.txt", bytes(8 * 2**20), compress_type=zipfile.ZIP_DEFLATED)
    assert "200-fold" in _refusal(packed, places[1])


def test_the_total_size_is_limited(places, packed, monkeypatch):
    monkeypatch.setattr("multiorganseg.bundles.install._MAX_BYTES", 2**20)
    _zip_with(packed, "abdomen-test/a.txt", os.urandom(2**19))
    _zip_with(packed, "abdomen-test/b.txt", os.urandom(2**19))
    assert "exceeds 1 MiB" in _refusal(packed, places[1])


def test_the_limit_of_the_total_size_grows_with_the_zip_file(places, packed, monkeypatch):
    """Weights shrink little, so that a large bundle has a large zip file; what grows much is no bundle."""
    monkeypatch.setattr("multiorganseg.bundles.install._ALWAYS_BYTES", 2**20)
    _zip_with(packed, "abdomen-test/a.txt", os.urandom(2**21))
    assert "a.txt" in _refusal(packed, places[1])
    growing = (os.urandom(2**16) + bytes(2**20)) * 8
    _zip_with(packed, "abdomen-test/b.txt", growing, compress_type=zipfile.ZIP_DEFLATED)
    assert "exceeds 10 MiB" in _refusal(packed, places[1])


def test_too_many_entries_are_refused(places, packed):
    with zipfile.ZipFile(packed, "a") as archive:
        for number in range(200):
            archive.writestr(f"abdomen-test/{number}.txt", b"")
    assert "206 entries" in _refusal(packed, places[1])


def test_an_encrypted_entry_is_refused(places, packed):
    data = bytearray(packed.read_bytes())
    directory = data.rfind(b"PK\x01\x02")
    data[directory + 8] |= 1
    packed.write_bytes(data)
    assert "encrypted" in _refusal(packed, places[1])


def test_an_unusual_compression_is_refused(places, packed):
    _zip_with(packed, "abdomen-test/x.txt", b"x" * 100, compress_type=zipfile.ZIP_LZMA)
    assert "unusual" in _refusal(packed, places[1])


def test_a_directory_that_lies_about_a_size_is_refused(places, packed):
    data = bytearray(packed.read_bytes())
    entry = data.find(b"PK\x01\x02")
    for offset in (20, 24):
        data[entry + offset : entry + offset + 4] = (5).to_bytes(4, "little")
    packed.write_bytes(data)
    assert "is damaged" in _refusal(packed, places[1])


def test_entries_that_share_their_bytes_are_refused(places, packed):
    data = bytearray(packed.read_bytes())
    start = data.find(b"PK\x01\x02")
    sizes = [data.find(b"PK\x01\x02", start)]
    while (following := data.find(b"PK\x01\x02", sizes[-1] + 4)) > 0:
        sizes.append(following)
    for entry in sizes:
        for offset in (20, 24):
            data[entry + offset : entry + offset + 4] = len(data).to_bytes(4, "little")
    packed.write_bytes(data)
    assert "overlap" in _refusal(packed, places[1])


@pytest.mark.parametrize("keep", [0.2, 0.9])
def test_half_a_download_is_refused(places, packed, keep):
    data = packed.read_bytes()
    packed.write_bytes(data[: int(len(data) * keep)])
    assert "no zip file" in _refusal(packed, places[1])


def test_no_file_and_an_empty_zip_are_refused(places, tmp_path):
    assert "cannot be read" in _refusal(tmp_path / "nowhere.zip", places[1])
    zipfile.ZipFile(tmp_path / "empty.zip", "w").close()
    assert "no manifest.json" in _refusal(tmp_path / "empty.zip", places[1])


def test_a_bundle_that_does_not_verify_is_refused(places, bundle, tmp_path):
    path = tmp_path / "bad.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(bundle.folder.rglob("*")):
            if file.is_file():
                data = file.read_bytes()
                name = f"x/{file.relative_to(bundle.folder).as_posix()}"
                archive.writestr(name, data[:-1] + b"?" if file.name == "README.md" else data)
    assert "docs/README.md was changed" in _refusal(path, places[1])


def test_two_folders_in_one_zip_are_refused(places, packed):
    assert "single folder" in _refusal(_zip_with(packed, "other/LICENSE"), places[1])


def test_versions(places, make, metadata, tmp_path):
    packs = {}
    for version in ("1.2.0", "1.10.0"):
        made = make(tmp_path / version / "abdomen-test", dataclasses.replace(metadata, version=version))
        packs[version] = pack_bundle(made.folder, tmp_path / f"{version}.zip")
    install_bundle(packs["1.2.0"])
    with pytest.raises(BundleError, match=r"1\.2\.0 is installed already"):
        install_bundle(packs["1.2.0"])
    install_bundle(packs["1.2.0"], replace=True)
    assert install_bundle(packs["1.10.0"]).metadata.version == "1.10.0"
    with pytest.raises(BundleError, match=r"1\.10\.0 is installed already"):
        install_bundle(packs["1.2.0"])
    assert find_bundle("abdomen-test").metadata.version == "1.10.0"
    assert install_bundle(packs["1.2.0"], replace=True).metadata.version == "1.2.0"
    assert [path.name for path in places[1].iterdir()] == ["abdomen-test"]


def test_a_folder_is_installed_under_the_bundles_name(places, make, metadata, tmp_path):
    made = make(tmp_path / "Projekt" / "abdomen-test-1.2.0")
    installed = install_folder(made.folder)
    assert installed.folder == places[1] / "abdomen-test"
    assert installed.digest == made.digest
    assert load_bundle(made.folder) == made, "the source stays"
    with pytest.raises(AlreadyInstalledError, match=r"1\.2\.0 is installed already"):
        install_folder(made.folder)
    newer = make(tmp_path / "2", dataclasses.replace(metadata, version="1.3.0"))
    assert install_folder(newer.folder).metadata.version == "1.3.0"
    assert install_folder(made.folder, replace=True).metadata.version == "1.2.0"
    assert [path.name for path in places[1].iterdir()] == ["abdomen-test"]


def test_a_folder_that_does_not_verify_is_not_installed(places, make, tmp_path):
    folder = make(tmp_path / "broken").folder
    (folder / "LICENSE").write_text("another", encoding="utf-8")
    with pytest.raises(BundleError, match="cannot be used"):
        install_folder(folder)
    assert list_bundles() == []


def test_a_damaged_bundle_is_replaced_only_when_asked(places, packed):
    folder = install_bundle(packed).folder
    (folder / "LICENSE").unlink()
    with pytest.raises(BundleError, match="--replace"):
        install_bundle(packed)
    assert load_bundle(install_bundle(packed, replace=True).folder)


def test_a_failed_swap_brings_the_old_bundle_back(places, packed, monkeypatch):
    before = install_bundle(packed)
    monkeypatch.setattr("multiorganseg.atomic._exchange", lambda *_: False)
    rename = Path.rename

    def fail_for_the_new(self, target):
        if self.name == "bundle":
            raise OSError(28, "No space left on device")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_for_the_new)
    with pytest.raises(ResourceError, match="No space"):
        install_bundle(packed, replace=True)
    assert load_bundle(before.folder) == before
    assert [path.name for path in places[1].iterdir()] == ["abdomen-test"]


def test_a_killed_install_leaves_nothing_visible(places, packed):
    code = (
        "import os, sys\n"
        "import multiorganseg.bundles.install as install\n"
        "install.put_in_place = lambda *_: os._exit(9)\n"
        "install.install_bundle(sys.argv[1])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(packed)], check=False)
    assert done.returncode == 9
    (left,) = places[1].iterdir()
    assert left.name.startswith(".partial-")
    assert list_bundles() == []
    assert not left.exists(), "whoever looks next tidies up"


@pytest.mark.parametrize("hours", [-25, 0, 25])
def test_work_that_goes_on_keeps_its_folder_whatever_the_clock_says(places, packed, hours):
    places[1].mkdir()
    with scratch_folder(places[1]) as under_way:
        (under_way / "half").touch()
        now = time.time() + hours * 3600
        os.utime(under_way, (now, now))
        install_bundle(packed)
        assert len(list_bundles()) == 1
        assert (under_way / "half").is_file()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_reported(packed, tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ResourceError, match="write permission"):
        install_bundle(packed, tmp_path / "closed" / "models")


def test_a_file_where_the_folder_should_be_is_reported(packed, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ResourceError, match="write permission"):
        install_bundle(packed, tmp_path / "file" / "models")
