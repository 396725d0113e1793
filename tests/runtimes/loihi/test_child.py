import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest
from interrupts import heed_interrupts

from tet_deploy.errors import ExecutionError
from tet_deploy.runtimes.loihi.child import run_child
from tet_deploy.runtimes.loihi.session import LavaRuntime
from tet_deploy.testing import random_frames, random_quantized_network

ROOT = Path(__file__).resolve().parents[3]


def sabotage(bundle: Path, name: str, statement: str, method: str = "run_spk") -> None:
    """Put a statement at the start of a method of a process model."""
    path = bundle / "loihi_models" / name
    head = {"run_spk": "def run_spk(self) -> None:", "__init__": "def __init__(self, proc_params: Any) -> None:"}[method]
    text = path.read_text()
    assert head in text
    path.write_text(text.replace(head, f"{head}\n        {statement}"))


@pytest.fixture
def bundle(a_bundle, watch):
    """A bundle to break, whose runs are watched."""
    return a_bundle


@pytest.fixture
def frames():
    rng = np.random.default_rng(5)
    graph = random_quantized_network(rng, encoding="events", layers=2)
    return random_frames(graph, rng)


KILL = "if self.time_step == 3: import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
HANG = "while self.time_step == 3: pass"
# Lava asks for the traceback before each of the two messages that a failed process sends: seconds lie between them.
LATE = (
    "import time, traceback as t; said = t.format_exc; t.format_exc = lambda: (time.sleep(1.5), said())[1]; "
    "raise OSError('no core')"
)
RAISE = "if self.time_step == 3: raise RuntimeError('cosmic ray')"


@pytest.mark.parametrize(
    ("stock", "name", "statement", "method", "complaint"),
    [
        (False, "regions.py", KILL, "run_spk", "process 'input to readout' was killed by SIGKILL"),
        (False, "regions.py", RAISE, "run_spk", "failed with RuntimeError: cosmic ray"),
        (False, "regions.py", "if self.time_step == 3: import os; os._exit(9)", "run_spk", "ended with exit code 9"),
        (False, "regions.py", "raise OSError('no core')", "__init__", "'input to readout' failed with OSError: no core"),
        (False, "regions.py", LATE, "__init__", "'input to readout' failed with OSError: no core"),
        (False, "regions.py", "import os; os.kill(os.getppid(), 9)", "__init__", "the run failed: it was killed by SIGKILL"),
        (False, "regions.py", HANG, "run_spk", "no step was finished for 3 s"),
        (True, "recorders.py", KILL, "run_spk", "was killed by SIGKILL"),
        (True, "frames.py", RAISE, "run_spk", "process 'frames' failed with RuntimeError: cosmic ray"),
    ],
)
def test_a_failing_run_says_why_and_leaves_nothing(
    lava_python, bundle, reseal, frames, watch, stock, name, statement, method, complaint
):
    """Killed, raising and endless processes end the run with their reason; no process and no shared memory stays."""
    sabotage(bundle, name, statement, method)
    reseal(bundle)
    timeout = 3 if statement is HANG else 60  # a busy machine takes its time to start Lava
    with pytest.raises(ExecutionError, match=complaint) as caught:
        LavaRuntime(bundle, lava_python.path, stock, timeout=timeout).run(frames)
    assert watch.leftovers(bundle) == []
    lines = str(caught.value).splitlines()
    assert len(lines) <= 3
    log = Path(lines[1].partition("Its whole output: ")[2])
    assert log.is_file()
    log.unlink()


def test_a_good_run_leaves_nothing(lava_python, bundle, frames, watch):
    """After a run that ended well no process and no shared memory stays."""
    assert LavaRuntime(bundle, lava_python.path, timeout=60).run(frames).readout.any()
    assert watch.leftovers(bundle) == []


