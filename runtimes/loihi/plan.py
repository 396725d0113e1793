"""What the host has to know of a Lava bundle, read from its plan.json and checked before Lava is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tet_deploy.errors import ArtifactError
from tet_deploy.ranges import CLIPPED, KINDS, SATURATED, WRAPPED, Possible
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import read_bundle
from tet_deploy.runtimes.loihi.bundle.loihi_checks.reading import Refused


@dataclass(frozen=True)
class BundlePlan:
    """Shapes and names of a bundle.

    Attributes
    ----------
    input_shape, encoding
        What the frames must be; see `ir.nodes.Input`.
    populations
        Shape of each LIF population, in order.
    possible
        Nodes that may leave the chip's range, see `ranges.possible`; of an older bundle, which does not say, all.
    classes
        Values in the readout of one step.
    digest
        SHA-256 of the network that was exported.
    thresholds
        Mantissa of each population's threshold, or those of its channels.
    metadata
        That of the network.
    period
        The most steps that a sample may have; None where there is no such limit.
    """

    input_shape: tuple[int, ...]
    encoding: str
    populations: Mapping[str, tuple[int, ...]]
    possible: Possible
    classes: int
    digest: str
    thresholds: Mapping[str, int | tuple[int, ...]]
    metadata: Mapping[str, str]
    period: int | None


def read_plan(bundle: Path) -> BundlePlan:
    """Read a bundle and check all of it, as its own run.py does.

    Raises
    ------
    ArtifactError
        No bundle, one of another version, or one that is not as it was exported.
    """
    try:
        plan, arrays = read_bundle(bundle)
    except Refused as error:
        raise ArtifactError(str(error)) from error
    return BundlePlan(
        input_shape=tuple(plan["input"]["shape"]),
        encoding=plan["input"]["encoding"],
        populations={node["name"]: tuple(node["shape"]) for node in plan["nodes"] if node["kind"] == "lif"},
        possible=_possible(plan),
        classes=plan["readout"]["shape"][0],
        digest=plan["digest"],
        thresholds={
            node["name"]: tuple(arrays[said].tolist()) if isinstance(said := node["threshold"], str) else said
            for node in plan["nodes"]
            if node["kind"] == "lif"
        },
        metadata=_texts(plan.get("metadata")),
        period=plan.get("period"),
    )


def _texts(metadata: Any) -> dict[str, str]:
    """For people, so that nobody has checked it."""
    return {key: value for key, value in metadata.items() if isinstance(value, str)} if isinstance(metadata, dict) else {}


def _possible(plan: Mapping[str, Any]) -> Possible:
    if "ranges" in plan:
        return {kind: tuple(plan["ranges"].get(kind, ())) for kind in KINDS}
    populations = [node["name"] for node in plan["nodes"] if node["kind"] == "lif"]
    synapses = [node["name"] for node in plan["nodes"] if node["kind"] == "conv"]
    return {CLIPPED: (plan["input"]["name"],), WRAPPED: (*synapses, *populations), SATURATED: tuple(populations)}
