"""Models are built by name, in the notation of the literature."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from tet_deploy.errors import ArgumentError
from tet_deploy.models import MODELS, build
from tet_deploy.models.notation import from_notation

SMALL = {  # arguments with which each is small
    "digits": {"shape": (1, 8, 8)},
    "event-digits": {"shape": (2, 20, 20)},
    "resnet19": {"shape": (3, 12, 8), "width": 0.05},
    "sew_resnet34": {"shape": (3, 40, 33), "width": 0.05},
    "snn5": {"shape": (2, 16, 16), "width": 0.125},
    "spiking_resnet34": {"shape": (1, 33, 40), "width": 0.05},
    "vgg_snn": {"shape": (2, 16, 32), "width": 0.05},
    "vgg_snn_strided": {"shape": (2, 20, 7), "width": 0.05},
}


def test_every_model_is_covered_here():
    """SMALL names every model of the table."""
    assert SMALL.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_readout_at_each_step(name):
    """Frames [T, B, C, H, W] become readouts [T, B, K], for any number of classes, channels and any size that fits."""
    model = build(name, classes=7, **SMALL[name])
    assert model(torch.rand(3, 2, *SMALL[name]["shape"])).shape == (3, 2, 7)


@pytest.mark.parametrize("name", MODELS)
def test_width_scales_every_layer_and_keeps_one_channel(name):
    """Half the width halves every convolution's channels; next to none leaves one."""

    def channels(width):
        model = build(name, **{**SMALL[name], "width": width})
        return [layer.out_channels for layer in model.modules() if isinstance(layer, nn.Conv2d)]

    assert [2 * count for count in channels(0.5)] == channels(1.0)
    assert set(channels(1e-4)) == {1}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("wrong", [{"shape": (8, 8)}, {"shape": (0, 8, 8)}, {"classes": 0}, {"width": 0}])
def test_arguments_that_make_no_network_are_refused(name, wrong):
    """By every model, and before it is built."""
    with pytest.raises(ArgumentError, match="C, H, W"):
        build(name, **wrong)


def test_a_seed_fixes_the_weights_and_nothing_else():
    """Equal seeds give equal weights; torch's own generator is left alone."""
    before = torch.get_rng_state()
    first, again, other = (build("digits", seed=seed).state_dict()["conv1.weight"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_notation_is_read_literally():
    """8C3-AP2-16C5S2-FC is conv, norm, LIF, pool, conv, norm, LIF, flatten, linear with those sizes."""
    model = from_notation("8C3-AP2-16C5S2-FC", (3, 10, 12), 5, width=0.5)
    assert list(dict(model.named_children())) == [
        "conv1", "norm1", "lif1", "pool1", "conv2", "norm2", "lif2", "flatten", "fc",
    ]  # fmt: skip
    assert (model.conv1.out_channels, model.conv2.out_channels, model.conv2.kernel_size) == (4, 8, (5, 5))
    assert (model.conv1.stride, model.conv2.stride) == ((1, 1), (2, 2))
    assert (model.fc.in_features, model.fc.out_features) == (8 * 3 * 3, 5)
    assert model(torch.rand(1, 1, 3, 10, 12)).shape == (1, 1, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("8C4-FC", (1, 8, 8), 10), "8C4"),
        (("8C3S0-FC", (1, 8, 8), 10), "8C3S0"),
        (("8C3-MP2-FC", (1, 8, 8), 10), "MP2"),
        (("8C3-AP2", (1, 8, 8), 10), "end with FC"),
        (("8C3-AP16-FC", (1, 8, 8), 10), "leaves 0x0"),
        (("8C3-FC", (8, 8), 10), "C, H, W"),
        (("8C3-FC", (1, 8, 8), 0), "at least one class"),
    ],
)
def test_notation_that_makes_no_network_is_refused(arguments, message):
    """The word or size at fault is named."""
    with pytest.raises(ArgumentError, match=message):
        from_notation(*arguments)


def test_unknown_names_and_arguments_are_refused():
    """The error lists the models, or names the argument."""
    with pytest.raises(ArgumentError, match="digits, event-digits, resnet19"):
        build("alexnet")
    with pytest.raises(ArgumentError, match="depth"):
        build("digits", depth=3)


@pytest.mark.parametrize(
    "statement", ["build('snn5')", "import tet_deploy.nn", "import tet_deploy.training", "import tet_deploy.tracing"]
)
def test_without_torch_the_extra_is_named(statement):
    """The table of models can be read; what needs torch says what to install."""
    program = f"import sys; sys.modules['torch'] = None; from tet_deploy.models import MODELS, build; {statement}"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stderr.splitlines()[-1].startswith("tet_deploy.errors.MissingDependencyError: ")
    assert "pip install 'tet-deploy[train]'" in found.stderr
