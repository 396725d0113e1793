"""A fault that was planted is found: its kind, and the population that it was planted in."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tet_deploy as td
from tet_deploy.debugging import diagnosis_of
from tet_deploy.debugging.observed import Flow
from tet_deploy.debugging.pieces import pieces
from tet_deploy.errors import DataError
from tet_deploy.ir.nodes import Spiking
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.units import in_float_units, of_channel, units


def test_planted_faults_are_found(plant, kinds):
    """At least 95 of 100, the kinds drawn evenly: kind and place."""
    missed = Counter()
    for seed in range(100):
        rng = np.random.default_rng(seed)
        kind = str(rng.choice(kinds))
        fault = plant(kind, rng)
        found = diagnosis_of(fault.expected, fault.found, fault.frames, described=fault.described)
        first = found.causes[0] if found.causes else None
        if first is None or (first.node, first.cause) != (fault.node, fault.cause):
            missed[f"{seed}: {kind} in {fault.node}, taken for {first}"] += 1
    assert missed.total() <= 5, list(missed)


def test_every_kind_is_named_with_its_way_out(plant, kinds):
    """Each kind is found in one network, and the message ends with what to do."""
    for kind in kinds:
        fault = plant(kind, np.random.default_rng(1))
        found = diagnosis_of(fault.expected, fault.found, fault.frames, described=fault.described)
        assert (found.causes[0].node, found.causes[0].cause) == (fault.node, fault.cause), kind
        assert f"{fault.node}: {fault.cause}" in str(found)
        assert "To mend it: " in str(found)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    quantized=st.booleans(),
    currents=st.booleans(),
    runtime=st.sampled_from(["reference", "onnx"]),
)
def test_nothing_is_found_where_nothing_is_wrong(seed, quantized, currents, runtime):
    """Any random network, on runtimes that are right."""
    rng = np.random.default_rng(seed)
    graph = (random_quantized_network if quantized else random_float_network)(rng, currents=currents)
    frames = random_frames(graph, rng)
    right = td.run(graph, frames)
    found = diagnosis_of(graph, td.run(graph, frames, runtime=runtime), frames, right=right)
    assert not found.causes
    assert found.first is None


@settings(max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), wrap=st.booleans(), currents=st.booleans())
def test_pieces_add_up_to_what_the_other_network_makes(integers_and_reals, seed, wrap, currents):
    """The potential of a quantized population is that of its real numbers and all pieces: each spike follows from them."""
    rng = np.random.default_rng(seed)
    graph, real = integers_and_reals(rng, wrap, currents)
    frames = random_frames(graph, rng)
    found = td.run(graph, frames)
    flows = Flow(real, found, frames), Flow(graph, found, frames)
    for node in graph.of_kind(Spiking):
        potentials = in_float_units(found, units(graph)).potentials[node.name]
        before = np.concatenate([np.zeros_like(potentials[:1]), potentials[:-1]])
        apart = pieces(real[node.name], flows[0], node, flows[1], before)
        clear = np.abs(apart.found) > 1e-6
        np.testing.assert_array_equal((apart.found > 0)[clear], found.spikes[node.name].astype(bool)[clear])


def test_the_first_difference_is_the_earliest_and_tells_both_sides():
    """Of a float network and its integers: the place that a search through all steps finds, and what each side was given."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng, layers=2, encoding="events")
    frames = random_frames(graph, rng, steps=12, samples=8)
    int8 = td.quantize(graph, frames, bits=3)
    right, found = td.run(graph, frames), td.run(int8, frames)
    first = diagnosis_of(graph, found, frames, described=int8, right=right).first
    step, name = next(
        (step, name) for step in range(12) for name in right.spikes if (right.spikes[name] != found.spikes[name])[step].any()
    )
    assert (first.step, first.node) == (step, name)
    place = (first.step, first.sample, *first.neuron)
    assert first.expected.fires == bool(right.spikes[name][place])
    assert first.found.fires == bool(found.spikes[name][place])
    assert first.expected.after == right.potentials[name][place]
    scale = of_channel(int8[name].quantization.scale, first.neuron[0])
    assert first.found.after == found.potentials[name][place] / (64 * scale)
    silent = first.expected if first.found.fires else first.found
    full = graph[name].decay * silent.before + silent.presynaptic
    assert silent.after == pytest.approx(full, abs=2 / (64 * scale))
    assert first.distance == pytest.approx(of_channel(graph[name].threshold, first.neuron[0]) - silent.after, abs=1 / scale)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda graph, frames: (td.run(graph, frames, probes="spikes"), frames), "lacks spikes or potentials"),
        (lambda graph, frames: (td.run(graph, frames), frames[:, :1]), "must be those of the recording"),
    ],
)
def test_what_cannot_be_diagnosed_is_refused(change, complaint):
    """A recording without potentials, or of other frames."""
    rng = np.random.default_rng(0)
    graph = random_float_network(rng)
    recording, frames = change(graph, random_frames(graph, rng))
    with pytest.raises(DataError, match=complaint):
        diagnosis_of(graph, recording, frames)
