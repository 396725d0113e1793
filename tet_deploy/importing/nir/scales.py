"""Scale nodes, folded into the layers beside them: a layer behind it takes the factors into its weights, else one before it.

A product that float32 does not hold exactly would be another network, and is refused.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from tet_deploy.errors import GraphError
from tet_deploy.importing.nir.fields import NirNode
from tet_deploy.importing.nir.structure import NirNetwork

Names = tuple[str, ...]
_LAYERS = ("Affine", "Linear", "Conv1d", "Conv2d")
_WAY_OUT = "Multiply the weights of the layer beside it by the factors before the export."


def fold_scales(network: NirNetwork) -> NirNetwork:
    """The same network without Scale nodes; itself where it has none.

    Raises
    ------
    GraphError
        A Scale with no layer beside it, or with a product that is not exact.
    """
    scales = [node for node in network.nodes.values() if node.kind == "Scale"]
    if not scales:
        return network
    nodes, sources, users = dict(network.nodes), dict(network.sources), dict(network.users)
    for node in reversed(scales):  # of two in a row the second goes into the layer behind both first
        node.check(("scale",))
        before, after = sources.pop(node.name), users.pop(node.name)
        for layer in _multiplied(node, [nodes[name] for name in before], [nodes[name] for name in after], sources, users):
            nodes[layer.name] = layer
        del nodes[node.name]
        for user in after:
            sources[user] = _instead(sources[user], node.name, before)
            if len(set(sources[user])) < len(sources[user]):
                raise node.refused(f"without it {user!r} would take one node twice", _WAY_OUT)
        for source in before:
            users[source] = _instead(users[source], node.name, after)
    return dataclasses.replace(network, nodes=nodes, sources=sources)


def _instead(names: Names, name: str, others: Names) -> Names:
    """Names with others in the place of one."""
    at = names.index(name)
    return (*names[:at], *others, *names[at + 1 :])


def _multiplied(
    node: NirNode, before: list[NirNode], after: list[NirNode], sources: dict[str, Names], users: dict[str, Names]
) -> list[NirNode]:
    """The layers that take the factors; none where these are 1."""
    factors = node.array("scale")
    if (factors == 1).all():
        return []
    if after and all(user.kind in _LAYERS and len(sources[user.name]) == 1 for user in after):
        return [_times(node, user, factors, _over_inputs) for user in after]
    if len(before) == 1 and before[0].kind in _LAYERS and len(users[before[0].name]) == 1:
        return [_times(node, before[0], factors, _over_outputs)]
    raise node.refused("a Scale is folded into a layer behind it, or before it; there is none", _WAY_OUT)


_Over = Callable[[np.ndarray, np.ndarray, int], "np.ndarray | None"]


def _times(node: NirNode, layer: NirNode, factors: np.ndarray, over: _Over) -> NirNode:
    weight = layer.array("weight")
    is_conv = layer.kind.startswith("Conv")
    groups = layer.whole("groups") if is_conv and "groups" in layer else 1
    spread = over(_by_channel(factors) if is_conv else factors.reshape(-1), weight, groups)
    if spread is None:
        raise node.refused(
            f"its scale, of shape {factors.shape}, is no factor for each channel of {layer.name!r}, whose weights are "
            f"{weight.shape}",
            _WAY_OUT,
        )
    changed = {"weight": _exact(node, weight, spread)}
    if over is _over_outputs and "bias" in layer:
        bias = layer.array("bias")
        changed["bias"] = _exact(node, bias, spread.reshape(-1) if spread.size == len(bias) else spread.reshape(-1)[:1])
    return layer.replaced(**changed)


def _by_channel(factors: np.ndarray) -> np.ndarray:
    """One factor for each channel; as they are where they differ within one."""
    flat = factors.reshape(len(factors), -1) if factors.ndim > 1 else factors.reshape(-1, 1)
    return flat[:, 0] if (flat == flat[:, :1]).all() else factors.reshape(-1)


def _over_inputs(factors: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray | None:
    if weight.ndim < 2 or len(factors) not in (1, weight.shape[1]) or (groups != 1 and len(factors) != 1):
        return None
    return factors.reshape(1, -1, *[1] * (weight.ndim - 2))


def _over_outputs(factors: np.ndarray, weight: np.ndarray, groups: int) -> np.ndarray | None:
    if weight.ndim < 2 or len(factors) not in (1, weight.shape[0]):
        return None
    return factors.reshape(-1, *[1] * (weight.ndim - 1))


def _exact(node: NirNode, numbers: np.ndarray, factors: np.ndarray) -> np.ndarray:
    product = numbers.astype(np.float64) * factors.astype(np.float64)
    with np.errstate(over="ignore"):
        narrow = product.astype(np.float32)
    if not np.array_equal(narrow, product):
        raise _inexact(node)
    return narrow


def _inexact(node: NirNode) -> GraphError:
    return node.refused("its factors times the weights of the layer beside it are no numbers of float32", _WAY_OUT)
