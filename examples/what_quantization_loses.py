"""Spoil a network with two bits, find the layer and the cause, and mend it, with bits where they matter or by training.

Run it with `python examples/what_quantization_loses.py`; it takes about twenty seconds.
It needs `pip install 'tet-deploy[train]'`.
"""

import tet_deploy as td
from tet_deploy import data, training
from tet_deploy.models import build

samples = data.load("digits", steps=4)
model = build("digits", seed=0)
stage = training.Stage(steps=4, epochs=5, learning_rate=5e-3)
recipe = training.Recipe(model="digits", data="digits", stages=(stage,), threads=1)
training.train(model, samples.train_frames, samples.train_labels, recipe)
network = td.lower(td.trace(model, samples.shape), samples.train_frames)
calibration = samples.train_frames[:, :128]

# What was lost. All runtimes agree about the wrong integers; the float network is what to compare with.
int2 = td.quantize(network, calibration, bits=2)
loss = td.compare(network, int2, samples.test)
print(loss)
print(f"accuracy: {loss.accuracy.first:.2%} to {loss.accuracy.second:.2%}")

# Why: the first neuron that goes wrong, and what explains the spikes of each population.
found = td.diagnose(network, int2, samples.test)
print(found)

# Mend it: eight bits from the input to the population where the first spike differs ...
layers = network[found.first.node].inputs
mixed = td.quantize(network, calibration, bits={"default": 2, **dict.fromkeys(layers, 8)})
mended = td.compare(network, mixed, samples.test).accuracy
print(f"eight bits for {', '.join(layers)}: {mended.second:.2%}")

# ... or training that knows of the two bits, which costs the chip nothing.
stage = training.Stage(steps=4, epochs=2, learning_rate=0.03)
tuned = training.finetune(network, int2, samples.train_frames, samples.train_labels, stage)
trained = td.compare(network, tuned, samples.test).accuracy
print(f"two bits everywhere, fine-tuned: {trained.second:.2%}")
