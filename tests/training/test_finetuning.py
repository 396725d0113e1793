"""Fine-tuning trains the integers that it returns."""

import json

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy.batches import FrameBatches
from tet_deploy.errors import DataError, ExecutionError
from tet_deploy.ir.certificates import certificates
from tet_deploy.testing import random_float_network
from tet_deploy.training import ArrayFeed, Recipe, Stage, finetune, finetuning

pytestmark = pytest.mark.filterwarnings("ignore::tet_deploy.errors.QuantizationWarning")  # that few bits are coarse
STAGE = Stage(steps=4, epochs=3, learning_rate=0.3, batch_size=16)


def task(samples=64):
    """A random network, and frames whose label it must still learn: which half of the image is brighter."""
    rng = np.random.default_rng(5)
    network = random_float_network(rng, encoding="events", layers=2)
    labels = rng.integers(0, 2, samples)
    frames = rng.poisson(0.3, (4, samples, *network.input.shape)).astype(np.float32)
    half = frames.shape[-1] // 2
    for sample, label in enumerate(labels):
        frames[:, sample, ..., label * half : (label + 1) * half] += rng.poisson(0.7, frames[:, sample, ..., :half].shape)
    return network, frames, labels


def test_the_integers_returned_are_those_that_trained(tmp_path):
    """What training saw of them, spikes, potentials and readouts, is what every runtime computes; it learned something."""
    network, frames, labels = task()
    quantized, batches = td.quantize(network, frames, bits=4), FrameBatches.of(network, frames)
    recipe, feed = Recipe(model="", data="", stages=(STAGE,)), ArrayFeed(frames, labels, steps=4)
    found = finetuning.fit(network, quantized, recipe, feed, batches, held_out=feed)
    td.save(found.graph, tmp_path / "net.safetensors")
    graph = td.load(tmp_path / "net.safetensors")
    seen, expected = found.model.record(torch.from_numpy(frames))[0], td.run(graph, frames)
    assert np.array_equal(seen.readout, expected.readout)
    assert all(np.array_equal(seen.spikes[name], expected.spikes[name]) for name in expected.spikes)
    assert all(np.array_equal(seen.potentials[name], expected.potentials[name]) for name in expected.potentials)
    assert td.validate(graph, frames, runtimes=["reference", "onnx"])["onnx"].equal
    assert found.accuracy_by_step[-1] == np.mean(expected.decisions == labels) > found.before[-1] + 0.1
    assert found.before[-1] == np.mean(td.run(quantized, frames).decisions == labels)
    assert found.result.losses[-1] < found.result.losses[0]


def test_the_summary_is_of_the_integers_that_trained():
    """Clipped weights, largest sums and certificates are recomputed; layers and scales are those of td.quantize."""
    network, frames, labels = task()
    quantized = td.quantize(network, frames, bits=3)
    tuned = finetune(network, quantized, frames, labels, STAGE)
    before, after = (json.loads(graph.metadata["quantization"]) for graph in (quantized, tuned))
    assert before.keys() == after.keys()
    for name, proved in certificates(tuned).items():
        assert after[name]["scale"] == before[name]["scale"] and after[name]["layers"] == before[name]["layers"]
        assert after[name]["largest_sum_possible"] == max(-proved.least_sum, proved.greatest_sum)
        assert 0 < after[name]["largest_sum_seen"] <= after[name]["largest_sum_possible"]
        assert 0 <= after[name]["clipped_weights"] < 1
        assert after[name]["clipped_biases"] == 0
        assert before[name].keys() - after[name].keys() <= {
            "deviation",
            "differing",
            "rounding",
            "ties",
        }  # against the float network
    sums = [[each["largest_sum_seen"] for each in summary.values()] for summary in (before, after)]
    assert sums[0] != sums[1]


def test_a_seed_gives_the_same_integers_again():
    """Twice the same arguments give the same network; another seed gives another."""
    network, frames, labels = task()
    quantized = td.quantize(network, frames, bits=4)
    digests = [finetune(network, quantized, frames, labels, STAGE, seed=seed).digest() for seed in (1, 1, 2)]
    assert digests[0] == digests[1] != digests[2]


def test_a_device_that_rounds_is_found(monkeypatch):
    """Where the forward pass is not the integers' after all, fine-tuning fails, and says in which node."""
    network, frames, labels = task(16)
    quantized = td.quantize(network, frames, bits=4)
    conv2d = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *args, **more: conv2d(*args, **more) * 1.01)
    with pytest.raises(ExecutionError, match=r"node 'layer0.lif'.*--device cpu"):
        finetune(network, quantized, frames, labels, STAGE)


WRONG = {
    "steps": (lambda n, q, f, y: finetune(n, q, f[:3], y, STAGE), "T = 4"),
    "shape": (lambda n, q, f, y: finetune(n, q, f[..., 1:], y, STAGE), "frames"),
    "labels": (lambda n, q, f, y: finetune(n, q, f, y[1:], STAGE), "labels: must be integers of shape"),
    "classes": (lambda n, q, f, y: finetune(n, q, f, y + 99, STAGE), "labels: must be in 0"),
    "not finite": (lambda n, q, f, y: finetune(n, q, f * np.nan, y, STAGE), "finite"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_samples_are_refused(case):
    """Frames and labels that do not fit get an error that says what must be."""
    use, message = WRONG[case]
    network, frames, labels = task(16)
    with pytest.raises(DataError, match=message):
        use(network, td.quantize(network, frames), frames, labels)
