"""A quantized network that trains computes what the integer reference computes."""

import dataclasses

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy.errors import GraphError
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF as LIFNode
from tet_deploy.ir.nodes import WEIGHTED, Conv, Flatten, Input, Linear, Population, Quantization, Readout
from tet_deploy.passes.lower_residual import identity
from tet_deploy.testing import random_float_network, random_frames, random_quantized_network
from tet_deploy.training.losses import total_loss
from tet_deploy.training.quantized import QuantizedNetwork

# Thresholds of few bits are coarse, and are told; they are what trains here.
pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.QuantizationWarning")


def differing(expected, found):
    """Number of values that differ, of spikes, potentials and readouts."""
    pairs = [(expected.readout, found.readout)]
    for name in ("spikes", "potentials"):
        before, after = getattr(expected, name), getattr(found, name)
        assert before.keys() == after.keys()
        pairs += [(before[key], after[key]) for key in before]
    return sum(int((a != b).sum()) for a, b in pairs)


def shaken(model, rng):
    """The model with its latent numbers moved by some integers, as training might."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += torch.from_numpy(rng.normal(0, 2, parameter.shape)).to(parameter)
    return model


def float_of(quantized):
    """A float network whose weights are the integers; biases stand on the first synapses."""
    nodes, biases = [], {node.inputs[0]: node.bias for node in quantized.of_kind(Population) if node.bias is not None}
    for node in quantized:
        if isinstance(node, WEIGHTED):
            bias = biases.get(node.name)
            node = dataclasses.replace(
                node, weight=node.weight.astype(np.float32), bias=None if bias is None else bias.astype(np.float32)
            )
        elif isinstance(node, Population):
            node = dataclasses.replace(node, bias=None)
        nodes.append(dataclasses.replace(node, quantization=None) if hasattr(node, "quantization") else node)
    return Graph(tuple(nodes))


@pytest.mark.parametrize("seed", range(28))
def test_it_equals_the_reference_wherever_training_went(seed):
    """Spikes, potentials and readouts are those of the exported integers, from 2 to 8 bits, branches and sums included.

    It begins with the integers of td.quantize.
    """
    rng = np.random.default_rng(seed)
    network = random_float_network(rng, currents=seed % 3 == 2)
    frames = random_frames(network, rng, 5, 4)
    quantized = td.quantize(network, frames, bits=2 + seed % 7, rounding_limit=np.inf)
    model = QuantizedNetwork(quantized, network).eval()
    assert model.graph().digest() == quantized.digest()
    for _ in range(3):
        expected = td.run(model.graph(), frames)
        found, largest = model.record(torch.from_numpy(frames))
        assert differing(expected, found) == 0
        assert np.array_equal(model(torch.from_numpy(frames)).detach().numpy(), expected.readout)
        assert largest.keys() == {node.name for node in quantized.of_kind(Population)}
        shaken(model, rng)


@pytest.mark.parametrize("seed", range(12))
def test_it_equals_the_reference_where_sums_wrap_and_potentials_are_held(seed):
    """The same far outside of the chip's range."""
    rng = np.random.default_rng(seed)
    quantized = random_quantized_network(rng, wrap=True, currents=seed % 3 == 2)
    model = shaken(QuantizedNetwork(quantized, float_of(quantized)), rng).eval()
    frames = random_frames(quantized, rng, 6, 3)
    assert differing(td.run(model.graph(), frames), model.record(torch.from_numpy(frames))[0]) == 0


def test_sums_beyond_what_float32_holds_are_exact():
    """2001 messages of up to 127 and weights of 127 pass 2^24: the sum is formed in float64, and wraps."""
    rng, scale = np.random.default_rng(0), Quantization(scale=127.0)
    weight = (127 * np.stack([np.ones(2001), rng.choice([-1, 1], 2001)])).astype(np.int8)
    quantized = Graph(
        (
            Input(name="input", shape=(2001,), quantization=Quantization(scale=1.0)),
            Linear(name="fc", inputs=("input",), weight=weight, quantization=scale),
            Readout(name="readout", inputs=("fc",), quantization=scale),
        )
    )
    frames = rng.integers(120, 128, (2, 3, 2001)).astype(np.float32)
    expected = td.run(quantized, frames)
    assert (expected.readout[..., 0] < 0).all()  # sums of positive terms: they wrapped
    model = QuantizedNetwork(quantized, float_of(quantized)).eval()
    assert np.array_equal(model(torch.from_numpy(frames)).detach().numpy(), expected.readout)


def residual(rng):
    """stem - l0 - conv + identity of l0 - l1 - fc, with weights so small that the identity takes several synapse nodes."""
    stem = Conv(name="stem", inputs=("input",), weight=rng.uniform(-1, 1, (3, 2, 3, 3)).astype(np.float32), padding=(1, 1))
    l0 = LIFNode(name="l0", inputs=("stem",), decay=0.7)
    small = rng.uniform(-0.2, 0.2, (3, 3, 3, 3)).astype(np.float32)
    conv = Conv(name="conv", inputs=("l0",), weight=small, bias=np.full(3, 0.7, np.float32), padding=(1, 1))
    skip = identity(l0, (3, 5, 5), "l1.identity")
    fc = Linear(name="fc", inputs=("flatten",), weight=rng.uniform(-1, 1, (4, 75)).astype(np.float32))
    l1 = LIFNode(name="l1", inputs=("conv", "l1.identity"), threshold=1.2)
    ends = Flatten(name="flatten", inputs=("l1",)), fc, Readout(name="readout", inputs=("fc",))
    return Graph((Input(name="input", shape=(2, 5, 5), encoding="events"), stem, l0, conv, skip, l1, *ends))


