"""A file's weights give the network that they were trained in: ours, or the authors', whose readouts ours equal."""

import collections
import math

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

import tet_deploy as td
from tet_deploy.errors import ArgumentError, ArtifactError
from tet_deploy.models import build
from tet_deploy.nn import LIF
from tet_deploy.training import Description, save_checkpoint

# What follows restates the authors' networks by their published key names; steps lie on axis 1, one loop per population.


def spikes(current):
    u, out = torch.zeros_like(current[:, 0]), []
    for t in range(current.shape[1]):
        u = 0.5 * u + current[:, t]
        out.append((u > 1).to(u.dtype))
        u = u * (1 - out[-1])
    return torch.stack(out, 1)


class PerStep(nn.Module):
    """A plain layer on every step; its weights are called `module.*`."""

    def __init__(self, *layers):
        super().__init__()
        self.module = layers[0] if len(layers) == 1 else nn.Sequential(*layers)

    def forward(self, x):
        return torch.stack([self.module(x[:, t]) for t in range(x.shape[1])], 1)


class Spiking(nn.Module):
    def __init__(self, in_channels, out_channels, stride):
        super().__init__()
        self.fwd = PerStep(nn.Conv2d(in_channels, out_channels, 3, stride, 1), nn.BatchNorm2d(out_channels))

    def forward(self, x):
        return spikes(self.fwd(x))


