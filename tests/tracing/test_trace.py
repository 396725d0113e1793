"""A traced graph computes what the torch model computes, or tracing stops and says where and why."""

import collections

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tet_deploy.counting import estimate
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import KINDS, Add, CubaLIF, SoftResetLIF, Spiking
from tet_deploy.ir.spec import TRACED
from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.passes import fold
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.tracing import trace

SHAPE = (2, 8, 6)
ROUNDING = 1e-9  # both in float64: sums of some hundred terms of size 1 round by far less


class Residual(nn.Module):
    def __init__(self, channels, add):
        super().__init__()
        self.body = TimeMajor(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.lif = LIF()
        self.add = add

    def forward(self, x):
        return self.lif(self.add(self.body(x), x))


class Body(nn.Module):
    def __init__(self, layer, lif):
        super().__init__()
        self.layer, self.lif = layer, lif

    def forward(self, x):
        return self.lif(self.layer(x))


class ThresholdNorm(nn.BatchNorm2d):
    """tdBN as it is often written: alpha * threshold in forward()."""

    def forward(self, x):
        return 0.35 * F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def silent_norm():
    """A factor can be seen of no norm that gives 0 everywhere, and changes none."""
    norm = ThresholdNorm(2)
    nn.init.zeros_(norm.weight)
    return norm


class FactorNorm(nn.BatchNorm1d):
    def __init__(self, channels):
        super().__init__(channels, affine=False)
        self.factor = nn.Parameter(torch.arange(1.0, channels + 1) / 3)

    def forward(self, x):
        return self.factor * super().forward(x)


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class Free(nn.Module):
    """A forward() of the user's own, with his own way to flatten [T, B, C, H, W]."""

    def __init__(self, flatten):
        super().__init__()
        self.conv = TimeMajor(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3))
        self.lif = LIF(decay=0.75, threshold=0.5)
        self.readout = nn.Linear(3 * 6 * 4, 5)
        self.flatten = flatten

    def forward(self, x):
        return self.readout(self.flatten(self.lif(self.conv(x))))


