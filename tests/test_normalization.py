"""A network that normalizes its frames itself takes raw frames everywhere, and computes the same everywhere."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import tet_deploy as td
from tet_deploy.counting import count
from tet_deploy.errors import DataError, GraphError
from tet_deploy.ir.graph import chain
from tet_deploy.ir.nodes import Input, Linear, Quantization, Readout, from_record, to_record
from tet_deploy.ir.normalization import normalized
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.passes import fold
from tet_deploy.training.quantized import QuantizedNetwork

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SHAPE, STEPS, SAMPLES = (3, 8, 8), 3, 4


class Net(nn.Module):
    """Padded convolutions behind a normalization, of which no weight could hold what happens at the borders."""

    def __init__(self, normalize):
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN))
        self.register_buffer("std", torch.tensor(STD).reshape(3, 1, 1))
        self.gain = nn.Parameter(torch.tensor([2.0, -3.0, 0.5]))
        self.layers = TimeMajor(
            *(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), LIF(), nn.AvgPool2d(2)),
            *(nn.Conv2d(6, 6, 3, padding=1), LIF(threshold=0.2), nn.Flatten(), nn.Linear(96, 5)),
        )
        self.normalize = normalize

    def forward(self, x):
        return self.layers(self.normalize(self, x))


class Normed(nn.Module):
    """A batch norm before everything else."""

    def __init__(self):
        super().__init__()
        self.norm, self.net = TimeMajor(nn.BatchNorm2d(3)), Net(lambda net, x: x.contiguous())
        norm = self.norm[0]
        with torch.no_grad():
            for values, low in ((norm.running_mean, -1), (norm.running_var, 0.1), (norm.weight, -2), (norm.bias, -1)):
                values.uniform_(low, 2)

    def forward(self, x):
        return self.net(self.norm(x))


def usual(net, x):
    return (x - net.mean.reshape(1, 1, 3, 1, 1)) / net.std


def model(normalize=usual):
    torch.manual_seed(0)
    return (Normed() if normalize is None else Net(normalize)).eval()


def frames(encoding="analog"):
    generator, size = np.random.default_rng(0), (STEPS, SAMPLES, *SHAPE)
    drawn = generator.random(size) if encoding == "analog" else generator.poisson(0.5, size)
    return drawn.astype(np.float32)


WAYS = {
    "buffers": usual,
    "numbers": lambda net, x: (x - 0.1307) / 0.3081,
    "bytes": lambda net, x: (x / 255 - net.mean[:, None, None]).div(net.std),
    "methods": lambda net, x: x.sub(net.mean.view(-1, 1, 1)).true_divide(net.std),
    "a factor and an offset": lambda net, x: 2 * x - 1,
    "parameters": lambda net, x: torch.add(x * net.gain.view(-1, 1, 1), 0.5),
    "made on the way": lambda net, x: (x - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(1, 1, 3, 1, 1),
    "time and batch merged": lambda net, x: ((x.flatten(0, 1) - net.mean[:, None, None]) / 2).unflatten(0, x.shape[:2]),
    "cast before": lambda net, x: x.float() / 255,
    "cast between": lambda net, x: (x.to(torch.float32) - net.mean[:, None, None]).type(torch.float32) / 2,
    "a batch norm": None,
}


@pytest.mark.parametrize("way", WAYS)
def test_the_graph_takes_the_models_frames(way):
    """However it is written, the first node of the folded graph normalizes them as the model does."""
    net, x = model(WAYS[way]), frames()
    traced = td.trace(net, SHAPE)
    graph = fold(traced)
    assert td.compare(net, traced, x).readout.largest < 1e-5
    with torch.no_grad():
        shown = WAYS[way](net, torch.from_numpy(x)) if WAYS[way] else net.norm(torch.from_numpy(x))
    np.testing.assert_allclose(normalized(graph.input, x), shown.numpy(), rtol=1e-5, atol=1e-5)  # two float32 operations


@pytest.mark.filterwarnings("ignore::tet_deploy.errors.RangeWarning")  # the loud frames are meant to leave it
@pytest.mark.parametrize("encoding", ["analog", "events"])
@pytest.mark.parametrize("normalize", [usual, None], ids=["buffers", "a batch norm"])
def test_all_runtimes_agree(normalize, encoding):
    """Integers in every value, clipped messages too; floats in every spike; and all take raw frames."""
    net, x = model(normalize), frames(encoding)
    graph = td.lower(td.trace(net, SHAPE, encoding), x)
    found = td.compare(net, graph, x)
    assert found.spikes and not found.decisions
    assert not td.validate(graph, x, runtimes=["reference", "onnx"])["onnx"].spikes
    int8 = td.quantize(graph, x[:, :2])
    loud = np.concatenate([x, x * 8])  # beyond the calibration, so that messages are clipped
    agreements = td.validate(int8, loud, runtimes=["reference", "onnx", "lava"])
    assert all(each.equal for each in agreements.values()), agreements
    recordings = [td.run(int8, loud, runtime=name) for name in ("reference", "onnx", "lava")]
    clipped = [recording.ranges.clipped["input"] for recording in recordings]
    assert clipped[0].any()
    np.testing.assert_array_equal(clipped[1], clipped[0])
    np.testing.assert_array_equal(clipped[2], clipped[0])


def quantized(encoding="analog"):
    graph = td.lower(td.trace(model(), SHAPE, encoding), frames(encoding))
    return graph, td.quantize(graph, frames(encoding))


def test_steps_streams_and_fine_tuning_normalize_too():
    """One step after the other, and in torch with the integers that train."""
    graph, int8 = quantized()
    x = frames()
    expected = td.run(int8, x, runtime="reference").readout
    stream = td.Stream(int8, samples=SAMPLES)
    np.testing.assert_array_equal(np.stack([stream.step(frame).readout for frame in x]), expected)
    network = QuantizedNetwork(int8, graph).eval()
    np.testing.assert_array_equal(network(torch.from_numpy(x)).detach().numpy(), expected)


@pytest.mark.parametrize("runtime", ["reference", "onnx"])
def test_frames_that_normalize_to_infinity_are_clipped_as_any_others(runtime, recwarn):
    """A message is held at its limit, and numpy warns of nothing."""
    unit = Quantization(scale=1.0)
    front = Input(name="input", shape=(1,), mean=np.zeros(1), deviation=np.full(1, 0.1), quantization=unit)
    fc = Linear(name="fc", weight=np.eye(2, 1, dtype=np.int8), quantization=unit)
    graph = chain([front, fc, Readout(name="readout", quantization=unit)])
    found = td.run(graph, np.array([3e38, -3e38], np.float32).reshape(2, 1, 1), runtime=runtime)
    assert found.readout[:, 0].tolist() == [[127 * 64, 0], [-127 * 64, 0]]
    assert found.ranges.clipped["input"].tolist() == [[1], [1]]
    assert not [warning for warning in recwarn if warning.category is RuntimeWarning]


def test_the_host_normalizes_so_that_energy_counts_dense_messages():
    """Counts of events are none any more; what is sent is counted as it is sent."""
    graph, int8 = quantized("events")
    x = frames("events")
    assert td.energy(graph, x).policies.input == td.energy(int8, x).policies.input == "dense"
    messages = np.rint(normalized(int8.input, x) * np.float32(int8.input.quantization.one_scale))
    found = count(int8, td.run(int8, x), x)
    np.testing.assert_array_equal(found.input_sum[0], messages.clip(-127, 127).sum(axis=(2, 3, 4)))


def test_files_keep_it_and_others_stay_as_they_were(tmp_path):
    """Read back they are the same network; without a normalization no file knows of it."""
    _, int8 = quantized()
    td.save(int8, tmp_path / "net.safetensors")
    again = td.load(tmp_path / "net.safetensors")
    assert again.digest() == int8.digest()
    np.testing.assert_array_equal(again.input.deviation, int8.input.deviation)
    plain, arrays = to_record(Input(name="input", shape=SHAPE))
    assert "mean" not in plain and not arrays
    assert from_record(*to_record(int8.input)).mean.tolist() == int8.input.mean.tolist()


def test_nir_and_grids_are_refused_with_a_way_out(tmp_path):
    """NIR has no such node, and normalized frames lie on no grid."""
    graph, _ = quantized()
    with pytest.raises(GraphError, match=r"'input': normalizes its frames, which no node of NIR does.*without its norm"):
        td.export(graph, tmp_path / "net.nir", to="nir")
    with pytest.raises(DataError, match=r"'input' normalizes frames itself, which leaves them on no grid. Quantize"):
        td.snap_frames(graph, frames())


BAD = {
    "mean alone": ({"mean": np.zeros(3)}, "must have mean and deviation, or neither"),
    "other channels": ({"mean": np.zeros(2), "deviation": np.ones(2)}, r"mean must have shape \(3,\); got \(2,\)"),
    "deviation 0": ({"mean": np.zeros(3), "deviation": np.array([1.0, 0.0, 1.0])}, r"deviation finite and not 0"),
    "infinite": ({"mean": np.array([0, np.inf, 0]), "deviation": np.ones(3)}, r"mean must be finite|holds"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_does_not_normalize_is_refused(name):
    """By the node's name."""
    fields, message = BAD[name]
    with pytest.raises(GraphError, match=f"'input': .*({message})"):
        graph = quantized()[1]
        graph.replace({"input": dataclasses.replace(graph.input, **{"mean": None, "deviation": None, **fields})})


