import subprocess
from importlib import resources
from pathlib import Path

import pytest

BUNDLE_CODE = resources.files("tet_deploy.runtimes.loihi") / "bundle"
SCRIPT = Path(__file__).with_name("against_lavas_models.py")


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("kind", ["lif", "conv"])
def test_the_engine_equals_lavas_own_models(lava_python, kind, seed):
    """In every corner, int16 biases, wraps, saturation and resets included, each step sends what Lava's own model sends."""
    command = [lava_python.path, "-E", "-B", SCRIPT, BUNDLE_CODE, kind, str(seed)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 720
