"""Some of what `make fuzz` reads; it reads more."""

import subprocess
import sys
from pathlib import Path

RUNNER = Path(__file__).with_name("runner.py")


def test_damaged_files_are_read_or_refused_in_a_line(tmp_path):
    """Nothing crashes, hangs, takes 4 GB, or raises anything but an error of ours, whatever the file."""
    words = [sys.executable, RUNNER, "--files", "250", "--keep", tmp_path / "kept"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("\n") > 10
    assert not (tmp_path / "kept").exists()
