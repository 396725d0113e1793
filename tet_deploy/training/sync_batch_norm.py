"""Batch norm whose statistics are those of all processes' samples together.

    mean = sum_p sum_i x_pi / n ;  var = sum_p sum_i (x_pi - mean)^2 / n ;  y = (x - mean) / sqrt(var + eps) * weight + bias

torch's own SyncBatchNorm does this on accelerators only: that of torch 2.13 refuses tensors on the CPU, with gloo too. There
the sums here do it; autograd sends their gradients through the same sums.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from tet_deploy.errors import GraphError


def synchronized(model: nn.Module, device: torch.device) -> nn.Module:
    """The model with every batch norm replaced by a synchronized one; parameters and buffers are the same tensors.

    Raises
    ------
    GraphError
        A batch norm that neither torch's nor this one stands for, without running statistics or with cumulative ones.
    """
    if device.type == "cuda":
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # type: ignore[no-untyped-call]  # torch's own
        return converted
    for name, module in model.named_modules():
        for child_name, child in module.named_children():
            if isinstance(child, _BatchNorm) and not isinstance(child, _SyncBatchNorm):
                path = f"{name}.{child_name}".lstrip(".")
                setattr(module, child_name, _SyncBatchNorm.like(child, path))
    return model


class _SyncBatchNorm(_BatchNorm):
    @classmethod
    def like(cls, norm: _BatchNorm, path: str) -> _SyncBatchNorm:
        if norm.running_mean is None or norm.momentum is None:
            raise GraphError(f"{path}: a synchronized batch norm needs running statistics and a momentum. Leave them on.")
        new = cls(norm.num_features, norm.eps, norm.momentum, norm.affine, device="meta")
        new._parameters, new._buffers = norm._parameters, norm._buffers  # the optimizer may hold them already
        new.training = norm.training
        return new

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least 2 dimensions; got {tuple(input.shape)}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        axes = [axis for axis in range(input.dim()) if axis != 1]
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        count = _sum_of_all(input.new_tensor(float(input.numel() // input.shape[1])))
        mean = _sum_of_all(input.sum(axes)) / count
        centred = input - mean.view(shape)
        variance = _sum_of_all(centred.square().sum(axes)) / count
        self._keep(mean.detach(), variance.detach() * count / (count - 1))
        normal = centred * torch.rsqrt(variance + self.eps).view(shape)
        if self.weight is None or self.bias is None:
            return normal
        return normal * self.weight.view(shape) + self.bias.view(shape)

    def _keep(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(unbiased_variance, self.momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)


class _SumOfAll(torch.autograd.Function):
    """The sum over all processes; the gradient of a sum that all use is the sum of all their gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        total = grad.clone()
        distributed.all_reduce(total)
        return total


def _sum_of_all(values: Tensor) -> Tensor:
    total: Tensor = _SumOfAll.apply(values)  # type: ignore[no-untyped-call]  # torch's own
    return total
