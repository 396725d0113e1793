"""Loops over time that do something else than a population does step by step are refused by name."""

import numpy as np
import pytest
import snntorch as snn
import torch
from snntorch import utils
from snntorch_networks import SHAPE, ZERO
from torch import nn

from tet_deploy.errors import ExecutionError, GraphError
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace


class Wrong(nn.Module):
    """A loop that does something else."""

    def __init__(self, forward):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(128, 20), snn.Leaky(**ZERO)
        self.fc2, self.lif2 = nn.Linear(20, 20), snn.Leaky(**ZERO)
        self.norm1, self.norm2 = nn.BatchNorm1d(20), nn.BatchNorm1d(20)
        if forward.__name__ == "factor_of_the_step":
            self.factor = nn.Parameter(torch.ones(3, 1, 1))
        self.wrong = forward

    def forward(self, x):
        return self.wrong(self, x)


def frame(x, step):
    return x[step].flatten(1)


def dropped(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, _ = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(spikes)
    return torch.stack(record)


def dropped_at(late):
    def loop(net, x):
        mem, record = net.lif1.init_leaky(), []
        for step in range(x.size(0)):
            spikes, mem = net.lif1(net.fc1(frame(x, step)), net.lif1.init_leaky() if step == late else mem)
            record.append(spikes)
        return torch.stack(record)

    return loop


def swapped(net, x):
    mem1, mem2, record = net.lif1.init_leaky(), net.lif2.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem1 = net.lif1(net.fc1(frame(x, step)), mem2)
        spikes, mem2 = net.lif2(net.fc2(spikes), mem1)
        record.append(spikes)
    return torch.stack(record)


def leaking(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        mem = mem * 0.5
        record.append(spikes)
    return torch.stack(record)


def begun_elsewhere(net, x):
    mem, record = torch.ones(1), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(spikes)
    return torch.stack(record)


def shared(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        spikes, mem = net.lif1(net.fc2(spikes), mem)
        record.append(spikes)
    return torch.stack(record)


def shared_in_one_step(net, x):
    spikes, _ = net.lif1(net.fc1(x.flatten(1)))
    spikes, _ = net.lif1(net.fc2(spikes))
    return spikes


def twice(net, x):
    mem, record = net.lif1.init_leaky(), []
    for _repetition in range(2):
        for step in range(x.size(0)):
            spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
            record.append(spikes)
    return torch.stack(record)


def second_half(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        if step > 0:
            record.append(spikes)
    return torch.stack(record)


def uneven(net, x):
    mem1, mem2, first, record = net.lif1.init_leaky(), net.lif2.init_leaky(), [], []
    for step in range(4):
        spikes, mem1 = net.lif1(net.fc1(frame(x, step)), mem1)
        first.append(spikes)
    for step in range(3):
        spikes, mem2 = net.lif2(net.fc2(first[step]), mem2)
        record.append(spikes)
    return torch.stack(record)


def other_layer(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(3):
        current = net.fc1(frame(x, step))
        spikes, mem = net.lif1(net.fc2(current) if step == 1 else current, mem)
        record.append(spikes)
    return torch.stack(record)


def backwards(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, 2 - step)), mem)
        record.append(spikes)
    return torch.stack(record)


def potentials(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        _, mem = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(mem)
    return torch.stack(record)


def last_step(net, x):
    mem = net.lif1.init_leaky()
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
    return spikes


def batch_first(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(1)):
        spikes, mem = net.lif1(net.fc1(x[:, step].flatten(1)), mem)
        record.append(spikes)
    return torch.stack(record, 1)


def reset_between_steps(net, x):
    record = []
    for step in range(x.size(0)):
        utils.reset(net)
        record.append(net.lif1(net.fc1(frame(x, step)))[0])
    return torch.stack(record)


def written_between_steps(net, x):
    spikes, _ = net.lif1(net.fc1(x.flatten(1)))
    net.lif1.mem *= 0.5
    return spikes


def fresh_in_one_step(net, x):
    return net.lif1(net.fc1(x.flatten(1)), net.lif1.init_leaky())


def fixed_batch(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(x[step].view(128, -1)), mem)
        record.append(spikes)
    return torch.stack(record)


def norm_of_the_step(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(3):
        spikes, mem = net.lif1((net.norm2 if step else net.norm1)(net.fc1(frame(x, step))), mem)
        record.append(spikes)
    return torch.stack(record)


def factor_of_the_step(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(3):
        spikes, mem = net.lif1(net.norm1(net.fc1(frame(x, step))) * net.factor[step], mem)
        record.append(spikes)
    return torch.stack(record)


def turned_round(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(spikes)
    return torch.stack(record).flip(0)


def the_last_of_all(net, x):
    return turned_round(net, x)[-1]


def added_up(net, x):
    mem, record = net.lif1.init_leaky(), []
    for step in range(x.size(0)):
        spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
        record.append(spikes)
    return sum(record)


LOOPS = {
    turned_round: "'flip': takes some steps or samples, or turns them round.*Return the readout of every step",
    the_last_of_all: "'flip': takes some steps",
    added_up: r"'lif1': is called 3 times.*return torch.stack.record., or its mean.0. or sum.0.",
    norm_of_the_step: "'norm1', a BatchNorm1d: .* depends on the time step .'norm2' at step 1, as in BNTT.*Retrain",
    factor_of_the_step: "Wrong: its batch norm depends on the time step .a number for each of 3 steps in 'factor'",
    dropped: "'lif1': at step 1 its membrane potential must be the one that it gave a step before.*reset_mem",
    dropped_at(7): "'lif1': at step 7 its membrane potential must be the one",
    dropped_at(100): "'lif1': at step 100 its membrane potential must be the one",
    swapped: "'lif2': at step 0 its membrane potential must be 0",
    leaking: "'lif1': at step 1 its membrane potential must be the one",
    begun_elsewhere: "'lif1': at step 0 its membrane potential must be 0",
    shared: "'lif1': is called 6 times by a forward.. that gives 3 steps.*a layer of its own",
    shared_in_one_step: "'lif1': is called 2 times, and forward.. does not return what torch.stack",
    twice: "'lif1'|'getitem",
    second_half: "'lif1': is called 3 times by a forward.. that gives 2 steps",
    uneven: "'lif1': is called 4 times by a forward.. that gives 3 steps",
    other_layer: "something else at step 1 than at step 0",
    backwards: "something else at step 1 than at step 0",
    potentials: "'lif1': its membrane potential is used as a value.*return torch.stack",
    last_step: "'lif1': is called 3 times, and forward.. does not return what torch.stack",
    batch_first: r"cannot be traced .*range\(x.size\(0\)\) of frames x, time first",
    reset_between_steps: "'lif1': forward.. changes its membrane potential between steps.*before the first step only",
    written_between_steps: "'lif1': forward.. changes its membrane potential between steps",
    fresh_in_one_step: "'lif1': is given a membrane potential by a forward.. that takes one step.*init_hidden=True",
    fixed_batch: r"cannot run.*\[T, B, .*any number of samples",
}


@pytest.mark.parametrize("forward", LOOPS, ids=lambda forward: forward.__name__)
def test_loops_that_do_something_else_are_refused_by_name(forward):
    """The layer, what is wrong with it, and the way out."""
    with pytest.raises(GraphError, match=LOOPS[forward]) as caught:
        trace(Wrong(forward), SHAPE)
    assert len(str(caught.value)) < 500


def test_a_constant_number_of_steps_is_the_models_own():
    """Over other frames, the model as a runtime says so."""

    def three(net, x):
        mem, record = net.lif1.init_leaky(), []
        for step in range(3):
            spikes, mem = net.lif1(net.fc1(frame(x, step)), mem)
            record.append(spikes)
        return torch.stack(record)

    with pytest.raises(ExecutionError, match="must give the readout of every step"):
        TorchRuntime(Wrong(three), SHAPE).run(np.ones((4, 2, *SHAPE), np.float32))


def test_more_than_frames_needs_a_default():
    """Its name is told; nothing is known of what else a caller gives."""

    class Steps(Wrong):
        def forward(self, x, num_steps):
            return self.wrong(self, x)

    with pytest.raises(GraphError, match=r"must take frames only; it also takes 'num_steps'. Give it a default"):
        trace(Steps(dropped), SHAPE)
