"""Train a network on handwritten digits and take it to ONNX and to a Lava bundle, with the proof on the way.

Run it with `python examples/train_and_export_digits.py`; it writes into the folder it is run in and takes about ten seconds.
It needs `pip install 'tet-deploy[train,onnx]'`.
"""

import tet_deploy as td
from tet_deploy import data, training
from tet_deploy.models import build

# Train: 8x8 images, shown at each of four steps, with the loss of TET.
samples = data.load("digits", steps=4)
recipe = training.Recipe(
    model="digits",
    data="digits",
    stages=(training.Stage(steps=4, epochs=5, learning_rate=5e-3, loss="tet", mse_weight=0.05),),
    threads=1,  # the fastest for a network this small
)
model = build("digits", seed=0)
training.train(model, samples.train_frames, samples.train_labels, recipe)
accuracy = training.accuracy_by_step(training.readouts(model, samples.test_frames), samples.test_labels)
print("accuracy after 1..4 steps:", *(f"{share:.2%}" for share in accuracy))

# Deploy: the graph, without batch norm and pooling, and then a Loihi core's integers.
network = td.lower(td.trace(model, samples.shape), samples.train_frames)
int8 = td.quantize(network, samples.train_frames[:, :128])
td.save(int8, "digits.int8.safetensors")

# Prove: what rounding to integers changed; and that the integers are the same everywhere.
change = td.compare(network, int8, samples.test)
agreements = td.validate(int8, samples.test, runtimes=["reference", "onnx", "lava-numpy"])
print(change)
print(*agreements.values(), sep="\n")

# Take it along: ONNX Runtime runs the one, lava-nc or numpy the other, and `run.py --check` proves the vectors again.
td.export(int8, "digits.onnx", to="onnx", classes=[str(number) for number in range(10)])
td.export(int8, "digits.lava", to="lava", vectors=4, frames=samples.test)