HOST = """
import secrets, sys
from pathlib import Path
import numpy as np
secrets.token_hex = lambda size: {token!r}
from tet_deploy.runtimes.loihi.session import LavaRuntime
runtime = LavaRuntime(Path(sys.argv[1]), Path(sys.argv[2]))
frames = np.load(sys.argv[3])
runtime.run(frames, progress=lambda done, total: print("step", done, flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_interrupting_the_host_leaves_nothing(lava_python, bundle, reseal, frames, tmp_path, watch, number):
    """Ctrl-C ends Lava and comes through as KeyboardInterrupt; when the host is killed, Lava notices and ends itself."""
    sabotage(bundle, "regions.py", HANG)
    reseal(bundle)
    np.save(tmp_path / "frames.npy", frames)
    host = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(HOST).format(token=watch.new_token(3)),
            bundle,
            lava_python.path,
            tmp_path / "frames.npy",
        ],
        cwd=ROOT,
        env={**os.environ, "TMPDIR": str(tmp_path)},  # a killed host cannot remove its temporary folder
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,
    )
    try:
        assert host.stdout.readline().startswith("step")
        assert watch.leftovers(bundle)
        host.send_signal(number)
        _, errors = host.communicate(timeout=30)
    finally:
        host.kill()
    if number == signal.SIGINT:
        assert errors.strip().endswith("KeyboardInterrupt")
    else:  # nobody is left to wait for
        deadline = time.monotonic() + 10
        while watch.leftovers(bundle) and time.monotonic() < deadline:
            time.sleep(0.1)
    assert watch.leftovers(bundle) == []


def test_on_a_terminal_a_run_is_one_line_that_is_written_over(bundle, frames, tmp_path):
    """How many steps of how many, and at the end all of them."""
    np.save(tmp_path / "frames.npy", frames)
    terminal, end = pty.openpty()
    command = [
        sys.executable,
        "-B",
        bundle / "run.py",
        tmp_path / "frames.npy",
        tmp_path / "recording.npz",
        "--engine",
        "numpy",
    ]
    subprocess.run(command, stderr=end, check=True, timeout=60)
    os.close(end)
    lines = os.read(terminal, 2**16).decode().rstrip().split("\r")
    os.close(terminal)
    done, steps = lines[-1].removesuffix(" steps").split(" of ")
    assert done == steps
    assert not any(line.startswith("progress") or "\n" in line.strip() for line in lines)


def test_a_bundle_runs_without_us(lava_python, bundle, frames, tmp_path, watch):
    """python run.py frames.npy recording.npz works by hand and tidies up, also when something is wrong."""
    np.save(tmp_path / "frames.npy", frames)
    np.save(tmp_path / "short.npy", frames[:, :, 0])
    np.save(tmp_path / "negative.npy", -(frames > 0).astype(np.int8))
    deep = tmp_path / ("deep" * 30)  # longer than the path of a socket may be
    deep.mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(frames_file, *options, recording=deep / "recording.npz"):
        command = [lava_python.path, "-B", bundle / "run.py", frames_file, recording, *options]
        return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)

    done = run(tmp_path / "frames.npy", "--probes", "spikes")
    assert (done.returncode, done.stdout) == (0, "")
    assert all(line.startswith("progress ") for line in done.stderr.splitlines()), done.stderr
    with np.load(deep / "recording.npz") as recording:
        expected = LavaRuntime(bundle, lava_python.path).run(frames)
        assert np.array_equal(recording["readout"], expected.readout)
        assert {key for key in recording if key.startswith("spikes/")} == {f"spikes/{name}" for name in expected.spikes}
    before = (tmp_path / "frames.npy").read_bytes()
    done = run(tmp_path / "frames.npy", recording=tmp_path / "frames.npy")
    assert (done.returncode, (tmp_path / "frames.npy").read_bytes()) == (70, before)
    assert "frames.npy: exists and is no recording, so it is not replaced. Choose another name." in done.stderr
    assert run(tmp_path / "frames.npy", "--probes", "none").returncode == 0, "a recording replaces a recording"
    (deep / "recording.npz").unlink()
    for frames_file, options, complaint in (
        ("short.npy", [], "time first; got shape"),
        ("negative.npy", [], "counts events; found -1"),
        ("absent.npy", [], "cannot be opened"),
        ("frames.npy", ["--probes", "nothing"], "--probes nothing: no population has that name"),
    ):
        done = run(tmp_path / frames_file, *options)
        assert done.returncode == 70
        assert len(done.stderr.splitlines()) == 1
        assert complaint in done.stderr
    names = [deep.name, "frames.npy", "negative.npy", "net.lava", "short.npy"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert list(deep.iterdir()) == []
    assert watch.leftovers(bundle) == []


@pytest.mark.parametrize("name", ["plan.json", "arrays.npz", "network.py"])
def test_a_changed_bundle_does_not_run(lava_python, bundle, frames, tmp_path, name):
    """run.py itself says so, before Lava is loaded."""
    np.save(tmp_path / "frames.npy", frames)
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content.replace(b"threshold", b"Threshold") if name == "plan.json" else content + b"\n")
    done = subprocess.run(
        [lava_python.path, "-B", bundle / "run.py", tmp_path / "frames.npy", tmp_path / "recording.npz"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 70
    assert len(done.stderr.splitlines()) == 1
    assert re.search(rf"^error: .*{name}: is not (as it|the file that) was exported.* again\.$", done.stderr)
    assert not (tmp_path / "recording.npz").exists()


def test_any_program_is_followed_and_ended(watch):
    """Lines arrive as they are printed, grandchildren do not outlive the program, and its exit code comes back."""
    code = (
        "import subprocess, sys; print('one', flush=True); subprocess.Popen(['sleep', '1234.5']); print('two'); sys.exit(7)"
    )
    lines = []
    status = run_child([sys.executable, "-c", code], on_line=lambda line: lines.append(line) is None, longest_silence=20)
    assert (status, lines) == (7, ["one", "two"])
    assert "sleep\0001234.5\0" not in watch.commands().values()
