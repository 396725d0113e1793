"""Networks as SpikingJelly's users write them, and what each of their populations gives in SpikingJelly itself."""

import sys
import types

import numpy as np
import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

from tet_deploy.runtimes.reference import ReferenceRuntime
from tet_deploy.runtimes.torch_model import TorchRuntime
from tet_deploy.tracing import trace

SHAPE = (2, 8, 8)

STEPS, SAMPLES = 4, 2


def zoo(name):
    """A module of SpikingJelly's models; they ask torchvision for a function that loads weights from the internet."""
    if "torchvision" not in sys.modules:
        for path in ("torchvision", "torchvision.models", "torchvision.models.utils"):
            sys.modules[path] = types.ModuleType(path)
        sys.modules["torchvision.models.utils"].load_state_dict_from_url = None
    return __import__(f"spikingjelly.activation_based.model.{name}", fromlist=[name])


class CSNN(nn.Module):
    """As in the tutorial on Fashion-MNIST: takes an image, shows it T times, gives firing rates."""

    def __init__(self, show=lambda x: x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1), rates=lambda spikes: spikes.mean(0)):
        super().__init__()
        self.show, self.rates = show, rates
        self.conv_fc = nn.Sequential(
            *(layer.Conv2d(1, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.IFNode(), layer.MaxPool2d(2, 2)),
            *(layer.Conv2d(8, 8, 3, padding=1, bias=False), layer.BatchNorm2d(8), neuron.IFNode(), layer.MaxPool2d(2, 2)),
            *(layer.Flatten(), layer.Linear(8 * 4 * 4, 32, bias=False), neuron.IFNode()),
            *(layer.Linear(32, 10, bias=False), neuron.IFNode()),
        )
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.rates(self.conv_fc(self.show(x)))


def vgg():
    """Its convolutions are narrow here, and its classifier fits them."""
    with_bn = zoo("spiking_vgg").SpikingVGG([8, "M", 8, "M", 16, 16, "M"], True, spiking_neuron=neuron.IFNode)
    with_bn.avgpool = layer.AdaptiveAvgPool2d((2, 2))
    with_bn.classifier = nn.Sequential(
        *(
            layer.Linear(64, 32),
            neuron.IFNode(),
            layer.Dropout(),
            layer.Linear(32, 32),
            neuron.IFNode(),
            layer.Linear(32, 10),
        )
    )
    return with_bn


def containers():
    """The same layers in each kind of container, own and torch's."""
    return nn.Sequential(
        layer.SeqToANNContainer(nn.Conv2d(2, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)),
        neuron.LIFNode(step_mode="m"),
        layer.MultiStepContainer(
            nn.Conv2d(8, 8, 3), layer.BatchNorm2d(8), neuron.LIFNode(decay_input=False), nn.AvgPool2d(2)
        ),
        layer.StepModeContainer(True, "m", nn.Sequential(nn.Conv2d(8, 8, 2), neuron.IFNode())),
        layer.StepModeContainer(False, "m", nn.Flatten()),
        *(layer.Dropout(step_mode="m"), layer.Linear(32, 30, step_mode="m"), neuron.LIFNode(step_mode="m")),
        layer.VotingLayer(3, step_mode="m"),
    )


def sew(depth, kind, cnf="ADD"):
    return getattr(zoo("sew_resnet"), f"sew_resnet{depth}")(spiking_neuron=kind, cnf=cnf, num_classes=10)


def resnet(depth):
    return getattr(zoo("spiking_resnet"), f"spiking_resnet{depth}")(spiking_neuron=neuron.LIFNode, num_classes=10)


def dvs():
    return zoo("parametric_lif_net").CIFAR10DVSNet(channels=4, spiking_neuron=neuron.ParametricLIFNode)


NETWORKS = {
    "tutorial CSNN": (CSNN, (1, 16, 16)),
    "tutorial CSNN, expanded and summed": (
        lambda: CSNN(lambda x: x.unsqueeze(0).expand(STEPS, -1, -1, -1, -1), lambda spikes: torch.sum(spikes, dim=0)),
        (1, 16, 16),
    ),
    "tutorial CSNN, stacked": (
        lambda: CSNN(lambda x: torch.stack([x] * STEPS), lambda spikes: spikes.sum(dim=(0,), keepdim=False) / STEPS),
        (1, 16, 16),
    ),
    "containers": (containers, (2, 8, 8)),
    "spiking_vgg": (vgg, (3, 16, 16)),
    "CIFAR10DVSNet": (dvs, (2, 128, 128)),
    "spiking_resnet18": (lambda: resnet(18), (3, 32, 32)),
    "spiking_resnet34": (lambda: resnet(34), (3, 32, 32)),
    "sew_resnet18": (lambda: sew(18, neuron.LIFNode), (3, 32, 32)),
    "sew_resnet34": (lambda: sew(34, neuron.IFNode), (3, 32, 32)),
}


def lively(model, run):
    """Weights and batch norms that make neurons fire, with the statistics of what they are given."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.uniform_(2, 4)
                module.bias.uniform_(-0.5, 1.5)
            elif isinstance(module, nn.Linear):
                module.weight *= 6
        model.train()
        for _ in range(2):
            functional.reset_net(model)
            run()
    functional.reset_net(model)
    return model.eval()


def own_spikes(model, run):
    """What each population gives in SpikingJelly's own forward, [T, B, ...], and the readout."""
    heard = {path: [] for path, module in model.named_modules() if isinstance(module, neuron.BaseNode)}
    hooks = [
        model.get_submodule(path).register_forward_hook(lambda module, args, output, path=path: heard[path].append(output))
        for path in heard
    ]
    functional.reset_net(model)
    with torch.no_grad():
        readout = run().numpy()
    functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    return {path: (given[0] if len(given) == 1 else torch.stack(given)).numpy() for path, given in heard.items()}, readout


def check_torch_runtime(model, shape, frames, recording):
    """As a runtime the model does what its graph does, spike for spike, in its own way of being called."""
    found = TorchRuntime(model, shape).run(frames)
    for name, spikes in recording.spikes.items():
        np.testing.assert_array_equal(found.spikes[name], spikes, err_msg=name)
        np.testing.assert_allclose(found.potentials[name], recording.potentials[name], rtol=1e-3, atol=1e-3)  # float32
    np.testing.assert_allclose(found.readout, recording.readout, rtol=1e-4, atol=1e-4)


def check_spikes(model, shape, mode="m", seed=0):
    """Every spike of the traced graph is the model's own, in float32; the graph."""
    torch.manual_seed(seed)
    frames = torch.randn(STEPS, SAMPLES, *shape)
    if isinstance(model, CSNN):
        frames = frames[:1].expand(STEPS, *frames.shape[1:])
        run = lambda: model(frames[0])  # noqa: E731  # one of three
    elif mode == "s":
        run = lambda: torch.stack([model(frame) for frame in frames])  # noqa: E731
    else:
        run = lambda: model(frames)  # noqa: E731
    lively(model, run)
    expected, readout = own_spikes(model, run)
    graph = trace(model, shape)
    recording = ReferenceRuntime(graph).run(np.ascontiguousarray(frames.numpy()))
    assert expected.keys() <= recording.spikes.keys()
    differ = {path: int((recording.spikes[path] != given).sum()) for path, given in expected.items()}
    assert differ == dict.fromkeys(expected, 0)
    assert [path for path, given in expected.items() if not given.any()] == []
    found = model.rates(torch.from_numpy(recording.readout)) if isinstance(model, CSNN) else recording.readout
    np.testing.assert_allclose(found, readout, rtol=1e-4, atol=1e-4)  # float32, in which sums of spikes round otherwise
    check_torch_runtime(model, shape, np.ascontiguousarray(frames.numpy()), recording)
    return graph


def neurons(kind, **arguments):
    return nn.Sequential(layer.Flatten(), layer.Linear(128, 64), kind(**arguments), layer.Linear(64, 10))


def with_layer(*layers):
    return lambda: nn.Sequential(*layers, layer.Flatten(step_mode="m"), layer.Linear(128, 3, step_mode="m"))
