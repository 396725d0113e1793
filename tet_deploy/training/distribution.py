"""One process or many: what `torchrun` started, and what the processes tell each other."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tet_deploy.errors import ArgumentError, ExecutionError, MissingDependencyError, TetDeployError


@dataclass(frozen=True, kw_only=True)
class Group:
    """The processes that train one network together, seen from one of them; by default it is alone.

    Attributes
    ----------
    rank, size
        This process's number, and how many there are.
    device
        Where this process computes.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def leads(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's values, in each of them."""
        if self.size == 1:
            return values
        total = values.detach().to(self.device, copy=True)
        distributed.all_reduce(total)
        return total.to(values.device)

    def gather(self, values: Tensor) -> list[Tensor]:
        """Every process's values, in each of them; of the same shape in all."""
        if self.size == 1:
            return [values]
        mine = values.to(self.device)
        parts = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(parts, mine)
        return [part.to(values.device) for part in parts]

    def wait(self) -> None:
        """Go on when all processes have come here."""
        if self.size > 1:
            distributed.barrier()

    def lead(self, action: Callable[[], None]) -> None:
        """Do something in the first process alone; where it fails there, all processes stop.

        Raises
        ------
        TetDeployError
            In the first process what the action raised, in the others that it did.
        """
        failure: TetDeployError | None = None
        if self.leads:
            try:
                action()
            except TetDeployError as error:
                failure = error
        if self.gather(torch.tensor(int(failure is not None)))[0]:
            raise failure or ExecutionError("the first process of the group stopped, and says why. Start all of them anew.")

    def parallel(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the processes; the model itself where there is one."""
        return model if self.size == 1 else DistributedDataParallel(model)


@contextlib.contextmanager
def process_group(device: str = "auto") -> Iterator[Group]:
    """Join the processes that `torchrun` started, or be alone; leave them at the end.

    Parameters
    ----------
    device
        "auto" takes a CUDA device where there is one, else the CPU; or "cpu", "cuda", "cuda:1".

    Raises
    ------
    MissingDependencyError
        A device that this machine or this torch lacks.

    Examples
    --------
    ``torchrun --nproc-per-node 8 --no-python tet-deploy train --recipe cifar10-resnet19-t2``
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    place = _device(device, int(os.environ.get("LOCAL_RANK", "0")), alone=size == 1)
    if size == 1:
        yield Group(device=place)
        return
    if place.type == "cuda":
        torch.cuda.set_device(place)
    try:
        distributed.init_process_group("nccl" if place.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise ExecutionError(
            f"{size} processes: they cannot reach each other ({error}). Start them with torchrun."
        ) from error
    try:
        yield Group(rank=distributed.get_rank(), size=distributed.get_world_size(), device=place)
    finally:
        distributed.destroy_process_group()


def _device(name: str, local_rank: int, *, alone: bool) -> torch.device:
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ArgumentError(f"device {name!r}: torch knows none of that name. Use auto, cpu or cuda.") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not torch.cuda.is_available():
        raise MissingDependencyError(f"device {name!r}: this machine or this torch has none. Use --device cpu.")
    device = torch.device("cuda", local_rank if device.index is None or not alone else device.index)
    if (device.index or 0) >= torch.cuda.device_count():
        raise MissingDependencyError(
            f"device {device}: there are {torch.cuda.device_count()} CUDA devices. Start no more processes than that."
        )
    return device