class AuthorsVGG(nn.Module):
    def __init__(self, width, classes, strided, channels=2, side=48):
        super().__init__()
        layers, inputs = [], channels
        for number, size in enumerate((64, 128, 256, 256, 512, 512, 512, 512)):
            outputs, last_of_pair = int(size * width), number % 2 == 1
            layers.append(Spiking(inputs, outputs, 2 if strided and last_of_pair else 1))
            if last_of_pair and not strided:
                layers.append(PerStep(nn.AvgPool2d(2)))
            inputs = outputs
        self.features = nn.Sequential(*layers)
        self.classifier = PerStep(nn.Linear(inputs * (side // 16) ** 2, classes))

    def forward(self, x):
        return self.classifier(self.features(x).flatten(2))


class Norm(nn.Module):
    """Holds one batch norm under two names."""

    def __init__(self, channels):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.seqbn = PerStep(self.bn)

    def forward(self, x):
        return self.seqbn(x)


class Pair(nn.Module):
    def __init__(self, layer, bn=None):
        super().__init__()
        self.layer, self.bn = PerStep(layer), bn

    def forward(self, x):
        x = self.layer(x)
        return x if self.bn is None else self.bn(x)


def plain_conv(inputs, outputs, kernel, stride=1):
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)


class AuthorsBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = plain_conv(inputs, outputs, 3, stride), Norm(outputs)
        self.conv2, self.bn2 = plain_conv(outputs, outputs, 3), Norm(outputs)
        if inputs != outputs:
            self.downsample = Pair(plain_conv(inputs, outputs, 1, stride), Norm(outputs))
        self.conv1_s, self.conv2_s = Pair(self.conv1, self.bn1), Pair(self.conv2, self.bn2)

    def forward(self, x):
        branch = self.conv2_s(spikes(self.conv1_s(x)))
        return spikes(branch + (self.downsample(x) if hasattr(self, "downsample") else x))


class AuthorsResNet19(nn.Module):
    """Takes one image [B, C, H, W] and shows it at each of `steps` steps."""

    def __init__(self, width, classes, steps):
        super().__init__()
        stem, first, second, third, hidden = (int(size * width) for size in (64, 128, 256, 512, 256))
        self.steps = steps
        self.conv1, self.bn1 = plain_conv(3, stem, 3), Norm(stem)
        self.conv1_s = Pair(self.conv1, self.bn1)
        sizes = ((stem, first, 3, 1), (first, second, 3, 2), (second, third, 2, 2))
        for number, (inputs, outputs, blocks, stride) in enumerate(sizes, 1):
            more = [AuthorsBlock(outputs, outputs, 1) for _ in range(blocks - 1)]
            setattr(self, f"layer{number}", nn.Sequential(AuthorsBlock(inputs, outputs, stride), *more))
        self.fc1, self.fc2 = nn.Linear(third, hidden), nn.Linear(hidden, classes)
        self.fc1_s, self.fc2_s = Pair(self.fc1), Pair(self.fc2)

    def forward(self, image):
        x = spikes(self.conv1_s(torch.stack([image] * self.steps, 1)))
        x = self.layer3(self.layer2(self.layer1(x))).mean((3, 4))
        return self.fc2_s(spikes(self.fc1_s(x)))


def lively(model, seed=0):
    """Random weights, and batch norms with statistics, gammas and betas of their own, so that all populations fire."""
    generator = torch.Generator().manual_seed(seed)

    def random(like, low, high):
        return torch.rand(like.shape, generator=generator) * (high - low) + low

    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.copy_(random(layer.running_mean, -0.3, 0.3))
            layer.running_var.copy_(random(layer.running_var, 0.05, 0.4))
            layer.weight.data.copy_(random(layer.weight, 0.5, 1.5))
            layer.bias.data.copy_(random(layer.bias, -0.2, 0.8))
        elif isinstance(layer, (nn.Conv2d, nn.Linear)):
            limit = math.sqrt(6 / layer.weight[0].numel())
            layer.weight.data.copy_(random(layer.weight, -limit, limit))
            if layer.bias is not None:
                layer.bias.data.copy_(random(layer.bias, -0.3, 0.9))
    return model.eval()


STEPS, SAMPLES = 4, 2
ROUNDING = {"rtol": 0, "atol": 1e-9}  # both in float64, where sums that round differently do not flip a spike
CASES = {
    "vgg_snn": (lambda: AuthorsVGG(0.25, 10, strided=False), (SAMPLES, STEPS, 2, 48, 48)),
    "vgg_snn_strided": (lambda: AuthorsVGG(0.25, 7, strided=True), (SAMPLES, STEPS, 2, 48, 48)),
    "resnet19": (lambda: AuthorsResNet19(0.25, 13, STEPS), (SAMPLES, 3, 32, 32)),
}


def theirs(name):
    return lively(CASES[name][0]())


@pytest.fixture
def pth(tmp_path):
    """Writes a value as the authors do, and gives the file's path."""

    def write(value, file="weights.pth"):
        torch.save(value, tmp_path / file)
        return tmp_path / file

    return write


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("name", CASES)
def test_for_equal_weights_readouts_equal_the_authors(name, prefix, pth):
    """Every step's readout is theirs, for random weights and statistics; sizes and classes come from the file."""
    original = theirs(name)
    path = pth({prefix + key: value for key, value in original.state_dict().items()})
    model = td.load_checkpoint(name, path)
    assert not model.training
    model, original = model.double(), original.double()
    frames = torch.randn(CASES[name][1], generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours = frames.expand(STEPS, *frames.shape) if name == "resnet19" else frames.transpose(0, 1)
    populations = collections.Counter()
    for key, layer in model.named_modules():
        if isinstance(layer, LIF):
            layer.register_forward_hook(lambda _, __, out, key=key: populations.update({key: int(out.sum())}))
    with torch.no_grad():
        expected, found = original(frames).transpose(0, 1), model(ours)
    torch.testing.assert_close(found, expected, **ROUNDING)
    assert min(populations.values()) > 0
    assert (found[0] - found[-1]).abs().max() > 0.1


def test_a_state_dict_inside_a_training_checkpoint_is_found(pth):
    """Under "state_dict" or "model" beside epoch and optimiser, as training scripts save it."""
    state = theirs("resnet19").state_dict()
    for wrapping in ("state_dict", "model"):
        model = td.load_checkpoint("resnet19", pth({"epoch": 3, wrapping: state}))
        assert torch.equal(model.fc2.weight, state["fc2.weight"])


def test_of_several_networks_in_a_file_one_is_chosen(pth, tmp_path):
    """An average of the weights beside the weights themselves; a checkpoint of ours holds one."""
    state = theirs("vgg_snn").state_dict()
    average = AveragedModel(theirs("vgg_snn")).state_dict()
    average["module.classifier.module.bias"] += 1
    path = pth({"epoch": 3, "net": state, "model_ema": average})
    with pytest.raises(ArtifactError, match="several state dicts, under 'net', 'model_ema'"):
        td.load_checkpoint("vgg_snn", path)
    bias = state["classifier.module.bias"]
    assert torch.equal(td.load_checkpoint("vgg_snn", path, key="net").fc.bias, bias)
    assert torch.equal(td.load_checkpoint("vgg_snn", path, key="model_ema").fc.bias, bias + 1)
    about = Description(model="digits", shape=(1, 8, 8), encoding="analog", steps=4, seed=0, data="digits")
    with pytest.raises(ArgumentError, match=r"holds one network\. Leave the key out"):
        td.load_checkpoint("digits", save_checkpoint(build("digits"), about, tmp_path / "net.safetensors"), key="net")


def test_other_frame_sizes_are_read_from_the_weights(pth, tmp_path):
    """64x64 frames of three channels; a shape that is not square must be given; .safetensors is read as .pth is."""
    state = AuthorsVGG(0.125, 3, strided=False, channels=3, side=64).state_dict()
    path = tmp_path / "weights.safetensors"
    save_file(state, path)
    for file in (pth(state), path):
        assert td.load_checkpoint("vgg_snn", file)(torch.rand(2, 1, 3, 64, 64)).shape == (2, 1, 3)
    assert td.load_checkpoint("vgg_snn", path, shape=(3, 32, 128))(torch.rand(2, 1, 3, 32, 128)).shape == (2, 1, 3)
    state = build("vgg_snn_strided", shape=(2, 16, 48), width=0.05).state_dict()
    with pytest.raises(ArtifactError, match=r"fc\.weight.*give them: shape"):
        td.load_checkpoint("vgg_snn_strided", pth(state))
    td.load_checkpoint("vgg_snn_strided", pth(state), shape=(2, 16, 48))


@pytest.mark.parametrize("name", ["digits", "snn5", "resnet19", "sew_resnet34"])
def test_state_dicts_with_our_keys_are_read_too(name, pth):
    """torch.save(model.state_dict()) of any network here comes back."""
    shape = (1, 8, 8) if name == "digits" else (3, 32, 32)
    original = build(name, seed=0, shape=shape, classes=4, width=0.125)
    found = td.load_checkpoint(name, pth(original.state_dict())).state_dict()
    assert all(torch.equal(value, found[key]) for key, value in original.state_dict().items())


def test_our_checkpoints_are_read_by_name(tmp_path):
    """Weights and arguments are the file's; another name, or arguments that contradict it, are refused."""
    original = build("digits", seed=0, width=0.5)
    about = Description(
        model="digits", arguments={"width": 0.5}, shape=(1, 8, 8), encoding="analog", steps=4, seed=0, data="digits"
    )
    path = save_checkpoint(original, about, tmp_path / "net.safetensors")
    for arguments in ({}, {"width": 0.5, "classes": 10}):
        model = td.load_checkpoint("digits", path, **arguments)
        assert torch.equal(model.conv1.weight, original.conv1.weight) and not model.training
    with pytest.raises(ArtifactError, match="holds a 'digits', not a 'snn5'"):
        td.load_checkpoint("snn5", path)
    with pytest.raises(ArtifactError, match=r"fc\.(bias|weight)"):
        td.load_checkpoint("digits", path, classes=3)


def test_a_loaded_network_can_be_trained_on_and_shares_nothing(pth):
    """Weights take gradients, and no two of them share memory."""
    model = td.load_checkpoint("vgg_snn", pth(theirs("vgg_snn").state_dict()))
    model.train()(torch.rand(2, 2, 2, 48, 48)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert len({parameter.data_ptr() for parameter in model.parameters()}) == len(list(model.parameters()))


CONV = "features.0.fwd.module.0.weight"
WRONG_KEYS = {
    "missing": (lambda state: state.pop(CONV), rf"missing: {CONV}; unknown: none"),
    "unknown": (lambda state: state.update(extra=torch.zeros(1)), "missing: none; unknown: extra"),
    "misshapen": (
        lambda state: state.update({"features.3.fwd.module.1.bias": torch.zeros(5)}),
        r"features\.3\.fwd\.module\.1\.bias.*\(64,\).*\(5,\)",
    ),
    "other axes": (lambda state: state.update({CONV: torch.zeros(16, 2)}), rf"{CONV}.*4 axes.*\(16, 2\)"),
    "empty": (lambda state: state.update({CONV: torch.zeros(0, 2, 3, 3)}), rf"{CONV}.*\(0, 2, 3, 3\)"),
    "other type": (lambda state: state.update({CONV: state[CONV].half()}), rf"{CONV}.*float32.*float16"),
    "not finite": (lambda state: state[CONV].fill_(math.nan), rf"{CONV}.*NaN"),
    "no tensor": (lambda state: state.update({CONV: [1.0]}), rf"{CONV}.*list"),
    "sparse": (lambda state: state.update({CONV: state[CONV].to_sparse()}), rf"{CONV}.*dense"),
    "without values": (lambda state: state.update({CONV: state[CONV].to("meta")}), rf"{CONV}.*dense"),
    "another network": (lambda state: state.clear() or state.update(theirs("resnet19").state_dict()), "and .* more"),
}


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_keys_that_do_not_fit_are_named(case, pth):
    """The key, what it must be and what was found stand in one to three lines."""
    change, message = WRONG_KEYS[case]
    state = theirs("vgg_snn").state_dict()
    change(state)
    with pytest.raises(ArtifactError, match=message) as error:
        td.load_checkpoint("vgg_snn", pth(state))
    assert len(str(error.value)) < 600 and "\n" not in str(error.value)


def test_two_names_of_one_weight_must_agree(pth):
    """The authors' ResNet stores each weight under several names; a file in which they differ is ambiguous."""
    state = theirs("resnet19").state_dict()
    state["layer1.0.conv1_s.layer.module.weight"] = state["layer1.0.conv1.weight"] + 1
    with pytest.raises(ArtifactError, match=r"layer1\.0\.conv1_s\.layer\.module\.weight.*layer1\.0\.conv1\.weight"):
        td.load_checkpoint("resnet19", pth(state))


def test_networks_and_arguments_that_there_are_not_are_refused(pth):
    """Before the file is opened."""
    with pytest.raises(ArgumentError, match="there is none of that name"):
        td.load_checkpoint("alexnet", "missing.pth")
    with pytest.raises(ArgumentError, match="depth"):
        td.load_checkpoint("vgg_snn", "missing.pth", depth=3)
    with pytest.raises(ArgumentError, match=r"got a Linear\. A model of yours .* model\.load_state_dict"):
        td.load_checkpoint(torch.nn.Linear(2, 2), "missing.pth")
