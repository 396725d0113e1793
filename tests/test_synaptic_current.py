"""Neurons with a synaptic current in floats: reference and ONNX run them exactly."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy.contracts import recorded
from tet_deploy.counting import estimate
from tet_deploy.debugging import causes
from tet_deploy.debugging.diagnosis import diagnosis_of
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import CURRENT_RESETS, LIF, CubaLIF, Input, Linear, Quantization, Readout, to_record
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.validation import compare

DECAYS = [(0.0, 0.75), (0.5, 0.75), (0.25, 1.0), (1.0, 0.5), (0.5, 0.0)]  # of current and potential


def network(kind=CubaLIF, **fields):
    """Two frames a step, each to a neuron of its own."""
    identity = np.eye(2, dtype=np.float32)
    layers = Linear(name="fc", weight=identity), kind(name="lif", **fields), Linear(name="out", weight=identity)
    return chain([Input(name="input", shape=(2,)), *layers, Readout(name="readout")])


def frames_of(steps=9, samples=40):
    return np.random.default_rng(0).integers(-8, 9, (steps, samples, 2)).astype(np.float32) / 8


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("comparison", [">", ">="])
@pytest.mark.parametrize("reset", CURRENT_RESETS)
@pytest.mark.parametrize(("current_decay", "decay"), DECAYS)
def test_the_equations_hold_step_by_step(current_decay, decay, reset, comparison, dtype):
    """Spikes and potentials are those of a neuron in exact numbers, whose spikes leave the current as it is."""
    graph = network(current_decay=current_decay, decay=decay, threshold=0.5, reset=reset, comparison=comparison)
    frames = frames_of()
    found = ReferenceRuntime(graph, dtype).run(frames)
    ties = 0
    for sample, neuron in np.ndindex(40, 2):
        c, v, spike = Fraction(0), Fraction(0), False
        for step in range(9):
            c = Fraction(current_decay) * c + Fraction(float(frames[step, sample, neuron]))
            v = Fraction(0) if spike and reset == "zero-delayed" else Fraction(decay) * v + c
            ties += v == Fraction(1, 2)
            spike = v > Fraction(1, 2) or (comparison == ">=" and v == Fraction(1, 2))
            v = Fraction(0) if spike and reset == "zero" else v
            assert found.spikes["lif"][step, sample, neuron] == spike
            assert Fraction(float(found.potentials["lif"][step, sample, neuron])) == v
    assert ties > 0


def test_a_current_of_one_step_is_none():
    """With current_decay 0 it is a LIF, and with any other it is not."""
    frames, fields = frames_of(), {"decay": 0.75, "threshold": 0.5}
    plain = td.run(network(LIF, **fields), frames)
    assert compare(plain, td.run(network(current_decay=0.0, **fields), frames)).equal
    assert not compare(plain, td.run(network(current_decay=0.25, **fields), frames)).equal


@pytest.mark.parametrize("seed", range(12))
def test_onnx_gives_every_spike_and_potential_of_the_reference(seed):
    """On the grid, random networks that mix the kinds are equal bit for bit, for any number of steps."""
    rng = np.random.default_rng(seed)
    graph = random_float_network(rng, soft=seed % 2 == 0, currents=True, grid=20)
    with_currents = graph.of_kind(CubaLIF)[:: 1 + seed % 2]
    graph = td.lower(graph.replace({node.name: dataclasses.replace(node, reset="zero-delayed") for node in with_currents}))
    agreement = td.validate(graph, random_frames(graph, rng, 1 + seed % 5, 3), runtimes=["reference", "onnx"])["onnx"]
    assert agreement.equal, str(agreement.first)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize("reset", CURRENT_RESETS)
@pytest.mark.parametrize(("current_decay", "decay"), DECAYS)
def test_a_run_goes_on_from_potential_and_current(current_decay, decay, reset, runtime):
    """Step by step gives the whole run, and a state that was handed out stays as it was."""
    graph = network(current_decay=current_decay, decay=decay, threshold=np.float32([0.5, 1.0]), reset=reset)
    frames = frames_of(7, 5)
    stream = td.Stream(graph, samples=5, runtime=runtime, probes="all")
    assert compare(td.run(graph, frames), recorded([stream.step(frame) for frame in frames], "steps")).equal
    stream.reset()
    assert compare(td.run(graph, frames), recorded([stream.step(frame) for frame in frames], "steps")).equal


def test_a_state_is_a_value():
    """The reference's state of one step can be taken up again: potential and current are in it."""
    graph, frames = network(current_decay=0.5, threshold=0.5), frames_of(3, 5)
    runtime = ReferenceRuntime(graph)
    _, once = runtime.step(runtime.start(5), frames[0])
    first, _ = runtime.step(once, frames[1])
    again, _ = runtime.step(once, frames[1])
    assert compare(recorded([first], "first"), recorded([again], "again")).equal
    assert set(runtime.start(5)) == set(once) == {"lif", "lif/current", "readout"}


