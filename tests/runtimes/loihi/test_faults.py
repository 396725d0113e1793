"""Whatever happens to a run of a bundle: it ends, says why, leaves nothing, and touches no other run."""

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.errors import ExecutionError, MissingDependencyError
from tet_deploy.exporters.to_lava import to_lava
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.loihi.session import LavaNumpyRuntime, LavaRuntime

UNITS = Quantization(scale=1.0)
LONG, SHORT = 6000, 20  # steps: more than a second, and no time at all


def a_network(rng, size=6, names=("input", "conv", "lif", "fc", "readout")):
    """A convolution, a population and a readout on event counts."""
    entry, conv, lif, dense, readout = names
    weight = rng.integers(-60, 90, (4, 2, 3, 3), dtype=np.int8)
    return chain(
        [
            Input(name=entry, shape=(2, size, size), encoding="events", quantization=UNITS),
            Conv(name=conv, weight=weight, padding=(1, 1), quantization=UNITS),
            LIF(name=lif, threshold=100, quantization=UNITS),
            Flatten(name="flatten"),
            Linear(name=dense, weight=rng.integers(-127, 128, (3, 4 * size**2), dtype=np.int8), quantization=UNITS),
            Readout(name=readout, quantization=UNITS),
        ]
    )


def frames_of(rng, steps, size=6):
    return rng.poisson(0.3, (steps, 1, 2, size, size)).astype(np.float32)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return to_lava(a_network(np.random.default_rng(0)), tmp_path_factory.mktemp("exported") / "net.lava")


@pytest.fixture
def bundle(exported, tmp_path):
    return shutil.copytree(exported, tmp_path / "net.lava")


class Running:
    """A run of a bundle in a thread, and what became of it."""

    def __init__(self, bundle, python, steps, timeout=20.0):
        self.runtime = LavaRuntime(bundle, python.path, timeout=timeout, processes=2)
        self.frames = frames_of(np.random.default_rng(1), steps)
        self.recording = self.error = None
        self.steps = threading.Event()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        try:
            self.recording = self.runtime.run(self.frames, probes="none", progress=lambda done, _: done and self.steps.set())
        except ExecutionError as error:
            self.error = error

    def join(self, seconds=60):
        self.thread.join(seconds)
        assert not self.thread.is_alive(), "it hangs"
        return self


def signalled(number, which):
    """Send a signal to the run itself, to one of Lava's processes, or to all at once."""

    def inject(rng, bundle, watch):
        found = watch.processes(bundle)
        main = next(pid for pid in found if os.getsid(pid) == pid)
        others = [pid for pid in found if pid != main]
        if which == "group":
            os.killpg(main, number)
        else:
            os.kill(main if which == "main" else int(rng.choice(others)), number)

    return inject


def without_files(rng, bundle, watch):
    """Remove the folder that the run writes to."""
    command = next(iter(watch.processes(bundle).values()))
    shutil.rmtree(Path(command.split("\0")[5]).parent)


INJECTIONS = {
    "SIGTERM to the run": signalled(signal.SIGTERM, "main"),
    "SIGKILL to the run": signalled(signal.SIGKILL, "main"),
    "SIGINT to its group": signalled(signal.SIGINT, "group"),
    "SIGTERM to its group": signalled(signal.SIGTERM, "group"),
    "SIGKILL to its group": signalled(signal.SIGKILL, "group"),
    "SIGKILL to one of Lava's processes": signalled(signal.SIGKILL, "other"),
    "SIGSEGV to one of Lava's processes": signalled(signal.SIGSEGV, "other"),
    "SIGSTOP to one of Lava's processes": signalled(signal.SIGSTOP, "other"),
    "its folder removed": without_files,
}


def inject(name, rng, bundle, watch, python):
    """Start a run, let it come to some step, and hurt it."""
    running = Running(bundle, python, 5 * LONG, timeout=3.0 if "SIGSTOP" in name else 20.0)  # far from its end when hurt
    assert running.steps.wait(60), running.error
    time.sleep(float(rng.uniform(0, 0.3)))
    INJECTIONS[name](rng, bundle, watch)
    running.join()
    assert watch.leftovers(bundle) == []
    if running.error is None:  # not all of Lava's processes are needed to the end
        assert np.array_equal(running.recording.readout, LavaNumpyRuntime(bundle).run(running.frames).readout)
    else:
        Path(str(running.error).splitlines()[1].partition("Its whole output: ")[2]).unlink()
    return running.error