REFUSED = {
    "of pixels": (lambda net, x: x - torch.arange(8.0), "'sub': may normalize frames by one number, or one for each of 3"),
    "of steps": (
        lambda net, x: x * torch.arange(1.0, 3).view(2, 1, 1, 1, 1),
        r"'mul': .*got numbers of shape \(2, 1, 1, 1, 1",
    ),
    "whole numbers": (lambda net, x: x.to(torch.int32).float() / 2, "'to': method 'to' cannot be traced"),
    "half floats": (lambda net, x: x.half().float() / 2, "'half': method 'half' cannot be traced"),
    "nothing left": (lambda net, x: x * 0.0, "'mul': may normalize .* no factor 0"),
    "both": (lambda net, x: (x - 0.5) + x, "'add': takes frames as they come, which others take normalized"),
    "raw before": (
        lambda net, x: nn.functional.avg_pool2d(x.flatten(0, 1), 1).unflatten(0, x.shape[:2]) + (x - 1),
        "'sub': normalizes frames that other layers take as they come",
    ),
    "turned round": (lambda net, x: 1 - x, "'sub': function 'sub' cannot be traced"),
    "times alpha": (lambda net, x: torch.sub(x, 1, alpha=2), "'sub': function 'sub' cannot be traced"),
    "by itself": (lambda net, x: x * x, "'mul': function 'mul' cannot be traced"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_normalization_is_refused(name):
    """By the operation's name."""
    forward, message = REFUSED[name]
    with pytest.raises(GraphError, match=message):
        td.trace(model(forward), SHAPE)


def test_a_dead_batch_norm_of_frames_is_named():
    """One whose weight is 0 passes nothing on, and no deviation says that."""
    net = model(None)
    nn.init.zeros_(net.norm[0].weight)
    with pytest.raises(GraphError, match=r"'norm.0': gives the same for all frames in channel 0"):
        fold(td.trace(net, SHAPE))


def test_a_damaged_normalization_is_found_in_a_bundle(tmp_path):
    """The plan's numbers must be one for each channel."""
    from tet_deploy.runtimes.loihi.bundle.loihi_checks.network import _input

    entry = {"name": "input", "shape": [3, 8, 8], "encoding": "analog", "scale": 1.0, "bits": 8}
    assert _input(entry) == entry
    good = {**entry, "mean": [0.0] * 3, "deviation": [1.0] * 3}
    assert _input(good) == good
    for change in ({"mean": [0.0]}, {"deviation": [1.0, 0.0, 1.0]}, {"mean": [0.0, "a", 0.0]}, {"deviation": 1.0}):
        with pytest.raises(ValueError, match=r"input (mean|deviation) must be 3 finite numbers"):
            _input({**good, **change})
    with pytest.raises(ValueError, match="input must be an object of"):
        _input({**entry, "mean": [0.0] * 3})
