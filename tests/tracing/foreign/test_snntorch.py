"""snnTorch's networks become graphs with the same spikes, or are refused by name."""

import copy
import itertools
import subprocess
import sys

import numpy as np
import pytest
import snntorch as snn
import torch
import torch.nn.functional as F
from snntorch import surrogate, utils
from torch import nn

from tet_deploy.errors import ExecutionError, GraphError
from tet_deploy.ir.nodes import LIF, Add, Spiking
from tet_deploy.passes import lower
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace

SHAPE = (2, 8, 8)
STEPS, SAMPLES = 20, 4
ZERO = {"beta": 0.5, "reset_mechanism": "zero"}


class Loop(nn.Module):
    """A loop over frames, as in snnTorch's tutorials; gives spikes and membrane potentials."""

    def __init__(self, **last):
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(**ZERO)
        self.conv2, self.lif2 = nn.Conv2d(4, 6, 3, padding=1), snn.Leaky(**{**ZERO, "beta": 0.9}, reset_delay=False)
        self.pool = nn.AvgPool2d(2)
        self.fc, self.lif3 = nn.Linear(96, 10), snn.Leaky(**{**ZERO, **last})

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.reset_mem(), None
        spk_rec, mem_rec = [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.conv1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.conv2(spk1), mem2)
            spk3, mem3 = self.lif3(self.fc(self.pool(spk2).view(x.size(1), -1)), mem3)
            spk_rec.append(spk3)
            mem_rec.append(mem3)
        return torch.stack(spk_rec, dim=0), torch.stack(mem_rec, dim=0)


class Currents(Loop):
    """Gives what its last fc gives, over frames that are gone through one by one; adds what two populations send."""

    def __init__(self):
        super().__init__()
        self.lif3 = snn.Leaky(**ZERO)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        mem1 = mem3 = torch.zeros(1)
        record = []
        for frame in x:
            spk1, mem1 = self.lif1(self.conv1(frame), mem=mem1)
            spk3, mem3 = self.lif3(self.conv3(spk1), mem3)
            record += [self.fc(torch.flatten(F.avg_pool2d(spk1 + spk3, 2), 1))]
        return torch.stack(record)


