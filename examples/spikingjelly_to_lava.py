"""Take a network of SpikingJelly to a Lava bundle and let the bundle prove itself, as whoever receives it would.

Run it with `python examples/spikingjelly_to_lava.py`; it writes into the folder it is run in and takes about ten seconds.
It needs `pip install 'tet-deploy[train]' spikingjelly`.
"""

import subprocess
import sys

import torch
from spikingjelly.activation_based import functional, layer, neuron, surrogate
from torch import nn

import tet_deploy as td
from tet_deploy import data

# SpikingJelly's own network and training loop.
samples = data.load("digits", steps=4)
images, labels = torch.tensor(samples.train_frames[0]), torch.tensor(samples.train_labels)
torch.manual_seed(0)
model = nn.Sequential(
    layer.Conv2d(1, 16, 3, padding=1, bias=False),
    layer.BatchNorm2d(16),
    neuron.LIFNode(tau=2.0, surrogate_function=surrogate.ATan()),
    layer.MaxPool2d(2),
    layer.Flatten(),
    layer.Linear(256, 10),
)
functional.set_step_mode(model, "m")
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(3):
    for index in torch.randperm(len(images)).split(64):
        readout = model(images[index].expand(4, *images[index].shape)).mean(0)
        loss = nn.functional.cross_entropy(readout, labels[index])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        functional.reset_net(model)
model.eval()

# The same spikes as a graph, then as integers.
network = td.lower(td.trace(model, samples.shape), samples.train_frames)
int8 = td.quantize(network, samples.train_frames[:, :128])
print(td.compare(model, network, samples.test_frames))
accuracy = td.compare(network, int8, samples.test).accuracy
print(f"accuracy: {accuracy.first:.2%} as floats, {accuracy.second:.2%} as integers")

# Hand over the bundle: a folder that needs no tet_deploy. Without --engine numpy the same line runs lava-nc.
bundle = td.export(int8, "bundle", to="lava", vectors=4, frames=samples.test)
check = [sys.executable, str(bundle / "run.py"), "--check", "--engine", "numpy"]
proof = subprocess.run(check, check=True, capture_output=True, text=True).stdout
print(proof, end="")
