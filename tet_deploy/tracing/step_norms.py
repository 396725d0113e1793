"""Batch norm that depends on the time step, which no node can express: a weight holds for all steps.

TEBN (Duan et al., NeurIPS 2022) multiplies a norm's output by a number of each step, p [T, 1, 1, 1, 1]; BNTT (Kim and Panda,
Frontiers in Neuroscience 2021) keeps a norm for each step. They are told by how they are made, whatever they are called.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from tet_deploy.errors import GraphError

_NORMS = nn.modules.batchnorm._BatchNorm
_NAMES = ("TemporalEffectiveBatchNorm", "BatchNormThroughTime", "TEBN", "BNTT", "TemporalBN", "TemporalBatchNorm")


_WAY_OUT = "Retrain with one norm for all steps: nn.BatchNorm2d, or threshold-dependent batch norm (tdBN)"


def refuse(module: nn.Module, path: str) -> None:
    """Stop if the module, which cannot be traced, is a batch norm with a number for each step.

    Raises
    ------
    GraphError
        Names what depends on the step, and the way out.
    """
    found = next(_by_step(module), None)
    if found is not None:
        kind = type(module).__name__
        raise refusal(f"layer {path!r}, a {kind}" if path else kind, found)


def refusal(what: str, found: str) -> GraphError:
    """The error for a module that `found` makes depend on the step."""
    return GraphError(
        f"{what}: its batch norm depends on the time step ({found}), and no weight that it could be folded into does. "
        f"{_WAY_OUT}."
    )


def listed(module: nn.Module) -> str | None:
    """Batch norms of one size that a module keeps in a list, for its steps or, who knows, for its layers."""
    for name, child in module.named_children():
        norms = list(child) if isinstance(child, nn.ModuleList) else []
        sizes = {norm.num_features if isinstance(norm, _NORMS) else None for norm in norms}
        if len(norms) > 1 and len(sizes) == 1 and None not in sizes:
            return f"{len(norms)} norms in {name!r}, as in BNTT"
    return None


def remedy(module: nn.Module, usual: str) -> str:
    """What to do about a forward() that fails, perhaps because of a norm for each step."""
    norms = listed(module)
    return usual if norms is None else f"{usual}. A norm for each step ({norms}) cannot be folded. {_WAY_OUT}"


def _by_step(module: nn.Module) -> Iterator[str]:
    norms = [inside for inside in module.modules() if isinstance(inside, _NORMS)]
    axes = (3, 5) if all(isinstance(norm, nn.BatchNorm1d) for norm in norms) else (5,)  # [C, 1, 1] is a number per channel
    for name, value in [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]:
        if norms and value.dim() in axes and 1 < len(value) == value.numel():
            yield f"a number for each of {len(value)} steps in {name!r}, as in TEBN"
    if any(kind.__name__.rstrip("123d") in _NAMES for kind in type(module).__mro__):
        yield "its class says so"