@pytest.mark.parametrize("name", INJECTIONS)
def test_a_run_that_is_hurt_ends_and_leaves_nothing(lava_python, bundle, watch, name):
    """No hang, no process, no shared memory, no socket; and it says what happened, or its recording is right."""
    error = inject(name, np.random.default_rng(0), bundle, watch, lava_python)
    assert error is not None or "one of Lava's" in name or name == "its folder removed"


def test_other_runs_do_not_notice(lava_python, exported, bundle, watch, tmp_path):
    """A run beside one that is killed ends well, with the recording that it always gives."""
    other = Running(shutil.copytree(exported, tmp_path / "other.lava"), lava_python, LONG, timeout=60.0)
    assert other.steps.wait(60)
    inject("SIGKILL to its group", np.random.default_rng(0), bundle, watch, lava_python)
    other.join(120)
    expected = Running(bundle, lava_python, LONG, timeout=60.0).join(120)
    assert other.error is None and expected.error is None
    assert np.array_equal(other.recording.readout, expected.recording.readout)


@pytest.mark.slow
def test_fifty_injections_in_a_row_leave_nothing(lava_python, bundle, watch):
    """Of any kind, at any time; and a run after them all is as good as the first."""
    rng = np.random.default_rng(7)
    first = Running(bundle, lava_python, SHORT).join()
    for name in rng.choice(list(INJECTIONS), 50):
        inject(name, rng, bundle, watch, lava_python)
    last = Running(bundle, lava_python, SHORT).join()
    assert np.array_equal(first.recording.readout, last.recording.readout)


@pytest.mark.slow
def test_twenty_runs_in_a_row_leave_nothing(lava_python, bundle, watch):
    """Each gives the same recording, and after each no process, shared memory or socket is left."""
    readouts = []
    for _ in range(20):
        readouts.append(Running(bundle, lava_python, SHORT).join().recording.readout)
        assert watch.leftovers(bundle) == []
    assert all(np.array_equal(readout, readouts[0]) for readout in readouts)


