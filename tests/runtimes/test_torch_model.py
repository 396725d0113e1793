"""A torch model is a runtime: its neurons are recorded by name, and it stays as it was."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

import tet_deploy as td
from tet_deploy.errors import DataError, ExecutionError, GraphError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime

SHAPE = (2, 8, 8)


def small(dtype=torch.float32):
    """Conv, batch norm with statistics, LIF, max pool and a linear readout."""
    torch.manual_seed(0)
    model = TimeMajor(
        nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), LIF(decay=0.75), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 3)
    ).to(dtype)
    with torch.no_grad():
        for _ in range(3):
            model.train()(torch.from_numpy(frames(samples=16)).to(dtype))
    return model.eval()


def frames(samples=6, seed=0):
    return np.random.default_rng(seed).poisson(0.5, (4, samples, *SHAPE)).astype(np.float32)


def test_it_records_what_the_traced_network_does():
    """In float64, spikes are those of the traced graph by the reference; the rest differs as its float32 weights do."""
    runtime = TorchRuntime(small(torch.float64), SHAPE, "events")
    found = runtime.run(frames())
    expected = ReferenceRuntime(runtime.graph, dtype=np.float64).run(frames())
    assert set(found.spikes) == set(expected.spikes) == {"2", "3"}
    for name in found.spikes:
        assert np.array_equal(found.spikes[name], expected.spikes[name])
        assert 0 < found.spikes[name].mean() < 1
        np.testing.assert_allclose(
            found.potentials[name], expected.potentials[name], atol=1e-5
        )  # weights are float32 copies
    np.testing.assert_allclose(found.readout, expected.readout, atol=1e-5)  # as above
    assert found.readout.dtype == np.float64


def test_the_readout_is_the_models_own():
    """Bit for bit what model.eval() gives, in its own precision."""
    model = small()
    with torch.no_grad():
        expected = model(torch.from_numpy(frames())).numpy()
    assert np.array_equal(TorchRuntime(model, SHAPE, "events").run(frames(), probes="none").readout, expected)


def test_a_model_in_training_is_run_in_eval_mode_and_stays_as_it_was():
    """Mode, statistics, hooks and random state are those from before; the recording is that of eval mode."""
    model, other = small().train(), small()
    model[1].eval()
    before, modes = copy.deepcopy(model.state_dict()), [module.training for module in model.modules()]
    found = TorchRuntime(model, SHAPE, "events").run(frames())
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    assert np.array_equal(found.readout, TorchRuntime(other, SHAPE, "events").run(frames()).readout)


def test_runs_and_samples_do_not_see_each_other():
    """Two runs give the same spikes, and a sample the same alone."""
    model = small()
    runtime = TorchRuntime(model, SHAPE, "events")
    whole, again = runtime.run(frames()), runtime.run(frames())
    alone = runtime.run(frames()[:, 4:5])
    for name in whole.spikes:
        assert np.array_equal(whole.spikes[name], again.spikes[name])
        assert np.array_equal(whole.spikes[name][:, 4:5], alone.spikes[name])


def test_a_layer_that_is_called_twice_is_two_populations():
    """Each call of shared neurons is recorded under its own name."""

    class Twice(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.lif = nn.Linear(6, 8), nn.Linear(8, 8), LIF()

        def forward(self, x):
            return self.second(self.lif(self.second(self.lif(self.first(x)))))

    torch.manual_seed(1)
    runtime = TorchRuntime(Twice().eval(), (6,))
    x = np.random.default_rng(0).standard_normal((4, 5, 6)).astype(np.float32) * 4
    found, expected = runtime.run(x), td.run(runtime.graph, x)
    assert list(found.spikes) == ["lif", "lif_2"]
    for name in found.spikes:
        assert np.array_equal(found.spikes[name], expected.spikes[name])
    assert not np.array_equal(found.spikes["lif"], found.spikes["lif_2"])


def test_half_precision_runs_in_half_precision():
    """A bfloat16 model is recorded as float32 values, and gives what it gives by itself."""
    model = small(torch.bfloat16)
    found = TorchRuntime(model, SHAPE, "events").run(frames())
    with torch.no_grad():
        expected = model(torch.from_numpy(frames()).bfloat16()).float().numpy()
    assert np.array_equal(found.readout, expected)
    assert found.potentials["2"].dtype == np.float32


def test_probes_choose_what_is_kept():
    """Names give spikes and potentials of these alone."""
    runtime = TorchRuntime(small(), SHAPE, "events")
    assert set(runtime.run(frames(), probes=["2"]).potentials) == {"2"}
    assert not runtime.run(frames(), probes="spikes").potentials
    assert not runtime.run(frames(), probes="none").spikes


def test_validate_takes_the_model_among_names():
    """A model is the reference, or one of the others; every spike of the network made from it is compared."""
    model, x = small(), frames()
    graph = td.lower(td.trace(model, SHAPE, "events"), x)
    found = td.validate(graph, x, runtimes=[model, "reference", "onnx"])
    assert {name: agreement.spikes for name, agreement in found.items()} == {"reference": 0, "onnx": 0}
    assert found["onnx"].reference == "torch"
    int8 = td.quantize(graph, x)
    (agreement,) = td.validate(int8, x, runtimes=["reference", model]).values()
    assert agreement.runtime == "torch"
    assert agreement.largest_readout_error < 1  # both in units of the float network


class Flat(nn.Module):
    """The readout of the last step only."""

    def forward(self, x):
        return x[-1].flatten(1)


BAD = {
    "other frames": (small, lambda runtime: runtime.run(frames()[:, :, :1]), DataError, "the network takes"),
    "negative counts": (small, lambda runtime: runtime.run(-frames()), DataError, "must not be negative"),
}


@pytest.mark.parametrize("make, use, error, message", BAD.values(), ids=BAD.keys())
def test_what_does_not_fit_is_refused(make, use, error, message):
    """Frames are those of the network."""
    with pytest.raises(error, match=message):
        use(TorchRuntime(make(), SHAPE, "events"))


def test_a_model_that_cannot_be_traced_is_refused():
    """Nobody knows which of its values would be a node's."""
    with pytest.raises(GraphError):
        TorchRuntime(Flat(), SHAPE, "events")