class Image(nn.Module):
    """Shows an image at a constant number of steps; what is done before the loop is done in each."""

    def __init__(self, over_time=lambda record: record):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(128, 40), snn.Leaky(**ZERO, learn_beta=True, learn_threshold=True)
        self.fc2, self.lif2 = nn.Linear(40, 10), snn.Leaky(**{**ZERO, "beta": 0.95})
        self.over_time = over_time

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        cur1, record = self.fc1(x.view(x.size(0), -1)), []
        for _step in range(STEPS):
            spk1, mem1 = self.lif1(cur1, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            record.append(spk2)
        return self.over_time(torch.stack(record))


class Modules(nn.Module):
    """Populations in a list, and frames flattened before the loop; gives a second readout that nobody asked for."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(128, 30), nn.Linear(30, 20), nn.Linear(20, 10)])
        self.lifs = nn.ModuleList([snn.Leaky(**ZERO) for _ in range(3)])
        self.other = nn.Linear(20, 4)

    def forward(self, x):
        x = x.view(x.size(0), x.size(1), -1).flatten(2)
        potentials, record, others = [lif.init_leaky() for lif in self.lifs], [], []
        for step in range(x.size(0)):
            values = x[step]
            for number, (layer, lif) in enumerate(zip(self.layers, self.lifs, strict=True)):
                if number == 2:
                    others.append(self.other(values))
                values, potentials[number] = lif(F.dropout(layer(values), 0.3, self.training), potentials[number])
            record.append(values)
        return torch.stack(record), torch.stack(others)


class TwoLoops(Loop):
    """The second loop goes through what the first has recorded: the same computation."""

    def forward(self, x):
        mem1, mem3, first, second = self.lif1.init_leaky(), self.lif3.init_leaky(), [], []
        for step in range(len(x)):
            spk1, mem1 = self.lif1(self.conv1(x[step]), mem1)
            first.append(spk1)
        spikes = torch.stack(first)
        for step in range(x.shape[0]):
            spk3, mem3 = self.lif3(self.fc(self.pool(self.conv2(spikes[step])).flatten(1)), mem3)
            second.append(spk3)
        return torch.stack(second)


class Hidden(nn.Module):
    """A loop over frames around an nn.Sequential whose neurons keep their own state."""

    def __init__(self):
        super().__init__()
        self.net = hidden()

    def forward(self, x):
        utils.reset(self.net)
        return torch.stack([self.net(x[step])[0] for step in range(x.size(0))])


def hidden(**last):
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(**ZERO, init_hidden=True), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 10), snn.Leaky(**ZERO, init_hidden=True, **{"output": True, **last})),
    )


class OneStep(nn.Module):
    """forward() takes one step, and neurons without init_hidden go on from where they are."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1, self.fc2 = nn.Linear(128, 30), snn.Leaky(**ZERO), nn.Linear(30, 10)

    def forward(self, x):
        spk1, _ = self.lif1(self.fc1(x.flatten(1)))
        return self.fc2(spk1)


class Default(Loop):
    """As a Leaky resets if nobody says otherwise: by its threshold, a step later."""

    def __init__(self):
        super().__init__(beta=0.8, reset_mechanism="subtract")
        self.lif1 = snn.Leaky(beta=0.9)
        self.lif2 = snn.Leaky(beta=0.9, threshold=torch.linspace(0.5, 1.5, 6).reshape(6, 1, 1), reset_delay=False)


NETWORKS = {
    "loop": Loop,
    "loop, default reset": Default,
    "loop over frames, sums": Currents,
    "image": Image,
    "image, summed": lambda: Image(lambda record: record.sum(0)),
    "image, mean": lambda: Image(lambda record: record.mean(dim=0)),
    "two loops": TwoLoops,
    "modules": Modules,
    "loop around hidden states": Hidden,
    "hidden states": hidden,
    "hidden states, spikes alone": lambda: hidden(output=False),
    "one step": OneStep,
}
BY_STEP = ("hidden states", "hidden states, spikes alone", "one step")


def lively(model, dyadic=False):
    """Weights that make neurons fire; dyadic ones, so that potentials often meet their threshold exactly."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.mul_(3 if isinstance(module, nn.Conv2d) else 6)
                module.bias.add_(0.2)
                for tensor in (module.weight, module.bias) if dyadic else ():
                    tensor.copy_((tensor * 16).round() / 16)
    return model


def own_spikes(model, run):
    """What each population gives in snnTorch's own forward, [T, B, ...], and what the model gives."""
    heard = {path: [] for path, module in model.named_modules() if isinstance(module, snn.Leaky)}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: heard[path].append(output[0] if isinstance(output, tuple) else output)
        )
        for path in heard
    ]
    utils.reset(model)
    model.eval()
    with torch.no_grad():
        given = run()
    model.train()
    for hook in hooks:
        hook.remove()
    return {path: torch.stack(spikes).numpy() for path, spikes in heard.items() if spikes}, given


def first(given):
    return given[0] if isinstance(given, tuple) else given