@pytest.mark.parametrize("kilobytes", [4, 150])
def test_full_shared_memory_is_told(lava_python, tmp_path, watch, kilobytes):
    """Too little room for Lava's channels ends the run with the way out, at once or when the first maps are sent."""
    script = tmp_path / "in_little_room.sh"
    script.write_text(f'mount -t tmpfs -o size={kilobytes}k tmpfs /dev/shm && exec "$@"\n')
    if subprocess.run(["unshare", "-m", "sh", script, "true"], capture_output=True).returncode:
        pytest.skip("only who may mount can make /dev/shm small for one program")
    rng = np.random.default_rng(0)
    bundle = to_lava(a_network(rng, size=96), tmp_path / "net.lava")
    np.save(tmp_path / "frames.npy", frames_of(rng, 3, size=96))
    command = [lava_python.path, "-B", bundle / "run.py", tmp_path / "frames.npy", tmp_path / "recording.npz"]
    done = subprocess.run(
        ["unshare", "-m", "sh", script, *command, "--processes", "2"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 70
    assert "Make room in shared memory (/dev/shm)" in done.stderr.splitlines()[-1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["frames.npy", "in_little_room.sh", "net.lava"]
    assert watch.leftovers(bundle) == []


@pytest.mark.parametrize("engine", ["lava", "numpy"])
def test_a_recording_that_cannot_be_written_is_told(lava_python, bundle, tmp_path, engine):
    """An absent folder and a file in the place of one end the run in one line."""
    np.save(tmp_path / "frames.npy", frames_of(np.random.default_rng(0), 3))
    for folder in (tmp_path / "absent", tmp_path / "frames.npy"):
        command = [lava_python.path, "-B", bundle / "run.py", tmp_path / "frames.npy", folder / "recording.npz"]
        done = subprocess.run([*command, "--engine", engine], capture_output=True, text=True, timeout=60)
        assert (done.returncode, len(done.stderr.splitlines())) == (70, 1)  # 1 is for values that differ
        assert "cannot write there" in done.stderr and "Choose a folder that exists" in done.stderr


@pytest.mark.parametrize("engine", ["lava", "numpy"])
def test_a_killed_run_by_itself_leaves_nothing(lava_python, bundle, tmp_path, watch, engine):
    """Where no program of ours started it, either: no process, no shared memory, no socket, no scratch folder."""
    np.save(tmp_path / "frames.npy", frames_of(np.random.default_rng(0), 5 * LONG))
    command = [lava_python.path, "-B", bundle / "run.py", tmp_path / "frames.npy", tmp_path / "recording.npz"]
    with tempfile.TemporaryDirectory() as sockets:
        running = subprocess.Popen(
            [*command, "--engine", engine], stderr=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": sockets}
        )
        assert any(line.startswith("progress 1 ") for line in running.stderr)
        opened = [path.resolve() for pid in watch.processes(bundle) for path in Path(f"/proc/{pid}/fd").iterdir()]
        shared = [path for path in opened if path.parent == Path("/dev/shm")]
        assert (len(list(Path(sockets).iterdir())), bool(shared)) == (1, engine == "lava")
        running.kill()
        running.communicate()
        assert watch.leftovers(bundle) == []
        until = time.monotonic() + 30  # of a busy machine
        while [*tmp_path.glob(".lava-*"), *Path(sockets).iterdir(), *(path for path in shared if path.exists())]:
            assert time.monotonic() < until
            time.sleep(0.1)


def test_a_python_without_numpy_is_told(bundle, tmp_path):
    """In one line, with the way out."""
    (tmp_path / "numpy.py").write_text("raise ImportError('no numpy here')")
    command = [sys.executable, "-B", bundle / "run.py", "frames.npy", "recording.npz", "--engine", "numpy"]
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("error: numpy cannot be imported (no numpy here). Install it")
    assert len(done.stderr.splitlines()) == 1


def test_an_interpreter_that_disappears_is_told(lava_python, bundle, tmp_path):
    """It was there when the runtime was made."""
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec "{lava_python.path}" "$@"\n')
    python.chmod(0o755)
    runtime = LavaRuntime(bundle, python)
    python.unlink()
    with pytest.raises(ExecutionError, match="python: cannot be started: No such file or directory"):
        runtime.run(frames_of(np.random.default_rng(0), 3))


@pytest.mark.parametrize("engine", ["lava", "numpy"])
def test_names_of_any_alphabet_in_a_locale_without_them(lava_python, tmp_path, engine):
    """Names of nodes and folders that ASCII lacks run where the locale knows ASCII alone, and are told with their range."""
    rng = np.random.default_rng(0)
    graph = a_network(rng, names=("кадры", "свёртка", "нейроны", "плотный", "выход"))
    entry = graph["кадры"]
    folder = tmp_path / "Größe"
    folder.mkdir()
    bundle = to_lava(graph.replace({"кадры": dataclasses.replace(entry, quantization=UNITS)}), folder / "net.lava")
    frames = frames_of(rng, 4)
    frames[0, 0, 0, 0, 0] = 1000  # more than a message holds
    np.save(folder / "frames.npy", frames)
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "LC_", "LANG"))}
    done = subprocess.run(
        [
            lava_python.path if engine == "lava" else sys.executable,
            "-B",
            bundle / "run.py",
            folder / "frames.npy",
            folder / "recording.npz",
            *["--engine", engine],
        ],
        env={**environment, "LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert b"1 messages clipped in 1 of 4 steps" in done.stderr
    with np.load(folder / "recording.npz") as recording:
        assert {"spikes/нейроны", "potentials/нейроны", "ranges/clipped/кадры"} <= set(recording)


ELSEWHERE = "import runpy, sys; sys.platform = 'darwin'; del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"


def test_lava_is_refused_elsewhere_than_on_linux(bundle, tmp_path, monkeypatch):
    """In one line that names the numpy engine, which runs all the same; here and in the bundle's own program."""
    frames = frames_of(np.random.default_rng(0), 3)
    np.save(tmp_path / "frames.npy", frames)
    command = [sys.executable, "-B", "-c", ELSEWHERE, bundle / "run.py", tmp_path / "frames.npy", tmp_path / "recording.npz"]
    environment = {**os.environ, "PYTHONPATH": str(bundle)}  # where `python run.py` looks by itself
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (70, 1)
    assert "Lava is run on Linux alone. Use --engine numpy" in done.stderr
    done = subprocess.run([*command, "--engine", "numpy"], env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "recording.npz") as recording:
        assert np.array_equal(LavaNumpyRuntime(bundle).run(frames).readout, recording["readout"])
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(MissingDependencyError, match=r"Linux alone\. Use the runtime lava-numpy"):
        LavaRuntime(bundle)
