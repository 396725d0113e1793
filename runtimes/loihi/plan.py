"""What the host has to know of a Lava bundle, read from its plan.json and checked before Lava is started."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tet_deploy.errors import ArtifactError, TetDeployWarning
from tet_deploy.runtimes.loihi.bundle.loihi_checks.bundle import VERSION, read_bundle
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
    classes
        Values in the readout of one step.
    digest
        SHA-256 of the network that was exported.
    """

    input_shape: tuple[int, ...]
    encoding: str
    populations: Mapping[str, tuple[int, ...]]
    classes: int
    digest: str


def read_plan(bundle: Path) -> BundlePlan:
    """Read a bundle and check all of it, as its own run.py does.

    A bundle of version 1 (tet_deploy 0.1) is read too, with a warning: it has no checksum.

    Raises
    ------
    ArtifactError
        No bundle, one of another version, or one that is not as it was exported.
    """
    try:
        plan, _ = read_bundle(bundle, (1, VERSION))
    except Refused as error:
        raise ArtifactError(str(error)) from error
    if plan["version"] == 1:
        warnings.warn(
            f"{bundle}: was exported by tet_deploy 0.1 without a checksum, so nobody can tell whether its plan was changed. "
            "Export the network again.",
            TetDeployWarning,
            stacklevel=3,
        )
    return BundlePlan(
        input_shape=tuple(plan["input"]["shape"]),
        encoding=plan["input"]["encoding"],
        populations={layer["population"]["name"]: tuple(layer["population"]["shape"]) for layer in plan["layers"][:-1]},
        classes=plan["readout"]["shape"][0],
        digest=plan["digest"],
    )