def test_identities_of_several_parts_stay_as_they_are():
    """They are no weights of the model: all their parts stay, while what stands beside them trains."""
    rng = np.random.default_rng(0)
    network = residual(rng)
    frames = random_frames(network, rng, 5, 8)
    quantized = td.quantize(network, frames)
    parts = [name for name in quantized["l1"].inputs if name.startswith("l1.identity")]
    assert len(parts) > 1
    model = shaken(QuantizedNetwork(quantized, network), rng).eval()
    after = model.graph()
    assert all(np.array_equal(after[name].weight, quantized[name].weight) for name in parts)
    assert not np.array_equal(after["conv"].weight, quantized["conv"].weight)
    assert differing(td.run(after, frames), model.record(torch.from_numpy(frames))[0]) == 0


@pytest.mark.parametrize("bits", [8, 3])
def test_the_gradient_reaches_every_weight(bits):
    """Also those that round to zero or are clipped; after some updates the integers are others, and all are in range."""
    rng = np.random.default_rng(1)
    network = residual(rng)
    frames = torch.from_numpy(random_frames(network, rng, 5, 16))
    model = QuantizedNetwork(td.quantize(network, frames.numpy(), bits=bits), network).train()
    start = model.graph()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.3)
    reached = {name: torch.zeros_like(parameter, dtype=torch.bool) for name, parameter in model.named_parameters()}
    assert len(reached) == 4  # three layers and one bias
    for _ in range(20):
        frames = torch.from_numpy(rng.poisson(1.0, (5, 16, 2, 5, 5)).astype(np.float32))
        optimizer.zero_grad()
        total_loss(model(frames).float(), torch.arange(16) % 4, loss="tet", mse_weight=0.05).backward()
        for name, parameter in model.named_parameters():
            reached[name] |= parameter.grad != 0
        optimizer.step()
    assert {name: int((~each).sum()) for name, each in reached.items()} == dict.fromkeys(reached, 0)
    after, limit = model.graph(), 2 ** (bits - 1) - 1
    for name in ("stem", "conv", "fc"):
        assert not np.array_equal(after[name].weight, start[name].weight)
        assert np.abs(after[name].weight).max() <= limit
    assert after["l1"].bias.dtype == np.int16 and not np.array_equal(after["l1"].bias, start["l1"].bias)


def test_the_readout_that_trains_is_in_units_of_the_float_network():
    """In training mode the loss sees the integers divided by what one unit is: close to the float network's readout."""
    rng = np.random.default_rng(0)
    network = random_float_network(rng, layers=1)
    frames = random_frames(network, rng, 4, 16)
    quantized = td.quantize(network, frames)
    model, x = QuantizedNetwork(quantized, network), torch.from_numpy(frames)
    integers, trained = model.eval()(x).detach(), model.train()(x).detach()
    torch.testing.assert_close(trained, integers / (64 * quantized.readout.quantization.scale))
    assert np.abs(trained.numpy() - td.run(network, frames).readout).mean() < 0.1 * np.abs(trained.numpy()).mean()


def test_an_image_that_stands_still_is_seen_once():
    """Frames whose steps share their memory give the same integers as their copies."""
    rng = np.random.default_rng(3)
    network = random_float_network(rng, encoding="analog")
    image = torch.from_numpy(random_frames(network, rng, 1, 4))
    frames = image.expand(5, *image.shape[1:])
    model = QuantizedNetwork(td.quantize(network, frames.numpy().copy()), network).eval()
    with torch.no_grad():
        assert torch.equal(model(frames), model(frames.clone()))


NETWORK = random_float_network(np.random.default_rng(0), layers=2)
OTHER = random_float_network(np.random.default_rng(1), layers=2)
FRAMES = random_frames(NETWORK, np.random.default_rng(0))
INT8 = td.quantize(NETWORK, FRAMES)
BEYOND = INT8.replace(
    {"layer0.conv": dataclasses.replace(INT8["layer0.conv"], weight=np.full_like(INT8["layer0.conv"].weight, -128))}
)
WRONG = {
    "integers beyond the bits": (lambda: QuantizedNetwork(BEYOND, NETWORK), "integers beyond its bits"),
    "two float networks": (lambda: QuantizedNetwork(NETWORK, NETWORK), "the float network that it was made of"),
    "two quantized ones": (lambda: QuantizedNetwork(INT8, INT8), "the float network that it was made of"),
    "of another network": (lambda: QuantizedNetwork(INT8, OTHER), "node .*was not made of this float one"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_fit_is_refused(case):
    """Networks that are no pair get an error that says so."""
    make, message = WRONG[case]
    with pytest.raises(GraphError, match=message):
        make()
