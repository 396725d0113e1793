import json

import numpy as np
import pytest

from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Readout
from tet_deploy.network_report import report
from tet_deploy.passes import quantize


def test_a_network_that_goes_to_no_chip_is_told_why(tmp_path):
    """By default the page says what no Lava bundle can be made of; a chip that was asked for is refused."""
    rng = np.random.default_rng(0)
    wide = Conv(name="wide", weight=rng.normal(size=(4, 1, 1, 200)).astype(np.float32))
    fc = Linear(name="fc", weight=rng.normal(size=(3, 4)).astype(np.float32))
    frames = rng.integers(0, 2, size=(2, 3, 1, 1, 200)).astype(np.float32)
    first, last = [Input(name="input", shape=(1, 1, 200)), wide, LIF(name="lif")], [fc, Readout(name="readout")]
    int8 = quantize(chain([*first, Flatten(name="flatten"), *last]), frames)
    asked = {"frames": frames, "path": tmp_path / "r.html", "runtimes": ["reference"]}
    page = report(int8, **asked)
    assert "It can go to no chip as it is: node &#39;wide&#39;: kernel size" in page.read_text()
    assert "node 'wide'" in json.loads(page.with_suffix(".json").read_text())["no_chip"]
    with pytest.raises(GraphError, match="node 'wide'"):
        report(int8, **asked, chip="loihi2")
