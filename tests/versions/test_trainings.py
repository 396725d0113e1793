"""A checkpoint of any version is the network that it was; an interrupted training goes on, or is refused by its version."""

import contextlib
import json
import shutil

import numpy as np
import torch

from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.training import Settings, load_checkpoint, session


@contextlib.contextmanager
def no_bar(title):
    yield lambda done, total: None


def test_a_checkpoint_gives_the_same_readout(files):
    """As a model, and traced as a graph."""
    path, expected = files.path("digits.checkpoint.safetensors"), files.recording("digits.traced")
    frames = files.frames("digits")
    rounding = {"rtol": 1e-5, "atol": 1e-5}  # float32: the order of sums is the machine's
    with torch.no_grad():
        readout = load_checkpoint(path)[0](torch.from_numpy(frames)).numpy()
    np.testing.assert_allclose(readout, expected.readout, **rounding)
    found = ReferenceRuntime(session.traced(path)).run(frames)
    np.testing.assert_allclose(found.readout, expected.readout, **rounding)
    for name, spikes in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes)


def test_an_interrupted_training_goes_on(files, tmp_path, read_or_refused):
    """Where it stood and by its own recipe; it then ends where the same training ended that nobody interrupted."""
    for kind in ("state.safetensors", "log.jsonl"):
        shutil.copy(files.path(f"digits.{kind}"), tmp_path / f"digits.{kind}")
    state, log = tmp_path / "digits.state.safetensors", tmp_path / "digits.log.jsonl"
    settings = Settings(state=state, log=log, resume=True, precision="fp32")
    with read_or_refused(r"[Ss]tart (anew|without --resume)|version that"):
        recipe = session.choose(settings, changes={})
        resumed = session.train_into(tmp_path / "out.safetensors", recipe, settings, device="cpu", bar=no_bar)
        with np.load(files.path("digits.trained.npz")) as arrays:
            # Another machine's torch rounds otherwise, and some spikes follow; on the same machine they are equal.
            np.testing.assert_allclose(resumed.result.losses, arrays["losses"], rtol=0.02)
        assert [json.loads(line)["epoch"] for line in log.read_text().splitlines()] == [1, 2]
