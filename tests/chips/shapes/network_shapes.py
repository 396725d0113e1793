"""Quantized networks of given shapes; what their weights are matters to no core."""

import numpy as np

from tet_deploy.ir.graph import Graph, chain
from tet_deploy.ir.nodes import LIF, Conv, Flatten, Input, Linear, Node, Quantization, Readout


def units(bits: int = 8) -> Quantization:
    return Quantization(scale=1.0, bits=bits)


def weight(*shape: int) -> np.ndarray:
    return np.resize(np.array([1, 0, -1], np.int8), shape)


def conv(name: str, *shape: int, bits: int = 8, **geometry: object) -> list[Node]:
    return [
        Conv(name=name, weight=weight(*shape), quantization=units(bits), **geometry),
        LIF(name=f"{name}.lif", threshold=50, quantization=units()),
    ]


def linear(name: str, *shape: int, bits: int = 8, last: bool = False) -> list[Node]:
    end = Readout if last else LIF
    fields = {} if last else {"threshold": 50}
    return [
        Linear(name=name, weight=weight(*shape), quantization=units(bits)),
        end(name=f"{name}.lif" if not last else "readout", quantization=units(), **fields),
    ]


def network(shape: tuple[int, ...], *layers: list[Node], **metadata: str) -> Graph:
    first = Input(name="input", shape=shape, quantization=units())
    return chain([first, *(node for layer in layers for node in layer)], metadata)


def pilot_net(early: int, late: int) -> Graph:
    """lava-dl's PilotNet, as far as its published allocation and sizes tell it; bits of conv1-3 and of the rest."""
    return network(
        (3, 66, 200),
        conv("conv1", 24, 3, 3, 3, stride=(2, 2), bits=early),
        conv("conv2", 36, 24, 3, 3, stride=(2, 2), bits=early),
        conv("conv3", 48, 36, 3, 3, stride=(2, 2), bits=early),
        conv("conv4", 64, 48, 3, 3, stride=(2, 1), padding=(1, 0), bits=late),
        conv("conv5", 64, 64, 3, 3, bits=late),
        [Flatten(name="flatten")],
        linear("fc1", 100, 2560, bits=late),
        linear("fc2", 50, 100, bits=late),
        linear("fc3", 10, 50, bits=late),
        linear("fc4", 1, 10, bits=late, last=True),
    )
