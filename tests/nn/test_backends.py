"""Backends: chosen by device or by the user, compiled once, and never silently something else."""

import ctypes
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tet_deploy.errors import ArgumentError, MissingDependencyError
from tet_deploy.nn import LIF, backend_c, backends, kernels, lif, use_backend
from tet_deploy.nn.norm_lif import norm_lif


@pytest.fixture
def nothing_loaded(monkeypatch, tmp_path):
    """As in a new process, with an empty cache folder."""
    monkeypatch.setattr(backends, "_loaded", {})
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for variable in (backends.VARIABLE, kernels.VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path


def current():
    return torch.randn(5, 2, 9, generator=torch.Generator().manual_seed(0)) + 0.3


def test_without_a_compiler_neurons_run_in_torch(nothing_loaded, monkeypatch):
    """One warning says what is missing; spikes are the same."""
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.warns(UserWarning, match=r"/nowhere/cc.*Install gcc or clang.*half the speed"):
        spikes = lif(current())
    with use_backend("torch"):
        assert torch.equal(spikes, lif(current()))
    lif(current())  # no second warning: pytest would be told nothing, and the first is not repeated


def test_a_compiler_is_announced_once(c_backend, nothing_loaded, capfd):
    """What is compiled, for how long it serves and how to do without is told; the cache is loaded in silence."""
    for said in (True, False):
        backends._loaded.clear()
        lif(current())
        assert (f"once for this machine and a few seconds; {backends.VARIABLE}=torch" in capfd.readouterr().err) == said


def test_a_forced_backend_that_is_missing_is_an_error(nothing_loaded, monkeypatch):
    """Nobody who asks for one backend measures another."""
    monkeypatch.setenv("CC", "/nowhere/cc")
    with pytest.raises(MissingDependencyError, match="Install gcc or clang, or set CC"), use_backend("c"):
        pass
    monkeypatch.setenv(backends.VARIABLE, "c")
    with pytest.raises(MissingDependencyError, match="Install gcc or clang, or set CC"):
        lif(current())


def test_a_compiler_that_fails_is_quoted(nothing_loaded, monkeypatch):
    """Its last words are in the error."""
    monkeypatch.setenv("CC", f"{sys.executable} -c 'import sys; sys.exit(\"no space left\")'")
    with pytest.raises(MissingDependencyError, match="no space left"), use_backend("c"):
        pass


@pytest.mark.parametrize("name", ["cuda", "C", ""])
def test_an_unknown_backend_is_an_error(name):
    """The names that exist are listed."""
    with pytest.raises(ArgumentError, match="auto, c, triton, torch"), use_backend(name):
        pass


def test_a_forced_backend_that_cannot_take_the_tensor_is_an_error(c_backend):
    """The C backend takes float32 and bfloat16 on a CPU only."""
    with use_backend("c"), pytest.raises(MissingDependencyError, match=r"'c' is forced.* torch.float64 on cpu"):
        lif(current().double())


def test_the_environment_chooses_too(monkeypatch):
    """TET_DEPLOY_LIF_BACKEND counts where no `use_backend` is open."""
    monkeypatch.setenv(backends.VARIABLE, "torch")
    assert type(backends.backend_for(current())).__name__ == "_Torch"
    with use_backend("auto"):
        monkeypatch.setenv(backends.VARIABLE, "nonsense")
        lif(current())
    with pytest.raises(ArgumentError, match="nonsense"):
        lif(current())


def test_it_is_compiled_once(c_backend, nothing_loaded, monkeypatch):
    """The second process finds the library in the cache folder."""
    backend_c.load()
    (library,) = (nothing_loaded / "tet_deploy" / "compiled").iterdir()
    before = library.stat()
    backend_c.load()
    (again,) = (nothing_loaded / "tet_deploy" / "compiled").iterdir()
    assert (again, again.stat().st_mtime_ns) == (library, before.st_mtime_ns)


@pytest.mark.parametrize("case", ["folder for all to write", "folder above it", "folder of another user", "file of another"])
def test_nothing_is_executed_that_others_could_have_put_there(c_backend, nothing_loaded, monkeypatch, case):
    """A shared cache folder does not run another user's code as us: the library is compiled anew."""
    command = [*kernels._compiler(), "-std=gnu99", "-O0", "-shared", "-fPIC"]  # as quickly as can be
    kernels.compiled(command, "float32")
    folder = nothing_loaded / "tet_deploy" / "compiled"
    (planted,) = folder.iterdir()
    where = {"folder above it": folder.parent, "file of another": planted}.get(case, folder)
    if "another" in case:
        if os.geteuid():
            pytest.skip("only root can give files away")
        os.chown(where, 12345, -1)
    else:
        where.chmod(0o777)
    before, loaded, load = planted.stat().st_ino, [], ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", lambda path: loaded.append(path) or load(path))
    kernels.compiled(command, "float32")
    assert loaded != [str(planted)] or planted.stat().st_ino != before


def test_a_cache_folder_that_cannot_be_written_does_no_harm(c_backend, nothing_loaded, monkeypatch):
    """The library then is compiled for this process alone."""
    (nothing_loaded / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(nothing_loaded / "file"))
    with use_backend("c"):
        lif(current())


@pytest.mark.parametrize("extras", kernels.NATIVE)
def test_it_compiles_with_fewer_options(c_backend, nothing_loaded, monkeypatch, extras):
    """A compiler without OpenMP or without -march=native gives the same spikes."""
    monkeypatch.setattr(kernels, "NATIVE", (("--no-such-option",), extras))
    with use_backend("c"):
        spikes = lif(current())
    with use_backend("torch"):
        assert torch.equal(spikes, lif(current()))


@pytest.mark.parametrize("options", kernels.DEFINES.values())
def test_the_kernels_compile_without_warnings(c_backend, tmp_path, options):
    """-Wall -Wextra -Werror."""
    command = [*kernels._compiler(), *kernels.FLAGS, *options, "-fopenmp", "-Wall", "-Wextra", "-Werror"]
    subprocess.run([*command, str(kernels.SOURCE), "-o", str(tmp_path / "kernels.so"), "-lm"], check=True)


def test_spikes_and_gradients_do_not_depend_on_the_number_of_threads(c_backend):
    """Sums go into parts whose number is fixed, so that a run can be repeated on another machine."""
    x, weights = torch.randn(2, 4 * 5, 24, 6, 6)
    results = []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            values = x.clone().requires_grad_()
            norm = torch.nn.BatchNorm2d(24)
            spikes = norm_lif(values, norm, LIF(), 4)
            (spikes * weights).sum().backward()
            results.append([spikes, values.grad, norm.weight.grad, norm.bias.grad, norm.running_mean, norm.running_var])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for result in results[1:] for a, b in zip(results[0], result, strict=True))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="preloads the sanitizer as Linux does")
def test_the_kernels_touch_no_memory_that_is_not_theirs(c_backend, tmp_path):
    """The layers' tests pass with kernels compiled by the address and undefined-behaviour sanitizers."""
    cc = kernels._compiler()
    runtime = subprocess.run([*cc, "-print-file-name=libasan.so"], capture_output=True, text=True, check=True).stdout.strip()
    sanitized = {
        "CC": shlex.join([*cc, "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",  # Python itself leaks
        "XDG_CACHE_HOME": str(tmp_path),
        backends.VARIABLE: "c",
    }
    tests = [str(Path(__file__).with_name(name)) for name in ("test_norm_lif.py", "test_fire_sum.py")]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    result = subprocess.run(command, env=os.environ | sanitized, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert list(tmp_path.rglob("neurons-*.so"))
