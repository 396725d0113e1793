"""Models of lines, [T, B, C, L], are traced as images of height 1, and take their own frames everywhere."""

import numpy as np
import pytest
import torch
from torch import nn

import tet_deploy as td
from tet_deploy.batches import ArraySource, FrameBatches
from tet_deploy.data.opened import open_samples
from tet_deploy.errors import DataError, GraphError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.passes.snap_to_grid import snapped
from tet_deploy.tracing import trace

SHAPE, STEPS, SAMPLES = (2, 32), 3, 4


def lines():
    torch.manual_seed(0)
    return TimeMajor(
        *(nn.Conv1d(2, 6, 5, stride=2, padding=2), nn.BatchNorm1d(6), LIF(threshold=0.3), nn.MaxPool1d(3, 2, padding=1)),
        *(nn.Conv1d(6, 8, 3, padding="same", dilation=2), LIF(threshold=0.2), nn.AvgPool1d(2), nn.Dropout1d()),
        *(nn.Conv1d(8, 8, 1, groups=2), LIF(threshold=0.1), nn.AdaptiveAvgPool1d(2), nn.Flatten(), nn.Linear(16, 4)),
    ).eval()


def frames():
    return np.rint(np.random.default_rng(0).random((STEPS, SAMPLES, *SHAPE)) * 16).astype(np.float32) / 16


def test_every_spike_is_the_models_own():
    """Of all layers that take lines; told their shape in either way, and lowered too."""
    model, x = lines(), frames()
    graph = trace(model, SHAPE)
    assert graph.input.shape == (2, 1, 32) and graph.digest() == trace(model, (2, 1, 32)).digest()
    found = td.compare(model, graph, x)
    assert found.spikes and not found.differing and not found.decisions
    assert not td.validate(td.lower(graph, x), x, runtimes=["reference", "onnx"])["onnx"].first


def test_all_runtimes_take_lines():
    """Integers are equal on each, a model of lines and a stream take frames without the axis of height 1, others neither."""
    model, x = lines(), frames()
    int8 = td.quantize(td.lower(trace(model, SHAPE), x), x)
    agreements = td.validate(int8, x, runtimes=["reference", "onnx", "lava"])
    assert all(each.equal for each in agreements.values())
    expected = td.run(int8, x).readout
    np.testing.assert_array_equal(td.run(int8, x[:, :, :, None]).readout, expected)
    stream = td.Stream(int8, samples=SAMPLES)
    np.testing.assert_array_equal(np.stack([stream.step(frame).readout for frame in x]), expected)
    assert td.run(int8, x, runtime=model).readout.shape == (STEPS, SAMPLES, 4)
    for wrong in (x[..., :30], x[0], x.swapaxes(2, 3)):
        with pytest.raises(DataError, match=r"takes \[T, B, 2, 1, 32\], time first"):
            td.run(int8, wrong)


@pytest.mark.parametrize("save", [np.save, np.savez, np.savez_compressed])
def test_files_and_sources_hold_lines_too(tmp_path, save):
    """Frames [T, B, C, L] in a file, mapped or not, and a source of such; those of another network are refused."""
    graph, x = td.lower(trace(lines(), SHAPE), frames()), frames()
    path = tmp_path / ("frames.npy" if save is np.save else "frames.npz")
    save(path, x) if save is np.save else save(path, frames=x)
    source, expected = open_samples(str(path), {}).source, td.run(graph, x).readout
    assert source.shape == SHAPE
    np.testing.assert_array_equal(td.run(graph, source).readout, expected)
    np.testing.assert_array_equal(td.run(graph, snapped(graph, FrameBatches.of(graph, source))).readout, expected)
    with pytest.raises(DataError, match=r"takes frames \(2, 1, 32\); the source gives \(2, 30\)"):
        td.run(graph, ArraySource(x[..., :30]))


@pytest.mark.filterwarnings("ignore:Using padding='same'")  # torch warns of the very case that we refuse
def test_settings_without_a_node_are_refused_by_the_layers_name():
    """As those of images are."""
    cases = {
        "AvgPool1d must have padding 0": nn.AvgPool1d(2, padding=1),
        "MaxPool1d must take spikes": nn.MaxPool1d(2),
        "AdaptiveAvgPool1d to .1, 5.": nn.AdaptiveAvgPool1d(5),
        r"padding='same' with kernel \(4,\)": nn.Conv1d(2, 2, 4, padding="same"),
    }
    for (message, layer), size in zip(cases.items(), (34, 32, 10, 64), strict=True):
        with pytest.raises(GraphError, match=f"layer '0': .*{message}"):
            trace(TimeMajor(layer, nn.Conv1d(2, 2, 1), LIF(), nn.Flatten(), nn.Linear(size, 3)), SHAPE)


class Normalized(nn.Module):
    def __init__(self):
        super().__init__()
        self.net, self.mean = lines(), nn.Parameter(torch.tensor([[0.25], [0.5]]))

    def forward(self, x):
        return self.net((x - self.mean) / 0.5)


def test_lines_are_normalized_too():
    """Numbers of the channels are [C, 1] in such a model."""
    graph = trace(Normalized().eval(), SHAPE)
    assert graph.input.mean.tolist() == [0.25, 0.5]
    assert not td.compare(Normalized().eval(), graph, frames()).differing