def check_spikes(model, shape=SHAPE, *, by_step=False, frames=None):
    """Every spike of the traced graph, and of the model as a runtime, is the model's own in float32; graph and number."""
    torch.manual_seed(0)
    frames = (torch.rand(STEPS, SAMPLES, *shape) < 0.3).float() * 2 if frames is None else frames
    if isinstance(model, Image):
        frames = frames[:1].expand(frames.shape).contiguous()
        run = lambda: first(model(frames[0]))  # noqa: E731  # one of three
    elif by_step:
        run = lambda: torch.stack([first(model(frame)) for frame in frames])  # noqa: E731
    else:
        run = lambda: first(model(frames))  # noqa: E731
    expected, readout = own_spikes(model, run)
    graph = trace(model, shape)
    recording = ReferenceRuntime(graph).run(frames.numpy())
    as_runtime = TorchRuntime(model, shape).run(frames.numpy())
    assert expected and expected.keys() <= recording.spikes.keys()
    for spikes in (recording.spikes, as_runtime.spikes):
        assert {path: int((spikes[path] != given).sum()) for path, given in expected.items()} == dict.fromkeys(expected, 0)
    assert [path for path, given in expected.items() if not given.any() or given.all()] == []
    for name, potentials in as_runtime.potentials.items():
        np.testing.assert_allclose(potentials, recording.potentials[name], rtol=1e-4, atol=1e-4)  # float32
    found = torch.from_numpy(recording.readout)
    found = model.over_time(found) if isinstance(model, Image) else found
    np.testing.assert_allclose(found, readout, rtol=1e-5, atol=1e-5)  # float32
    np.testing.assert_array_equal(as_runtime.readout.shape, recording.readout.shape)
    return graph, sum(given.size for given in expected.values())


