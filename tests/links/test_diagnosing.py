"""Why one link of the chain differs from another: the order of the two, the files that can be asked, the command."""

import json
import subprocess
import sys

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.debugging import causes
from tet_deploy.errors import DataError


def test_the_first_link_is_the_one_that_is_right(model, networks, frames):
    """A torch model first or last: the side called expected is the first's."""
    one, other = td.diagnose(model, networks["int4"], frames), td.diagnose(networks["int4"], model, frames)
    assert one.first.node == other.first.node
    assert one.first.expected.after == pytest.approx(other.first.found.after, abs=1e-5)
    traced = td.run(networks["traced"], frames)
    place = (one.first.step, one.first.sample, *one.first.neuron)
    assert one.first.expected.after == pytest.approx(traced.potentials[one.first.node][place], abs=1e-5)


@pytest.mark.parametrize("form", ["traced", "snapped"])
def test_integers_named_first_are_told_to_be_turned_around(networks, frames, form):
    """The float network is right: neither its folding nor its export is blamed, and the way out is the order."""
    found = td.diagnose(networks["int4"], networks[form], frames)
    assert {cause.mend for cause in found.causes} == {causes.TURNED}
    assert causes.FOLDING not in {cause.cause for cause in found.causes}
    order = td.diagnose(networks[form], networks["int4"], frames)
    assert sum(found.flips.values()) < 2 * sum(order.flips.values())  # of one size, whatever the layers and units


def test_four_bits_are_weight_rounding(networks, frames):
    """Against the float network each population's largest error is the rounding, or clipping, of weights."""
    found = td.diagnose(networks["snapped"], networks["int4"], frames)
    largest = {}
    for cause in found.causes:
        if cause.error > largest.get(cause.node, (0, ""))[0]:
            largest[cause.node] = cause.error, cause.cause
    weights = {causes.WEIGHT_ROUNDING, causes.WEIGHT_CLIPPING, causes.THRESHOLD, causes.BIAS}
    assert {name for _, name in largest.values()} <= weights
    assert largest["2"][1] == causes.WEIGHT_ROUNDING


def test_where_nothing_differs_nothing_is_found(folder, networks, frames):
    """A network and the file that was exported from it, also where the file holds no network."""
    assert not td.diagnose(networks["int8"], folder / "int8.onnx", frames).causes


def test_what_tells_no_potentials_is_refused(tmp_path, networks, frames):
    """With the way out."""
    path = td.export(networks["int8"], tmp_path / "quiet.onnx", to="onnx")
    with pytest.raises(DataError, match="Export with --probes all"):
        td.diagnose(networks["int8"], path, frames)


def test_what_holds_no_network_is_refused(folder, networks, frames):
    """An exported file beside another network than its own."""
    with pytest.raises(DataError, match="that it was exported or recorded from"):
        td.diagnose(networks["int4"], folder / "int8.onnx", frames)


def test_validate_says_why(folder, tmp_path, networks, frames):
    """The command prints the causes of what differs, and --no-why leaves them out."""
    td.save(networks["int4"], tmp_path / "int4.safetensors")
    np.save(tmp_path / "frames.npy", frames)
    words = ["validate", folder / "float.safetensors", "int4.safetensors", "--frames", "frames.npy"]

    def printed(*more):
        line = [sys.executable, "-m", "tet_deploy", *map(str, words), *more]
        return subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert "To mend it: " in printed()
    assert "To mend it: " not in printed("--no-why")
    found = json.loads(printed("--json"))["diagnosis"]
    assert found["first"]["node"] == "2"
    assert found["causes"][0]["cause"] in causes.MEND
