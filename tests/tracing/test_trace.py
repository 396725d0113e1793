"""A traced graph computes what the torch model computes."""

import collections

import numpy as np
import pytest
import torch
from torch import nn
from traceable import MODELS, SHAPE, Residual, lively, net, shared, silent_norm

from tet_deploy.counting import estimate
from tet_deploy.errors import GraphError
from tet_deploy.ir.nodes import KINDS, Add, CubaLIF, LeakyReadout, Output, SoftResetLIF, Spiking
from tet_deploy.ir.spec import TRACED
from tet_deploy.models import build
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.passes import fold
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.tracing import trace

ROUNDING = 1e-9  # both in float64: sums of some hundred terms of size 1 round by far less


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
    """The models above contain every kind of node that a traced graph may contain, but what only others have."""
    covered = {type(node) for make in MODELS.values() for node in trace(make(), SHAPE)}
    assert covered == set(KINDS.values()) - {SoftResetLIF, CubaLIF, LeakyReadout}
    assert {kind for kind in covered if not issubclass(kind, (Spiking, Output))} == set(TRACED.kinds) - {Spiking, Output}


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
