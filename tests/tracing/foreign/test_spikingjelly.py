"""SpikingJelly's networks become graphs with the same spikes, or are refused by name."""

import itertools
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn
from torch.nn.utils import parametrizations, prune, weight_norm

from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.nodes import LIF, Add, CubaLIF, Linear, SoftResetLIF, Spiking
from tet_deploy.nn import LIF as OurLIF
from tet_deploy.nn import TimeMajor
from tet_deploy.passes import lower
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace
from tet_deploy.tracing.capture import capture
from tet_deploy.tracing.eval_mode import in_eval_mode

SHAPE = (2, 8, 8)
STEPS, SAMPLES = 4, 2


def zoo(name):
    """A module of SpikingJelly's models; they ask torchvision for a function that loads weights from the internet."""
    if "torchvision" not in sys.modules:
        for path in ("torchvision", "torchvision.models", "torchvision.models.utils"):
            sys.modules[path] = types.ModuleType(path)
        sys.modules["torchvision.models.utils"].load_state_dict_from_url = None
    return __import__(f"spikingjelly.activation_based.model.{name}", fromlist=[name])


class CSNN(nn.Module):
    """As in the tutorial on Fashion-MNIST: takes an image, shows it T times, gives firing rates."""

    def __init__(self, show=lambda x: x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1), rates=lambda spikes: spikes.mean(0)):
        super().__init__()
        self.show, self.rates = show, rates
        self.conv_fc = nn.Sequential(
            *(layer.Conv2d(1, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.IFNode(), layer.MaxPool2d(2, 2)),
            *(layer.Conv2d(8, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.IFNode(), layer.MaxPool2d(2, 2)),
            *(layer.Flatten(), layer.Linear(8 * 4 * 4, 32, bias=False), neuron.IFNode()),
            *(layer.Linear(32, 10, bias=False), neuron.IFNode()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.rates(self.conv_fc(self.show(x)))


def vgg():
    """Its convolutions are narrow here, and its classifier fits them."""
    with_bn = zoo("spiking_vgg").SpikingVGG([8, "M", 8, "M", 16, 16, "M"], True, spiking_neuron=neuron.IFNode)
    with_bn.avgpool = layer.AdaptiveAvgPool2d((2, 2))
    with_bn.classifier = nn.Sequential(
        *(
            layer.Linear(64, 32),
            neuron.IFNode(),
            layer.Dropout(),
            layer.Linear(32, 32),
            neuron.IFNode(),
            layer.Linear(32, 10),
        )
    )
    return with_bn


def containers():
    """The same layers in each kind of container, own and torch's."""
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        neuron.LIFNode(step_mode="m"),
        layer.MultiStepContainer(
            nn.Conv2d(8, 8, 3), layer.BatchNorm2d(8), neuron.LIFNode(decay_input=False), nn.AvgPool2d(2)
        ),
        layer.StepModeContainer(True, "m", nn.Sequential(nn.Conv2d(8, 8, 2), neuron.IFNode())),
        layer.StepModeContainer(False, "m", nn.Flatten()),
        *(layer.Dropout(step_mode="m"), layer.Linear(32, 30, step_mode="m"), neuron.LIFNode(step_mode="m")),
        layer.VotingLayer(3, step_mode="m"),
    )


def sew(depth, kind, cnf="ADD"):
    return getattr(zoo("sew_resnet"), f"sew_resnet{depth}")(spiking_neuron=kind, cnf=cnf, num_classes=10)


def resnet(depth):
    return getattr(zoo("spiking_resnet"), f"spiking_resnet{depth}")(spiking_neuron=neuron.LIFNode, num_classes=10)


def dvs():
    return zoo("parametric_lif_net").CIFAR10DVSNet(channels=4, spiking_neuron=neuron.ParametricLIFNode)


NETWORKS = {
    "tutorial CSNN": (CSNN, (1, 16, 16)),
    "tutorial CSNN, expanded and summed": (
        lambda: CSNN(lambda x: x.unsqueeze(0).expand(STEPS, -1, -1, -1, -1), lambda spikes: torch.sum(spikes, dim=0)),
        (1, 16, 16),
    ),
    "tutorial CSNN, stacked": (
        lambda: CSNN(lambda x: torch.stack([x] * STEPS), lambda spikes: spikes.sum(dim=(0,), keepdim=False) / STEPS),
        (1, 16, 16),
    ),
    "containers": (containers, (2, 8, 8)),
    "spiking_vgg": (vgg, (3, 16, 16)),
    "CIFAR10DVSNet": (dvs, (2, 128, 128)),
    "spiking_resnet18": (lambda: resnet(18), (3, 32, 32)),
    "spiking_resnet34": (lambda: resnet(34), (3, 32, 32)),
    "sew_resnet18": (lambda: sew(18, neuron.LIFNode), (3, 32, 32)),
    "sew_resnet34": (lambda: sew(34, neuron.IFNode), (3, 32, 32)),
}


def lively(model, run):
    """Weights and batch norms that make neurons fire, with the statistics of what they are given."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.uniform_(2, 4)
                module.bias.uniform_(-0.5, 1.5)
            elif isinstance(module, nn.Linear):
                module.weight *= 6
        model.train()
        for _ in range(2):
            functional.reset_net(model)
            run()
    functional.reset_net(model)
    return model.eval()


def own_spikes(model, run):
    """What each population gives in SpikingJelly's own forward, [T, B, ...], and the readout."""
    heard = {path: [] for path, module in model.named_modules() if isinstance(module, neuron.BaseNode)}
    hooks = [
        model.get_submodule(path).register_forward_hook(lambda module, args, output, path=path: heard[path].append(output))
        for path in heard
    ]
    functional.reset_net(model)
    with torch.no_grad():
        readout = run().numpy()
    functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    return {path: (given[0] if len(given) == 1 else torch.stack(given)).numpy() for path, given in heard.items()}, readout


def check_torch_runtime(model, shape, frames, recording):
    """As a runtime the model does what its graph does, spike for spike, in its own way of being called."""
    found = TorchRuntime(model, shape).run(frames)
    for name, spikes in recording.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
        np.testing.assert_allclose(found.potentials[name], recording.potentials[name], rtol=1e-3, atol=1e-3)  # float32
    np.testing.assert_allclose(found.readout, recording.readout, rtol=1e-4, atol=1e-4)


def check_spikes(model, shape, mode="m", seed=0):
    """Every spike of the traced graph is the model's own, in float32; the graph."""
    torch.manual_seed(seed)
    frames = torch.randn(STEPS, SAMPLES, *shape)
    if isinstance(model, CSNN):
        frames = frames[:1].expand(STEPS, *frames.shape[1:])
        run = lambda: model(frames[0])  # noqa: E731  # one of three
    elif mode == "s":
        run = lambda: torch.stack([model(frame) for frame in frames])  # noqa: E731
    else:
        run = lambda: model(frames)  # noqa: E731
    lively(model, run)
    expected, readout = own_spikes(model, run)
    graph = trace(model, shape)
    recording = ReferenceRuntime(graph).run(np.ascontiguousarray(frames.numpy()))
    assert expected.keys() <= recording.spikes.keys()
    differ = {path: int((recording.spikes[path] != given).sum()) for path, given in expected.items()}
    assert differ == dict.fromkeys(expected, 0)
    assert [path for path, given in expected.items() if not given.any()] == []
    found = model.rates(torch.from_numpy(recording.readout)) if isinstance(model, CSNN) else recording.readout
    np.testing.assert_allclose(found, readout, rtol=1e-4, atol=1e-4)  # float32, in which sums of spikes round otherwise
    check_torch_runtime(model, shape, np.ascontiguousarray(frames.numpy()), recording)
    return graph


@pytest.mark.parametrize("name", NETWORKS)
def test_every_spike_is_the_frameworks_own(name):
    """In float32, of every population at every step; all fire."""
    make, shape = NETWORKS[name]
    model = make()
    functional.set_step_mode(model, "m")
    check_spikes(model, shape)


@pytest.mark.parametrize("name", ["CIFAR10DVSNet", "spiking_vgg", "sew_resnet18"])
def test_a_model_that_is_called_step_by_step_is_traced_as_it_is(name):
    """step_mode "s": forward() takes [B, ...], and the loop over time is the user's."""
    make, shape = NETWORKS[name]
    stepwise = check_spikes(make(), shape, mode="s")
    model = make()
    functional.set_step_mode(model, "m")
    assert [node.name for node in trace(model, shape)] == [node.name for node in stepwise]


def neurons(kind, **arguments):
    return nn.Sequential(layer.Flatten(), layer.Linear(128, 64), kind(**arguments), layer.Linear(64, 10))


KINDS = [
    *({"kind": neuron.IFNode, "v_reset": v_reset} for v_reset in (0.0, 0.25, -0.7, None)),
    *(
        {"kind": neuron.LIFNode, "tau": tau, "decay_input": decay_input, "v_reset": v_reset}
        for tau, decay_input, v_reset in itertools.product((1.25, 2.0, 7.3), (True, False), (0.0, -0.3, None))
    ),
    *(
        {"kind": neuron.ParametricLIFNode, "init_tau": tau, "decay_input": decay_input, "v_reset": 0.2}
        for tau, decay_input in itertools.product((1.7, 2.0), (True, False))
    ),
    *(
        {"kind": neuron.CUBALIFNode, "c_decay": current, "v_decay": potential}
        for current, potential in itertools.product((0.0, 0.3, 0.9), (0.0, 0.75, 1.0))
    ),
]


@pytest.mark.parametrize("mode", ["m", "s"])
@pytest.mark.parametrize("arguments", KINDS, ids=str)
def test_every_setting_of_a_neuron_keeps_its_spikes(arguments, mode):
    """Any tau, decaying input or not, any threshold, any number to reset to, and None, which subtracts the threshold."""
    model = neurons(**arguments, v_threshold=0.6)
    functional.set_step_mode(model, mode)
    (node,) = check_spikes(model, SHAPE, mode).of_kind(Spiking)
    assert node.comparison == ">="
    kind = LIF if arguments.get("v_reset") is not None else SoftResetLIF
    assert isinstance(node, CubaLIF if "c_decay" in arguments else kind)


def test_a_neuron_fires_at_its_threshold():
    """IF with whole weights: potentials meet the threshold exactly, in both."""
    model = nn.Sequential(layer.Linear(6, 6, bias=False), neuron.IFNode(v_threshold=3.0), layer.Linear(6, 2))
    functional.set_step_mode(model, "m")
    with torch.no_grad():
        model[0].weight.copy_(torch.eye(6))
    frames = torch.ones(6, 1, 6)
    recording = ReferenceRuntime(trace(model, (6,))).run(frames.numpy())
    assert recording.spikes["1"][:, 0, 0].tolist() == [0, 0, 1, 0, 0, 1]


def test_time_constants_of_one_step_keep_nothing():
    """tau = 1, which SpikingJelly takes by assignment: decay 0."""
    model = neurons(neuron.LIFNode)
    model[2].tau = 1.0
    assert trace(model, SHAPE).of_kind(LIF)[0].decay == 0


def off(field, value):
    return lambda model: setattr(model[2], field, value)


class Own(neuron.LIFNode):
    def single_step_forward(self, x):
        return super().single_step_forward(2 * x)


class Named(neuron.LIFNode):
    def __init__(self):
        super().__init__(tau=3.0)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.flatten, self.first, self.fc, self.lif = (
            layer.Flatten(),
            layer.Linear(128, 9),
            layer.Linear(9, 9),
            neuron.LIFNode(),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.fc(self.lif(self.fc(self.lif(self.first(self.flatten(x))))))


class Branches(nn.Module):
    """What neurons give is used twice, and a sum of it goes on."""

    def __init__(self):
        super().__init__()
        self.flatten, self.first, self.fc = layer.Flatten(), layer.Linear(128, 9), layer.Linear(9, 9)
        self.one, self.two, self.readout = neuron.LIFNode(), neuron.IFNode(), layer.Linear(9, 3)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        spikes = self.one(self.first(self.flatten(x)))
        return self.readout(self.two(self.fc(spikes)) + spikes)


class Loop(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = neurons(neuron.LIFNode)

    def forward(self, x):
        rates = self.layers(x)
        for _ in range(2):
            rates += self.layers(x)
        return rates / 3


class LoopOverFrames(Loop):
    def forward(self, x):
        return torch.stack([self.layers(x[step]) for step in range(3)])


def changed(change, **arguments):
    def make():
        model = neurons(neuron.LIFNode, **arguments)
        functional.set_step_mode(model, "m")
        change(model)
        return model

    return make


def with_layer(*layers):
    return lambda: nn.Sequential(*layers, layer.Flatten(step_mode="m"), layer.Linear(128, 3, step_mode="m"))


REFUSED = {
    "threshold below reset": (
        changed(off("v_threshold", -1.0)),
        "'2': LIFNode: v_threshold must be above v_reset; got -1.0",
    ),
    "threshold of many": (changed(off("v_threshold", torch.ones(64))), "v_threshold must be one finite number"),
    "start elsewhere": (changed(off("v_reset", 0.25)), r"must begin at v_reset, 0\.25; it begins at 0\.0"),
    "tau below a step": (changed(off("tau", 0.5)), "tau must be finite and at least 1 step"),
    "no spikes": (changed(lambda model: None, surrogate_function=surrogate.Sigmoid(spiking=False)), "must give spikes"),
    "another neuron": (with_layer(neuron.QIFNode(step_mode="m")), r"'0': a spikingjelly.*QIFNode cannot.*IFNode, LIFNode"),
    "a neuron that does it otherwise": (with_layer(Own(step_mode="m")), r"'0': a .*Own cannot be traced"),
    "a layer with state": (with_layer(layer.SynapseFilter(step_mode="m")), "'0': a spikingjelly.*SynapseFilter cannot"),
    "norm of the step": (
        with_layer(layer.TemporalEffectiveBatchNorm2d(2, 2)),
        "'0': a .*TemporalEffectiveBatchNorm2d cannot",
    ),
    "norm through time": (with_layer(layer.BatchNormThroughTime2d(2, 2, step_mode="m")), "'0': a .*BatchNormThroughTime2d"),
    "standardised weights": (with_layer(layer.WSConv2d(2, 2, 1, step_mode="m")), "'0': a .*WSConv2d cannot"),
    "modes mixed": (
        with_layer(layer.Conv2d(2, 2, 1, step_mode="m"), neuron.IFNode(), neuron.IFNode(step_mode="m")),
        r"'1': IFNode of step_mode 's' is given all steps, .*set_step_mode\(model, 'm'\)",
    ),
    "neurons called twice": (Twice, "'lif': this LIFNode is called again.*Give each call a layer of its own"),
    "a loop over time": (Loop, "'layers.2': this LIFNode is called again.*trace what it calls in the loop"),
    "a loop over frames": (
        LoopOverFrames,
        r"'layers.1', a Linear: cannot run .* one step \[B, .*have step_mode 's' .*trace what it calls in the loop",
    ),
    "own module in a container": (
        with_layer(layer.MultiStepContainer(TimeMajor(nn.Conv2d(2, 2, 1)))),
        "'0.0': a container that walks through time may hold layers only; this is a TimeMajor",
    ),
    "a container for all steps among neurons for one": (
        lambda: nn.Sequential(layer.Flatten(), layer.MultiStepContainer(nn.Linear(128, 4)), neuron.IFNode()),
        "'1.0': its container walks through time, and neurons outside of it take one step",
    ),
    "our LIF step by step": (
        lambda: nn.Sequential(layer.Flatten(), OurLIF(), layer.Linear(128, 3), neuron.IFNode()),
        "'1': LIF needs time and batch separate",
    ),
    "rates in the middle": (
        lambda: nn.Sequential(CSNN(), nn.Linear(10, 3)),
        r"'0.mean': a mean or sum over time must be the last.*fc\(x\)\.mean\(0\)",
    ),
    "SEW by a product": (lambda: sew(18, neuron.IFNode, "AND"), r"'layer1.0.mul': function 'mul' cannot"),
    "SEW by a product of what is silent": (lambda: sew(18, neuron.IFNode, "IAND"), r"'layer1.0.sub': function 'sub' cannot"),
    "control flow": (lambda: zoo("ms_resnet").ms_resnet18(T=2), "MSResNet: forward.. cannot be traced.*loop or branch"),
}


WRAPPERS = {
    "weight norm": lambda model: parametrizations.weight_norm(model[0]),
    "old weight norm": lambda model: weight_norm(model[0]),
    "spectral norm": lambda model: parametrizations.spectral_norm(model[0]),
    "pruning": lambda model: prune.l1_unstructured(model[0], "weight", 0.5),
    "compile": torch.compile,
    "data parallel": nn.DataParallel,
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize("name", WRAPPERS)
def test_weights_are_those_that_the_layer_computes_with(name):
    """Whatever torch wraps around a layer's weights, or around the model."""
    model = nn.Sequential(layer.Conv2d(2, 4, 3), neuron.IFNode(), layer.Flatten(), layer.Linear(144, 3)).eval()
    functional.set_step_mode(model, "m")
    changed = WRAPPERS[name](model)
    graph = trace(changed if isinstance(changed, nn.Module) and name in ("compile", "data parallel") else model, SHAPE)
    np.testing.assert_allclose(graph["0"].weight, model[0].weight.detach().numpy(), rtol=1e-6)  # a norm is a sum in float32


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_node_is_refused_by_name(name):
    """The layer's path, what is wrong with it, and where there is one a way out."""
    make, message = REFUSED[name]
    model = make()
    shape = {"SEW": (3, 32, 32), "control": (3, 32, 32), "rates": (1, 16, 16)}.get(name.split()[0], SHAPE)
    with pytest.raises(GraphError, match=message) as caught:
        trace(model, shape)
    assert len(str(caught.value)) < 500


def test_subclasses_that_only_choose_settings_are_what_they_come_from():
    """And so is SpikingJelly's threshold-dependent batch norm, whose factor is in its weights."""
    model = with_layer(
        layer.Conv2d(2, 2, 1, step_mode="m"),
        layer.ThresholdDependentBatchNorm2d(alpha=1.0, v_th=0.5, num_features=2),
        Named(),
    )()
    functional.set_step_mode(model, "m")
    assert check_spikes(model, SHAPE).of_kind(LIF)[0].decay == pytest.approx(2 / 3)


def test_sums_of_spikes_go_on_as_in_ours():
    """What neurons give may be used twice; the lowered graph has the same spikes."""
    graph = check_spikes(Branches(), SHAPE)
    assert len(graph.of_kind(Add)) == 1
    frames = np.random.default_rng(0).standard_normal((STEPS, 3, *SHAPE)).astype(np.float32)
    for name, spikes in ReferenceRuntime(lower(graph, frames)).run(frames).spikes.items():
        assert spikes.any(), name


def test_a_model_that_shows_an_image_runs_on_that_alone():
    """As a runtime it takes frames that are one image at each of its steps; others are refused."""
    runtime = TorchRuntime(CSNN(), (1, 16, 16))
    frames = np.random.default_rng(0).random((STEPS, 2, 1, 16, 16), np.float32)
    for wrong, message in (
        (frames, "at 4 steps; got frames that differ"),
        (frames[:1].repeat(3, 0), "of 3 steps"),
    ):
        with pytest.raises(DataError, match=message):
            runtime.run(wrong)
    assert runtime.run(frames[:1].repeat(STEPS, 0)).readout.shape == (STEPS, 2, 10)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
def test_an_image_may_be_shown_at_any_number_of_steps(steps):
    """And is so at another number of samples, by which time and batch are told apart."""
    model = CSNN(lambda x: x.unsqueeze(0).repeat(steps, 1, 1, 1, 1))
    with in_eval_mode(model):
        captured = capture(model, (1, 16, 16), "analog")
    assert captured.steps == steps != captured.samples
    assert len(trace(model, (1, 16, 16))) == 17


def test_voting_is_a_mean_over_groups():
    """Neighbours vote; what is left over does not."""
    model = nn.Sequential(layer.Linear(6, 11), neuron.IFNode(), layer.VotingLayer(5))
    vote = trace(model, (6,)).nodes[-2]
    assert isinstance(vote, Linear) and vote.dense_macs == 0
    np.testing.assert_array_equal(vote.weight * 5, [[1] * 5 + [0] * 6, [0] * 5 + [1] * 5 + [0]])


def test_time_is_what_a_mean_is_taken_over():
    """Where forward() takes one step, its first axis holds samples, and a mean over them is none over time."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = neurons(neuron.LIFNode)

        def forward(self, x):
            return self.layers(x).mean(0)

    with pytest.raises(GraphError, match="method 'mean' cannot"):
        trace(Mean(), SHAPE)
    model = Mean()
    functional.set_step_mode(model, "m")
    assert len(trace(model, SHAPE)) == 6


@pytest.mark.parametrize("mode", ["m", "s"])
def test_the_model_is_left_as_it_was(mode):
    """State of a former run, training mode, precision, hooks: all as found; and the state does not show in the graph."""
    model = neurons(neuron.ParametricLIFNode, step_mode=mode, detach_reset=True, store_v_seq=True).double()
    functional.set_step_mode(model, mode)
    fresh = trace(model, SHAPE)
    x = torch.randn(2, 3, *SHAPE, dtype=torch.float64)
    model(x) if mode == "m" else model(x[0])
    v, v_seq = model[2].v, model[2].v_seq
    kept = v.detach().clone()
    assert trace(model, SHAPE).digest() == fresh.digest()
    assert model[2].v is v and model[2].v_seq is v_seq and torch.equal(v, kept) and model.training
    assert model[2].step_mode == mode and model[2].w.dtype == torch.float64
    functional.reset_net(model)
    assert model[2].v == 0.0


def test_a_learned_time_constant_is_read():
    """ParametricLIFNode's w, as training left it, in float32 as the model computes it."""
    model = neurons(neuron.ParametricLIFNode)
    with torch.no_grad():
        model[2].w.fill_(0.3)
    assert trace(model, SHAPE).of_kind(LIF)[0].decay == 1 - float(torch.tensor(0.3).sigmoid())


def test_nothing_is_imported_that_the_user_has_not():
    """Tracing a model of plain torch leaves SpikingJelly alone."""
    code = (
        "import sys, torch, tet_deploy as td; from tet_deploy.nn import LIF, TimeMajor\n"
        "td.trace(TimeMajor(torch.nn.Linear(4, 3), LIF(), torch.nn.Linear(3, 2)), (4,))\n"
        "assert not [name for name in sys.modules if name.startswith('spikingjelly')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