@pytest.mark.parametrize("dyadic", [False, True], ids=["random", "dyadic"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_is_the_frameworks_own(name, dyadic):
    """In float32, of every population at every step; all fire."""
    torch.manual_seed(2)
    check_spikes(lively(NETWORKS[name](), dyadic), by_step=name in BY_STEP)


def test_fifty_thousand_spikes_are_the_same():
    """Of one network that loops over frames."""
    torch.manual_seed(2)
    assert check_spikes(lively(Loop()))[1] > 50_000


SETTINGS = [
    {"beta": beta, "threshold": threshold, "reset_delay": reset_delay, "reset_mechanism": reset}
    for beta, threshold, reset_delay, reset in itertools.product(
        (0.0, 0.3, 0.9, 1.0, 1.3, -0.2), (0.25, 1), (True, False), ("zero", "subtract")
    )
]


def single(shape=(30,), **arguments):
    layers = [nn.Linear(128, 30)] if len(shape) == 1 else [nn.Conv2d(2, 30, 3, padding=1)]
    before = [nn.Flatten()] if len(shape) == 1 else []
    after = [] if len(shape) == 1 else [nn.AvgPool2d(8), nn.Flatten()]
    given = {**ZERO, "init_hidden": True, **arguments}
    return nn.Sequential(*before, *layers, snn.Leaky(**given), *after, nn.Linear(30, 10))


@pytest.mark.parametrize("arguments", SETTINGS, ids=str)
def test_every_setting_of_a_leaky_keeps_its_spikes(arguments):
    """Any beta, clipped to [0, 1] as the layer does; any threshold; any reset, at once or a step later."""
    torch.manual_seed(1)
    graph, _ = check_spikes(lively(single(**arguments)), by_step=True)
    (node,) = graph.of_kind(Spiking)
    soft = "subtract-delayed" if arguments["reset_delay"] else "subtract-twice"
    assert node.reset == ("zero" if arguments["reset_mechanism"] == "zero" else soft)
    assert node.comparison == ">" and node.decay == float(np.float32(min(max(arguments["beta"], 0.0), 1.0)))


SURROGATES = [
    *("atan", "fast_sigmoid", "heaviside", "sigmoid", "SFS", "spike_rate_escape", "SSO", "triangular"),
    "straight_through_estimator",
]


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogate_gradients_do_not_matter(name):
    """Of any kind; what goes forward is a step."""
    torch.manual_seed(1)
    check_spikes(lively(single(spike_grad=getattr(surrogate, name)())), by_step=True)


def test_no_surrogate_gradient_does_not_matter_either():
    """surrogate_disable."""
    torch.manual_seed(1)
    check_spikes(lively(single(surrogate_disable=True)), by_step=True)


@pytest.mark.parametrize("shape", [(30,), (30, 1, 1)])
@pytest.mark.parametrize("learn", [True, False])
def test_thresholds_of_channels_are_kept(shape, learn):
    """One for each, learned or not."""
    torch.manual_seed(1)
    threshold = torch.linspace(0.4, 1.2, 30).reshape(shape)
    graph, _ = check_spikes(lively(single(shape, threshold=threshold, learn_threshold=learn)), by_step=True)
    np.testing.assert_array_equal(graph.of_kind(LIF)[0].threshold, threshold.ravel())


def test_numbers_that_training_left_are_read():
    """A learned beta and threshold, and arrays of one number."""
    model = single(learn_beta=True, learn_threshold=True, beta=torch.full((30,), 0.5))
    with torch.no_grad():
        model[2].beta.fill_(0.3)
        model[2].threshold.fill_(0.7)
    (node,) = trace(model, SHAPE).of_kind(LIF)
    assert (node.decay, node.threshold) == (float(np.float32(0.3)), float(np.float32(0.7)))


@pytest.mark.parametrize("name", ["loop", "hidden states", "loop around hidden states"])
def test_the_model_is_left_as_it_was(name):
    """State of a former run, of another number of samples, does not show in the graph, and is there afterwards."""
    model = NETWORKS[name]()
    fresh = trace(model, SHAPE)
    x = torch.randn(3, 2, *SHAPE)
    model(x[0] if name in BY_STEP else x)
    kept = {path: (tensor, tensor.detach().clone()) for path, tensor in model.named_buffers()}
    assert sum(tensor.numel() > 1 for tensor, _ in kept.values()) >= 2
    assert trace(model, SHAPE).digest() == fresh.digest()
    assert TorchRuntime(model, SHAPE).graph.digest() == fresh.digest()
    for path, tensor in model.named_buffers():
        assert tensor is kept[path][0] and torch.equal(tensor, kept[path][1])
    assert model.training and model(x[0] if name in BY_STEP else x) is not None


@pytest.mark.parametrize("name", ["loop", "loop, default reset", "loop over frames, sums"])
def test_the_lowered_network_has_the_same_spikes(name):
    """Whether it ends in neurons, whose spikes are counted, or in what the last layer gives."""
    torch.manual_seed(2)
    model = lively(NETWORKS[name]())
    frames = np.random.default_rng(0).integers(0, 2, (STEPS, 3, *SHAPE)).astype(np.float32)
    graph = trace(model, SHAPE)
    traced, lowered = (ReferenceRuntime(one).run(frames) for one in (graph, lower(graph, frames)))
    for path in traced.spikes:
        assert traced.spikes[path].any()
        np.testing.assert_array_equal(lowered.spikes[path], traced.spikes[path])
    np.testing.assert_allclose(lowered.readout, traced.readout, atol=1e-3)  # weights lie on a fine grid now
    assert len(graph.of_kind(Add)) == (name == "loop over frames, sums")


class Wrong(nn.Module):
    """A loop that does something else."""

    def __init__(self, forward):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(128, 20), snn.Leaky(**ZERO)
        self.fc2, self.lif2 = nn.Linear(20, 20), snn.Leaky(**ZERO)
        self.wrong = forward

    def forward(self, x):
        return self.wrong(self, x)


def frame(x, step):
    return x[step].flatten(1)


def dropped(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, _ = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(spikes)
    return torch.stack(record)


def dropped_later(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), net.lif1.init_leaky() if step == 7 else mem)
        record.append(spikes)
    return torch.stack(record)


def swapped(net, x):
    mem1, mem2, record = net.lif1.init_leaky(), net.lif2.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem1 = net.lif1(net.fc1(frame(x, step)), mem2)
        spikes, mem2 = net.lif2(net.fc2(spikes), mem1)
        record.append(spikes)
    return torch.stack(record)


def leaking(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        mem = mem * 0.5
        record.append(spikes)
    return torch.stack(record)


def begun_elsewhere(net, x):
    mem, record = torch.ones(1), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(spikes)
    return torch.stack(record)


def shared(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        spikes, mem = net.lif1(net.fc2(spikes), mem)
        record.append(spikes)
    return torch.stack(record)


def shared_in_one_step(net, x):
    spikes, _ = net.lif1(net.fc1(x.flatten(1)))
    spikes, _ = net.lif1(net.fc2(spikes))
    return spikes


def twice(net, x):
    mem, record = net.lif1.init_leaky(), []
    for _repetition in range(2):
        for step in range(x.size(0)):
            spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
            record.append(spikes)
    return torch.stack(record)


def second_half(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        if step > 0:
            record.append(spikes)
    return torch.stack(record)


def uneven(net, x):
    mem1, mem2, first, record = net.lif1.init_leaky(), net.lif2.init_leaky(), [], []
    for step in range(4):
        spikes, mem1 = net.lif1(net.fc1(frame(x, step)), mem1)
        first.append(spikes)
    for step in range(3):
        spikes, mem2 = net.lif2(net.fc2(first[step]), mem2)
        record.append(spikes)
    return torch.stack(record)


def other_layer(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(3):
        current = net.fc1(frame(x, step))
        spikes, mem = net.lif1(net.fc2(current) if step == 1 else current, mem)
        record.append(spikes)
    return torch.stack(record)


def backwards(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, 2 - step)), mem)
        record.append(spikes)
    return torch.stack(record)


def potentials(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        _, mem = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(mem)
    return torch.stack(record)


def last_step(net, x):
    mem = net.lif1.init_leaky()
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
    return spikes


def batch_first(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(1)):
        spikes, mem = net.lif1(net.fc1(x[:, step].flatten(1)), mem)
        record.append(spikes)
    return torch.stack(record, 1)


def reset_between_steps(net, x):
    record = []
    for step in range(x.size(0)):
        utils.reset(net)
        record.append(net.lif1(net.fc1(frame(x, step)))[0])
    return torch.stack(record)


def written_between_steps(net, x):
    spikes, _ = net.lif1(net.fc1(x.flatten(1)))
    net.lif1.mem *= 0.5
    return spikes


def fresh_in_one_step(net, x):
    return net.lif1(net.fc1(x.flatten(1)), net.lif1.init_leaky())


def fixed_batch(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(x[step].view(128, -1)), mem)
        record.append(spikes)
    return torch.stack(record)


LOOPS = {
    dropped: "'lif1': at step 1 its membrane potential must be the one that it gave a step before.*init_leaky",
    dropped_later: "'lif1': at step 7 its membrane potential must be the one",
    swapped: "'lif2': at step 0 its membrane potential must be 0",
    leaking: "'lif1': at step 1 its membrane potential must be the one",
    begun_elsewhere: "'lif1': at step 0 its membrane potential must be 0",
    shared: "'lif1': is called 6 times by a forward.. that gives 3 steps.*a layer of its own",
    shared_in_one_step: "'lif1': is called 2 times, and forward.. does not return what torch.stack",
    twice: "'lif1'|'getitem",
    second_half: "'lif1': is called 3 times by a forward.. that gives 2 steps",
    uneven: "'lif1': is called 4 times by a forward.. that gives 3 steps",
    other_layer: "something else at step 1 than at step 0",
    backwards: "something else at step 1 than at step 0",
    potentials: "'lif1': its membrane potential is used as a value.*return torch.stack",
    last_step: "'lif1': is called 3 times, and forward.. does not return what torch.stack",
    batch_first: r"cannot be traced .*range\(x.size\(0\)\) of frames x, time first",
    reset_between_steps: "'lif1': forward.. changes its membrane potential between steps.*before the first step only",
    written_between_steps: "'lif1': forward.. changes its membrane potential between steps",
    fresh_in_one_step: "'lif1': is given a membrane potential by a forward.. that takes one step.*init_hidden=True",
    fixed_batch: r"cannot run.*\[T, B, .*any number of samples",
}


@pytest.mark.parametrize("forward", LOOPS, ids=lambda forward: forward.__name__)
def test_loops_that_do_something_else_are_refused_by_name(forward):
    """The layer, what is wrong with it, and the way out."""
    with pytest.raises(GraphError, match=LOOPS[forward]) as caught:
        trace(Wrong(forward), SHAPE)
    assert len(str(caught.value)) < 500


class Own(snn.Leaky):
    def fire(self, mem):
        return 2 * super().fire(mem)


def after(change):
    def make():
        model = single()
        change(model[2])
        return model

    return make


REFUSED = {
    "none": (lambda: single(reset_mechanism="none"), "got 'none'"),
    "changed": (after(lambda leaky: setattr(leaky, "reset_mechanism", "subtract")), "got 'zero', and 'subtract' in its"),
    "inhibition": (lambda: single(inhibition=True), "'2': Leaky: inhibition must be False"),
    "quantized state": (lambda: single(state_quant=lambda mem: mem), "'2': Leaky: state_quant must be False.*td.quantize"),
    "graded": (lambda: single(graded_spikes_factor=2.0), r"graded_spikes_factor must be 1; got 2.0.*next layer"),
    "graded, learned": (
        lambda: single(graded_spikes_factor=1.5, learn_graded_spikes_factor=True),
        "graded_spikes_factor must be 1; got 1.5",
    ),
    "soft spikes": (lambda: single(spike_grad=torch.sigmoid), "spike_grad must give 1 above 0 and else 0"),
    "betas": (lambda: single(beta=torch.linspace(0, 1, 30)), "beta must be one number; got 30 that differ"),
    "thresholds elsewhere": (
        lambda: single((30, 1, 1), threshold=torch.ones(8)),
        r"threshold must be one number, or one for each channel, of shape \(30, 1, 1\); got shape \(8,\)",
    ),
    "threshold 0": (lambda: single(threshold=0.0), "threshold must be above 0"),
    "infinite": (lambda: single(beta=float("nan")), "beta must be finite"),
    "Synaptic": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), snn.Synaptic(alpha=0.9, beta=0.8, init_hidden=True)),
        "'2': a snntorch.*Synaptic cannot be traced. Of snnTorch's neurons, Leaky can",
    ),
    "RLeaky": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), snn.RLeaky(beta=0.9, linear_features=9, init_hidden=True)),
        "'2': a snntorch.*RLeaky cannot be traced",
    ),
    "a neuron that does it otherwise": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(128, 9), Own(**ZERO, init_hidden=True)),
        "'2': a .*Own cannot be traced",
    ),
}


