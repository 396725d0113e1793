"""A Synaptic that resets to zero becomes a CubaLIF with the same spikes; of another reset it is refused by name."""

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch_networks import SHAPE, check_spikes, lively
from torch import nn

import tet_deploy as td
from tet_deploy import dynamics, support
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import CubaLIF
from tet_deploy.passes import fold
from tet_deploy.tracing import trace


def synaptic(**arguments):
    return snn.Synaptic(**{"alpha": 0.5, "beta": 0.8, "reset_mechanism": "zero", **arguments})


def hidden(**arguments):
    """A Sequential whose neurons keep their own state."""
    neurons = [synaptic(init_hidden=True, **arguments) for _ in range(2)]
    layers = nn.Conv2d(2, 4, 3, padding=1), neurons[0], nn.Flatten(), nn.Linear(256, 20), neurons[1], nn.Linear(20, 5)
    return nn.Sequential(*layers)


class Loop(nn.Module):
    """The same in a loop over time."""

    def __init__(self, **arguments):
        super().__init__()
        self.conv, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), synaptic(**arguments)
        self.fc, self.lif2, self.out = nn.Linear(256, 20), synaptic(**arguments), nn.Linear(20, 5)

    def forward(self, x):
        (syn1, mem1), (syn2, mem2), record = self.lif1.reset_mem(), self.lif2.init_synaptic(), []
        for step in range(x.size(0)):
            spk1, syn1, mem1 = self.lif1(self.conv(x[step]), syn1, mem1)
            spk2, syn2, mem2 = self.lif2(self.fc(spk1.flatten(1)), mem=mem2, syn=syn2)
            record.append(self.out(spk2))
        return torch.stack(record)


def random_arguments(seed):
    rng = np.random.default_rng(seed)
    alpha, beta = rng.uniform(0.3, 0.95, 2)
    return {"alpha": alpha, "beta": beta, "threshold": rng.uniform(0.4, 1.5), "reset_delay": bool(seed % 2)}


@pytest.mark.parametrize("make", [hidden, Loop])
@pytest.mark.parametrize("seed", range(6))
def test_every_spike_is_snntorchs_own(make, seed):
    """Of any decays, at once or a step later, on the reference and as a runtime; and on ONNX, 0 differ."""
    torch.manual_seed(seed)
    model = lively(make(**random_arguments(seed)))
    graph, _ = check_spikes(model, by_step=make is hidden)
    resets = {node.reset for node in graph.of_kind(CubaLIF)}
    assert resets == {"zero-delayed" if seed % 2 else "zero"}
    frames = (torch.rand(20, 4, *SHAPE) < 0.3).numpy().astype(np.float32) * 2
    network = fold(graph)
    reference, onnx = (td.run(network, frames, runtime=runtime, probes="spikes") for runtime in ("reference", "onnx"))
    for name, spikes in reference.spikes.items():
        assert spikes.any() and np.array_equal(spikes, onnx.spikes[name])


@pytest.mark.parametrize("seed", range(6))
def test_the_arithmetic_is_snntorchs_own_to_the_last_bit(seed):
    """Spikes, synaptic currents and membrane potentials of a layer that is fed by itself, in float32."""
    rng = np.random.default_rng(seed)
    layer = synaptic(**random_arguments(seed))
    (node,) = trace(nn.Sequential(nn.Linear(50, 50), layer), (50,)).of_kind(CubaLIF)
    layer.reset_mem()
    v = c = np.zeros((8, 50), np.float32)
    fired = 0
    for x in rng.uniform(-0.6, 1, (60, 8, 50)).astype(np.float32):
        spikes, syn, mem = (values.numpy() for values in layer(torch.from_numpy(x)))
        c = dynamics.synaptic_current(node, c, x)
        found, v = dynamics.step(node, v, c)
        assert np.array_equal(found, spikes) and np.array_equal(c, syn) and np.array_equal(v, mem)
        fired += int(found.sum())
    assert fired > 1000


@pytest.mark.parametrize(
    ("alpha", "beta", "threshold"), [(0.0, 0.5, 1.0), (1.0, 0.5, 5.0), (1.3, -0.2, 5.0), (0.5, 0.0, 1.0), (0.5, 1.0, 5.0)]
)
def test_decays_are_clipped_as_the_layer_does(alpha, beta, threshold):
    """To [0, 1], both."""
    torch.manual_seed(1)
    graph, _ = check_spikes(lively(hidden(alpha=alpha, beta=beta, threshold=threshold)), by_step=True)
    clipped = [(float(np.clip(alpha, 0, 1)), float(np.clip(beta, 0, 1)))] * 2
    assert [(node.current_decay, node.decay) for node in graph.of_kind(CubaLIF)] == clipped


