"""Ctrl-C during `train` says how to go on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from interrupts import heed_interrupts

from tet_deploy.training import session

ROOT = Path(__file__).resolve().parents[2]


def test_an_interrupted_training_says_how_to_go_on(tmp_path):
    """One line with the command that resumes it; the state is whole, and neither a lock nor a half file is left."""
    words = ["train", "--data", "digits", "--epochs", "1000", "--save-every", "1", "--out", "my net.safetensors"]
    command = [sys.executable, "-m", "tet_deploy", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True, preexec_fn=heed_interrupts
    ) as training:
        while not (tmp_path / "my net.state.safetensors").exists():
            assert training.poll() is None, training.stderr.read()
            time.sleep(0.1)
        training.send_signal(signal.SIGINT)
        _, err = training.communicate(timeout=60)
    assert training.returncode == 1
    assert err.strip().splitlines()[-1] == (
        "error: interrupted. Go on with: tet-deploy train --resume --out 'my net.safetensors'"
    )
    assert {path.name for path in tmp_path.iterdir()} <= {"my net.state.safetensors", "my net.log.jsonl"}


def test_before_the_first_state_there_is_nothing_to_resume(tmp_path):
    """And that is said."""
    assert session.how_to_go_on(tmp_path / "net.safetensors").startswith("Nothing was kept yet; start again")
