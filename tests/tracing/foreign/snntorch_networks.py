"""Networks as snnTorch's users write them, and what each of their populations gives in snnTorch itself."""

import numpy as np
import snntorch as snn
import torch
import torch.nn.functional as F
from snntorch import utils
from torch import nn

from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace

SHAPE = (2, 8, 8)

STEPS, SAMPLES = 20, 4

ZERO = {"beta": 0.5, "reset_mechanism": "zero"}


class Loop(nn.Module):
    """A loop over frames, as in snnTorch's tutorials; gives spikes and membrane potentials."""

    def __init__(self, **last):
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(**ZERO)
        self.conv2, self.lif2 = nn.Conv2d(4, 6, 3, padding=1), snn.Leaky(**{**ZERO, "beta": 0.9}, reset_delay=False)
        self.pool = nn.AvgPool2d(2)
        self.fc, self.lif3 = nn.Linear(96, 10), snn.Leaky(**{**ZERO, **last})

    def forward(self, x):
        mem1, mem2, mem3 = self.lif1.init_leaky(), self.lif2.reset_mem(), None
        spk_rec, mem_rec = [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.conv1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.conv2(spk1), mem2)
            spk3, mem3 = self.lif3(self.fc(self.pool(spk2).view(x.size(1), -1)), mem3)
            spk_rec.append(spk3)
            mem_rec.append(mem3)
        return torch.stack(spk_rec, dim=0), torch.stack(mem_rec, dim=0)


class Currents(Loop):
    """Gives what its last fc gives, over frames that are gone through one by one; adds what two populations send."""

    def __init__(self):
        super().__init__()
        self.lif3 = snn.Leaky(**ZERO)
        self.conv3 = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        mem1 = mem3 = torch.zeros(1)
        record = []
        for frame in x:
            spk1, mem1 = self.lif1(self.conv1(frame), mem=mem1)
            spk3, mem3 = self.lif3(self.conv3(spk1), mem3)
            record += [self.fc(torch.flatten(F.avg_pool2d(spk1 + spk3, 2), 1))]
        return torch.stack(record)


class WrittenOut(Loop):
    """Potentials that begin as zeros of a shape written out and are detached between steps; arguments with defaults."""

    def forward(self, x, num_steps=None, *, verbose=False):
        num_steps = x.shape[0] if num_steps is None else num_steps
        mem1, mem2 = torch.zeros(x.size(1), 4, 8, 8, device=x.device), x.new_zeros(x.shape[1], 6, 8, 8)
        mem3, record = torch.zeros((x.shape[1], 10)), []
        for step in range(num_steps):
            spk1, mem1 = self.lif1(self.conv1(x[step]), mem1.detach())
            spk2, mem2 = self.lif2(self.conv2(spk1.detach()), mem2)
            spk3, mem3 = self.lif3(self.fc(self.pool(spk2).flatten(1)), mem3.detach().clone())
            record.append(spk3)
            if verbose:
                print(mem3.mean())
        return torch.stack(record).flatten(2)


class Normalized(Loop):
    """Frames that are normalized before the loop that goes through them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.5, 0.25]).reshape(2, 1, 1))

    def forward(self, x):
        mem1, record = self.lif1.init_leaky(), []
        for frame in (x - self.mean) / 0.5:
            spk1, mem1 = self.lif1(self.conv1(frame), mem1)
            record.append(spk1.flatten(1))
        return torch.stack(record)


class Image(nn.Module):
    """Shows an image at a constant number of steps; what is done before the loop is done in each."""

    def __init__(self, over_time=lambda record: record):
        super().__init__()
        self.fc1, self.lif1 = nn.Linear(128, 40), snn.Leaky(**ZERO, learn_beta=True, learn_threshold=True)
        self.fc2, self.lif2 = nn.Linear(40, 10), snn.Leaky(**{**ZERO, "beta": 0.95})
        self.over_time = over_time

    def forward(self, x):
        mem1, mem2 = self.lif1.init_leaky(), self.lif2.init_leaky()
        cur1, record = self.fc1(x.view(x.size(0), -1)), []
        for _step in range(STEPS):
            spk1, mem1 = self.lif1(cur1, mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            record.append(spk2)
        return self.over_time(torch.stack(record))


class Modules(nn.Module):
    """Populations in a list, and frames flattened before the loop; gives a second readout that nobody asked for."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(128, 30), nn.Linear(30, 20), nn.Linear(20, 10)])
        self.lifs = nn.ModuleList([snn.Leaky(**ZERO) for _ in range(3)])
        self.other = nn.Linear(20, 4)

    def forward(self, x):
        x = x.view(x.size(0), x.size(1), -1).flatten(2)
        potentials, record, others = [lif.init_leaky() for lif in self.lifs], [], []
        for step in range(x.size(0)):
            values = x[step]
            for number, (layer, lif) in enumerate(zip(self.layers, self.lifs, strict=True)):
                if number == 2:
                    others.append(self.other(values))
                values, potentials[number] = lif(F.dropout(layer(values), 0.3, self.training), potentials[number])
            record.append(values)
        return torch.stack(record), torch.stack(others)


