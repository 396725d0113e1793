"""Models are built by name, in the notation of the literature."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from tet_deploy.errors import GraphError
from tet_deploy.models import MODELS, build
from tet_deploy.models.notation import from_notation

SMALL = {"digits": {}, "event-digits": {}, "snn5": {"shape": (2, 16, 16), "width": 0.125}}


def test_every_model_is_covered_here():
    """SMALL names every model of the table."""
    assert SMALL.keys() == MODELS.keys()


@pytest.mark.parametrize("name", MODELS)
def test_every_model_gives_a_readout_at_each_step(name):
    """Frames [T, B, C, H, W] become readouts [T, B, K], for any number of classes."""
    model = build(name, classes=7, **SMALL[name])
    channels = next(layer for layer in model if isinstance(layer, nn.Conv2d)).in_channels
    shape = SMALL[name].get("shape", {"digits": (1, 8, 8)}.get(name, (2, 20, 20)))
    assert shape[0] == channels
    assert model(torch.rand(3, 2, *shape)).shape == (3, 2, 7)


def test_a_seed_fixes_the_weights_and_nothing_else():
    """Equal seeds give equal weights; torch's own generator is left alone."""
    before = torch.get_rng_state()
    first, again, other = (build("digits", seed=seed).state_dict()["conv1.weight"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_notation_is_read_literally():
    """8C3-AP2-16C5-FC is conv, norm, LIF, pool, conv, norm, LIF, flatten, linear with those sizes."""
    model = from_notation("8C3-AP2-16C5-FC", (3, 10, 12), 5, width=0.5)
    assert list(dict(model.named_children())) == [
        "conv1", "norm1", "lif1", "pool1", "conv2", "norm2", "lif2", "flatten", "fc",
    ]  # fmt: skip
    assert (model.conv1.out_channels, model.conv2.out_channels, model.conv2.kernel_size) == (4, 8, (5, 5))
    assert (model.fc.in_features, model.fc.out_features) == (8 * 5 * 6, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("8C4-FC", (1, 8, 8), 10), "8C4"),
        (("8C3-MP2-FC", (1, 8, 8), 10), "MP2"),
        (("8C3-AP2", (1, 8, 8), 10), "end with FC"),
        (("8C3-AP16-FC", (1, 8, 8), 10), "leaves 0x0"),
        (("8C3-FC", (8, 8), 10), "C, H, W"),
        (("8C3-FC", (1, 8, 8), 0), "at least one class"),
    ],
)
def test_notation_that_makes_no_network_is_refused(arguments, message):
    """The word or size at fault is named."""
    with pytest.raises(GraphError, match=message):
        from_notation(*arguments)


def test_unknown_names_and_arguments_are_refused():
    """The error lists the models, or names the argument."""
    with pytest.raises(GraphError, match="digits, event-digits, snn5"):
        build("alexnet")
    with pytest.raises(GraphError, match="depth"):
        build("digits", depth=3)


@pytest.mark.parametrize(
    "statement", ["build('snn5')", "import tet_deploy.nn", "import tet_deploy.training", "import tet_deploy.tracing"]
)
def test_without_torch_the_extra_is_named(statement):
    """The table of models can be read; what needs torch says what to install."""
    program = f"import sys; sys.modules['torch'] = None; from tet_deploy.models import MODELS, build; {statement}"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stderr.splitlines()[-1].startswith("tet_deploy.errors.MissingDependencyError: ")
    assert "pip install 'tet_deploy[train]'" in found.stderr
