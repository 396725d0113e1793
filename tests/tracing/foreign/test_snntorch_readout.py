"""snnTorch models that give the potential of a last layer that never resets become graphs with a leaky readout."""

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import utils
from torch import nn

import tet_deploy as td
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import LeakyReadout
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace
from tet_deploy.validation import compare

SIZE, STEPS, SAMPLES = 12, 9, 5
NONE = {"beta": 0.9, "reset_mechanism": "none"}


class Loop(nn.Module):
    """As in snnTorch's tutorials; `result` says what is returned of spikes and potentials of the last layer."""

    def __init__(self, result=lambda spikes, potentials: potentials, **last):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(SIZE, 40), snn.Leaky(beta=0.8, reset_mechanism="zero", threshold=0.3)
        self.fc2, self.lif2 = nn.Linear(40, 4), snn.Leaky(**{**NONE, **last})
        self.result = result

    def forward(self, x):
        mem1, mem2, spikes, potentials = self.lif1.init_leaky(), self.lif2.init_leaky(), [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            potentials.append(mem2)
        return self.result(torch.stack(spikes), torch.stack(potentials))


class Detached(Loop):
    """What is kept is detached or copied, as for truncated backpropagation, and what is returned too; frames are cast."""

    def forward(self, x):
        x = x.float()
        mem1, mem2, record = self.lif1.init_leaky(), self.lif2.init_leaky(), []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1.detach())
            mem2 = mem2.detach()
            _, mem2 = self.lif2(self.fc2(spk1.clone()), mem2)
            record.append(mem2.detach().clone())
        return torch.stack(record).detach()


class OneStep(Loop):
    """forward() takes one step, and gives the potential alone."""

    def forward(self, x):
        spk1, _ = self.lif1(self.fc1(x))
        _, mem2 = self.lif2(self.fc2(spk1))
        return mem2


def hidden(**last):
    """One step of a Sequential, which gives spikes and potentials."""
    lif = snn.Leaky(beta=0.8, reset_mechanism="zero", threshold=0.3, init_hidden=True)
    given = {**NONE, "init_hidden": True, "output": True, **last}
    return nn.Sequential(nn.Linear(SIZE, 40), lif, nn.Linear(40, 4), snn.Leaky(**given))


NETWORKS = {
    "potentials": Loop,
    "potentials first": lambda: Loop(lambda spikes, potentials: (potentials, spikes)),
    "learned": lambda: Loop(learn_beta=True, beta=0.7, threshold=0.2, inhibition=True),
    "never leaks": lambda: Loop(beta=1.3),
    "detached": Detached,
    "hidden states": hidden,
    "one step": OneStep,
}
BY_STEP = ("hidden states", "one step")


def own_potentials(model, frames, by_step):
    utils.reset(model)
    with torch.no_grad():
        given = [model(frame) for frame in frames] if by_step else model(frames)
    if by_step:
        return torch.stack([each[1] if isinstance(each, tuple) else each for each in given]).numpy()
    return (given[0] if isinstance(given, tuple) else given).numpy()


@pytest.mark.parametrize("name", NETWORKS)
def test_potentials_are_the_frameworks_own(name):
    """In float32: equal spikes, and the readout of every step up to the rounding of sums; the model as a runtime too."""
    torch.manual_seed(0)
    model, by_step = NETWORKS[name](), name in BY_STEP
    frames = torch.rand(STEPS, SAMPLES, SIZE)
    expected = own_potentials(model, frames, by_step)
    graph = trace(model, (SIZE,))
    assert (graph.readout.kind, graph.readout.name) == ("LeakyReadout", "readout")
    found, itself = td.run(graph, frames), TorchRuntime(model, (SIZE,)).run(frames.numpy())
    spikes = {layer: (itself.spikes[layer] != given).sum() for layer, given in found.spikes.items()}
    assert spikes == dict.fromkeys(spikes, 0) and all(given.any() for given in found.spikes.values())
    assert np.array_equal(itself.readout, expected)
    np.testing.assert_allclose(found.readout, expected, rtol=1e-5, atol=1e-5)  # float32 sums in another order


