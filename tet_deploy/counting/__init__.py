"""Exact counts of additions and multiplications, and what they would cost."""

from tet_deploy.counting.as_table import energy_table, layer_table, rate_table, summary_table
from tet_deploy.counting.break_even import BreakEven, Rate, break_even
from tet_deploy.counting.conventions import ENERGIES, MEANINGS, VARIANTS, WORDS
from tet_deploy.counting.estimation import estimate
from tet_deploy.counting.export import to_dict, write_csv, write_json
from tet_deploy.counting.latex import write_latex
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.tables import TABLES, EnergyTable, Price, table
from tet_deploy.counting.traffic import Traffic, count

__all__ = [
    "ENERGIES",
    "MEANINGS",
    "TABLES",
    "VARIANTS",
    "WORDS",
    "BreakEven",
    "EnergyReport",
    "EnergyTable",
    "Price",
    "Rate",
    "Traffic",
    "break_even",
    "count",
    "energy_table",
    "estimate",
    "layer_table",
    "rate_table",
    "summary_table",
    "table",
    "to_dict",
    "write_csv",
    "write_json",
    "write_latex",
]