BAD = {
    "current decay": ({"current_decay": 1.5}, r"current_decay must lie in \[0, 1\]; got 1.5"),
    "no number": ({"current_decay": "half"}, "current_decay must be a number"),
    "not a number": ({"current_decay": float("nan")}, "current_decay must"),
    "decay": ({"decay": -0.5}, r"decay must lie in \[0, 1\]"),
    "threshold": ({"threshold": 0}, "threshold be positive"),
    "thresholds": ({"threshold": np.ones(3, np.float32)}, r"threshold must have shape \(2,\)"),
    "reset": ({"reset": "subtract"}, "reset must be 'zero' or 'zero-delayed'; got 'subtract'. Retrain"),
    "delayed in integers": ({"reset": "zero-delayed", "quantization": Quantization(scale=1.0)}, "has no integers"),
    "comparison": ({"comparison": "<"}, "comparison must be '>' or '>='"),
    "bias": ({"bias": np.zeros(2, np.float32)}, "float network's bias belongs to the layer"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_fields_are_refused(case):
    """By name, with what was found."""
    fields, message = BAD[case]
    with pytest.raises(GraphError, match=message):
        network(**fields)


def test_files_keep_it(tmp_path):
    """Every field comes back, and what it computes is in the digest."""
    graph = network(current_decay=0.25, decay=0.75, threshold=np.float32([0.5, 1.0]), comparison=">=")
    back = td.load(td.save(graph, tmp_path / "net.safetensors"))
    assert back.digest() == graph.digest() != network(current_decay=0.5, decay=0.75, comparison=">=").digest()
    assert (back["lif"].kind, back["lif"].current_decay, back["lif"].comparison) == ("CubaLIF", 0.25, ">=")
    assert "reset" not in to_record(graph["lif"])[0] and "reset" in to_record(LIF(name="lif"))[0]  # as before it had one


def test_files_keep_its_reset(tmp_path):
    """Where it is not the one of all older files."""
    graph = network(reset="zero-delayed")
    back = td.load(td.save(graph, tmp_path / "net.safetensors"))
    assert back["lif"].reset == "zero-delayed" and back.digest() == graph.digest() != network().digest()


def test_integers_refuse_the_delayed_reset():
    """Before any work, by name and with the way out; NIR has no form for it."""
    graph = network(reset="zero-delayed")
    with pytest.raises(GraphError, match=r"node 'lif': reset must be 'zero' in a Loihi core's.*reset_delay=False"):
        td.quantize(graph, frames_of())
    with pytest.raises(GraphError, match=r"node 'lif': .*no NIR form"):
        td.export(graph, "never.nir", to="nir")


def test_the_step_after_a_spike_is_lost():
    """Whatever flows in; the current keeps it."""
    frames = np.float32([[[2, 2]], [[8, 0]], [[0, 0]]])
    fields = {"current_decay": 0.5, "decay": 0.5, "threshold": 1.0}
    found = td.run(network(reset="zero-delayed", **fields), frames)
    assert found.spikes["lif"][:, 0].tolist() == [[1, 1], [0, 0], [1, 0]]
    assert found.potentials["lif"][:, 0].tolist() == [[2, 2], [0, 0], [4.5, 0.5]]


def test_energy_counts_the_current():
    """Under "full" each neuron decays and adds a current in every step; under every other convention that costs nothing."""
    frames, fields = frames_of(6, 4), {"decay": 0.75, "threshold": 0.5}
    graph = network(current_decay=0.25, **fields)
    recording = td.run(graph, frames, probes="spikes")
    own, plain = (estimate(each, recording, frames, table="45nm-fp32") for each in (graph, network(LIF, **fields)))
    assert own.mean("full") - plain.mean("full") == pytest.approx(6 * 2 * (0.9 + 3.7), rel=1e-12)  # sums of floats
    assert {name: own.mean(name) for name in own.names if name != "full"} == {
        name: plain.mean(name) for name in plain.names if name != "full"
    }


@pytest.mark.parametrize("reset", CURRENT_RESETS)
def test_a_wrong_weight_before_it_is_diagnosed(reset):
    """What a weight adds goes on with the current: the debugger finds the layer and nothing else."""
    right = network(current_decay=0.5, decay=0.75, threshold=0.5, reset=reset)
    other = right.replace({"fc": dataclasses.replace(right["fc"], weight=np.float32([[1.25, 0], [0, 0.5]]))})
    frames = frames_of()
    diagnosis = diagnosis_of(right, td.run(other, frames), frames, described=other)
    assert diagnosis.flips["lif"] > 20
    assert [(cause.node, cause.cause, cause.share) for cause in diagnosis.causes] == [("lif", causes.WEIGHTS, 1.0)]


@pytest.mark.parametrize(
    ("reset", "changes"),
    [
        *((reset, {"current_decay": 0.75}) for reset in CURRENT_RESETS),
        ("zero", {"reset": "zero-delayed"}),
    ],
)
def test_a_wrong_decay_of_the_current_is_diagnosed(reset, changes):
    """As a decay; so is another reset, by what it leaves."""
    right = network(current_decay=0.5, decay=0.75, threshold=0.5, reset=reset)
    other = right.replace({"lif": dataclasses.replace(right["lif"], **changes)})
    frames = frames_of(12)
    diagnosis = diagnosis_of(right, td.run(other, frames), frames, described=other)
    assert {cause.cause for cause in diagnosis.causes} == {causes.DECAY} and diagnosis.flips["lif"] > 20
