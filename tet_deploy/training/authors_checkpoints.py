"""The names that the code of Deng et al., ICLR 2022, gives to the weights of its networks.

https://github.com/brain-intelligence-lab/temporal_efficient_training, models/. Their modules hold some layers in several
places, so that one weight stands in their files under several names, always with the same values. Their batch norms have
torch's eps, their neurons the decay 0.5 and threshold 1 of ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

Names = Mapping[str, tuple[str, ...]]  # our key -> the keys in a file that hold the same weight


def authors_names(model: str, keys: Iterable[str]) -> Names | None:
    """For each of our keys the authors' names of it; None where they have no such network."""
    rename = _AUTHORS.get(model)
    return None if rename is None else {key: rename(key) for key in keys}


def _vgg(positions: tuple[int, ...]) -> Callable[[str], tuple[str, ...]]:
    """conv3.weight -> features.3.fwd.module.0.weight, with the third position in `features`, where pools count too."""

    def rename(key: str) -> tuple[str, ...]:
        layer, _, array = key.partition(".")
        if layer == "fc":
            return (f"classifier.module.{array}",)
        kind, number = layer[:4], int(layer[4:])
        return (f"features.{positions[number - 1]}.fwd.module.{('conv', 'norm').index(kind)}.{array}",)

    return rename


_RESNET19 = (  # pattern of our layer, after "layer1.0." or so; their names for it
    (r"(?:branch\.)?conv(\d)", (r"conv\1", r"conv\1_s.layer.module")),
    (r"(?:branch\.)?norm(\d)", (r"bn\1.bn", r"bn\1.seqbn.module", r"conv\1_s.bn.bn", r"conv\1_s.bn.seqbn.module")),
    (r"shortcut\.conv", (r"downsample.layer.module",)),
    (r"shortcut\.norm", (r"downsample.bn.bn", r"downsample.bn.seqbn.module")),
    (r"fc(\d)", (r"fc\1", r"fc\1_s.layer.module")),
)


def _resnet19(key: str) -> tuple[str, ...]:
    layer, _, array = key.rpartition(".")
    block, layer = re.fullmatch(r"(layer\d\.\d\.)?(.+)", layer).groups("")  # type: ignore[union-attr]  # matches any name
    templates, match = next((names, found) for pattern, names in _RESNET19 if (found := re.fullmatch(pattern, layer)))
    return tuple(f"{block}{match.expand(template)}.{array}" for template in templates)


_AUTHORS: dict[str, Callable[[str], tuple[str, ...]]] = {
    "resnet19": _resnet19,
    "vgg_snn": _vgg((0, 1, 3, 4, 6, 7, 9, 10)),
    "vgg_snn_strided": _vgg((0, 1, 2, 3, 4, 5, 6, 7)),
}
