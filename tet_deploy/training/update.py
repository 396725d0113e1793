"""One update of the weights: the gradient of a batch, taken in parts and by several processes, and what can go wrong."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

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


class Updater:
    """A network and its optimiser in one process of a group.

    Attributes
    ----------
    model
        The network itself.
    parallel
        The same, with gradients averaged over the processes.
    last_state
        What to tell the user of the training's last state on disk when training stops.
    """

    def __init__(self, model: nn.Module, group: Group, placement: Placement, *, sync_batch_norm: bool) -> None:
        if sync_batch_norm and group.size > 1:
            model = synchronized(model, group.device)
        self.model, self.parallel, self.group, self.placement = model, group.parallel(model), group, placement
        self.optimizer: torch.optim.Optimizer | None = None
        self.last_state = ""

    def update(self, parts: Sequence[Batch], stage: Stage, learning_rate: float, *, samples: int, where: str) -> float:
        """Update the weights on a batch.

        Parameters
        ----------
        parts
            What this process takes of the batch, each part in a pass of its own.
        samples
            Of the batch, in all parts and processes.
        where
            Names the batch in errors.

        Returns
        -------
        float
            The sum of the losses of all its samples.

        Raises
        ------
        ExecutionError
            The loss or a gradient is not finite, or memory ran out; the weights are as before.
        """
        assert self.optimizer is not None
        for settings in self.optimizer.param_groups:
            settings["lr"] = learning_rate
        self.optimizer.zero_grad()
        losses = torch.zeros((), dtype=torch.float64, device=self.group.device)
        for number, (frames, labels) in enumerate(parts, 1):
            # Processes' gradients are averaged; so weighted, the average is the gradient of the whole batch's mean loss.
            weight = len(labels) * self.group.size / samples
            with self._averaged(number == len(parts)):
                loss = self._add_gradients(self.parallel, frames, labels, stage, weight)
            if loss is None:
                raise self._out_of_memory(frames, labels, stage, where)
            losses += loss.double() * len(labels)
        losses = self.group.sum(losses)
        if not self._finite(losses):
            raise ExecutionError(
                f"training: loss {losses.item() / samples} or its gradient is not finite in {where}.{self.last_state}\n"
                f"Lower the learning rate ({learning_rate:.3g}), or look at the scale of the frames."
            )
        self.optimizer.step()
        return losses.item()

    def _averaged(self, last: bool) -> contextlib.AbstractContextManager[None]:
        """Gradients are averaged over the processes in the last part of a batch only."""
        if last or self.group.size == 1:
            return contextlib.nullcontext()
        return self.parallel.no_sync()  # type: ignore[operator,no-any-return]  # DistributedDataParallel's

    def _add_gradients(self, model: nn.Module, frames: Tensor, labels: Tensor, stage: Stage, weight: float) -> Tensor | None:
        """Add the gradients of a part of a batch; its loss, or None where memory ran out."""
        try:
            with self.placement.arithmetic():
                readout = model(frames)
            loss = total_loss(readout.float(), labels, loss=stage.loss, mse_weight=stage.mse_weight)
            (loss * weight).backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        except torch.cuda.OutOfMemoryError:
            return None  # what to say is found out when the traceback no longer holds the tensors
        return loss.detach()

    def _finite(self, losses: Tensor) -> bool:
        """Whether loss and gradients are. A NaN membrane potential never fires: it shows in the gradients only."""
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        return bool(torch.stack([torch.isfinite(values).all() for values in (losses, *gradients)]).all())

    def _out_of_memory(self, frames: Tensor, labels: Tensor, stage: Stage, where: str) -> ExecutionError:
        assert self.optimizer is not None
        self.optimizer.zero_grad()
        weights = sum(parameter.nbytes for parameter in self.model.parameters())
        moments = 0 if self.optimizer.state else weights * (2 if stage.optimizer == "adam" else 1)

        def probe(samples: int) -> None:
            try:
                if self._add_gradients(self.model, frames[:, :samples], labels[:samples], stage, 1.0) is None:
                    raise torch.cuda.OutOfMemoryError
            finally:
                self.model.zero_grad()

        meter = memory.CudaMeter(self.group.device) if self.group.device.type == "cuda" else None
        fits = memory.samples_that_fit(probe, len(labels), meter, reserve=moments)
        return memory.out_of_memory(
            where, samples=len(labels), steps=stage.steps, fits=fits, processes=self.group.size, kept=self.last_state
        )