@pytest.mark.parametrize("over_time", ["mean", "sum"])
def test_what_is_done_over_time_is_the_decision(over_time):
    """Of mean and sum the runtime hears the potentials themselves."""
    torch.manual_seed(0)
    model = Loop(lambda spikes, potentials: getattr(potentials, over_time)(0))
    frames = torch.rand(STEPS, SAMPLES, SIZE)
    found, given = TorchRuntime(model, (SIZE,)).run(frames.numpy()), own_potentials(model, frames, False)
    assert np.array_equal(found.decisions, given.argmax(1)) and np.array_equal(
        td.run(trace(model, (SIZE,)), frames).decisions, found.decisions
    )
    assert found.readout.shape == (STEPS, SAMPLES, 4)


def test_the_whole_chain(lava_python):
    """Dyadic weights: the model and the float graph agree in every spike and readout; its integers on all runtimes."""
    torch.manual_seed(0)
    model = Loop(beta=0.5)
    model.lif1.beta.fill_(0.5)
    for tensor in model.parameters():
        tensor.data = (tensor.data * 64).round() / 64
    frames = (torch.rand(STEPS, SAMPLES, SIZE) * 4).round().numpy()
    graph = td.lower(trace(model, (SIZE,)), frames)
    assert td.validate(graph, frames, runtimes=[model, "reference", "onnx"])["onnx"].equal
    assert compare(TorchRuntime(model, (SIZE,)).run(frames, probes="spikes"), td.run(graph, frames, probes="spikes")).equal
    int8 = td.quantize(graph, frames)
    assert isinstance(int8.readout, LeakyReadout)
    expected = td.run(int8, frames)
    for runtime in ("onnx", "lava"):
        assert compare(expected, td.run(int8, frames, runtime=runtime)).equal


class Between(Loop):
    """Sends the potential of an integrator on."""

    def __init__(self):
        super().__init__()
        self.fc3 = nn.Linear(4, 4)

    def forward(self, x):
        mem2, record = self.lif2.init_leaky(), []
        for step in range(x.size(0)):
            _, mem2 = self.lif2(self.fc2(self.fc1(x[step])), mem2)
            record.append(self.fc3(mem2))
        return torch.stack(record)


REFUSED = {
    "spikes": (lambda: Loop(lambda spikes, potentials: spikes), "layer 'lif2': its spikes are used.*'none'.*its potentials"),
    "spikes first": (lambda: Loop(lambda *both: both), "layer 'lif2': its spikes are used"),
    "both": (lambda: Loop(lambda spikes, potentials: spikes + potentials), "layer 'lif2': its spikes are used"),
    "in between": (Between, "'fc3': takes the potential of layer 'lif2', which never resets"),
    "scaled": (lambda: Loop(lambda spikes, potentials: potentials * 2), "'mul'"),
    "spikes alone": (lambda: hidden(output=False), "layer '3': a Leaky of reset_mechanism 'none'.*output=True"),
    "rounded": (lambda: Loop(state_quant=lambda mem: mem), "state_quant must be False"),
    "of neurons that reset": (
        lambda: Loop(reset_mechanism="zero"),
        "'lif2': its membrane potential.*reset_mechanism='none'",
    ),
    "betas": (lambda: Loop(beta=torch.linspace(0.5, 0.9, 4)), "beta must be one number"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_form_is_refused(case):
    """By the layer's name, with the way out."""
    make, message = REFUSED[case]
    with pytest.raises(GraphError, match=message):
        trace(make(), (SIZE,))


def test_a_hook_that_changes_the_potential_is_found():
    """The proof compares what the layer gives, over time."""
    model = Loop()
    model.lif2.register_buffer("off", torch.tensor(1e-6))
    forward = type(model.lif2)._base_int
    model.lif2.state_function = lambda given: forward(model.lif2, given) + model.lif2.off
    model.lif2.state_function.__name__ = "_base_int"
    with pytest.raises(GraphError, match=r"node .readout.: its layer gives .* away"):
        trace(model, (SIZE,))