def test_learned_numbers_and_thresholds_of_channels_are_kept():
    """As they stand after training."""
    torch.manual_seed(1)
    thresholds, learn = torch.linspace(0.4, 1.2, 4).reshape(4, 1, 1), {"learn_alpha": True, "learn_beta": True}
    model = hidden(**learn)
    model[1].threshold = thresholds
    graph, _ = check_spikes(lively(model), by_step=True)
    np.testing.assert_array_equal(graph["1"].threshold, thresholds.ravel())


class Dropped(Loop):
    def forward(self, x):
        syn1, mem1 = self.lif1.reset_mem()
        record = []
        for step in range(x.size(0)):
            spk1, _, mem1 = self.lif1(self.conv(x[step]), syn1, mem1)
            record.append(spk1.flatten(1))
        return torch.stack(record)


class Swapped(Loop):
    def forward(self, x):
        syn1, mem1 = self.lif1.reset_mem()
        record = []
        for step in range(x.size(0)):
            spk1, mem1, syn1 = self.lif1(self.conv(x[step]), syn1, mem1)
            record.append(spk1.flatten(1))
        return torch.stack(record)


class Cleared(Loop):
    """Its current is written into between steps."""

    def forward(self, x):
        record = []
        for step in range(x.size(0)):
            spk1, _, _ = self.lif1(self.conv(x[step]))
            self.lif1.syn = self.lif1.syn * 0
            record.append(spk1.flatten(1))
        return torch.stack(record)


class Sent(Loop):
    """Its synaptic current goes on."""

    def forward(self, x):
        (syn, mem), record = self.lif1.reset_mem(), []
        for step in range(x.size(0)):
            _, syn, mem = self.lif1(self.conv(x[step]), syn, mem)
            record.append(syn.flatten(1))
        return torch.stack(record)


REFUSED = {
    "default": (lambda: hidden(reset_mechanism="subtract"), "'1': Synaptic: reset_mechanism must be 'zero'.*'subtract'"),
    "none": (lambda: hidden(reset_mechanism="none"), "'1': Synaptic: reset_mechanism must be 'zero'.*got 'none'"),
    "quantized state": (lambda: hidden(state_quant=lambda mem: mem), "'1': Synaptic: state_quant must be False"),
    "alphas": (lambda: hidden(alpha=torch.linspace(0, 1, 4).reshape(4, 1, 1)), "alpha must be one number for the layer"),
    "betas": (lambda: hidden(beta=torch.linspace(0, 1, 4).reshape(4, 1, 1)), "beta must be one number for the layer"),
    "threshold 0": (lambda: hidden(threshold=0.0), "threshold must be above 0"),
    "current dropped": (Dropped, "'lif1': at step 1 its synaptic current must be .*syn, mem = self.lif1.reset_mem"),
    "states swapped": (Swapped, "'lif1': at step 1 its synaptic current must be the one"),
    "current cleared": (Cleared, "'lif1': forward.. changes its synaptic current between steps"),
    "current sent": (Sent, "'lif1': its synaptic current or membrane potential is used as a value"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_node_is_refused_by_name(case):
    """The layer's path, what is wrong with it, and a way out."""
    make, message = REFUSED[case]
    with pytest.raises(GraphError, match=message) as caught:
        trace(make(), SHAPE)
    assert len(str(caught.value)) < 500


def test_a_chip_has_the_one_that_resets_at_once(lava_python):
    """In integers reference and Lava agree; the delayed one is refused by name, also by `support.faults`."""
    torch.manual_seed(1)
    frames = (torch.rand(5, 3, *SHAPE) < 0.3).numpy().astype(np.float32)
    graph = td.lower(trace(lively(hidden(reset_delay=False)), SHAPE), frames)
    int8 = td.quantize(graph, frames, rounding_limit=10)
    assert td.validate(int8, frames, runtimes=["reference", "lava"])["lava"].equal
    assert support.faults(graph, "lava") == []
    delayed = td.lower(trace(lively(hidden()), SHAPE), frames)
    message = r"node '1': reset must be 'zero' in a Loihi core's.*reset_delay=False"
    with pytest.raises(GraphError, match=message):
        td.quantize(delayed, frames)
    faults = support.faults(delayed, "lava")
    assert [fault.node for fault in faults] == ["1", "4"] and "reset_delay=False" in faults[0].message
