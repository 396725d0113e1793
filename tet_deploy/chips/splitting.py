"""Split a population over cores: into boxes of channels, rows and columns, each of which fits one core.

On Loihi 1 whoever writes the network chooses the boxes: here those that need the fewest cores. Loihi 2 has a compiler; in
its published allocations each core holds all channels and rows of a power of two of columns, which it counts in full even
where the map ends before, and one population alone. So boxes are cut along columns first here; where a single column of all
channels and rows does not fit, those that need the fewest cores are taken, of powers of two of rows and columns.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tet_deploy.chips.demands import Demand, Map, Projection
from tet_deploy.chips.limits import CLASSES, INPUT_AXONS, LOIHI1, MEMORY, NEURONS, OUTPUT_AXONS, Chip
from tet_deploy.chips.synapses import links, taken

_SLOTS_OF_A_POSITION = 2  # nengo-loihi's pop32 axons, which carry the channel; of a discrete axon it is 1


@dataclass(frozen=True, kw_only=True)
class Share:
    """A population on cores.

    Attributes
    ----------
    demand
        The population.
    box
        Channels, rows and columns that a core holds at most.
    used
        Of the fullest core, by the name of the limit, how much is used.
    cores
        How many hold the population; 0 where not even a single neuron of it fits.
    """

    demand: Demand
    box: Map
    used: Mapping[str, int]
    cores: int

    def fill(self, chip: Chip) -> dict[str, float]:
        """How full the fullest core is, by the name of the limit; 1 is full."""
        return {what: used / chip.most(what) for what, used in self.used.items() if what in chip.limits}

    def binding(self, chip: Chip) -> str:
        """The limit that is nearest, or exceeded most; a single threshold, which every core has, is none."""
        fill = self.fill(chip)
        return max(fill, key=lambda what: fill[what] if what != CLASSES or self.used[what] > 1 else 0.0)


def split(demands: Sequence[Demand], chip: Chip) -> dict[str, Share]:
    """Every population on as many cores as it needs, by its name; what it sends to is split before it."""
    targets: dict[str, list[tuple[Projection, Share]]] = {}
    found: dict[str, Share] = {}
    for demand in reversed(demands):
        share = _share(demand, chip, targets.get(demand.name, []))
        found[demand.name] = share
        for projection in demand.projections:
            targets.setdefault(projection.source, []).append((projection, share))
    return {demand.name: found[demand.name] for demand in demands}


def _share(demand: Demand, chip: Chip, targets: Sequence[tuple[Projection, Share]]) -> Share:
    box: Map = (1, 1, 1)
    for box in _boxes(demand.shape, chip):
        if box[0] * box[1] * box[2] > chip.most(NEURONS):
            continue
        used = _used(demand, chip, box, targets)
        if all(used[what] <= chip.most(what) for what in used if what in chip.limits):
            return Share(demand=demand, box=box, used=used, cores=_cores(demand.shape, box))
    return Share(demand=demand, box=(1, 1, 1), used=_used(demand, chip, (1, 1, 1), targets), cores=0)


def _used(demand: Demand, chip: Chip, box: Map, targets: Sequence[tuple[Projection, Share]]) -> dict[str, int]:
    each = [taken(chip, synapses, box, demand.shape) for synapses in demand.projections]
    return {
        NEURONS: box[0] * box[1] * box[2],
        MEMORY: sum(one.words for one in each),
        INPUT_AXONS: sum(one.axons for one in each),
        OUTPUT_AXONS: sum(_output_axons(demand, chip, box, synapses, share) for synapses, share in targets),
        CLASSES: _classes(demand, box[0]),
    }


def _classes(demand: Demand, channels: int) -> int:
    """The most thresholds that a slice of so many channels has; every core needs one at least."""
    slices = range(0, len(demand.thresholds), channels)
    return max((len(set(demand.thresholds[first : first + channels])) for first in slices), default=1)


def _output_axons(demand: Demand, chip: Chip, box: Map, synapses: Projection, share: Share) -> int:
    """Axons of the fullest core into one of its targets.

    Loihi 1: an axon for each neuron, or each position where the target convolves, and each core that it reaches. Loihi 2:
    an axon for each neuron, whatever it reaches; of positions the published tables have one or two each.
    """
    neurons, positions = box[0] * box[1] * box[2], box[1] * box[2]
    if synapses.window is None:
        return neurons * (max(share.cores, 1) if chip is LOIHI1 else 1)
    if chip is not LOIHI1:
        return 2 * positions
    kernel, stride, padding, dilation = synapses.window
    across = [
        _most(
            links(kernel[axis], stride[axis], padding[axis], dilation[axis], synapses.inputs[1 + axis],
                  share.demand.shape[1 + axis], share.box[1 + axis]),
            box[1 + axis],
        )
        for axis in (0, 1)
    ]  # fmt: skip
    slices = -(-share.demand.shape[0] // share.box[0])
    if synapses.groups > 1:
        slices = min(slices, -(-share.demand.shape[0] * box[0] // (demand.shape[0] * share.box[0])) + 1)
    return _SLOTS_OF_A_POSITION * across[0] * across[1] * slices


def _most(counts: Sequence[int], part: int) -> int:
    return max(sum(counts[first : first + part]) for first in range(0, len(counts), part))


def _cores(shape: Map, box: Map) -> int:
    channels, rows, columns = (-(-size // part) for size, part in zip(shape, box, strict=True))
    return channels * rows * columns


def _boxes(shape: Map, chip: Chip) -> Iterator[Map]:
    """Boxes to try, the best first."""
    channels, rows, columns = shape
    down, across = _parts(rows), _parts(columns)
    if chip is not LOIHI1:
        down, across = _powers(rows), _powers(2 ** (columns - 1).bit_length())
        yield from ((channels, rows, part) for part in across)
    every = itertools.product(_parts(channels), down, across)
    yield from sorted(every, key=lambda box: (_cores(shape, box), tuple(-size for size in box)))


def _parts(size: int) -> list[int]:
    """The sizes of the largest of 1, 2, 3, ... parts that are as equal as can be."""
    return sorted({-(-size // parts) for parts in range(1, size + 1)}, reverse=True)


def _powers(size: int) -> list[int]:
    """The whole, and all smaller powers of two."""
    return [size, *(2**power for power in reversed(range((size - 1).bit_length())))]
