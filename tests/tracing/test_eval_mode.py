"""A model is traced as it is called, hooks and all, or refused by name; and afterwards it is as it was."""

import copy
import types
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from tet_deploy.errors import ArgumentError, GraphError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.tracing import trace

SHAPE = (2, 8, 6)


class Body(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm, self.lif = nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), LIF(threshold=0.25)
        self.layers = TimeMajor(self.conv, self.norm, self.lif)

    def forward(self, x):
        return self.layers(x)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.readout = Body(), TimeMajor(nn.Dropout(0.5), nn.Flatten(), nn.Linear(72, 5))

    def forward(self, x):
        return self.readout(self.body(x))


def net(seed=0):
    torch.manual_seed(seed)
    model = Net()
    with torch.no_grad():
        model.body.norm.running_var.uniform_(0.01, 0.03)  # small, so that neurons fire
        model.body.norm.weight.uniform_(0.2, 0.7)
    return model


def halve(module, args, output):
    return output / 2


def halve_input(module, args):
    return (args[0] / 2,)


def halve_keyword(module, args, kwargs):
    return (args[0] / 2,), kwargs


def write(module, args, output):
    output.mul_(0.5)


def write_input(module, args):
    args[0].mul_(0.5)


def write_behind(module, args, output):
    output.data.mul_(0.5)  # torch does not count this as a change