def test_a_model_that_changes_its_mind_is_noticed():
    """A readout of other shape than the traced one stops the run."""
    model = small()
    runtime = TorchRuntime(model, SHAPE, "events")
    model[-1] = nn.Linear(64, 2)
    with pytest.raises(ExecutionError, match="must give the readout of every step"):
        runtime.run(frames())


def test_a_model_that_gives_a_mean_over_time_is_heard_before_it():
    """The readout of every step is that of the layer whose mean the model gives."""

    class Mean(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = TimeMajor(nn.Linear(4, 8), LIF(threshold=0.2), nn.Linear(8, 3), nn.Dropout())

        def forward(self, x):
            return torch.mean(self.layers(x), dim=0)

    model, frames = Mean(), np.random.default_rng(0).random((5, 2, 4), np.float32)
    found = TorchRuntime(model, (4,)).run(frames)
    model.eval()
    with torch.no_grad():
        np.testing.assert_array_equal(found.readout, model.layers(torch.from_numpy(frames)).numpy())


def test_a_max_pool_that_is_a_function_is_refused():
    """No hook listens to a function; the layer that it is can be listened to."""

    class Pool(nn.Module):
        def forward(self, x):
            return nn.functional.max_pool2d(x, 2)

    layers = (nn.Conv2d(1, 2, 3, padding=1), LIF(), Pool(), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(GraphError, match=r"'2\.MaxPool2d': is a function's.*nn\.MaxPool2d"):
        TorchRuntime(TimeMajor(*layers), (1, 4, 4))
