"""VGGSNN of Deng et al., ICLR 2022, section 5: "based on VGG11 with two fully connected layers removed".

First weights as in the authors' code: convolutions from N(0, 2 / fan-out), the rest torch's defaults.
"""

from __future__ import annotations

from collections.abc import Sequence

from tet_deploy.models.initialisation import normal_by_fan_out
from tet_deploy.models.notation import from_notation
from tet_deploy.nn import TimeMajor

_POOLED = "64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-AP2-FC"
_STRIDED = "64C3-128C3S2-256C3-256C3S2-512C3-512C3S2-512C3-512C3S2-FC"


def vgg_snn(shape: Sequence[int] = (2, 48, 48), classes: int = 10, width: float = 1.0) -> TimeMajor:
    """64C3-128C3-AP2-256C3-256C3-AP2-512C3-512C3-AP2-512C3-512C3-AP2-FC; frames of at least 16x16."""
    return _build(_POOLED, shape, classes, width)


def vgg_snn_strided(shape: Sequence[int] = (2, 48, 48), classes: int = 10, width: float = 1.0) -> TimeMajor:
    """The authors' `VGGSNNwoAP`: every second convolution has stride 2, and there are no pools.

    Only spikes travel between its layers, so that it runs on additions without folding any pool.
    """
    return _build(_STRIDED, shape, classes, width)


def _build(notation: str, shape: Sequence[int], classes: int, width: float) -> TimeMajor:
    model = from_notation(notation, shape, classes, width=width, bias=True)
    normal_by_fan_out(model)
    return model
