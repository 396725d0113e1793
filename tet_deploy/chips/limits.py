"""What one core and one chip hold: each number with its source, and whether it was published or inferred.

Inferred numbers were derived from the fill that Intel's compiler printed for published networks; Intel has not stated them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from tet_deploy.arguments import check_named

NEURONS, MEMORY, INPUT_AXONS, OUTPUT_AXONS, CLASSES = (
    "neurons",
    "synaptic memory",
    "input axons",
    "output axons",
    "threshold classes",
)
CORES, MESSAGE_BITS, DELAY = "cores of a chip", "message bits", "synaptic delay"
WORD = 64  # bits; what synaptic memory is counted in

_NENGO = "nengo-loihi 1.1"
_COMPILER = "fill printed by Intel's compiler for networks of lava-dl's notebooks"


@dataclass(frozen=True, kw_only=True)
class Limit:
    """The most of something.

    Attributes
    ----------
    value, unit
        The number, and what is counted.
    source
        Who says so.
    published
        Whether the source states the number; if not, it was inferred from what the source shows.
    """

    value: int
    unit: str
    source: str
    published: bool

    @property
    def standing(self) -> str:
        """In a word."""
        return "published" if self.published else "inferred"


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A kind of chip.

    Attributes
    ----------
    name, title
        For machines and for people.
    limits
        Of a core, of the chip and of its messages, by their names here; what has no entry is not known to be limited.
    """

    name: str
    title: str
    limits: Mapping[str, Limit]

    def most(self, what: str) -> int:
        """The limit of that name."""
        return self.limits[what].value


LOIHI1 = Chip(
    name="loihi1",
    title="Loihi 1",
    limits=MappingProxyType(
        {
            CORES: Limit(value=128, unit="cores", source=f"{_NENGO}, hardware/allocators.py", published=True),
            NEURONS: Limit(value=1024, unit="neurons", source=f"{_NENGO}, block.py", published=True),
            MEMORY: Limit(value=16384, unit="words of 64 bit", source=f"{_NENGO}, block.py", published=True),
            INPUT_AXONS: Limit(value=4096, unit="axons", source=f"{_NENGO}, block.py", published=True),
            OUTPUT_AXONS: Limit(value=4096, unit="axons", source=f"{_NENGO}, block.py", published=True),
            CLASSES: Limit(value=8, unit="thresholds", source=f"{_NENGO}, discretize.py", published=True),
            MESSAGE_BITS: Limit(value=1, unit="bit", source="Davies et al., IEEE Micro 38(1), 2018", published=True),
        }
    ),
)
LOIHI2 = Chip(
    name="loihi2",
    title="Loihi 2",
    limits=MappingProxyType(
        {
            CORES: Limit(
                value=128, unit="cores", source="Intel, Loihi 2 technology brief, 2021; some say 120", published=True
            ),
            NEURONS: Limit(value=4095, unit="neurons", source=f"{_COMPILER}; 8192 is published", published=False),
            MEMORY: Limit(value=12000, unit="words of 64 bit", source=f"{_COMPILER}, 2022-23; later 16000", published=False),
            INPUT_AXONS: Limit(value=16000, unit="axons", source=f"{_COMPILER} (784 fill 4.90 %)", published=False),
            OUTPUT_AXONS: Limit(value=16000, unit="axons", source=f"{_COMPILER} (784 fill 4.90 %)", published=False),
            MESSAGE_BITS: Limit(value=24, unit="bits", source="lava-nc 0.10; 32 are claimed for the chip", published=False),
            DELAY: Limit(value=62, unit="steps", source="lava-dl 0.6, netx", published=True),
        }
    ),
)
CHIPS = {chip.name: chip for chip in (LOIHI1, LOIHI2)}


def chip_named(name: str) -> Chip:
    """The chip of that name.

    Raises
    ------
    ArgumentError
        None has it.
    """
    check_named("chip", name, CHIPS)
    return CHIPS[name]
