"""Write what one version writes: `PYTHONPATH=CHECKOUT python make_files.py FOLDER`; see README.md."""

import contextlib
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

import tet_deploy as td
from tet_deploy.counting import estimate
from tet_deploy.ir.graph import Graph
from tet_deploy.ir.nodes import LIF as Population
from tet_deploy.ir.nodes import Add, AvgPool, BatchNorm, Conv, Delay, Flatten, Input, Linear, Readout
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.training import Settings, session

SAMPLES = 3


class Stop(Exception):
    """In the middle of a training."""


def train(folder):
    """A checkpoint; and the state and log of the same training, stopped in its second epoch."""
    recipe = session.recipe_for("digits", steps=2, epochs=2)
    recipe = session.changed(recipe, model_arguments={"width": 0.25})
    out, state, log = (folder / f"digits.{kind}" for kind in ("checkpoint.safetensors", "state.safetensors", "log.jsonl"))

    @contextlib.contextmanager
    def stopping(title):
        def progress(done, total):
            if done > 0.75 * total:
                raise Stop

        yield progress

    with contextlib.suppress(Stop):
        session.train_into(out, recipe, Settings(state=state, state_every=5, log=log), device="cpu", bar=stopping)
    assert state.exists() and not out.exists()
    samples = session.load_samples(recipe)
    trained = session.fit(recipe, samples)
    session.store(trained, samples, out)
    np.savez_compressed(folder / "digits.trained.npz", losses=trained.result.losses)
    return session.traced(out), samples.test_frames[:, :SAMPLES]


def with_events(rng):
    """Event counts, a max pool, an average pool before each kind of layer, biases, and every kind of geometry."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = TimeMajor(
            *(nn.Conv2d(2, 4, 3, padding=1), nn.BatchNorm2d(4), LIF(), nn.MaxPool2d(2)),
            *(nn.Conv2d(4, 6, (3, 2), stride=(1, 2), dilation=(2, 1), groups=2), LIF(decay=0.75, threshold=0.5)),
            *(nn.AvgPool2d(2, 1), nn.Conv2d(6, 5, 1), LIF(decay=1.0), nn.AvgPool2d((2, 1)), nn.Flatten(), nn.Linear(10, 3)),
        )
        for parameter in model.parameters():
            parameter.data *= 2.0
    graph = td.trace(model.eval(), (2, 14, 12), "events")
    return graph, rng.poisson(0.4, (3, SAMPLES, 2, 14, 12)).astype(np.float32)


def with_every_kind(rng):
    """All kinds of node, a residual connection among them: it can be saved and run, not lowered."""

    def draw(*shape):
        return rng.normal(0, 1, shape).astype(np.float32)

    norm = {"mean": draw(3), "variance": draw(3) ** 2 + 1, "gamma": draw(3) + 2, "beta": draw(3), "epsilon": 1e-5}
    nodes = (
        Input(name="input", shape=(2, 6, 6)),
        Conv(name="conv1", inputs=("input",), weight=draw(3, 2, 3, 3), padding=(1, 1)),
        BatchNorm(name="norm1", inputs=("conv1",), **norm),
        Population(name="lif1", inputs=("norm1",)),
        Conv(name="conv2", inputs=("lif1",), weight=draw(3, 1, 3, 3), bias=draw(3), padding=(1, 1), groups=3),
        Add(name="add", inputs=("conv2", "lif1")),
        Population(name="lif2", inputs=("add",), decay=0.9, threshold=0.75),
        AvgPool(name="pool", inputs=("lif2",), kernel=(2, 3), stride=(2, 3)),
        Flatten(name="flatten", inputs=("pool",)),
        Delay(name="delay", inputs=("flatten",), steps=1),
        Linear(name="fc", inputs=("delay",), weight=draw(4, 18), bias=draw(4)),
        Readout(name="readout", inputs=("fc",)),
    )
    return Graph(nodes, {"note": "every kind of node, äöü"}), draw(3, SAMPLES, 2, 6, 6)


def write(folder, name, graph, frames, energies):
    """The network, the frames, what it computes, what it costs."""
    np.savez_compressed(folder / f"{name.partition('.')[0]}.frames.npz", frames=frames)
    td.save(graph, folder / f"{name}.safetensors")
    recording = ReferenceRuntime(graph).run(frames)
    exact = ReferenceRuntime(graph, dtype=np.float64).run(frames)
    for population, spikes in recording.spikes.items():
        assert 0.02 < spikes.mean() < 0.9, f"{name}: {population} fires at {spikes.mean():.1%}"
        assert np.array_equal(spikes, exact.spikes[population]), "a threshold within float rounding"
    arrays = {"readout": recording.readout}
    arrays |= {f"spikes/{key}": value for key, value in recording.spikes.items()}
    if graph.is_quantized:
        arrays |= {f"potentials/{key}": value for key, value in recording.potentials.items()}
    np.savez_compressed(folder / f"{name}.npz", **arrays)
    energies[name] = estimate(graph, recording, frames).summary()["energy_pj"]


def main(folder):
    """Write everything into one folder."""
    rng = np.random.default_rng(7)
    folder.mkdir(exist_ok=True)
    energies = {}
    digits, images = train(folder)
    events, counts = with_events(rng)
    for name, traced, frames in (("digits", digits, images), ("events", events, counts)):
        lowered = td.lower(traced, frames)
        int8 = td.quantize(lowered, frames)
        for stage, graph in (("traced", traced), ("float", lowered), ("int8", int8)):
            write(folder, f"{name}.{stage}", graph, frames, energies)
            if stage != "traced":
                td.export(graph, folder / f"{name}.{stage}.onnx", to="onnx", probes="all")
        bundle = td.export(int8, folder / "bundle", to="lava")
        shutil.make_archive(str(folder / f"{name}.int8.lava"), "zip", bundle)
        shutil.rmtree(bundle)
    write(folder, "residual.traced", *with_every_kind(rng), energies)
    (folder / "energies.json").write_text(json.dumps(energies, indent=1) + "\n")
    print(f"written by tet_deploy {td.__version__}, {Path(td.__file__).parent}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
