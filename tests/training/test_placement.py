"""One place says where a network and its batches lie; whatever it says, a training goes through and resumes."""

import contextlib

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import ArrayFeed, Group, Recipe, Settings, Stage, run
from tet_deploy.training.placement import Placement

CPU = torch.device("cpu")
LAST = Placement(memory_format="channels_last")
STAGES = (
    Stage(steps=2, epochs=1, learning_rate=1e-2, batch_size=8),
    Stage(steps=2, epochs=1, learning_rate=1e-2, batch_size=8, optimizer="sgd", momentum=0.9),
)
RECIPE = Recipe(model="own", data="own", stages=STAGES, threads=1)


class Given:
    """A feed of the batches that it was given."""

    def __init__(self, frames):
        self.frames = frames

    def batches(self, chosen, device, epoch=None):
        yield self.frames, torch.zeros(self.frames.shape[1], dtype=torch.int64)


def placed(placement, frames):
    return next(placement.batches(Given(frames), []))[0]


def is_last(x):
    return x.is_contiguous(memory_format=torch.channels_last)


class Sees(nn.Module):
    """Passes images on and remembers how they lay in memory."""

    any_layout = True

    def __init__(self):
        super().__init__()
        self.seen = set()

    def forward(self, x):
        self.seen.add((is_last(x), torch.is_autocast_enabled("cpu")))
        return x


def network(sees):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = (nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), LIF())
        return TimeMajor(sees, *first, nn.Conv2d(8, 8, 3), LIF(), nn.Flatten(), nn.Linear(8 * 4 * 4, 3))


def feed(seed=0):
    rng = np.random.default_rng(seed)
    return ArrayFeed(rng.normal(size=(2, 36, 3, 6, 6)), rng.integers(0, 3, 36), steps=2)


def trained(progress=None, **settings):
    sees = Sees()
    model, feeds = network(sees), (feed(), feed(1))
    result = run(model, RECIPE, lambda stage: feeds, settings=Settings(evaluate_every=1, **settings), progress=progress)
    return model, result, sees.seen


@pytest.fixture
def channels_last(monkeypatch):
    """The one place says channels-last."""
    monkeypatch.setattr(Placement, "chosen", classmethod(lambda cls, settings, device: LAST))


def test_a_cpu_takes_contiguous_single_precision_unless_asked():
    """The precision is that of the settings; bfloat16 is slower there."""
    assert Placement.chosen(Settings(), CPU) == Placement()
    assert Placement.chosen(Settings(precision="bf16"), CPU) == Placement(precision="bf16")


@pytest.mark.parametrize("shape", [(3, 4, 2, 5, 6), (1, 4, 2, 5, 6), (3, 1, 2, 5, 6), (1, 1, 1, 1, 1), (2, 3, 4, 1, 1)])
@pytest.mark.parametrize("still", [False, True])
def test_frames_keep_their_values_and_lie_as_said(shape, still):
    """Merged, they are images in the memory format; a still image stays one in memory, and no value moves."""
    frames = torch.randn(shape)
    frames = frames[:1].expand(shape) if still else frames
    found = placed(LAST, frames)
    assert torch.equal(found, frames)
    once = found[:1] if still else found
    assert is_last(once.flatten(0, 1))
    assert once.flatten(0, 1).data_ptr() == once.data_ptr()  # merged without a copy
    assert not still or found.stride(0) == 0 or shape[0] == 1
    assert placed(Placement(), frames).data_ptr() == frames.data_ptr()  # nor one where they lie so already


def test_frames_that_are_no_images_stay_as_they_are():
    """Vectors and sequences have no channels-last."""
    for shape in ((3, 4, 5), (3, 4, 5, 6), (2, 3, 4, 5, 6, 7)):
        frames = torch.randn(shape)
        assert placed(LAST, frames) is frames


def test_a_network_is_moved_in_place():
    """Parameters and buffers stay the same objects, those that images pass through lie as said; and back."""
    model = TimeMajor(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv3d(2, 2, 3))
    before = list(model.parameters())
    values = [tensor.clone() for tensor in before]
    assert LAST.network(model) is model
    assert all(a is b and torch.equal(a, c) for a, b, c in zip(model.parameters(), before, values, strict=True))
    assert is_last(model[0].weight) and not model[0].weight.is_contiguous()
    Placement().network(model)
    assert all(parameter.is_contiguous() for parameter in model.parameters())


def test_the_one_place_is_asked_for_all(channels_last):
    """Weights, training batches and held-out batches lie in channels-last memory; losses are the same within rounding."""
    model, result, seen = trained()
    assert seen == {(True, False)}
    assert is_last(model[1].weight) and not model[1].weight.is_contiguous()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Placement, "chosen", classmethod(lambda cls, settings, device: Placement()))
        _, expected, seen = trained()
    assert seen == {(False, False)}
    np.testing.assert_allclose(result.losses, expected.losses, rtol=0.02)  # a spike may flip


def test_mixed_precision_is_for_training_alone():
    """Held-out samples are measured in single precision."""
    sees = Sees()
    before = LAST.network(network(sees))
    result = run(before, RECIPE, lambda stage: (feed(), feed(1)), settings=Settings(precision="bf16"), group=Group())
    assert {autocast for _, autocast in sees.seen} == {False, True}
    assert len(result.accuracy_by_step) == 2


@pytest.mark.parametrize("batch", [2, 6])
def test_channels_last_resumes_bit_for_bit(channels_last, tmp_path, batch):
    """Moments and weights come back as they lay, in both optimisers; the file holds them contiguous, as any other."""

    class Stop(Exception):
        """In the middle of an epoch."""

    def stop(done, total):
        if done == batch:
            raise Stop

    state = tmp_path / "state.safetensors"
    whole, expected, _ = trained()
    with contextlib.suppress(Stop):
        trained(stop, state=state, state_every=1)
    assert all(tensor.is_contiguous() for tensor in load_file(state).values())
    resumed, found, _ = trained(state=state, state_every=1, resume=True)
    assert found.losses == expected.losses
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), resumed.parameters(), strict=True))
    assert is_last(resumed[1].weight)
