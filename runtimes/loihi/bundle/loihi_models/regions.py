"""A region of a network as one hierarchical process, with two models: Lava's own processes inside, or one for all of them.

Lava runs each process in an operating-system process of its own and keeps all in step, which costs more than most layers do.
So the model that is chosen by default computes all layers of its region itself; the latency of each stays. That it sends
what Lava's own processes send, spike for spike and potential for potential, is tested; `run.py --stock` runs those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from loihi_engine.pipeline import Pipeline
from loihi_engine.regions import Region
from loihi_models.stock import StockNodes


class RegionProcess(AbstractProcess):
    """A region with a port in0, in1, ... and out0, out1, ... for each wire that enters or leaves it.

    Parameters
    ----------
    region
        Its nodes and wires.
    shapes
        Of the messages on each wire, in Lava's layout.
    arrays, frames, records
        As for `Pipeline`.
    """

    def __init__(self, region: Region, shapes: Mapping[str, tuple[int, ...]], **given: Any) -> None:
        super().__init__(region=region, given=given, name=region.name)
        for index, name in enumerate(region.incoming):
            setattr(self, f"in{index}", InPort(shape=shapes[name]))
        for index, name in enumerate(region.outgoing):
            setattr(self, f"out{index}", OutPort(shape=shapes[name]))

    @property
    def entries(self) -> dict[str, InPort]:
        """The ports through which wires enter, by the wire's name."""
        return {name: getattr(self, f"in{index}") for index, name in enumerate(self.proc_params["region"].incoming)}

    @property
    def exits(self) -> dict[str, OutPort]:
        """The ports through which wires leave."""
        return {name: getattr(self, f"out{index}") for index, name in enumerate(self.proc_params["region"].outgoing)}


@implements(proc=RegionProcess, protocol=LoihiProtocol)
@tag("fixed_pt", "stock")
class StockRegion(AbstractSubProcessModel):
    """The region as processes of Lava's, each with Lava's own model."""

    def __init__(self, proc: RegionProcess) -> None:
        nodes = StockNodes(proc.proc_params["region"].nodes, dict(proc.entries), **proc.proc_params["given"])
        for index, process in enumerate(nodes.processes):
            setattr(self, f"process{index}", process)  # Lava does not look into lists
        for name, port in proc.exits.items():
            nodes.wires[name].connect(port)


@implements(proc=RegionProcess, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class FastRegion(PyLoihiProcessModel):
    """The region in one process: fires, sends, receives, and only then makes the sums of the next step."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self._region: Region = proc_params["region"]
        self._pipeline = Pipeline(self._region.nodes, **proc_params["given"])

    def run_spk(self) -> None:
        """One step."""
        wires = self._pipeline.fire(self.time_step)
        for index, name in enumerate(self._region.outgoing):
            getattr(self, f"out{index}").send(wires[name])
        for index, name in enumerate(self._region.incoming):
            wires[name] = getattr(self, f"in{index}").recv()
        self._pipeline.take(self.time_step, wires)


def fast_model(region: Region) -> type[FastRegion]:
    """The fast model with the ports of a region: Lava wants each of them, and no others, in the class."""
    ports = {f"in{index}": LavaPyType(PyInPort.VEC_DENSE, np.int32, precision=24) for index in range(len(region.incoming))}
    ports |= {
        f"out{index}": LavaPyType(PyOutPort.VEC_DENSE, np.int32, precision=24) for index in range(len(region.outgoing))
    }
    return type("FastRegion", (FastRegion,), ports)
