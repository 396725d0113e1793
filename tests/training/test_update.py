"""An update takes a batch in parts or whole, in single or mixed precision, and says what stopped it."""

import re

import numpy as np
import pytest
import torch
from torch import nn

from tet_deploy.errors import ArgumentError, ExecutionError
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.training import ArrayFeed, Group, Recipe, Settings, Stage, run, total_loss
from tet_deploy.training.placement import Placement
from tet_deploy.training.recipes import changed
from tet_deploy.training.state import load_state
from tet_deploy.training.update import Network, update

CPU = torch.device("cpu")
RECIPE = Recipe(model="own", data="own", stages=(Stage(steps=3, epochs=2, learning_rate=1e-2, batch_size=16),), threads=1)


class Double(nn.Module):
    """From here on in double precision: rounding does not push a membrane potential over the threshold."""

    def forward(self, x):
        return x.double()


def network():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TimeMajor(Double(), TimeMajor(nn.Linear(6, 16), LIF(), nn.Linear(16, 3)).double())


def feed():
    rng = np.random.default_rng(0)
    return ArrayFeed(rng.normal(size=(3, 45, 6)), rng.integers(0, 3, 45), steps=3)


def trained(model=None, recipe=RECIPE, **settings):
    model = model or network()
    return model, run(model, recipe, lambda stage: (feed(), None), settings=Settings(**settings))


@pytest.mark.parametrize("accumulate", [2, 4, 100])
def test_parts_of_a_batch_train_as_the_whole_batch(accumulate):
    """Without batch norm, losses and weights are the same within rounding, also where parts are of unequal size."""
    whole, expected = trained()
    in_parts, found = trained(accumulate=accumulate)
    np.testing.assert_allclose(found.losses, expected.losses, atol=1e-6)  # readouts are taken in single precision
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(in_parts.state_dict()[name], weight, atol=1e-4, rtol=0)  # Adam divides small gradients


def test_mixed_precision_trains_in_bfloat16_and_keeps_single_precision_weights():
    """Matrix products see bfloat16, the loss and the weights single precision."""
    seen = []
    model = TimeMajor(nn.Linear(6, 16), LIF(), nn.Linear(16, 3))
    model[0].register_forward_hook(lambda layer, x, y: seen.append(y.dtype))
    _, result = trained(model, precision="bf16")
    assert torch.bfloat16 in seen
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert result.losses[1] < result.losses[0]


def test_a_still_image_is_encoded_once_unless_asked(monkeypatch):
    """The first layer sees B images, or T*B of them; losses are the same within rounding."""
    seen, forward = set(), nn.Linear.forward
    monkeypatch.setattr(nn.Linear, "forward", lambda layer, x: (seen.add(len(x)), forward(layer, x))[1])
    losses, still = {}, np.broadcast_to(np.random.default_rng(1).normal(size=(1, 45, 6)), (3, 45, 6))
    for once in (True, False):
        seen.clear()
        still_feed = ArrayFeed(still, np.arange(45) % 3, steps=3)
        settings = Settings(encode_once=once)
        result = run(network()[1].float(), RECIPE, lambda s, f=still_feed: (f, None), settings=settings)
        assert (15 in seen) is once
        losses[once] = result.losses
    assert losses[True] == pytest.approx(losses[False], abs=1e-4)


def test_on_a_cpu_precision_is_single_unless_asked():
    """bfloat16 is slower there."""
    assert not Settings().takes_bf16(torch.device("cpu"))
    assert Settings(precision="bf16").takes_bf16(torch.device("cpu"))


@pytest.mark.parametrize(
    "wrong", [{"precision": "fp16"}, {"accumulate": 0}, {"evaluate_every": -1}, {"state_every": -1}, {"resume": True}]
)
def test_settings_out_of_range_are_refused(wrong):
    """The error names the setting."""
    with pytest.raises(ArgumentError, match=next(iter(wrong))):
        Settings(**wrong)