class Merging(nn.Module):
    """A forward() that merges and separates time and batch by hand."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc, self.lif = nn.Conv2d(2, 3, 3), nn.Linear(72, 5), LIF()

    def forward(self, x):
        steps, samples = x.shape[0], x.size(1)
        y = self.conv(x.reshape(steps * samples, *SHAPE))
        y = F.dropout(self.lif(y.view(steps, samples, 3, 6, 4)), 0.5, training=self.training)
        return self.fc(y.flatten(0, 1).flatten(1)).reshape(steps, samples, -1)


def net(*layers, features):
    return TimeMajor(*layers, nn.Flatten(), nn.Linear(features, 5))


def shared():
    lif, pool = LIF(), nn.AvgPool2d(2)
    return net(nn.Conv2d(2, 3, 3, padding=1), lif, pool, nn.Conv2d(3, 3, 3, padding=1), lif, pool, features=6)


MODELS = {
    "conv bias": lambda: net(nn.Conv2d(2, 3, 3), LIF(), features=72),
    "conv no bias": lambda: net(nn.Conv2d(2, 3, 3, bias=False), LIF(), features=72),
    "conv options": lambda: net(
        nn.Conv2d(2, 4, (3, 2), stride=(2, 1), padding=(2, 1), dilation=(1, 2), groups=2), LIF(), features=120
    ),
    "conv same": lambda: net(nn.Conv2d(2, 3, (3, 5), padding="same", dilation=(2, 1)), LIF(), features=144),
    "conv valid": lambda: net(nn.Conv2d(2, 3, 3, padding="valid"), LIF(), features=72),
    "batch norm": lambda: net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, eps=0.01), LIF(), features=72),
    "batch norm without affine": lambda: net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3, affine=False), LIF(), features=72),
    "batch norm of vectors": lambda: net(nn.Flatten(), nn.Linear(96, 7), nn.BatchNorm1d(7), LIF(), features=7),
    "average pool": lambda: net(nn.Conv2d(2, 3, 3), LIF(), nn.AvgPool2d((3, 2), stride=(1, 2)), features=24),
    "adaptive average pool": lambda: net(nn.Conv2d(2, 3, 3), LIF(), nn.AdaptiveAvgPool2d((3, None)), features=36),
    "global average pool": lambda: net(nn.Conv2d(2, 3, 3), LIF(), nn.AdaptiveAvgPool2d(1), features=3),
    "max pool of spikes": lambda: net(
        nn.Conv2d(2, 3, 3, padding=1), LIF(), nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(1, 2)), features=72
    ),
    "integrate and fire": lambda: net(nn.Conv2d(2, 3, 3), LIF(decay=1.0, threshold=0.7), features=72),
    "dropout and identity": lambda: net(nn.Dropout(), nn.Conv2d(2, 3, 3), nn.Identity(), LIF(), nn.Dropout2d(), features=72),
    "nested": lambda: net(TimeMajor(nn.Conv2d(2, 3, 3), TimeMajor(nn.BatchNorm2d(3), LIF())), features=72),
    "blocks in sequences": lambda: net(
        nn.Sequential(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), LIF()),
        nn.Sequential(nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), LIF()), nn.Sequential(nn.AvgPool2d(2))),
        features=18,
    ),
    "blocks in modules of one's own": lambda: net(
        Body(TimeMajor(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3)), LIF()),
        TimeMajor(nn.Sequential(Body(TimeMajor(nn.Conv2d(3, 3, 3, padding=1)), LIF()), nn.AvgPool2d(2))),
        features=18,
    ),
    "linear only": lambda: net(nn.Flatten(), nn.Linear(96, 7, bias=False), LIF(), nn.Unflatten(1, (7,)), features=7),
    "threshold-dependent norm": lambda: net(
        *(nn.Conv2d(2, 3, 3), ThresholdNorm(3), LIF(threshold=0.1)),
        *(nn.Flatten(), nn.Linear(72, 6), FactorNorm(6), LIF(threshold=0.1)),
        features=6,
    ),
    "shared layers": shared,
    "residual a + b": lambda: net(Residual(2, lambda a, b: a + b), Residual(2, lambda a, b: a + b), features=96),
    "residual torch.add": lambda: net(Residual(2, lambda a, b: torch.add(input=a, other=b)), features=96),
    "residual method": lambda: net(Residual(2, lambda a, b: a.add(b)), features=96),
    "flatten method": lambda: Free(lambda x: x.flatten(2)),
    "flatten function": lambda: Free(lambda x: torch.flatten(x, start_dim=2)),
    "flatten keyword": lambda: Free(lambda x: torch.flatten(input=x, start_dim=2)),
    "flatten by view": lambda: Free(lambda x: x.view(x.size(0), x.size(1), -1)),
    "flatten by reshape": lambda: Free(lambda x: x.contiguous().reshape(*x.shape[:2], 72)),
    "merged by hand": Merging,
    "functional average pool": lambda: net(Function(lambda x: F.avg_pool2d(x, (2, 1))), LIF(threshold=0.6), features=48),
    "functional pools": lambda: net(
        *(nn.Conv2d(2, 3, 3, padding=1), LIF()),
        Function(lambda x: F.max_pool2d(x, 2, stride=(2, 1), padding=1)),
        Function(lambda x: F.max_pool2d(torch.max_pool2d(x, 2, 1), kernel_size=1)),
        Function(lambda x: F.adaptive_avg_pool2d(input=F.avg_pool2d(x, kernel_size=2), output_size=1)),
        features=3,
    ),
}  # fmt: skip


def lively(model, seed=0):
    """The model in float64 with float32 values: weights and statistics that make about a third of the neurons fire."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(0.1, 0.5, generator=generator)
            elif value.is_floating_point():
                value.uniform_(-0.6, 0.7, generator=generator)
    return model.double()


