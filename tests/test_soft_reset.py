"""Neurons from whose potential a spike takes the threshold: reference and ONNX run them exactly, integers refuse them."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest

import tet_deploy as td
from tet_deploy import dynamics
from tet_deploy.contracts import recorded
from tet_deploy.counting import estimate
from tet_deploy.debugging import causes
from tet_deploy.debugging.diagnosis import diagnosis_of
from tet_deploy.errors import ArtifactError, GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import LIF, SOFT_RESETS, Input, Linear, Quantization, Readout, SoftResetLIF
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.validation import compare

EVERY = [(reset, comparison) for reset in SOFT_RESETS for comparison in (">", ">=")]


def network(**fields):
    """Two frames a step, each to a neuron of its own."""
    identity = np.eye(2, dtype=np.float32)
    layers = Linear(name="fc", weight=identity), SoftResetLIF(name="lif", **fields), Linear(name="out", weight=identity)
    return chain([Input(name="input", shape=(2,)), *layers, Readout(name="readout")])


def by_the_book(inputs, decay, threshold, reset, comparison):
    """Spikes and potentials of one neuron, step by step in exact numbers, as its framework has it."""
    v, spikes, potentials = Fraction(0), [], []

    def fires(potential):
        return potential > threshold or (comparison == ">=" and potential == threshold)

    for x in map(Fraction, inputs):
        left_above = fires(v)
        v = decay * v + x
        if reset == "subtract":  # SpikingJelly: charge, fire, reset
            spikes.append(fires(v))
            v -= threshold if spikes[-1] else 0
        elif reset == "subtract-delayed":  # snnTorch: a step begins with the reset that the last one owes
            v -= threshold if left_above else 0
            spikes.append(fires(v))
        else:  # snnTorch with reset_delay=False: mem - (spk - reset) * threshold
            v -= threshold if left_above else 0
            spikes.append(fires(v))
            v -= (spikes[-1] - left_above) * threshold
        potentials.append(v)
    return spikes, potentials


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("reset", "comparison"), EVERY)
def test_the_equations_are_the_frameworks(reset, comparison, dtype):
    """Spikes and potentials are those of a neuron written branch by branch; ties, double thresholds and T = 1 included."""
    decay, threshold = Fraction(3, 4), Fraction(1, 2)
    graph = network(decay=0.75, threshold=0.5, reset=reset, comparison=comparison)
    frames = np.random.default_rng(0).integers(-8, 17, (9, 40, 2)).astype(np.float32) / 8
    frames[0, :3] = [[0.5, 0.5], [1.0, 1.0], [1.5, 0.5]]  # at the threshold, at twice it, above that
    found = ReferenceRuntime(graph, dtype).run(frames)
    assert found.potentials["lif"].dtype == dtype
    for sample, neuron in np.ndindex(40, 2):
        spikes, potentials = by_the_book(frames[:, sample, neuron].tolist(), decay, threshold, reset, comparison)
        assert found.spikes["lif"][:, sample, neuron].tolist() == spikes
        assert list(map(Fraction, found.potentials["lif"][:, sample, neuron].tolist())) == potentials
    assert np.array_equal(td.run(graph, frames[:1]).spikes["lif"], found.spikes["lif"][:1])


def test_the_three_resets_and_a_hard_one_differ():
    """On the same frames, none of the four gives the spikes of another: no test here compares a thing with itself."""
    frames = np.random.default_rng(0).integers(-8, 17, (9, 40, 2)).astype(np.float32) / 8
    soft = [network(decay=0.75, threshold=0.5, reset=reset) for reset in SOFT_RESETS]
    hard = soft[0].replace({"lif": LIF(name="lif", inputs=("fc",), decay=0.75, threshold=0.5)})
    trains = [td.run(graph, frames).spikes["lif"].tobytes() for graph in (*soft, hard)]
    assert len(set(trains)) == 4


@pytest.mark.parametrize("seed", range(12))
def test_onnx_gives_every_spike_and_potential_of_the_reference(seed):
    """On the grid, random networks that mix the kinds are equal bit for bit, for any number of steps."""
    rng = np.random.default_rng(seed)
    graph = td.lower(random_float_network(rng, soft=True, grid=20))
    agreement = td.validate(graph, random_frames(graph, rng, 1 + seed % 7, 3), runtimes=["reference", "onnx"])["onnx"]
    assert agreement.equal, str(agreement.first)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
@pytest.mark.parametrize(("reset", "comparison"), EVERY)
def test_a_run_goes_on_from_its_potentials(reset, comparison, runtime):
    """Step by step gives the whole run: the potential alone says whether a threshold is still owed."""
    graph = network(decay=0.75, threshold=np.float32([0.5, 1.0]), reset=reset, comparison=comparison)
    frames = np.random.default_rng(1).integers(-8, 17, (7, 5, 2)).astype(np.float32) / 8
    stream = td.Stream(graph, samples=5, runtime=runtime, probes="all")
    steps = [stream.step(frame) for frame in frames]
    assert compare(td.run(graph, frames), recorded(steps, "steps")).equal


def test_integers_refuse_it_with_the_way_out():
    """`td.quantize` names the node, and no network of integers can hold it."""
    graph = network(reset="subtract-delayed")
    with pytest.raises(GraphError, match=r"node 'lif': reset must be 'zero'.*got 'subtract-delayed'.*Retrain.*or ONNX"):
        td.quantize(graph, np.ones((2, 2, 2), np.float32))
    with pytest.raises(GraphError, match="node 'lif': a SoftResetLIF has no integers"):
        network(quantization=Quantization(scale=1.0))


BAD = {
    "hard": ({"reset": "zero"}, r"must be one of 'subtract', .*got 'zero'. Make it a LIF"),
    "unknown": ({"reset": "none"}, "must be one of 'subtract'.*got 'none'"),
    "no text": ({"reset": 1}, "reset must be a string"),
    "decay": ({"decay": 1.5}, r"decay must lie in \[0, 1\]"),
    "threshold": ({"threshold": 0}, "threshold be positive"),
    "thresholds": ({"threshold": np.ones(3, np.float32)}, r"threshold must have shape \(2,\)"),
    "comparison": ({"comparison": "<"}, "comparison must be '>' or '>='"),
    "bias": ({"bias": np.zeros(2, np.float32)}, "float network's bias belongs to the layer"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_fields_are_refused(case):
    """By name, with what was found."""
    fields, message = BAD[case]
    with pytest.raises(GraphError, match=message):
        network(**fields)


def test_a_hard_neuron_is_told_of_the_soft_one():
    """LIF(reset="subtract") is another kind, and says which."""
    with pytest.raises(GraphError, match=r"reset must be 'zero'; got 'subtract'\. Make it a SoftResetLIF"):
        network().replace({"lif": LIF(name="lif", inputs=("fc",), reset="subtract")})


@pytest.mark.parametrize(("reset", "comparison"), EVERY)
def test_files_keep_it(reset, comparison, tmp_path):
    """Every field comes back, and what it computes is in the digest."""
    graph = network(decay=0.75, threshold=np.float32([0.5, 1.0]), reset=reset, comparison=comparison)
    back = td.load(td.save(graph, tmp_path / "net.safetensors"))
    assert back.digest() == graph.digest()
    assert (back["lif"].kind, back["lif"].reset, back["lif"].comparison) == ("SoftResetLIF", reset, comparison)
    others = {network(reset=other, comparison=sign).digest() for other, sign in EVERY}
    assert len(others) == len(EVERY)


def test_a_wrong_field_in_a_file_is_refused(tmp_path):
    """A reset that there is none of makes no network, whatever the checksum says."""
    path = td.save(network(), tmp_path / "net.safetensors")
    path.write_bytes(path.read_bytes().replace(b'\\"reset\\": \\"subtract\\"', b'\\"reset\\": \\"sabtract\\"'))
    with pytest.raises(ArtifactError):
        td.load(path)


def test_energy_counts_a_subtraction_for_each_spike():
    """Under "full" soft reset costs one addition a spike more than a hard one; under every other convention nothing."""
    graph = network(decay=0.75, threshold=0.5)
    frames = np.random.default_rng(0).integers(0, 9, (6, 4, 2)).astype(np.float32) / 8
    recording = td.run(graph, frames, probes="spikes")
    hard = graph.replace({"lif": LIF(name="lif", inputs=("fc",), decay=0.75, threshold=0.5)})
    soft_cost, hard_cost = (estimate(each, recording, frames, table="45nm-fp32") for each in (graph, hard))
    spikes = recording.spikes["lif"].sum() / 4
    assert spikes > 0
    assert soft_cost.mean("full") - hard_cost.mean("full") == pytest.approx(0.9 * spikes, rel=1e-12)  # float64 sums
    assert {name: soft_cost.mean(name) for name in soft_cost.names if name != "full"} == {
        name: hard_cost.mean(name) for name in hard_cost.names if name != "full"
    }


@pytest.mark.parametrize("reset", SOFT_RESETS)
def test_a_wrong_weight_before_it_is_diagnosed(reset):
    """The debugger knows what such a neuron makes of a potential: it finds the layer and counts the spikes that it flips."""
    right = network(decay=0.75, threshold=0.5, reset=reset)
    other = right.replace({"fc": dataclasses.replace(right["fc"], weight=np.float32([[1.25, 0], [0, 0.5]]))})
    frames = np.random.default_rng(0).integers(-8, 17, (9, 40, 2)).astype(np.float32) / 8
    found = td.run(other, frames)
    before = np.concatenate([np.zeros_like(frames[:1]), found.potentials["lif"][:-1]])
    flipped = dynamics.step(right["lif"], before, frames)[0] != found.spikes["lif"]
    diagnosis = diagnosis_of(right, found, frames, described=other)
    assert diagnosis.flips["lif"] == flipped.sum() > 20
    assert [(cause.node, cause.cause, cause.ran) for cause in diagnosis.causes] == [("lif", causes.WEIGHTS, False)]
