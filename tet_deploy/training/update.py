"""One step of a training: forward, loss, backward, update; of a batch in parts, by several processes; what can go wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tet_deploy.errors import ExecutionError
from tet_deploy.training import memory
from tet_deploy.training.batches import Batch
from tet_deploy.training.distribution import Group
from tet_deploy.training.losses import total_loss
from tet_deploy.training.placement import Placement
from tet_deploy.training.recipes import Stage
from tet_deploy.training.sync_batch_norm import synchronized


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """A network as one process of a group trains it.

    Attributes
    ----------
    model
        The network itself, placed.
    parallel
        The same, with gradients averaged over the processes.
    """

    model: nn.Module
    parallel: nn.Module
    group: Group
    placement: Placement

    @classmethod
    def of(cls, model: nn.Module, group: Group, placement: Placement, *, sync_batch_norm: bool = False) -> Network:
        """The network, placed, in its group."""
        placement.network(model)
        if sync_batch_norm and group.size > 1:
            model = synchronized(model, group.device)
        return cls(model=model, parallel=group.parallel(model), group=group, placement=placement)


def update(
    network: Network,
    optimizer: torch.optim.Optimizer,
    parts: Sequence[Batch],
    stage: Stage,
    *,
    learning_rate: float,
    samples: int | None = None,
    where: str = "a batch",
    state: Path | None = None,
) -> float:
    """Update the weights on a batch.

    Parameters
    ----------
    parts
        What this process takes of the batch, each part in a pass of its own.
    stage
        Whose loss it is.
    samples
        Of the batch, in all parts and processes; by default those of `parts`.
    where
        Names the batch in errors.
    state
        The file of the training's last state, if there is one by now; it is told in errors.

    Returns
    -------
    float
        The sum of the losses of all its samples.

    Raises
    ------
    ExecutionError
        The loss or a gradient is not finite, or memory ran out; the weights are as before.
    """
    samples = samples or sum(len(labels) for _, labels in parts)
    for settings in optimizer.param_groups:
        settings["lr"] = learning_rate
    optimizer.zero_grad()
    losses = torch.zeros((), dtype=torch.float64, device=network.group.device)
    for number, (frames, labels) in enumerate(parts, 1):
        # Processes' gradients are averaged; so weighted, the average is the gradient of the whole batch's mean loss.
        weight = len(labels) * network.group.size / samples
        with _averaged(network, last=number == len(parts)):
            loss = _add_gradients(network.parallel, network.placement, frames, labels, stage, weight)
        if loss is None:
            optimizer.zero_grad()
            fits = _samples_that_fit(network, optimizer, frames, labels, stage)
            raise memory.out_of_memory(
                where,
                samples=len(labels),
                steps=stage.steps,
                fits=fits,
                processes=network.group.size,
                kept=_kept(state),
            )
        losses += loss.double() * len(labels)
    losses = network.group.sum(losses)
    if not _finite(network.model, losses):
        raise ExecutionError(
            f"training: loss {losses.item() / samples} or its gradient is not finite in {where}.{_kept(state)}\n"
            f"Lower the learning rate ({learning_rate:.3g}), or look at the scale of the frames."
        )
    optimizer.step()
    return losses.item()


def _averaged(network: Network, *, last: bool) -> contextlib.AbstractContextManager[None]:
    """Gradients are averaged over the processes in the last part of a batch only."""
    if last or network.group.size == 1:
        return contextlib.nullcontext()
    return network.parallel.no_sync()  # type: ignore[operator,no-any-return]  # DistributedDataParallel's


def _add_gradients(
    model: nn.Module, placement: Placement, frames: Tensor, labels: Tensor, stage: Stage, weight: float
) -> Tensor | None:
    """Add the gradients of a part of a batch; its loss, or None where memory ran out."""
    try:
        with placement.arithmetic():
            readout = model(frames)
        loss = total_loss(readout.float(), labels, loss=stage.loss, mse_weight=stage.mse_weight)
        (loss * weight).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    except torch.cuda.OutOfMemoryError:
        return None  # what to say is found out when the traceback no longer holds the tensors
    return loss.detach()


def _finite(model: nn.Module, losses: Tensor) -> bool:
    """Whether loss and gradients are. A NaN membrane potential never fires: it shows in the gradients only."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return bool(torch.stack([torch.isfinite(values).all() for values in (losses, *gradients)]).all())


def _samples_that_fit(
    network: Network, optimizer: torch.optim.Optimizer, frames: Tensor, labels: Tensor, stage: Stage
) -> int:
    """How many samples of a part that memory is too small for would fit; no gradients are left."""
    model, device = network.model, network.group.device
    weights = sum(parameter.nbytes for parameter in model.parameters())
    moments = 0 if optimizer.state else weights * (2 if stage.optimizer == "adam" else 1)

    def probe(samples: int) -> None:
        try:
            if _add_gradients(model, network.placement, frames[:, :samples], labels[:samples], stage, 1.0) is None:
                raise torch.cuda.OutOfMemoryError
        finally:
            model.zero_grad()

    meter = memory.CudaMeter(device) if device.type == "cuda" else None
    return memory.samples_that_fit(probe, len(labels), meter, reserve=moments)


def _kept(state: Path | None) -> str:
    return "" if state is None or not state.exists() else f" The state before it is kept in {state}."