PLACES = {
    "a layer": lambda model: model.body.conv,
    "neurons": lambda model: model.body.lif,
    "a TimeMajor": lambda model: model.body.layers,
    "a module": lambda model: model.body,
    "the model": lambda model: model,
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("hook", [halve, write, halve_input, write_input, halve_keyword], ids=lambda hook: hook.__name__)
def test_hooks_that_change_values_are_refused_by_name(hook, place):
    """Wherever they stand, whether they give another value or write into one."""
    model = net()
    module = PLACES[place](model)
    if hook in (halve, write):
        handle = module.register_forward_hook(hook)
    else:
        handle = module.register_forward_pre_hook(hook, with_kwargs=hook is halve_keyword)
    with pytest.raises(GraphError, match=rf"hook '{hook.__name__}' changes") as caught:
        trace(model, SHAPE)
    assert {"a layer": "'body.conv'", "the model": "Net"}.get(place, "'body") in str(caught.value)
    handle.remove()
    trace(model, SHAPE)


@pytest.mark.parametrize("place", PLACES)
def test_a_hook_that_changes_values_unseen_is_found_by_the_proof(place):
    """Torch counts no write through .data; the values show it."""
    model = net()
    PLACES[place](model).register_forward_hook(write_behind)
    with pytest.raises(GraphError, match=r"node '\S+': its layer|other values|pass on"):
        trace(model, SHAPE)


def test_hooks_for_all_modules_are_refused_too():
    """And stay registered."""
    handle = nn.modules.module.register_module_forward_hook(halve)
    try:
        for _ in range(2):
            with pytest.raises(GraphError, match="every layer: its forward hook 'halve' changes"):
                trace(net(), SHAPE)
    finally:
        handle.remove()


@pytest.mark.parametrize("inference", [False, True])
def test_hooks_that_look_on_may_stay(inference):
    """They are called on values, never on what torch.fx has in their place, and the graph is that without them."""
    model, seen = net(), []
    expected = trace(model, SHAPE).digest()
    for place in PLACES.values():
        place(model).register_forward_hook(lambda module, args, output: seen.append(output.numpy()))
        place(model).register_forward_pre_hook(lambda module, args: seen.append(args[0].sum().item()))
    with torch.inference_mode(inference):
        assert trace(model, SHAPE).digest() == expected
    assert len(seen) >= 2 * len(PLACES)


@pytest.mark.parametrize("place", ["a layer", "neurons", "the model"])
def test_a_forward_of_its_own_is_refused_by_name(place):
    """Where a class is looked up, an object that computes otherwise is not overlooked."""
    model = net()
    module = PLACES[place](model)
    module.forward = types.MethodType(lambda self, x: type(self).forward(self, x) / 2, module)
    with pytest.raises(GraphError, match=r"(layer 'body\.\w+'|Net): its forward\(\) was replaced"):
        trace(model, SHAPE)


def test_a_forward_of_its_own_is_followed_where_forward_is():
    """A module that is walked through is walked through as it is called."""
    model = net()
    extra = LIF(threshold=0.25)
    model.body.add_module("extra", extra)
    model.body.forward = types.MethodType(lambda self, x: self.extra(self.layers(x)), model.body)
    assert [node.name for node in trace(model, SHAPE)][4:6] == ["body.extra", "readout.1"]


@pytest.mark.parametrize("kind", ["norm", "dropout", "the model"])
def test_layers_that_stay_in_training_mode_are_refused_by_name(kind):
    """train() and eval() are methods that a model may overwrite; and its statistics are left alone."""

    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            return super().train(True)

    class Sampling(nn.Dropout):
        def train(self, mode=True):
            return super().train(True)

    class Trains(Net):
        def eval(self):
            return self

    model = Trains() if kind == "the model" else net()
    if kind == "norm":
        model.body.norm = model.body.layers[1] = Frozen(3)
    elif kind == "dropout":
        model.readout[0] = Sampling()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(GraphError, match=r"layer '(body\.norm|readout\.0)': a \w+ that stays in training mode"):
        trace(model, SHAPE)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # it is deprecated, and common
        return weight_norm(layer)


REPARAMETRIZED = {
    "weight norm": parametrizations.weight_norm,
    "weight norm of old": old_weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "spectral norm of old": spectral_norm,
    "pruned": lambda layer: prune.random_unstructured(layer, "weight", 0.5),
    "orthogonal": parametrizations.orthogonal,
}


@pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated")
@pytest.mark.parametrize("name", REPARAMETRIZED)
def test_weights_that_are_computed_are_those_of_the_next_call(name):
    """Not those of the last one; training on moves them. Both ways to normalise and prune them are torch's own."""
    model = net()
    reparametrize = REPARAMETRIZED[name]
    for layer in (model.body.conv, model.readout[2]):
        reparametrize(layer)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter += 0.1 * torch.rand(parameter.shape)  # as an optimizer does, between calls
    stale = model.eval().body.conv.weight  # in eval mode, where reading it changes nothing
    before = {key: value.clone() for key, value in model.state_dict().items()}
    graph = trace(model, SHAPE)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert name in ("weight norm", "spectral norm", "orthogonal") or model.body.conv.weight is stale
    frames = np.random.default_rng(0).uniform(0, 1, (4, 3, *SHAPE)).astype(np.float32)
    with torch.no_grad():
        expected = model.eval()(torch.tensor(frames))
    found = ReferenceRuntime(graph).run(frames)
    np.testing.assert_allclose(found.readout, expected, atol=1e-5)  # float32 sums of a hundred terms of size 1
    assert 0.02 < found.spikes["body.lif"].mean() < 0.98


def test_the_model_is_left_as_it_was():
    """Parameters, buffers, modes, hooks, attributes and gradients are the same objects with the same values; so too after
    an error."""

    class Counting(Net):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.count = 0

        def forward(self, x):
            self.calls += 1
            self.count += 1
            return super().forward(x)

    for dtype, message in ((torch.float32, None), (torch.bfloat16, None), (torch.float64, "hook 'halve'")):
        model = Counting().to(dtype).train()
        model.body.eval()
        model.body.conv.weight.grad = torch.ones_like(model.body.conv.weight)
        if message:
            model.readout.register_forward_hook(halve)
        objects = {
            id(value) for module in model.modules() for value in (module, *vars(module).values(), *module.parameters())
        }
        values = {key: (id(value), value.clone()) for key, value in model.state_dict(keep_vars=True).items()}
        modes = [module.training for module in model.modules()]
        random_state = torch.get_rng_state()
        if message:
            with pytest.raises(GraphError, match=message):
                trace(model, SHAPE)
        else:
            trace(model, SHAPE)
        assert {
            id(v) for module in model.modules() for v in (module, *vars(module).values(), *module.parameters())
        } == objects
        for key, value in model.state_dict(keep_vars=True).items():
            assert values[key][0] == id(value) and torch.equal(values[key][1], value), key
        assert [module.training for module in model.modules()] == modes
        assert torch.equal(torch.get_rng_state(), random_state)
        assert (model.count, float(model.calls)) == (0, 0)
        assert model(torch.zeros(2, 1, *SHAPE, dtype=dtype)).dtype == dtype


WRAPPINGS = {
    "compiled": torch.compile,
    "data parallel": nn.DataParallel,
    "averaged": AveragedModel,
    "averaged and compiled": lambda model: torch.compile(AveragedModel(model)),
    "compiled and parallel": lambda model: nn.DataParallel(torch.compile(model)),
}


@pytest.mark.parametrize("name", WRAPPINGS)
def test_wrapped_models_are_unwrapped(name):
    """The graph is that of the model inside, names too, and nothing is compiled for it."""
    model = net()
    expected = trace(model, SHAPE)
    assert trace(WRAPPINGS[name](model), SHAPE).digest() == expected.digest()
    model.body = WRAPPINGS[name](model.body)
    inside = trace(model, SHAPE)
    assert [node.name for node in inside] == [node.name for node in expected]
    assert isinstance(model.body, type(WRAPPINGS[name](net().body)))


def test_a_model_distributed_over_processes_is_unwrapped(tmp_path):
    """DistributedDataParallel exists in a process group only; a group of one will do."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    try:
        model = net()
        assert trace(nn.parallel.DistributedDataParallel(model), SHAPE).digest() == trace(model, SHAPE).digest()
    finally:
        torch.distributed.destroy_process_group()


def test_a_model_compiled_in_place_is_not_compiled_for_the_trace():
    """module.compile() leaves the module what it was; what it calls is put back."""
    model = net()
    expected = trace(model, SHAPE).digest()
    model.compile()
    compiled = model._compiled_call_impl
    assert trace(model, SHAPE).digest() == expected
    assert model._compiled_call_impl is compiled


@pytest.mark.parametrize("wrap", [torch.compile, nn.DataParallel, AveragedModel])
def test_what_was_put_on_a_wrapper_is_not_lost(wrap):
    """Its hooks would go with it."""
    wrapped = wrap(net())
    wrapped.register_forward_hook(halve)
    with pytest.raises(GraphError, match=r"(OptimizedModule|DataParallel|AveragedModel): is unwrapped .* lost: halve"):
        trace(wrapped, SHAPE)
    model = net()
    model.body = wrap(model.body)
    model.body.register_forward_hook(halve)
    with pytest.raises(GraphError, match=r"layer 'body': is unwrapped .* lost: halve"):
        trace(model, SHAPE)


def test_a_forward_put_on_a_wrapper_is_not_lost():
    """It would go with it."""
    wrapped = nn.DataParallel(net())
    wrapped.forward = lambda x: x
    with pytest.raises(GraphError, match=r"DataParallel: is unwrapped .* lost: its forward\(\)"):
        trace(wrapped, SHAPE)


def make(change):
    model = net()
    change(model)
    return model


UNREADY = {
    "lazy": (lambda: TimeMajor(nn.LazyConv2d(3, 3), LIF()), "layer '0': its weight holds no values yet"),
    "on no device": (lambda: net().to("meta"), r"layer 'body\.conv': its weight holds no values yet"),
    "scripted": (lambda: torch.jit.trace(nn.Linear(3, 3), torch.zeros(1, 3)), "TorchScript hides what it computes"),
    "scripted inside": (
        lambda: make(lambda model: model.add_module("x", torch.jit.trace(nn.Linear(3, 3), torch.zeros(1, 3)))),
        "layer 'x': TorchScript",
    ),
    "decay per channel": (
        lambda: make(lambda model: model.body.lif.__setattr__("decay", torch.tensor([0.5, 0.9, 0.9]))),
        "decay must be one number",
    ),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:Lazy modules")  # what is deprecated is in use
@pytest.mark.parametrize("case", UNREADY)
def test_models_that_cannot_be_run_as_they_are_say_why(case):
    """One line each, and the model stays as it is."""
    build, message = UNREADY[case]
    model = build()
    training = model.training
    with pytest.raises((GraphError, ArgumentError), match=message) as caught:
        trace(model, SHAPE)
    assert "\n" not in str(caught.value) and model.training == training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, SHAPE), r"model: must be a torch\.nn\.Module; got a NoneType\. Give the model itself"),
        ((nn.Linear, SHAPE), r"got a type\. Give the model itself"),
        ((nn.Linear(2, 3).state_dict(), SHAPE), r"got a OrderedDict\. Weights belong into one: model\.load_state_dict"),
        ((nn.Identity(), 8), r"input_shape: .*\(C, H, W\), \(C, L\) or \(N,\); got 8"),
        ((nn.Identity(), (2.5, 8)), "input_shape"),
        ((nn.Identity(), ()), "input_shape"),
        ((nn.Identity(), (2, 0, 6)), "input_shape"),
        ((nn.Identity(), SHAPE, "spikes"), "encoding: must be 'analog' or 'events'; got 'spikes'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    """A graph in the model's place, too."""
    with pytest.raises(ArgumentError, match=message):
        trace(*arguments)


def test_a_graph_needs_no_trace():
    """The error says what it is for."""
    with pytest.raises(ArgumentError, match=r"is a graph already.*td\.lower"):
        trace(trace(net(), SHAPE), SHAPE)
