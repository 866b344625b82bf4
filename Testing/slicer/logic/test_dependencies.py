"""Missing packages: seen without importing them, installed after one question, and never in a test run."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import subprocess
import sys
import types
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from multiorganseg import needs
from multiorganseg.errors import DependencyError

REPOSITORY = Path(__file__).resolve().parents[3]
SLICER_BRINGS = {"numpy", "scipy", "SimpleITK", "vtk", "requests", "pydicom", "packaging"}


@pytest.fixture
def dependencies(host):
    from MultiOrganSegLib import dependencies

    return dependencies


@pytest.fixture
def absent(monkeypatch) -> set[str]:
    """Import names that count as not installed."""
    names: set[str] = set()
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, package=None: None if name in names else find_spec(name, package),
    )
    return names


@pytest.fixture
def asked(monkeypatch, host) -> list[str]:
    """Questions that were asked; all are answered with yes."""
    import slicer

    questions: list[str] = []
    monkeypatch.setattr(
        slicer.util, "confirmOkCancelDisplay", lambda text, **_kwargs: bool(questions.append(text) or True)
    )
    return questions


@pytest.fixture
def torch_extension(monkeypatch, absent) -> list[dict]:
    """The extension PyTorch, which here installs at once and records how it was called."""
    calls: list[dict] = []

    class PyTorchUtilsLogic:
        def installTorch(self, askConfirmation, forceComputationBackend, torchVersionRequirement):
            calls.append({"ask": askConfirmation, "version": torchVersionRequirement})
            absent.discard("torch")
            return types.ModuleType("torch")

    module = types.ModuleType("PyTorchUtils")
    module.PyTorchUtilsLogic = PyTorchUtilsLogic
    monkeypatch.setitem(sys.modules, "PyTorchUtils", module)
    return calls


@pytest.fixture
def pip(monkeypatch, host, absent) -> list[list[str]]:
    """What `slicer.packaging` was told to install; it is there at once."""
    from slicer import packaging

    reported: list[list[str]] = []
    import_names = {"connected-components-3d": "cc3d"}

    def pip_ensure(requirements, *, constraints=None, prompt_install=True, requester=None) -> None:
        kept = Path(constraints).read_text(encoding="utf-8").splitlines()
        for package in ("torch", "numpy", "SimpleITK"):
            assert f"{package}=={importlib.metadata.version(package)}" in kept
        assert requester == "MultiOrganSeg"
        assert not prompt_install, "the user was asked already"
        names = [str(requirement) for requirement in requirements]
        reported.append(names)
        absent.difference_update(import_names.get(name, name) for name in names)

    monkeypatch.setattr(packaging, "pip_ensure", pip_ensure)
    return reported


def _requirements() -> set[str]:
    text = (REPOSITORY / "MultiOrganSeg/Resources/requirements.txt").read_text(encoding="utf-8")
    lines = [Requirement(line) for line in text.splitlines() if line and not line.startswith("#")]
    return {line.name for line in lines if line.marker is None or line.marker.evaluate()}


def test_the_requirements_are_all_that_an_entry_point_needs_beyond_torch_which_has_an_extension() -> None:
    assert _requirements() == set(needs.every_package()) - {"torch"}


def test_pip_gets_the_same_from_the_project_file() -> None:
    tomllib = pytest.importorskip("tomllib", reason="in Python from 3.11 on")
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    engine = {Requirement(line).name for line in project["dependencies"]}
    training = {Requirement(line).name for line in project["optional-dependencies"]["train"]}
    assert engine - SLICER_BRINGS <= set(needs.every_package())
    assert set(needs.every_package()) <= engine | training


def test_requirements_are_not_pinned_and_slicer_can_read_them(host, dependencies) -> None:
    from slicer.packaging import load_requirements

    read = load_requirements(dependencies.REQUIREMENTS)
    assert _requirements() <= {requirement.name for requirement in read} <= _requirements() | {"tomli"}
    assert not any(requirement.specifier for requirement in read)


def test_nothing_is_missing_here_and_nobody_is_asked(dependencies, asked, pip) -> None:
    assert dependencies.missing_packages() == []
    dependencies.ensure_dependencies()
    dependencies.ensure_dicom_export()
    assert asked == []
    assert pip == []


def test_missing_packages_are_named_as_pip_names_them_torch_first(dependencies, absent) -> None:
    absent |= {"cc3d", "torch", "monai"}
    assert dependencies.missing_packages() == ["torch", "monai", "connected-components-3d"]


def test_looking_for_packages_imports_none() -> None:
    code = (
        "import sys; sys.path[:0] = ['Testing/host', 'MultiOrganSeg']\n"
        "import slicer_host; slicer_host.start()\n"
        "from MultiOrganSegLib.dependencies import missing_packages\n"
        "missing_packages()\n"
        "assert not {'torch', 'monai', 'cc3d', 'qt', 'ctk'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


def test_one_question_then_torch_by_its_extension_and_the_rest_by_pip(
    dependencies, absent, asked, torch_extension, pip
) -> None:
    absent |= {"torch", "monai", "cc3d"}
    dependencies.ensure_dependencies()
    assert len(asked) == 1
    assert all(name in asked[0] for name in ("torch", "monai", "connected-components-3d"))
    assert torch_extension == [{"ask": False, "version": ">=2.4"}]
    assert pip == [["monai", "connected-components-3d"]]


def test_what_an_entry_point_does_not_need_does_not_hold_it_up(dependencies, absent, asked, pip) -> None:
    absent.add("matplotlib")
    assert dependencies.missing_packages() == ["matplotlib"]
    for entry in needs.NEEDS:
        assert dependencies.missing_packages(entry) == []
        dependencies.ensure_dependencies(entry=entry)
    assert (asked, pip) == ([], [])
    absent.add("filelock")
    dependencies.ensure_dependencies(entry=needs.SEGMENT)
    assert (asked, pip) == ([], [])
    dependencies.ensure_dependencies(entry=needs.ADD_ORGAN)
    assert pip == [["filelock", "matplotlib"]], "one question for all that is missing"
    assert len(asked) == 1


def test_without_a_question_when_told_so(dependencies, absent, asked, pip) -> None:
    absent.add("monai")
    dependencies.ensure_dependencies(ask=False)
    assert asked == []
    assert pip == [["monai"]]


def test_before_slicer_5_12_pip_is_used_as_it_is(dependencies, absent, asked, monkeypatch) -> None:
    import slicer

    reported: list[list[str]] = []
    absent |= {"monai", "slicer.packaging"}
    kept: list[str] = []

    def pip_install(arguments) -> None:
        reported.append(arguments)
        kept.append(Path(arguments[-1]).read_text(encoding="utf-8"))
        absent.discard("monai")

    monkeypatch.setattr(slicer.util, "pip_install", pip_install)
    dependencies.ensure_dependencies()
    assert [arguments[:-1] for arguments in reported] == [["monai", "--constraint"]]
    assert f"torch=={importlib.metadata.version('torch')}\n" in kept[0]
    assert len(asked) == 1


def test_declining_installs_nothing_and_says_how_to_go_on(dependencies, absent, pip, monkeypatch) -> None:
    import slicer

    absent.add("monai")
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *_args, **_kwargs: False)
    with pytest.raises(DependencyError) as caught:
        dependencies.ensure_dependencies()
    assert pip == []
    assert "declined" in caught.value.cause
    assert "monai" in caught.value.problem
    assert "pip download" in caught.value.next_step


def test_without_the_pytorch_extension_it_is_named(dependencies, absent, asked, pip, monkeypatch) -> None:
    absent |= {"torch", "monai"}
    monkeypatch.setitem(sys.modules, "PyTorchUtils", None)
    with pytest.raises(DependencyError, match="Extensions Manager") as caught:
        dependencies.ensure_dependencies()
    assert "extension PyTorch" in caught.value.cause
    assert pip == [], "other packages would bring a torch of their own choice"


@pytest.mark.parametrize(
    "error",
    [
        subprocess.CalledProcessError(1, ["pip", "install", "monai"]),
        RuntimeError("User declined package installation"),
        OSError("No space left on device"),
    ],
)
def test_a_failing_installation_tells_the_cause_and_the_way_without_a_network(
    dependencies, absent, asked, monkeypatch, error
) -> None:
    from slicer import packaging

    def fail(*_args, **_kwargs) -> None:
        raise error

    absent.add("monai")
    monkeypatch.setattr(packaging, "pip_ensure", fail)
    with pytest.raises(DependencyError) as caught:
        dependencies.ensure_dependencies()
    assert caught.value.cause == str(error)
    assert caught.value.__cause__ is error
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert f"--python-version {version} --dest multiorganseg-wheels monai" in caught.value.next_step
    assert "--no-index --find-links" in caught.value.next_step


def test_an_installation_that_changes_nothing_is_no_success(dependencies, absent, asked, monkeypatch) -> None:
    from slicer import packaging

    absent.add("monai")
    monkeypatch.setattr(packaging, "pip_ensure", lambda *_args, **_kwargs: None)
    with pytest.raises(DependencyError, match="still not there"):
        dependencies.ensure_dependencies()


def test_nothing_is_installed_while_slicer_runs_tests(
    dependencies, absent, asked, pip, torch_extension, host
) -> None:
    absent |= {"torch", "monai"}
    host.app.testing = True
    with pytest.raises(DependencyError, match="runs tests"):
        dependencies.ensure_dependencies()
    assert (asked, pip, torch_extension) == ([], [], [])


def test_the_offline_text_quotes_what_a_shell_would_misread(dependencies) -> None:
    text = dependencies.offline_steps(["torch", "monai"])
    assert '"torch>=2.4" monai' in text


def test_dicom_export_asks_once_for_highdicom(dependencies, absent, asked, pip) -> None:
    absent.add("highdicom")
    dependencies.ensure_dicom_export()
    assert pip == [["highdicom"]]
    assert len(asked) == 1


def test_dicom_export_never_replaces_slicers_own_pydicom(
    dependencies, absent, asked, pip, monkeypatch
) -> None:
    absent.add("highdicom")
    monkeypatch.setattr(importlib.metadata, "version", lambda _name: "2.4.4")
    with pytest.raises(DependencyError, match=r"Slicer 5\.12"):
        dependencies.ensure_dicom_export()
    assert (asked, pip) == ([], [])
