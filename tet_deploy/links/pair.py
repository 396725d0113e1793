"""Two links, side by side: what is known of both."""

from __future__ import annotations

from typing import Any, NamedTuple

from tet_deploy.batches import FrameBatches, Source
from tet_deploy.contracts import Frames
from tet_deploy.ir.graph import Graph
from tet_deploy.links.link import Link, open_links
from tet_deploy.passes.snap_to_grid import frames_fit, snapped


class Pair(NamedTuple):
    """Two links that can be compared."""

    first: Link
    second: Link

    @classmethod
    def of(cls, first: Any, second: Any, frames: Frames | Source) -> Pair:
        """Two things that `open_links` takes; torch models take what these frames are."""
        shape = getattr(frames, "shape", ())
        return cls(*open_links(first, second, shape=tuple(shape) if isinstance(frames, Source) else tuple(shape[2:])))

    @property
    def metadata(self) -> dict[str, str]:
        """Where the network came from, as far as either says."""
        return {**self.second.metadata, **self.first.metadata}

    @property
    def graphs(self) -> tuple[Graph | None, Graph | None]:
        """The networks of both; of a file or recording without one, the other's, where it is of the same."""
        first, second = self.first.graph, self.second.graph
        same = self.first.digest.split()[-1] == self.second.digest.split()[-1]  # a torch model's follows on a word
        return first or (second if same else None), second or (first if same else None)

    def digest(self) -> str:
        """Of both networks."""
        return f"{self.first.digest} {self.second.digest}"

    @property
    def same_network(self) -> bool:
        """Whether both execute the same network."""
        return self.first.digest == self.second.digest

    def equality_expected(self, batches: FrameBatches) -> bool:
        """Whether both must agree in every bit: the same integers, or the same floats on their grid."""
        graph = self.graphs[0]
        if not self.same_network or graph is None:
            return self.same_network and all(factor != 1 for factor in self.first.units.values())
        return graph.is_quantized or frames_fit(graph, batches)

    def snapped(self, batches: FrameBatches) -> FrameBatches:
        """The frames on the grid of the float network among the two, if there is one; see `snap_frames`."""
        graph = next((link.graph for link in self if link.graph is not None and not link.graph.is_quantized), None)
        return batches if graph is None else snapped(graph, batches)

    def batches(self, frames: Frames | Source) -> FrameBatches:
        """Frames for both, no more than were recorded."""
        batches = FrameBatches.fitting(self.first.shape, self.first.encoding, frames)
        known = [link.samples for link in self if link.samples is not None]
        return batches.part(0, min([len(batches), *known]))
