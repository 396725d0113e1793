"""A network file of any version computes and costs what it did."""

import numpy as np
import pytest

from tet_deploy.counting import estimate
from tet_deploy.errors import ArtifactError
from tet_deploy.ir.artifact import load, save
from tet_deploy.runtimes.reference import ReferenceRuntime

NETWORKS = (
    "digits.traced",
    "digits.float",
    "digits.int8",
    "events.traced",
    "events.float",
    "events.int8",
)


@pytest.mark.parametrize("network", NETWORKS)
def test_every_spike_and_readout_is_as_it_was(files, network):
    """Spikes, membrane potentials and readout are those of the version that wrote the file; saved anew, still."""
    expected = files.recording(network)
    found = ReferenceRuntime(load(files.path(f"{network}.safetensors"))).run(files.frames(network))
    for kind in ("spikes", "potentials"):
        for name, values in getattr(expected, kind).items():
            np.testing.assert_array_equal(getattr(found, kind)[name], values, err_msg=f"{kind} of {name}")
    assert list(found.spikes) == list(expected.spikes)
    rounding = 1e-5 if network.endswith("traced") else 0  # float32 off the grid: BLAS may sum in another order
    np.testing.assert_allclose(found.readout, expected.readout, rtol=rounding, atol=rounding)


def test_a_delay_is_refused_by_name(files):
    """Version 0.1 could hold one, and nothing made it; the message names the node, the version and the way out."""
    with pytest.raises(ArtifactError, match=r"'delay': version 0\.1 had Delays.*without\."):
        load(files.path("residual.traced.safetensors"))


@pytest.mark.parametrize("network", NETWORKS)
def test_every_energy_is_as_it_was(files, network, tmp_path):
    """All named energies, `ann` of folded pooling too; also of the network saved in today's format."""
    graph, frames = load(files.path(f"{network}.safetensors")), files.frames(network)
    for same in (graph, load(save(graph, tmp_path / "again.safetensors"))):
        recording = ReferenceRuntime(same).run(frames, probes="spikes")
        found = estimate(same, recording, frames, table="45nm-fp32").summary()["energy_pj"]
        assert found == pytest.approx(files.energies(network), rel=1e-12)  # sums of a dozen float64 products
