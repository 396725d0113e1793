"""A small model with batch norm, pools and a residual branch, as if trained; its forms; and frames for it."""

import numpy as np
import pytest
import torch
from torch import nn

import tet_deploy as td
from tet_deploy.nn import LIF, TimeMajor
from tet_deploy.passes import fold

SHAPE, STEPS, SAMPLES = (2, 8, 8), 4, 12


class Residual(nn.Module):
    """LIF(branch(x) + x)."""

    sees_time = True

    def __init__(self, channels):
        super().__init__()
        self.branch = TimeMajor(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        self.lif = LIF()

    def forward(self, x):
        return self.lif(self.branch(x) + x)


def trained_model():
    """In eval mode, with running statistics of the frames."""
    torch.manual_seed(0)
    model = TimeMajor(
        nn.Conv2d(2, 6, 3, padding=1), nn.BatchNorm2d(6), LIF(), nn.AvgPool2d(2), nn.Conv2d(6, 6, 3, padding=1),
        nn.BatchNorm2d(6), LIF(), Residual(6), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(24, 5),
    )  # fmt: skip
    frames = torch.from_numpy(event_frames(samples=32))
    with torch.no_grad():
        for _ in range(60):
            model.train()(frames)
    return model.eval()


def event_frames(seed=0, samples=SAMPLES):
    """Counts [T, B, 2, 8, 8]."""
    return np.random.default_rng(seed).poisson(0.5, (STEPS, samples, *SHAPE)).astype(np.float32)


def forms(model, frames):
    """Traced, folded, snapped and quantized."""
    traced = td.trace(model, SHAPE, "events")
    snapped = td.lower(traced, frames)
    return {
        "traced": traced,
        "folded": fold(traced),
        "snapped": snapped,
        "int8": td.quantize(snapped, frames),
        "int4": td.quantize(snapped, frames, bits=4),
    }


@pytest.fixture(scope="session")
def model():
    return trained_model()


@pytest.fixture(scope="session")
def frames():
    return event_frames()


@pytest.fixture(scope="session")
def networks(model, frames):
    return forms(model, frames)


@pytest.fixture(scope="session")
def folder(tmp_path_factory, networks, frames):
    """A link of each kind of file that needs no checkpoint."""
    path = tmp_path_factory.mktemp("links")
    td.save(networks["snapped"], path / "float.safetensors")
    td.save(networks["int8"], path / "int8.safetensors")
    td.export(networks["int8"], path / "int8.onnx", to="onnx", probes="all")
    td.export(networks["int8"], path / "plain.onnx", to="onnx")
    td.export(networks["int8"], path / "bundle", to="lava")
    np.savez(path / "frames.npz", frames=frames, labels=np.arange(SAMPLES) % 5)
    return path
