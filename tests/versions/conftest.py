"""The files that earlier versions wrote."""

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tet_deploy.contracts import Recording
from tet_deploy.errors import ArtifactError

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Files:
    """One version's."""

    folder: Path

    def path(self, name):
        return self.folder / name

    def frames(self, network):
        with np.load(self.path(f"{network.partition('.')[0]}.frames.npz")) as arrays:
            return arrays["frames"]

    def recording(self, network):
        """What the reference runtime computed."""
        with np.load(self.path(f"{network}.npz")) as arrays:
            found = {
                kind: {name.partition("/")[2]: arrays[name] for name in arrays.files if name.startswith(f"{kind}/")}
                for kind in ("spikes", "potentials")
            }
            return Recording(readout=arrays["readout"], runtime="reference", **found)

    def energies(self, network):
        return json.loads(self.path("energies.json").read_text())[network]


@pytest.fixture(params=sorted(path.name for path in HERE.glob("v*")))
def files(request):
    return Files(HERE / request.param)


@contextlib.contextmanager
def _read_or_refused(way_out):
    try:
        yield
    except ArtifactError as error:
        assert re.search(r"\b(format|version) \d", str(error)), error
        assert re.search(way_out, str(error)), error


@pytest.fixture(scope="session")
def read_or_refused():
    """Lets an ArtifactError pass that names the file's version and the way out."""
    return _read_or_refused