@pytest.mark.filterwarnings("ignore:Inhibition is an unstable feature")
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_node_is_refused_by_name(name):
    """The layer's path, what is wrong with it, and where there is one a way out."""
    make, message = REFUSED[name]
    with pytest.raises(GraphError, match=message) as caught:
        trace(make(), SHAPE)
    assert len(str(caught.value)) < 500


def test_subclasses_that_only_choose_settings_are_leaky():
    """As is a copy of a model."""

    class Slow(snn.Leaky):
        def __init__(self):
            super().__init__(beta=0.99, reset_mechanism="zero", init_hidden=True)

    model = nn.Sequential(nn.Flatten(), nn.Linear(128, 9), Slow(), nn.Linear(9, 3))
    graph = trace(model, SHAPE)
    assert graph.of_kind(LIF)[0].decay == float(np.float32(0.99))
    assert trace(copy.deepcopy(model), SHAPE).digest() == graph.digest()


def test_a_constant_number_of_steps_is_the_models_own():
    """Over other frames, the model as a runtime says so."""

    def three(net, x):
        mem, record = net.lif1.init_leaky(), []
        for step in range(3):
            spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
            record.append(spikes)
        return torch.stack(record)

    with pytest.raises(ExecutionError, match="must give the readout of every step"):
        TorchRuntime(Wrong(three), SHAPE).run(np.ones((4, 2, *SHAPE), np.float32))


def test_nothing_is_imported_that_the_user_has_not():
    """Tracing a model of plain torch leaves snnTorch alone."""
    code = (
        "import sys, torch, tet_deploy as td; from tet_deploy.nn import LIF, TimeMajor\n"
        "td.trace(TimeMajor(torch.nn.Linear(4, 3), LIF(), torch.nn.Linear(3, 2)), (4,))\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'snntorch']"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