@pytest.mark.parametrize("name", MODELS)
def test_a_traced_graph_computes_what_the_model_does(name):
    """In float64, readouts at every step agree to rounding, and neurons fire."""
    model = lively(MODELS[name]())
    frames = np.random.default_rng(0).uniform(0, 1, (4, 3, *SHAPE)).astype(np.float32)
    recording = ReferenceRuntime(trace(model, SHAPE), dtype=np.float64).run(frames)
    with torch.no_grad():
        expected = model.eval()(torch.tensor(frames, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(recording.readout, expected, atol=ROUNDING, rtol=ROUNDING)
    assert all(0.02 < spikes.mean() < 0.98 for spikes in recording.spikes.values())


def test_every_traceable_kind_is_covered_here():
    """The models above contain every kind of node that a traced graph may contain, but a neuron that is none of ours."""
    covered = {type(node) for make in MODELS.values() for node in trace(make(), SHAPE)}
    assert covered == set(KINDS.values()) - {SoftResetLIF, CubaLIF}
    assert {kind for kind in covered if not issubclass(kind, Spiking)} == set(TRACED.kinds) - {Spiking}


def test_a_norm_that_gives_nothing_is_traced():
    """As zero_init_residual makes them: gamma and beta 0, in torch's own norms and in those with a factor."""
    for norm in (silent_norm(), nn.SyncBatchNorm(2)):
        nn.init.zeros_(norm.weight)
        assert not trace(net(norm, LIF(), features=96).eval(), SHAPE)["0"].gamma.any()


def test_nodes_are_named_by_module_path():
    """Names are paths; additions are named after the module that adds; second calls and reserved names get a number."""
    layers = {
        "stem": nn.Conv2d(2, 2, 1),
        "block": Residual(2, lambda a, b: a + b),
        "flat": nn.Flatten(),
        "readout": nn.Linear(96, 5),
    }
    graph = trace(TimeMajor(collections.OrderedDict(layers)), SHAPE, encoding="events")
    assert [(node.name, node.inputs) for node in graph] == [
        ("input", ()),
        ("stem", ("input",)),
        ("block.body.0", ("stem",)),
        ("block.body.1", ("block.body.0",)),
        ("block.add", ("block.body.1", "stem")),
        ("block.lif", ("block.add",)),
        ("flat", ("block.lif",)),
        ("readout_2", ("flat",)),
        ("readout", ("readout_2",)),
    ]
    assert graph.input.encoding == "events"
    assert [node.name for node in trace(shared(), SHAPE) if "1" in node.name] == ["1", "1_2"]
    assert len(graph.of_kind(Add)) == 1


@pytest.mark.parametrize("key", ["a/b", "block 1", 'say "a"', "a,b", "\ud800", "a\nb"])
def test_modules_whose_names_no_node_may_have_are_refused(key):
    """A module's key may be any string; one that would not work everywhere is named, with the way out."""
    model = nn.Sequential(collections.OrderedDict([("flat", nn.Flatten(2)), (key, nn.Linear(96, 5))]))
    with pytest.raises(GraphError, match=r"its name holds .* Rename the node, or the module that it is named after"):
        trace(model, SHAPE)


def test_modules_may_be_named_in_any_script():
    """Letters and digits of any script, and the signs that names may have, stay as they are."""
    layers = {"größe": nn.Flatten(2), "層-1": nn.Sequential(nn.Linear(96, 5))}
    assert [node.name for node in trace(nn.Sequential(collections.OrderedDict(layers)), SHAPE)][1:3] == ["größe", "層-1.0"]


def test_the_model_is_left_as_it_was():
    """Modes of all layers, statistics and torch's generator are untouched; the graph is that of eval mode."""
    model = net(nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), LIF(), nn.Dropout(0.5), features=72).train()
    model[1].eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    random_state = torch.get_rng_state()
    trace(model, SHAPE)
    assert [layer.training for layer in model] == [True, False, True, True, True, True]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_weights_are_float32_copies():
    """Training on after tracing does not change the graph, whatever the model's precision."""
    model = build("digits", seed=0).double()
    graph = trace(model, (1, 8, 8))
    before = graph["conv1"].weight.copy()
    model.conv1.weight.data.zero_()
    assert before.dtype == np.float32
    np.testing.assert_array_equal(graph["conv1"].weight, before)


def test_weights_that_are_not_finite_are_named():
    """The node with the NaN is named."""
    model = net(nn.Conv2d(2, 3, 3), LIF(), features=72)
    model[3].bias.data[1] = float("nan")
    with pytest.raises(GraphError, match="node '3': bias holds NaN"):
        trace(model, SHAPE)


class Calls(nn.Module):
    """Applies a function between a convolution and the readout."""

    def __init__(self, function):
        super().__init__()
        self.conv, self.lif, self.fc = TimeMajor(nn.Conv2d(2, 3, 3)), LIF(), TimeMajor(nn.Flatten(), nn.Linear(72, 5))
        self.gain = nn.Parameter(torch.ones(()))
        self.function = function

    def forward(self, x):
        return self.function(self, self.lif(self.conv(x)))


def hooked(module):
    module.register_forward_hook(lambda *_: None)
    return module


class Offset(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) + 1e-6


class ByStep(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x) * torch.linspace(1, 2, len(x)).reshape(-1, 1, 1, 1)


def changed_lif():
    lif = LIF()
    lif.decay = torch.tensor([0.5, 0.25])
    return lif


class Strange(nn.Conv2d):
    def forward(self, x):
        return F.conv2d(x, self.weight.abs())


UNSUPPORTED = {
    "max pool of no spikes": (lambda: net(nn.MaxPool2d(2), features=24), "layer '0': MaxPool2d must take spikes"),
    "max pool that rounds up": (lambda: net(LIF(), nn.MaxPool2d(3, ceil_mode=True), features=12), "layer '1': .*ceil_mode"),
    "softmax": (lambda: net(nn.Softmax(dim=-1), features=96), r"layer '0': a torch\..*\.Softmax cannot .*Conv2d"),
    "relu deep inside": (lambda: net(TimeMajor(nn.Conv2d(2, 3, 3), nn.ReLU()), LIF(), features=72), r"layer '0\.1': .*ReLU"),
    "padding mode": (
        lambda: net(nn.Conv2d(2, 3, 3, padding_mode="reflect"), features=72),
        "layer '0': padding_mode .*'reflect'",
    ),
    "lopsided same": (
        lambda: net(nn.Conv2d(2, 3, 2, padding="same"), features=144),
        r"layer '0': padding='same' with kernel \(2, 2\)",
    ),
    "padded pool": (lambda: net(nn.AvgPool2d(2, padding=1), features=40), "layer '0': AvgPool2d .*padding 1"),
    "ceil mode": (lambda: net(nn.AvgPool2d(4, ceil_mode=True), features=8), "layer '0': AvgPool2d .*ceil_mode True"),
    "divisor": (lambda: net(nn.AvgPool2d(2, divisor_override=3), features=24), "divisor_override 3"),
    "uneven adaptive pool": (lambda: net(nn.AdaptiveAvgPool2d(4), features=32), "layer '0': AdaptiveAvgPool2d"),
    "no statistics": (
        lambda: net(nn.BatchNorm2d(2, track_running_stats=False), features=96),
        "layer '0': .*running statistics",
    ),
    "subclass": (lambda: net(Strange(2, 3, 3), features=72), r"'0': Strange is a Conv2d with .* its own.*Use Conv2d"),
    "norm with an offset": (lambda: net(Offset(2), LIF(), features=96), "'0': Offset is a batch norm with .* its own"),
    "norm of the step": (lambda: net(ByStep(2), LIF(), features=96), "'0': ByStep is a batch norm with .* its own"),
    "decay of many": (lambda: net(LIF(), changed_lif(), features=96), "layer '1', a LIF: LIF: decay must be one number"),
    "function": (lambda: Calls(lambda self, x: self.fc(F.relu(x))), "function 'relu' cannot be traced"),
    "product": (lambda: Calls(lambda self, x: self.fc(x * 2)), "function 'mul'"),
    "parameter": (lambda: Calls(lambda self, x: self.fc(x + self.gain)), "values of the network only; got gain"),
    "constant": (lambda: Calls(lambda self, x: self.fc(x + 1)), "values of the network only; got 1"),
    "weighted sum": (lambda: Calls(lambda self, x: self.fc(torch.add(x, x, alpha=2))), "a \\+ b"),
    "mean over time": (lambda: Calls(lambda self, x: self.fc(x).mean(0).flatten(1)), "sum over time must be the last"),
    "mean over samples": (lambda: Calls(lambda self, x: self.fc(x).mean(1)), "method 'mean'"),
    "time lost": (lambda: Calls(lambda self, x: self.fc(x).flatten(0, 1)), r"readout of every step.*\(6, 5\)"),
    "no vector": (lambda: Calls(lambda self, x: x), r"readout of every step.*\(2, 3, 3, 6, 4\)"),
    "functional max pool of no spikes": (lambda: net(Function(lambda x: F.max_pool2d(x, 2)), features=24), "'0.MaxPool2d'"),
    "functional pool that pads": (
        lambda: net(Function(lambda x: F.avg_pool2d(x, 2, 2, 1)), features=40),
        r"'0.AvgPool2d': AvgPool2d must .*padding 1",
    ),
    "functional pool of frames": (
        lambda: Calls(lambda self, x: self.fc(F.max_pool2d(x[:, 0], 1)[None])),
        "values of the network only|cannot be traced",
    ),
    "tuple": (lambda: Calls(lambda self, x: (self.fc(x), x)), "readout of every step.*tuple"),
    "samples mixed": (lambda: Calls(lambda self, x: x.flatten(1)), r"time first; got \(2, 216\)"),
    "transposed": (lambda: Calls(lambda self, x: self.fc(x.transpose(0, 1))), "method 'transpose'"),
    "other image": (lambda: Calls(lambda self, x: self.fc(x.reshape(*x.shape[:2], 3, 4, 6))), "may flatten a sample"),
    "functional dropout": (lambda: Calls(lambda self, x: self.fc(F.dropout(x, 0.0))), "function 'dropout'"),
    "merged neurons": (
        lambda: Calls(lambda self, x: self.fc(self.lif(x.flatten(0, 1)).unflatten(0, x.shape[:2]))),
        "'lif_?2?': LIF needs",
    ),
    "branch": (lambda: Calls(lambda self, x: self.fc(x) if x.sum() > 0 else self.fc(-x)), "must not loop or branch"),
    "loop over time": (
        lambda: Calls(lambda self, x: torch.stack([self.fc(step[None])[0] for step in x])),
        "must not loop or branch",
    ),
    "in place": (lambda: Calls(lambda self, x: (self.fc(x), self.fc(x).zero_())[0].add_(1)), "method 'add_'"),
    "random": (lambda: Calls(lambda self, x: self.fc(x + torch.rand(1).item())), "values of the network only; got 0"),
    "not time-major": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3)), "layer '0', a Conv2d: cannot run .* a TimeMajor holds"),
    "plain layers in a module of one's own": (
        lambda: net(Body(nn.Conv2d(2, 3, 3), LIF()), features=72),
        "layer '0.layer', a Conv2d: cannot run where .*also those of modules inside it",
    ),
    "hooks on a sequence": (lambda: net(hooked(nn.Sequential(nn.Conv2d(2, 3, 3), LIF())), features=72), "which has hooks"),
    "wrong input shape": (lambda: net(nn.Conv2d(3, 3, 3), features=72), "Check input_shape"),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch warns of the very case that we refuse
@pytest.mark.parametrize("name", UNSUPPORTED)
def test_what_cannot_be_traced_stops_with_an_error(name):
    """The error names path, type and what is possible, in at most three lines; modes are put back."""
    make, message = UNSUPPORTED[name]
    model = make().train()
    with pytest.raises(GraphError, match=message) as caught:
        trace(model, SHAPE)
    assert len(str(caught.value).splitlines()) <= 3
    assert all(module.training for module in model.modules())


def test_pooling_multiplies_nothing_in_a_network_without_spikes():
    """`ann` and `rate` price the convolution and the linear layer, whatever pools between them."""
    for pool in (nn.MaxPool2d(2), nn.AvgPool2d(2)):
        graph = trace(net(nn.Conv2d(2, 3, 3, padding=1), LIF(), pool, features=36).eval(), SHAPE)
        for stage in (graph, fold(graph)):
            frames = np.ones((2, 1, *SHAPE), np.float32)
            report = estimate(stage, ReferenceRuntime(stage).run(frames, probes="spikes"), frames)
            macs = 3 * 2 * 9 * 48 + 5 * 36
            assert report.dense_macs.sum() == macs
            assert report.mean("ann") == pytest.approx(4.6 * macs)
