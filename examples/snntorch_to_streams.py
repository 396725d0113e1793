"""Take a network of snnTorch to an ONNX graph of one step, and let it decide on streams as early as it is sure.

Run it with `python examples/snntorch_to_streams.py`; it writes into the folder it is run in and takes about ten seconds.
It needs `pip install 'tet-deploy[train,onnx]' snntorch`.
"""

import snntorch
import torch
from torch import nn

import tet_deploy as td
from tet_deploy import data


class Net(nn.Module):
    """snnTorch's own way: a loop over time in forward()."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 16, 3, padding=1)
        self.lif = snntorch.Leaky(beta=0.5, reset_mechanism="zero")  # as a Loihi core does
        self.fc = nn.Linear(1024, 10)

    def forward(self, frames):
        """Frames [T, B, 1, 8, 8] to readouts [T, B, 10]."""
        potential, readouts = self.lif.init_leaky(), []
        for frame in frames:
            spikes, potential = self.lif(self.conv(frame), potential)
            readouts.append(self.fc(spikes.flatten(1)))
        return torch.stack(readouts)


samples = data.load("digits", steps=4)
images, labels = torch.tensor(samples.train_frames[0]), torch.tensor(samples.train_labels)
torch.manual_seed(0)
model = Net()
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
for _ in range(4):
    for index in torch.randperm(len(images)).split(64):
        readouts = model(images[index].expand(4, *images[index].shape))
        loss = nn.functional.cross_entropy(readouts.flatten(0, 1), labels[index].repeat(4))  # TET: each step counts
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
model.eval()

network = td.lower(td.trace(model, samples.shape), samples.train_frames)
int8 = td.quantize(network, samples.train_frames[:, :128])
td.export(int8, "step.onnx", to="onnx", stream=True)  # one step, with the neurons' states as inputs and outputs

# Half of the test samples find out how sure is sure enough; the other half are streams, side by side.
held_out, held_out_labels = samples.test.batch(range(180))
frames, classes = samples.test.batch(range(180, 360))
stop = td.early_stop(int8, held_out, held_out_labels, accuracy=0.8)
print(stop)
with td.Stream("step.onnx", samples=180, stop=stop) as stream:
    for frame in frames:
        stream.step(frame)
    decisions, latency = stream.decisions, stream.latency
found = stop.on(td.run(int8, frames, runtime="onnx"), classes)
print(f"{(decisions == classes).mean():.2%} right, {found.saved:.0%} of the steps saved; {latency}")
