"""Kernels that were built ahead: no compiler is needed, and nothing of another source or kind is executed."""

import ctypes
import json
import shutil

import pytest
import torch
from typer.testing import CliRunner

from tet_deploy.cli import app
from tet_deploy.errors import ArtifactError, MissingDependencyError
from tet_deploy.nn import backends, kernels, lif, use_backend


@pytest.fixture(scope="module")
def built(c_backend, tmp_path_factory):
    """A folder that `doctor --build-kernels` made and filled."""
    folder = tmp_path_factory.mktemp("built") / "new folder" / "kernels"
    found = CliRunner().invoke(app, ["doctor", "--build-kernels", str(folder), "--json"])
    assert found.exit_code == 0, found.output
    said = json.loads(found.stdout)
    assert said["kernels"] == [str(path) for path in sorted(folder.iterdir(), reverse=True)] and len(said["kernels"]) == 2
    assert said["variable"] == "TET_DEPLOY_KERNELS"
    return folder


@pytest.fixture
def without_compiler(monkeypatch, tmp_path):
    """As in a new process on a machine without a compiler and with an empty cache folder."""
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("CC", "/nowhere/cc")
    monkeypatch.delenv(backends.VARIABLE, raising=False)


def copied(built, tmp_path, monkeypatch):
    """A copy of the folder, named by the variable."""
    folder = shutil.copytree(built, tmp_path / "copy")
    monkeypatch.setenv(kernels.VARIABLE, str(folder))
    return folder


def current(dtype):
    return (torch.randn(5, 2, 9, generator=torch.Generator().manual_seed(0)) + 0.3).to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_built_ahead_need_no_compiler(built, without_compiler, monkeypatch, tmp_path, recwarn, dtype):
    """The C backend runs, gives torch's spikes and gradients, and leaves the cache folder alone."""
    monkeypatch.setenv(kernels.VARIABLE, str(built))
    results = []
    for name in ("c", "torch"):
        x = current(dtype).requires_grad_()
        with use_backend(name):
            spikes = lif(x)
        spikes.sum().backward()
        results += [spikes, x.grad]
    assert torch.equal(results[0], results[2]) and torch.allclose(results[1], results[3])
    assert not (tmp_path / "cache").exists() and not recwarn.list


@pytest.fixture
def commands(c_backend, monkeypatch):
    """The compiler's commands, which are carried out without optimizing."""
    found, compile_now = [], kernels._compile
    monkeypatch.setattr(
        kernels, "_compile", lambda command, path: found.append(command) or compile_now([*command, "-O0"], path)
    )
    return found


@pytest.mark.parametrize("native", [False, True])
def test_only_native_kernels_ask_for_this_processor(commands, tmp_path, native):
    """What is built for other machines has no option for this one."""
    kernels.build(tmp_path, native=native)
    assert [("-march=native" in command) for command in commands] == [native, native]


def of_another_source(path):
    content, mark = path.read_bytes(), b"tet_deploy kernels "
    place = content.index(mark) + len(mark)
    path.write_bytes(content[:place] + (b"0" if content[place:][:1] != b"0" else b"1") + content[place + 1 :])


def with_a_flipped_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


BAD = {  # what is done to a library -> what is said of it
    "another version": (
        of_another_source,
        r"must hold 'tet_deploy kernels .* float32'; it holds 'tet_deploy kernels .* float32'",
    ),
    "another dtype": (lambda path: shutil.copy(path.with_name("neurons-bfloat16.so"), path), "it holds .* bfloat16'"),
    "another library": (lambda path: path.write_bytes(b"\x7fELF of something else"), "it holds 'no kernels of tet_deploy'"),
    "no library": (
        lambda path: path.write_bytes(kernels._sealed(kernels._identity("float32").encode())),
        "cannot be loaded on this machine",
    ),
    "a flipped bit": (with_a_flipped_bit, "is damaged"),
    "the most of it": (lambda path: path.write_bytes(path.read_bytes()[:-4000]), "is damaged"),
    "nothing": (lambda path: path.unlink(), "no such file"),
    "an empty file": (lambda path: path.write_bytes(b""), "is empty"),
    "a folder": (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_library_of_this_version_is_refused(built, without_compiler, monkeypatch, tmp_path, case):
    """By its path, with the command that builds it; neurons do not run on something else instead."""
    spoil, said = BAD[case]
    spoil(copied(built, tmp_path, monkeypatch) / "neurons-float32.so")
    for _ in range(2):
        with pytest.raises(
            ArtifactError, match=rf"neurons-float32.so: (.*{said}).*doctor --build-kernels .*unset TET_DEPLOY"
        ):
            lif(current(torch.float32))


def test_a_library_of_another_source_is_not_executed(built, without_compiler, monkeypatch, tmp_path):
    """It is read, not loaded."""
    of_another_source(copied(built, tmp_path, monkeypatch) / "neurons-float32.so")
    monkeypatch.setattr(ctypes, "CDLL", lambda path: pytest.fail(f"{path} was loaded"))
    with pytest.raises(ArtifactError):
        lif(current(torch.float32))


def test_other_flags_make_another_library(monkeypatch):
    """Floats mean what the flags say, so these are part of what a library says of itself."""
    before = kernels._identity("float32")
    monkeypatch.setattr(kernels, "FLAGS", (*kernels.FLAGS, "-ffast-math"))
    assert kernels._identity("float32") != before


def test_kernels_of_another_version_are_replaced_and_other_files_are_not(built, commands, monkeypatch, tmp_path):
    """Building again into the folder is the way out that errors name."""
    folder = copied(built, tmp_path, monkeypatch)
    of_another_source(folder / "neurons-float32.so")
    kernels.build(folder)
    kernels.built_ahead(folder)
    (folder / "neurons-float32.so").unlink()  # it is loaded: written over, it would end this process
    (folder / "neurons-float32.so").write_text("notes")
    with pytest.raises(ArtifactError, match="is not a library of tet_deploy"):
        kernels.build(folder)
    with pytest.raises(ArtifactError, match=r"cannot be made.*Choose another folder"):
        kernels.build(folder / "neurons-float32.so" / "below")


@pytest.mark.parametrize(
    ("compiler", "said"), [("'", "is no command"), (" ", "cannot compile"), ("false", "cannot compile")]
)
def test_a_compiler_that_is_none_leaves_neurons_to_torch(without_compiler, monkeypatch, compiler, said):
    """Whatever CC holds, that is told once with the way out, and neurons run."""
    monkeypatch.setenv("CC", compiler)
    monkeypatch.delenv(kernels.VARIABLE, raising=False)
    with pytest.warns(UserWarning, match=f"{said}.*Install gcc"):
        assert lif(current(torch.float32)).any()


def test_building_without_a_compiler_is_an_error(without_compiler, tmp_path):
    """Nothing is left in the folder."""
    with pytest.raises(MissingDependencyError, match="/nowhere/cc cannot compile"):
        kernels.build(tmp_path / "kernels")
    assert not list((tmp_path / "kernels").iterdir())
