"""What was found, as one HTML page for people and as JSON and CSV for machines."""

from tet_deploy.reporting.data import ReportData, SampleView, firing_rates
from tet_deploy.reporting.membranes import Membrane, added, membranes
from tet_deploy.reporting.origin import origin, provenance
from tet_deploy.reporting.page import check_report_path, write_report
from tet_deploy.reporting.training_log import find_log, read_log

__all__ = [
    "Membrane",
    "ReportData",
    "SampleView",
    "added",
    "check_report_path",
    "find_log",
    "firing_rates",
    "membranes",
    "origin",
    "provenance",
    "read_log",
    "write_report",
]
