"""The neuron in float32 is the one in integers, over all that it may be given, and other neurons stay integers."""

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx.reference import ReferenceEvaluator

from tet_deploy import dynamics
from tet_deploy.exporters.onnx_float32_lif import HALF, LIFT, float32_holds
from tet_deploy.exporters.to_onnx import to_onnx
from tet_deploy.ir.certificates import certificates
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, Input, Linear, Quantization, Readout
from tet_deploy.runtimes.onnx_session import OnnxRuntime
from tet_deploy.runtimes.reference import ReferenceRuntime

UNIT = Quantization(scale=1.0)


def _network(weights, bias, exponent, threshold, decay):
    """Neurons of one weight each, which carry any frame's value to a sum; the readout sees their spikes."""
    count = len(bias)
    return chain(
        [
            Input(name="input", shape=(len(weights[0]),), quantization=UNIT),
            Linear(name="fc", weight=np.asarray(weights, np.int16), quantization=UNIT),
            LIF(
                name="lif",
                decay=decay,
                threshold=threshold,
                bias=np.asarray(bias, np.int16),
                quantization=Quantization(scale=1.0, bits=17, bias_exponent=exponent),
            ),
            Linear(name="out", weight=np.eye(2, count, dtype=np.int8), quantization=UNIT),
            Readout(name="readout", quantization=UNIT),
        ]
    )


def _functions(path):
    return {function.name for function in onnx.load(path).functions}


