"""What one operation costs, in picojoules, with the source beside each number.

Memory accesses and static power are extras, in none of the energies: see `counting.extras`. A table of one's own is a TOML
file, see `counting.user_tables`.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace

from tet_deploy.errors import ArgumentError, shown

HOROWITZ = "Horowitz, ISSCC 2014, 45 nm (as given in PMC8934428, Table 3)"
SECONDARY_INT8 = "45 nm, widely quoted after Horowitz, ISSCC 2014; seen in secondary sources only"
DAVIES = "Davies et al., IEEE Micro 38(1), 2018, Table 2 (pre-silicon simulation)"
_DEAREST = 1e12  # a joule


@dataclass(frozen=True, kw_only=True)
class Price:
    """Energy of one operation.

    Attributes
    ----------
    picojoules
        Per operation.
    source
        Where the number was read.
    secondary
        Whether it was seen only in works that quote the original.

    Raises
    ------
    ArgumentError
        The price is no number, or none from nothing to a joule.
    """

    picojoules: float
    source: str
    secondary: bool = False

    def __post_init__(self) -> None:
        price = self.picojoules
        if isinstance(price, bool) or not isinstance(price, (int, float)) or not 0 <= price <= _DEAREST:
            raise ArgumentError(f"price of an operation: must be a number of 0 to {_DEAREST:.0e} pJ; got {shown(price)}.")


@dataclass(frozen=True, kw_only=True)
class EnergyTable:
    """Prices of the operations that are counted.

    Attributes
    ----------
    addition
        A spike that passes a synapse: one accumulation of its weight.
    mac
        A value that passes a synapse: one multiplication and one accumulation.
    element_addition
        A bias or a skip connection added to one element, a threshold subtracted from it.
    neuron_update
        One neuron for one step, without its leak: a comparison.
    leak_multiplication
        The multiplication of one membrane potential by the decay.
    spike
        Sending one spike.
    dense_mac
        A multiply-accumulate of the non-spiking network; None where the hardware has no such mode.
    weight_access, potential_access, static_step
        Extras, see `counting.extras`, where a source gives them: reading one weight, reading or writing one potential, and
        what the hardware spends in one time step whether spikes flow or not.
    estimate
        Whether the prices were simulated or estimated, and not measured.
    """

    name: str
    description: str
    addition: Price
    mac: Price
    element_addition: Price
    neuron_update: Price
    leak_multiplication: Price
    spike: Price
    dense_mac: Price | None
    weight_access: Price | None = None
    potential_access: Price | None = None
    static_step: Price | None = None
    estimate: bool = False

    @property
    def label(self) -> str:
        """The name, marked where it is an estimate."""
        return f"{self.name} (estimate)" if self.estimate else self.name

    @property
    def prices(self) -> dict[str, Price]:
        """The prices by the name of the operation."""
        found = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: price for name, price in found.items() if isinstance(price, Price)}


OPERATIONS = tuple(field.name for field in fields(EnergyTable) if field.name not in ("name", "description", "estimate"))
OPTIONAL = ("dense_mac", "weight_access", "potential_access", "static_step")
_NOTHING = Price(picojoules=0.0, source="not counted by this table")
_FP32_ADD = Price(picojoules=0.9, source=HOROWITZ)
_FP32_MULTIPLY = Price(picojoules=3.7, source=HOROWITZ)
# The TET paper calls these 4.6 pJ a multiplication; they are one multiplication and one addition.
_FP32_MAC = Price(picojoules=4.6, source=f"{HOROWITZ}: 3.7 + 0.9")
_INT32_ADD = Price(picojoules=0.1, source=HOROWITZ)
_INT32_MULTIPLY = Price(picojoules=3.1, source=HOROWITZ)
_INT8_MAC = Price(
    picojoules=0.3, source=f"int8 multiply 0.2 ({SECONDARY_INT8}) + int32 add 0.1 ({HOROWITZ})", secondary=True
)
_LOIHI_SYNOP = Price(picojoules=23.6, source=f"{DAVIES}: synaptic operation, a stated minimum")

TABLES = {
    table.name: table
    for table in (
        EnergyTable(
            name="45nm-fp32",
            description="32-bit floating point arithmetic in 45 nm CMOS, as in the TET paper",
            addition=_FP32_ADD,
            mac=_FP32_MAC,
            element_addition=_FP32_ADD,
            neuron_update=_FP32_ADD,
            leak_multiplication=_FP32_MULTIPLY,
            spike=_NOTHING,
            dense_mac=_FP32_MAC,
        ),
        EnergyTable(
            name="45nm-int8",
            description="8-bit weights summed in 32-bit integers, 45 nm CMOS; its multiplication is a secondary number",
            addition=_INT32_ADD,
            mac=_INT8_MAC,
            element_addition=_INT32_ADD,
            neuron_update=_INT32_ADD,
            leak_multiplication=_INT32_MULTIPLY,
            spike=_NOTHING,
            dense_mac=_INT8_MAC,
        ),
        EnergyTable(
            name="loihi1",
            estimate=True,
            description="Loihi 1, estimated from its designers' simulation: synapses at their stated minimum, every neuron "
            "active, no hops between tiles",
            addition=_LOIHI_SYNOP,
            mac=_LOIHI_SYNOP,
            element_addition=_NOTHING,  # a bias is part of the neuron's update
            neuron_update=Price(picojoules=81.0, source=f"{DAVIES}: neuron update, active (inactive: 52)"),
            leak_multiplication=_NOTHING,  # part of the neuron's update
            spike=Price(picojoules=1.7, source=f"{DAVIES}: spike within tile (hops: 3.0 east-west, 4.0 north-south)"),
            dense_mac=None,
        ),
    )
}

PAPERS = TABLES["45nm-fp32"]
_OF_INTEGERS = TABLES["45nm-int8"]
_CACHE = Price(picojoules=5.0, source=f"{HOROWITZ}: 10 pJ for 64 bits of an 8 kB cache, two 32-bit words")
TABLES["45nm-fp32-8kB"] = replace(
    PAPERS,
    name="45nm-fp32-8kB",
    description="45nm-fp32, and beside it what its values would cost to fetch from an 8 kB cache, none of them twice",
    weight_access=_CACHE,
    potential_access=_CACHE,
)
WITHOUT_SOURCE = {
    "loihi2": "Intel has published no energy per operation of Loihi 2, so there is nothing to multiply counts with; what is "
    "published of it are measurements of whole networks"
}
Chosen = str | os.PathLike[str] | EnergyTable


def choose(tables: Chosen | Sequence[Chosen] | None, *, quantized: bool) -> tuple[EnergyTable, ...]:
    """The tables that were asked for; by default that of the network's own number format, then that of the TET paper.

    Parameters
    ----------
    tables
        Names of `TABLES`, "all" for all of them, TOML files (see `user_tables`), or tables.

    Raises
    ------
    ArgumentError
        No table has that name, or two tables have the same.
    """
    if tables is None:
        return (_OF_INTEGERS, PAPERS) if quantized else (PAPERS,)
    wanted = list(tables) if isinstance(tables, Iterable) and not isinstance(tables, str) else [tables]
    if not wanted:
        raise ArgumentError(f"energy table: needs one or more; got none. Choose of {', '.join(TABLES)}.")
    named = (
        TABLES.values() if name == "all" else [name if isinstance(name, EnergyTable) else table(name)] for name in wanted
    )
    chosen = tuple(dict.fromkeys(each for some in named for each in some))
    names = [each.name for each in chosen]
    if len(set(names)) < len(names):
        raise ArgumentError(f"energy tables: each needs a name of its own; got {', '.join(names)}. Rename one.")
    return chosen


def table(name: str | os.PathLike[str]) -> EnergyTable:
    """The energy table of that name, or of that TOML file.

    Raises
    ------
    ArgumentError
        No table has that name; the message lists those there are. Or it is neither a name nor a file.
    """
    if isinstance(name, os.PathLike) or (isinstance(name, str) and name.lower().endswith(".toml")):
        from tet_deploy.counting.user_tables import read_table

        return read_table(name)
    if isinstance(name, str) and (why := WITHOUT_SOURCE.get(name.lower().replace("-", "").replace(" ", ""))):
        raise ArgumentError(
            f"energy table {shown(name)}: {why}. Choose one of {', '.join(TABLES)}, or a TOML file of your own."
        )
    if not isinstance(name, str) or name not in TABLES:
        raise ArgumentError(
            f"energy table {shown(name)}: no table has that name. Choose one of {', '.join(TABLES)}, or a TOML file of "
            "your own."
        )
    return TABLES[name]
