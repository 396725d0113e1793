"""Why two networks or runtimes differ: the first neuron that goes wrong, and the cause."""

from tet_deploy.debugging.diagnosis import Cause, Diagnosis, cause_table, diagnosis_of

__all__ = ["Cause", "Diagnosis", "cause_table", "diagnosis_of"]