def test_half_of_every_potential_is_truncated():
    """All 2^24 - 1 of them: adding -LIFT to the product rounds it to what truncation of v / 2 leaves."""
    for begin in range(-(2**23) + 1, 2**23, 2**20):
        v = np.arange(begin, min(begin + 2**20, 2**23), dtype=np.int64)
        found = v.astype(np.float32) * np.float32(HALF) + np.float32(-LIFT)
        assert found.dtype == np.float32
        assert np.array_equal(found.astype(np.int64) + LIFT, np.sign(v) * (np.abs(v) // 2))


@settings(max_examples=60)
@given(data=st.data())
def test_any_neuron_gives_every_potential_of_the_reference(data, tmp_path_factory):
    """Up to every limit: sums that wrap, potentials that are held, thresholds and biases of all sizes, by channel or not."""
    inputs, count = data.draw(st.sampled_from([1, 4, 20, 60])), 4
    rng = np.random.default_rng(data.draw(st.integers(0, 2**31)))
    largest = data.draw(st.sampled_from([1, 20, 127]))
    weights = rng.integers(-largest, largest + 1, (count, inputs))
    if data.draw(st.booleans()):
        weights = np.sign(rng.integers(0, 2, (count, 1)) - 0.5).astype(int) * np.abs(weights)
    bias = data.draw(st.lists(st.integers(-4096, 4095), min_size=count, max_size=count))
    threshold = data.draw(st.one_of(st.integers(1, 2**17 - 1), st.integers(1, 300)))
    if data.draw(st.booleans()):
        threshold = np.array([threshold, 1, 2**17 - 1, 77], dtype=np.int32)
    decay = data.draw(st.sampled_from([0.5, 1.0]))
    graph = _network(weights, bias, data.draw(st.integers(0, 7)), threshold, decay)
    frames = rng.integers(-127, 128, (12, 3, inputs)).astype(np.float32)
    frames[6:] = np.sign(frames[6:]) * 127
    path = to_onnx(graph, tmp_path_factory.mktemp("lif") / "net.onnx", probes="all")
    assert any(name.startswith("FixedPointLIFInFloat") for name in _functions(path))
    found, expected = OnnxRuntime(path, threads=1).run(frames), ReferenceRuntime(graph).run(frames)
    assert np.array_equal(found.potentials["lif"], expected.potentials["lif"])
    assert np.array_equal(found.spikes["lif"], expected.spikes["lif"])
    assert np.array_equal(found.readout, expected.readout)


@pytest.mark.skipif(
    tuple(map(int, onnx.__version__.split(".")[:2])) < (1, 22),
    reason="the evaluator of onnx before 1.22 cannot run a Scan that uses values from outside",
)
@pytest.mark.parametrize("decay", [0.5, 1.0])
@pytest.mark.parametrize("threshold", [300, np.array([300, 77], np.int32)], ids=["one", "by channel"])
def test_the_evaluator_of_onnx_runs_them(decay, threshold, tmp_path):
    """It refers to no attribute of a function's call from inside a scan."""
    graph = _network([[127, -60], [-127, 90]], [40, -40], 3, threshold, decay)
    path = to_onnx(graph, tmp_path / "net.onnx", probes="all")
    assert any(name.startswith("FixedPointLIFInFloat") for name in _functions(path))
    frames = np.random.default_rng(0).integers(-127, 128, (20, 2, 2)).astype(np.float32)
    spikes, potentials = ReferenceEvaluator(str(path)).run(["lif.spikes", "lif.potentials"], {"frames": frames})
    expected = ReferenceRuntime(graph).run(frames)
    assert expected.spikes["lif"].any() and np.array_equal(spikes, expected.spikes["lif"])
    assert np.array_equal(potentials, expected.potentials["lif"])


@pytest.mark.parametrize("decay, bias, least", [(0.5, -127, -(2**23)), (1.0, -1, -(2**23))])
def test_potentials_fall_to_the_limit_and_no_further(decay, bias, least, tmp_path):
    """The lowest potential that 24 bit hold, from the strongest inhibition that does not wrap, over many steps."""
    graph = _network(np.full((2, 8), -127), [bias, 0], 7, 1000, decay)
    frames = np.full((80, 1, 8), 127, np.float32)
    assert not certificates(graph)["lif"].cannot_saturate
    found = OnnxRuntime(to_onnx(graph, tmp_path / "net.onnx", probes="all"), threads=1).run(frames)
    assert found.potentials["lif"].min() == least + 1
    assert np.array_equal(found.potentials["lif"], ReferenceRuntime(graph).run(frames).potentials["lif"])


@pytest.mark.parametrize("decay", [0.75, 0.25, 0.0, np.array([0.5, 1.0]), 0.999])
def test_other_decays_stay_integers(decay, tmp_path):
    """Their products need more than 24 bits, or differ by channel: the function of integers is taken, and agrees."""
    graph = _network([[127, -60], [-127, 90]], [40, -40], 3, 300, decay)
    assert not float32_holds(graph["lif"])
    path = to_onnx(graph, tmp_path / "net.onnx", probes="all")
    assert not any("InFloat" in name for name in _functions(path))
    frames = np.random.default_rng(0).integers(-127, 128, (20, 2, 2)).astype(np.float32)
    found, expected = OnnxRuntime(path, threads=1).run(frames), ReferenceRuntime(graph).run(frames)
    assert np.array_equal(found.potentials["lif"], expected.potentials["lif"])


def test_where_a_potential_may_be_held_the_limit_is_kept(tmp_path):
    """By the certificate: one input more, and the function is the one that holds potentials."""
    for inputs, held in ((4, False), (5, True)):
        graph = _network(np.full((2, inputs), 127), [0, 0], 0, 1000, 0.5)
        assert certificates(graph)["lif"].cannot_saturate is not held
        names = _functions(to_onnx(graph, tmp_path / f"{inputs}.onnx"))
        assert any(name.startswith("FixedPointLIFInFloat") and name.endswith("HalvedHeld") for name in names) is held


def test_the_largest_current_and_lift_fit_together():
    """At the edge of the certificate: 2 * (64 * sum + bias) < 2^23 leaves a current within 2^24 of the lift."""
    assert LIFT + 2**22 <= 2**24 and LIFT - 2**22 >= 2**23 and dynamics.STATE_LIMIT == 2**23
