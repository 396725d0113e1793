"""Who wrote a NIR file, by what its exporter leaves in it; a source that the file contradicts is refused.

Marks are those of the exporters of SpikingJelly 2.0.0, snnTorch 1.0.0, norse 1.1.0 and Rockpool 3.1.0, and of our own.
torch.fx, which SpikingJelly's goes through, names the input after an argument of forward() and never 'input', as others do.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from tet_deploy.errors import GraphError, TetDeployWarning, warn
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.importing.nir.sources import STEP
from tet_deploy.importing.nir.structure import NirNetwork

NEURONS = ("IF", "LIF", "CubaLIF")
_GAINS = {"LIF": (("r", "tau"),), "CubaLIF": (("r", "tau_mem"), ("w_in", "tau_syn"))}  # snnTorch's are tau / dt
_ROCKPOOL = re.compile(r"(.*\.)?\d+_[A-Z]\w*Torch")
_SLACK = 1e-5  # of constants that went through float32


def written_by(network: NirNetwork, metadata: Any) -> tuple[str, str] | None:
    """The source that a file's marks are of, and what they are; None where it has none, or no neurons."""
    neurons = [node for node in network.nodes.values() if node.kind in NEURONS]
    found = ((name, mark(network, neurons, metadata)) for name, mark in _MARKS.items())
    return next(((name, what) for name, what in found if what), None) if neurons else None


def check_source(source: str, network: NirNetwork, found: tuple[str, str] | None) -> None:
    """See that nothing in the file contradicts who is said to have written it.

    Raises
    ------
    GraphError
        It has the marks of another framework, or its neurons lack what that source always writes. Read as NIR's text has
        it, which may be meant, a warning says whose it is.
    """
    if found is not None and found[0] != source:
        name, what = found
        if source != "nir":
            raise GraphError(
                f"source {source!r} did not write it; its marks are those of {name!r}: {what}. Say source={name!r}, or "
                "source='nir', which reads the constants as NIR's text has them."
            )
        if name != "tet_deploy":  # whose constants are such that NIR's text gives its spikes
            warn(
                f"the marks of this file are those of {name!r}: {what}. Read as NIR's text has it, its neurons may spike "
                f"otherwise than they do there; source={name!r} gives their spikes.",
                TetDeployWarning,
            )
    for node in network.nodes.values():
        why = _CONTRADICTIONS[source](node) if node.kind in NEURONS and source in _CONTRADICTIONS else None
        if why:
            raise node.refused(f"{why}, which {source!r} never writes", "Say the source that wrote the file.")


def _tet_deploy(network: NirNetwork, neurons: list[NirNode], metadata: Any) -> str | None:
    said = [node.fields.get("metadata") for node in neurons]
    ours = any(isinstance(about, dict) and {"decay", "threshold", "comparison"} <= about.keys() for about in said)
    if ours or (isinstance(metadata, dict) and "graph_digest" in metadata):
        return "its metadata say a neuron's decay, threshold and comparison, or the digest of a graph"
    return None


def _rockpool(network: NirNetwork, neurons: list[NirNode], metadata: Any) -> str | None:
    named = next((node.name for node in neurons if _ROCKPOOL.fullmatch(node.name)), None)
    return named and f"a node is called {named!r}"


def _spikingjelly(network: NirNetwork, neurons: list[NirNode], metadata: Any) -> str | None:
    if network.input.name == "input" or any(map(_not_spikingjelly, neurons)):
        return None
    return f"its input is called {network.input.name!r}, its neurons' constants are float64, and all have a v_reset"


def _norse(network: NirNetwork, neurons: list[NirNode], metadata: Any) -> str | None:
    alone = all(np.ndim(value) == 0 for node in neurons for value in _constants(node))
    return "each neuron's constants are single numbers" if alone and network.input.name == "input" else None


def _snntorch(network: NirNetwork, neurons: list[NirNode], metadata: Any) -> str | None:
    if network.input.name != "input" or any(node.kind not in _GAINS for node in neurons):
        return None
    fits = (_is_step(node.fields.get(r), node.fields.get(tau)) for node in neurons for r, tau in _GAINS[node.kind])
    return f"its input is called 'input', and of all neurons r is tau / {STEP:g}" if all(fits) else None


def _is_step(gain: Any, tau: Any) -> bool:
    if not all(isinstance(value, np.ndarray) and value.size and value.dtype.kind == "f" for value in (gain, tau)):
        return False
    if gain.shape != tau.shape or not (np.isfinite(gain) & np.isfinite(tau)).all():
        return False
    wanted = tau.astype(np.float64) / STEP
    return bool((np.abs(gain - wanted) <= _SLACK * wanted).all())


def _not_spikingjelly(node: NirNode) -> str | None:
    if "v_reset" not in node:
        return "it has no v_reset"
    narrow = next((name for name in ("r", "tau", "tau_mem", "tau_syn") if _type(node, name) not in (None, "float64")), None)
    return narrow and f"its {narrow} is {_type(node, narrow)}, and not float64"


def _not_rockpool(node: NirNode) -> str | None:
    return "it has a v_reset, as NIR has since 1.0.6" if "v_reset" in node else None


def _type(node: NirNode, name: str) -> str | None:
    found = node.fields.get(name)
    return str(found.dtype) if isinstance(found, np.ndarray) else None


def _constants(node: NirNode) -> Iterator[np.ndarray]:
    return (value for name, value in node.fields.items() if isinstance(value, np.ndarray) and "type" not in name)


_MARKS: Mapping[str, Callable[[NirNetwork, list[NirNode], Any], str | None]] = {
    "tet_deploy": _tet_deploy,
    "rockpool": _rockpool,
    "norse": _norse,
    "snntorch": _snntorch,
    "spikingjelly": _spikingjelly,
}
_CONTRADICTIONS: Mapping[str, Callable[[NirNode], str | None]] = {
    "spikingjelly": _not_spikingjelly,
    "rockpool": _not_rockpool,
}
