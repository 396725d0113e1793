"""Small NIR files, written as the frameworks' exporters write them."""

import numpy as np
import pytest

NEURON = {"tau": 2e-4, "r": 1.0, "v_leak": 0.0, "v_reset": 0.0, "v_threshold": 0.5}


class Files:
    """Writes NIR files: nodes and groups are dicts, arrays anything that numpy takes."""

    def __init__(self, folder):
        self.folder = folder

    def input(self, *shape):
        return {"type": "Input", "shape": np.array(shape)}

    def output(self, *shape):
        return {"type": "Output", "shape": np.array(shape)}

    def linear(self, outputs=3, inputs=4, **changes):
        weight = np.random.default_rng(0).integers(-8, 9, (outputs, inputs)).astype(np.float32) / 8
        return {"type": "Linear", "weight": weight} | changes

    def affine(self, outputs=3, inputs=4, **changes):
        return self.linear(outputs, inputs) | {"type": "Affine", "bias": np.full(outputs, 0.25, np.float32)} | changes

    def conv(self, outputs=3, inputs=2, size=3, **changes):
        weight = np.random.default_rng(0).integers(-8, 9, (outputs, inputs, size, size)).astype(np.float32) / 8
        made = {"type": "Conv2d", "weight": weight, "bias": np.zeros(outputs, np.float32), "groups": 1}
        return made | {"stride": [1, 1], "padding": [0, 0], "dilation": [1, 1]} | changes

    def lif(self, *shape, **changes):
        constants = {name: np.full(shape, value) for name, value in (NEURON | changes).items() if value is not None}
        return {"type": "LIF"} | constants

    def pool(self, kind, size=2, stride=2, padding=0):
        return {"type": kind, "kernel_size": size, "stride": stride, "padding": padding}

    def flatten(self, **changes):
        return {"type": "Flatten", "start_dim": 0, "end_dim": -1} | changes

    def chain(self, *nodes, shape=(4,), first="input"):
        """Nodes one behind the other, between an input of that shape and an output."""
        named = {first: self.input(*shape), **{f"n{i}": node for i, node in enumerate(nodes)}, "output": self.output(3)}
        return self.graph(named, list(zip(list(named)[:-1], list(named)[1:], strict=True)))

    def graph(self, nodes, edges, **more):
        return {"type": "NIRGraph", "nodes": nodes, "edges": edges, **more}

    def write(self, graph, version="1.0.8", name="net.nir"):
        import h5py

        path = self.folder / name
        with h5py.File(path, "w") as file:
            if version is not None:
                file["version"] = version
            self._fill(file.create_group("node"), graph)
        return path

    def _fill(self, group, values):
        import h5py

        for name, value in values.items():
            if isinstance(value, dict):
                self._fill(group.create_group(name), value)
            elif name == "edges" and isinstance(value, list):
                edges = np.array(value, object).reshape(-1, 2)
                group.create_dataset(name, data=edges, dtype=h5py.string_dtype())
            else:
                group[name] = value


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)
