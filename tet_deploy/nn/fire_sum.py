"""The end of a residual block: neurons that fire on a sum."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tet_deploy.nn.lif import LIF
from tet_deploy.nn.norm_lif import NORMS, fusible, has_hooks, norm_lif
from tet_deploy.nn.sequence import finish, in_any_layout, run
from tet_deploy.nn.time_major import TimeMajor


def fire_sum(neurons: LIF, x: Tensor, branch: nn.Module, shortcut: nn.Module) -> Tensor:
    """neurons(branch(x) + shortcut(x)): the end of a residual block, [T, B, ...] to spikes [T, B, ...].

    In training, batch norms that end the branch and the shortcut run as one with the neurons, as in a TimeMajor.

    Examples
    --------
    >>> class Block(nn.Module):
    ...     def forward(self, x):
    ...         return fire_sum(self.lif, x, self.branch, self.shortcut)
    """
    norm, other_norm = _norm_at_the_end(branch), _norm_at_the_end(shortcut)
    if not isinstance(x, Tensor) or norm is None or not norm.training:
        spikes: Tensor = neurons(branch(x) + shortcut(x))
        return spikes
    with in_any_layout():
        current = run(list(branch.children())[:-1], x)
        other = shortcut(x) if other_norm is None else run(list(shortcut.children())[:-1], x)
        merged, merged_other = current.flatten(0, 1), other.flatten(0, 1)
        if (
            merged.shape == merged_other.shape
            and fusible(norm, neurons, merged)
            and (other_norm is None or fusible(other_norm, neurons, merged_other))
        ):
            spikes = torch.unflatten(norm_lif(merged, norm, neurons, len(x), merged_other, other_norm), 0, current.shape[:2])
        else:
            spikes = neurons(run([norm], current) + (other if other_norm is None else run([other_norm], other)))
    return finish(spikes)


def _norm_at_the_end(layers: nn.Module) -> nn.Module | None:
    """The batch norm that ends a TimeMajor nobody listens to."""
    last = list(layers.children())[-1:] if isinstance(layers, TimeMajor) and not has_hooks(layers) else []
    return last[0] if last and type(last[0]) in NORMS else None
