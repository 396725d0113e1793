"""A wrong name, number or type of an argument is an ArgumentError, which is a ValueError, in one to three lines."""

import numpy as np
import pytest
import torch

import tet_deploy as td
from tet_deploy import counting, data, demo, experiments
from tet_deploy.counting.conventions import Policies
from tet_deploy.errors import ArgumentError
from tet_deploy.experiments.setting import Setting
from tet_deploy.models import build
from tet_deploy.nn.backends import backend_for, use_backend
from tet_deploy.testing import random_float_network, random_frames
from tet_deploy.training.distribution import process_group
from tet_deploy.training.losses import check_loss
from tet_deploy.training.recipes import Stage, load_recipe, one_stage
from tet_deploy.training.settings import Settings

RNG = np.random.default_rng(0)
FLOAT = td.lower(random_float_network(RNG, layers=1, encoding="events"))
FRAMES = random_frames(FLOAT, RNG, 2, 3)
INT8 = td.quantize(FLOAT, FRAMES)


def with_backend(name):
    with use_backend(name):
        backend_for(torch.zeros(1, 1))


def validated(samples):
    return td.validate(FLOAT, FRAMES, runtimes=["reference", "onnx"], samples=samples)


WRONG = {  # what is called, and what the message says
    "runtime": (lambda: td.run(FLOAT, FRAMES, runtime="gpu"), "runtime 'gpu'.* Use one of reference, onnx, lava"),
    "runtime of a wrong type": (lambda: td.run(FLOAT, FRAMES, runtime=["onnx"]), "runtime \\['onnx'\\]"),
    "runtime in capitals": (lambda: td.run(FLOAT, FRAMES, runtime="ONNX"), "'ONNX'.* Did you mean 'onnx'"),
    "a very long runtime": (lambda: td.run(FLOAT, FRAMES, runtime="x" * 10**5), "runtime 'x{50,200}.{,200}$"),
    "chip": (lambda: td.map_resources(INT8, "loihi"), "chip 'loihi'.* Did you mean 'loihi[12]'"),
    "runtime option": (lambda: td.run(FLOAT, FRAMES, thread=2), "no option 'thread'; it takes dtype"),
    "onnx option": (lambda: td.run(FLOAT, FRAMES, runtime="onnx", thread=2), "it takes threads, micro_batch"),
    "threads": (lambda: td.run(FLOAT, FRAMES, runtime="onnx", threads=0), "threads: must be a whole number within 1"),
    "probe": (lambda: td.run(FLOAT, FRAMES, probes="typo"), "probe 'typo': no LIF"),
    "probes of a wrong type": (lambda: td.run(FLOAT, FRAMES, probes=None), "probes: must be 'all'"),
    "one runtime to compare": (lambda: td.validate(FLOAT, FRAMES, runtimes=["reference"]), "two or more"),
    "runtimes as one word": (lambda: td.validate(FLOAT, FRAMES, runtimes="onnx"), "as a list; got 'onnx'"),
    "exporter": (lambda: td.export(FLOAT, "x", to="tflite"), "exporter 'tflite'.* Use one of onnx, lava"),
    "exporter option": (lambda: td.export(INT8, "x", to="lava", probes="all"), "no option 'probes'; it takes period"),
    "bits": (lambda: td.quantize(FLOAT, FRAMES, bits=9), "bits: must lie in 2..8.*got 9"),
    "bits of a wrong type": (lambda: td.quantize(FLOAT, FRAMES, bits="8"), "got '8'"),
    "bits as a float": (lambda: td.quantize(FLOAT, FRAMES, bits=8.0), "got 8.0"),
    "classes as a float": (lambda: td.quantize(FLOAT, FRAMES, threshold_classes=2.0), "whole number within 1..8; got 2.0"),
    "classes as a truth": (lambda: td.quantize(FLOAT, FRAMES, threshold_classes=np.True_), r"within 1..8; got (np\.)?True"),
    "classes as an array": (lambda: td.quantize(FLOAT, FRAMES, threshold_classes=np.array([1, 2])), "got array"),
    "threads as a truth": (lambda: td.run(FLOAT, FRAMES, runtime="onnx", threads=True), "1..1024, or None; got True"),
    "streams as a float": (lambda: td.Stream(FLOAT, samples=2.0), "samples: must be a whole number of at least 1; got 2.0"),
    "a switch as a text": (lambda: td.export(INT8, "x", to="onnx", ranges="no"), "ranges: must be True or False; got 'no'"),
    "samples of a typo": (lambda: validated({"onxx": 1}), "samples: 'onxx' is none .* with the first: onnx"),
    "samples of the first": (lambda: validated({"reference": 1}), "samples: 'reference' is none of"),
    "no samples": (lambda: validated({"onnx": 0}), "samples of 'onnx': must be a whole number of at least 1; got 0"),
    "samples of all alike": (lambda: validated(2), "how many by runtime, as in {'lava': 10}; got 2"),
    "energy table": (lambda: td.energy(FLOAT, FRAMES, table="7nm"), "'7nm'.*45nm-fp32, 45nm-int8, loihi1"),
    "energy policy": (lambda: td.energy(FLOAT, FRAMES, input_policy="sparse"), "'dense' or 'event'; got 'sparse'"),
    "energy option": (lambda: td.energy(FLOAT, FRAMES, policy="dense"), "no option 'policy'"),
    "energy name": (lambda: td.energy(FLOAT, FRAMES).mean("total"), "energy 'total'.*it has event"),
    "policy": (lambda: Policies(input="event", zero_weights="dropped"), "got 'dropped'"),
    "table by itself": (lambda: counting.table("7nm"), "Choose one of"),
    "model": (lambda: build("resnet"), "model 'resnet'.*Did you mean 'resnet19'"),
    "model of a wrong type": (lambda: build(["digits"]), r"model \['digits'\]"),
    "model argument": (lambda: build("digits", depth=3), "depth"),
    "model sizes": (lambda: build("digits", shape=(1, 8, 8), classes=0), "at least one class"),
    "model of a checkpoint": (lambda: td.load_checkpoint("resnet", "x.pth"), "Use one of"),
    "data": (lambda: data.load("mnist", steps=4), "data 'mnist': .*no such file .*one of digits.*Did you mean 'n-mnist'"),
    "data option": (lambda: data.load("digits", steps=4, width=3), "no option 'width'"),
    "data steps": (
        lambda: data.load("digits", steps=0),
        "steps of data 'digits': must be .* at least 1; got 0",
    ),
    "data steps as a float": (lambda: data.load("digits", steps=4.0), "steps of data .*; got 4.0"),
    "augmentation": (lambda: data.load("digits", steps=4, augmentation={"flp": True}), "no option 'augmentation'"),
    "demo": (lambda: demo.run_demo("mnist", "x"), "data 'mnist'"),
    "experiment": (lambda: experiments.run_experiment("table9", out="x"), "experiment 'table9'"),
    "seeds": (lambda: Setting(data="digits", seeds=()), "at least one"),
    "recipe": (lambda: load_recipe("digit"), "Did you mean 'digits'"),
    "stage": (lambda: one_stage(load_recipe("digits"), 7), "stage 7"),
    "optimizer": (lambda: Stage(steps=1, epochs=1, learning_rate=1.0, optimizer="lion"), "optimizer: must be one of"),
    "loss": (lambda: check_loss("mse", 0.0), "loss 'mse'"),
    "precision": (lambda: Settings(precision="fp8"), "precision 'fp8'"),
    "device": (lambda: process_group("tpu9").__enter__(), "device 'tpu9'"),
    "backend of a wrong type": (lambda: with_backend([]), r"backend \[\]"),
    "backend": (lambda: with_backend("metal"), "backend 'metal': there is none"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case, tmp_path, monkeypatch):
    """The error is ours and Python's own kind at once, names what was given, and says what there is."""
    monkeypatch.chdir(tmp_path)
    call, message = WRONG[case]
    with pytest.raises(ArgumentError, match=message) as caught:
        call()
    assert isinstance(caught.value, ValueError) and caught.value.exit_code == 2
    assert str(caught.value).count("\n") <= 2
    assert not list(tmp_path.iterdir())


def test_numpys_whole_numbers_are_whole_numbers():
    """As they come out of arrays; and what is said of a runtime's samples is what it sees."""
    expected = td.quantize(FLOAT, FRAMES, threshold_classes=2, rounding_limit=0.5)
    found = td.quantize(FLOAT, FRAMES, threshold_classes=np.int64(2), rounding_limit=np.float32(0.5), bits=np.int8(8))
    assert found.digest() == expected.digest()
    assert td.Stream(FLOAT, samples=np.int32(3)).step(FRAMES[0]).readout.shape[0] == 3
    assert validated({"onnx": np.int16(2)})["onnx"].samples == 2
    assert validated({})["onnx"].samples == validated({"onnx": 99})["onnx"].samples == 3
