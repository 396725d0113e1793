"""Exact counts of additions and multiplications, and what they would cost."""

from tet_deploy.counting.as_table import energy_table, layer_table
from tet_deploy.counting.conventions import ENERGIES
from tet_deploy.counting.estimation import estimate
from tet_deploy.counting.export import to_dict, write_csv, write_json
from tet_deploy.counting.model import EnergyReport
from tet_deploy.counting.tables import TABLES, EnergyTable, Price, table
from tet_deploy.counting.traffic import Traffic, count

__all__ = [
    "ENERGIES",
    "TABLES",
    "EnergyReport",
    "EnergyTable",
    "Price",
    "Traffic",
    "count",
    "energy_table",
    "estimate",
    "layer_table",
    "table",
    "to_dict",
    "write_csv",
    "write_json",
]