class TwoLoops(Loop):
    """The second loop goes through what the first has recorded: the same computation."""

    def forward(self, x):
        mem1, mem3, first, second = self.lif1.init_leaky(), self.lif3.init_leaky(), [], []
        for step in range(len(x)):
            spk1, mem1 = self.lif1(self.conv1(x[step]), mem1)
            first.append(spk1)
        spikes = torch.stack(first)
        for step in range(x.shape[0]):
            spk3, mem3 = self.lif3(self.fc(self.pool(self.conv2(spikes[step])).flatten(1)), mem3)
            second.append(spk3)
        return torch.stack(second)


class Hidden(nn.Module):
    """A loop over frames around an nn.Sequential whose neurons keep their own state."""

    def __init__(self):
        super().__init__()
        self.net = hidden()

    def forward(self, x):
        utils.reset(self.net)
        return torch.stack([self.net(x[step])[0] for step in range(x.size(0))])


def hidden(**last):
    return nn.Sequential(
        *(nn.Conv2d(2, 4, 3, padding=1), snn.Leaky(**ZERO, init_hidden=True), nn.MaxPool2d(2), nn.Flatten()),
        *(nn.Linear(64, 10), snn.Leaky(**ZERO, init_hidden=True, **{"output": True, **last})),
    )


class OneStep(nn.Module):
    """forward() takes one step, and neurons without init_hidden go on from where they are."""

    def __init__(self):
        super().__init__()
        self.fc1, self.lif1, self.fc2 = nn.Linear(128, 30), snn.Leaky(**ZERO), nn.Linear(30, 10)

    def forward(self, x):
        spk1, _ = self.lif1(self.fc1(x.flatten(1)))
        return self.fc2(spk1)


class Default(Loop):
    """As a Leaky resets if nobody says otherwise: by its threshold, a step later."""

    def __init__(self):
        super().__init__(beta=0.8, reset_mechanism="subtract")
        self.lif1 = snn.Leaky(beta=0.9)
        self.lif2 = snn.Leaky(beta=0.9, threshold=torch.linspace(0.5, 1.5, 6).reshape(6, 1, 1), reset_delay=False)


NETWORKS = {
    "loop": Loop,
    "loop, default reset": Default,
    "loop over frames, sums": Currents,
    "loop, written out": WrittenOut,
    "loop over frames, normalized": Normalized,
    "image": Image,
    "image, summed": lambda: Image(lambda record: record.sum(0)),
    "image, mean": lambda: Image(lambda record: record.mean(dim=0)),
    "two loops": TwoLoops,
    "modules": Modules,
    "loop around hidden states": Hidden,
    "hidden states": hidden,
    "hidden states, spikes alone": lambda: hidden(output=False),
    "one step": OneStep,
}

BY_STEP = ("hidden states", "hidden states, spikes alone", "one step")


def lively(model, dyadic=False):
    """Weights that make neurons fire; dyadic ones, so that potentials often meet their threshold exactly."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.weight.mul_(3 if isinstance(module, nn.Conv2d) else 6)
                module.bias.add_(0.2)
                for tensor in (module.weight, module.bias) if dyadic else ():
                    tensor.copy_((tensor * 16).round() / 16)
    return model


def own_spikes(model, run):
    """What each population gives in snnTorch's own forward, [T, B, ...], and what the model gives."""
    heard = {path: [] for path, module in model.named_modules() if isinstance(module, (snn.Leaky, snn.Synaptic))}
    hooks = [
        model.get_submodule(path).register_forward_hook(
            lambda module, args, output, path=path: heard[path].append(output[0] if isinstance(output, tuple) else output)
        )
        for path in heard
    ]
    utils.reset(model)
    model.eval()
    with torch.no_grad():
        given = run()
    model.train()
    for hook in hooks:
        hook.remove()
    return {path: torch.stack(spikes).numpy() for path, spikes in heard.items() if spikes}, given


def first(given):
    return given[0] if isinstance(given, tuple) else given


def check_spikes(model, shape=SHAPE, *, by_step=False, frames=None):
    """Every spike of the traced graph, and of the model as a runtime, is the model's own in float32; graph and number."""
    torch.manual_seed(0)
    frames = (torch.rand(STEPS, SAMPLES, *shape) < 0.3).float() * 2 if frames is None else frames
    if isinstance(model, Image):
        frames = frames[:1].expand(frames.shape).contiguous()
        run = lambda: first(model(frames[0]))  # noqa: E731  # one of three
    elif by_step:
        run = lambda: torch.stack([first(model(frame)) for frame in frames])  # noqa: E731
    else:
        run = lambda: first(model(frames))  # noqa: E731
    expected, readout = own_spikes(model, run)
    graph = trace(model, shape)
    recording = ReferenceRuntime(graph).run(frames.numpy())
    as_runtime = TorchRuntime(model, shape).run(frames.numpy())
    assert expected and expected.keys() <= recording.spikes.keys()
    for spikes in (recording.spikes, as_runtime.spikes):
        assert {path: int((spikes[path] != given).sum()) for path, given in expected.items()} == dict.fromkeys(expected, 0)
    assert [path for path, given in expected.items() if not given.any() or given.all()] == []
    for name, potentials in as_runtime.potentials.items():
        np.testing.assert_allclose(potentials, recording.potentials[name], rtol=1e-4, atol=1e-4)  # float32
    found = torch.from_numpy(recording.readout)
    found = model.over_time(found) if isinstance(model, Image) else found
    np.testing.assert_allclose(found, readout, rtol=1e-5, atol=1e-5)  # float32
    np.testing.assert_array_equal(as_runtime.readout.shape, recording.readout.shape)
    return graph, sum(given.size for given in expected.values())