def test_one_update_is_a_step_of_its_optimiser_on_the_gradient_of_the_mean_loss():
    """No training is needed around it: network, optimiser, batch and loss go in, the sum of the losses comes out."""
    stage, (frames, labels) = Stage(steps=3, epochs=1, learning_rate=0.5), next(feed().batches([np.arange(10)], CPU))
    ours, theirs = network(), network()
    found = update(
        Network.of(ours, Group(), Placement()),
        torch.optim.SGD(ours.parameters(), lr=1.0),
        [(frames[:, :5], labels[:5]), (frames[:, 5:], labels[5:])],
        stage,
        learning_rate=0.5,
    )
    loss = total_loss(theirs(frames).float(), labels, mse_weight=stage.mse_weight)
    loss.backward()
    assert found == pytest.approx(10 * loss.item())
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other - 0.5 * other.grad)


@pytest.mark.parametrize("wrong", [float("nan"), float("inf")])
def test_a_refused_update_leaves_the_weights_as_they_were(wrong):
    """The error names the batch; no step of the optimiser was made."""
    model = network()
    before = {name: values.clone() for name, values in model.state_dict().items()}
    frames = torch.full((3, 4, 6), wrong)
    optimizer = torch.optim.Adam(model.parameters())
    with pytest.raises(ExecutionError, match="not finite in batch 7\\.\n"):
        update(
            Network.of(model, Group(), Placement()),
            optimizer,
            [(frames, torch.zeros(4, dtype=torch.int64))],
            RECIPE.stages[0],
            learning_rate=0.1,
            where="batch 7",
        )
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert not optimizer.state


class Breaks(nn.Module):
    """Passes values on, until their gradient becomes NaN in the n-th backward pass."""

    def __init__(self, at):
        super().__init__()
        self.left = at

    def forward(self, x):
        if self.training:
            self.left -= 1
        return x * (float("nan") if self.left == 0 else 1.0)


def test_a_loss_that_is_not_a_number_stops_training_and_keeps_the_last_good_state(tmp_path):
    """The error names stage, epoch, batch and the state; that state is of finite weights."""
    path = tmp_path / "state.safetensors"
    model = TimeMajor(nn.Linear(6, 16), LIF(), nn.Linear(16, 3), Breaks(at=9))
    recipe = changed(RECIPE, epochs=1)
    recipe = Recipe(model="own", data="own", stages=recipe.stages * 4, threads=1)
    with pytest.raises(ExecutionError, match=r"loss nan .*not finite in stage 3, epoch 1, batch 3, seed 0") as caught:
        trained(model, recipe, state=path)
    assert str(path) in str(caught.value)
    state = load_state(path)
    assert (state.position.stage, state.position.epoch, state.position.batch) == (2, 0, 0)
    assert all(torch.isfinite(values).all() for name, values in state.tensors.items() if name.startswith("model."))


class Small(nn.Module):
    """Stands for a device with memory for so many samples."""

    def __init__(self, room):
        super().__init__()
        self.room = room

    def forward(self, x):
        if self.training and x.shape[0] > 3 * self.room:  # time and batch are merged
            raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x


@pytest.mark.parametrize(("room", "said"), [(5, "About 3 would fit"), (12, "About 7 would fit"), (0, "Not one sample")])
def test_out_of_memory_says_which_batch_would_fit(room, said):
    """Batch, samples and T are named, and what would fit; with it, training goes through."""
    model = TimeMajor(Small(room), nn.Linear(6, 16), LIF(), nn.Linear(16, 3))
    with pytest.raises(
        ExecutionError, match=f"out of memory in epoch 1, batch 1.*15 samples at a time and T = 3(.|\n)*{said}"
    ) as e:
        trained(model)
    assert "--width" in str(e.value)
    assert 2 <= len(str(e.value).splitlines()) <= 3
    assert all(parameter.grad is None for parameter in model.parameters())
    if room:
        fits = int(re.search(r"About (\d+)", str(e.value))[1])
        parts = int(re.search(r"--accumulate (\d+)", str(e.value))[1])
        trained(model, changed(RECIPE, batch_size=fits))
        trained(model, accumulate=parts)
