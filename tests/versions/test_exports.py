"""ONNX files and Lava bundles of any version give the integers that they gave, or are refused by their version."""

import shutil

import numpy as np
import pytest

from tet_deploy.runtimes.loihi.session import LavaRuntime
from tet_deploy.runtimes.onnx_session import OnnxRuntime


def assert_same(found, expected):
    np.testing.assert_array_equal(found.readout, expected.readout)
    for kind in ("spikes", "potentials"):
        for name, values in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], values, err_msg=f"{kind} of {name}")


@pytest.mark.parametrize("network", ["digits.float", "digits.int8", "events.float", "events.int8"])
def test_onnx_files(files, network, read_or_refused):
    """Every spike, potential and readout; float networks too, as they lie on a grid."""
    with read_or_refused("Export (it|the network) again"):
        runtime = OnnxRuntime(files.path(f"{network}.onnx"))
        assert_same(runtime.run(files.frames(network)), files.recording(network))


@pytest.mark.parametrize("network", ["digits.int8", "events.int8"])
def test_lava_bundles(files, network, tmp_path, lava_python, read_or_refused):
    """Every integer of every step, on Lava; of version 1, by the bundle's own program."""
    shutil.unpack_archive(files.path(f"{network}.lava.zip"), tmp_path / "bundle")
    with read_or_refused("is of version 1; needs 2. Run its own run.py, or export the network again"):
        runtime = LavaRuntime(tmp_path / "bundle", lava_python.path)
        assert_same(runtime.run(files.frames(network)), files.recording(network))
