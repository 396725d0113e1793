"""Where a network and its batches lie while it trains, and what it computes in: device, memory format, precision.

This is the only place that decides it. Whoever runs the network takes batches and arithmetic from here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from tet_deploy.training.batches import Batch, Feed
from tet_deploy.training.settings import Settings

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Device, memory format and precision of one training; by default single precision on the CPU.

    Attributes
    ----------
    memory_format
        "contiguous" or "channels_last": of weights [O, C, H, W] and of frames [T, B, C, H, W] with time and batch merged.
    precision
        "fp32", or "bf16" for matrix products and convolutions in bfloat16. Weights are float32 in both.
    """

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    memory_format: str = "contiguous"
    precision: str = "fp32"

    @classmethod
    def chosen(cls, settings: Settings, device: torch.device) -> Placement:
        """What a training on this device takes."""
        return cls(device=device, precision="bf16" if settings.takes_bf16(device) else "fp32")

    def network(self, model: nn.Module) -> nn.Module:
        """The network, moved in place: its parameters and buffers stay the same objects."""
        model.to(self.device)
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = self.laid_out(tensor.data)
        return model

    def batches(self, feed: Feed, chosen: Sequence[np.ndarray], epoch: int | None = None) -> Iterator[Batch]:
        """Batches of a feed; see `Feed.batches`. A still image stays one in memory."""
        for frames, labels in feed.batches(chosen, self.device, epoch):
            yield self._frames(frames), labels

    def arithmetic(self) -> contextlib.AbstractContextManager[None]:
        """The precision of a forward pass."""
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    def laid_out(self, x: Tensor) -> Tensor:
        """Four axes in the memory format, any others as they are; x itself where it lies so."""
        return x.contiguous(memory_format=FORMATS[self.memory_format]) if x.dim() == 4 else x

    def _frames(self, frames: Tensor) -> Tensor:
        if frames.dim() != 5:  # not [T, B, C, H, W]
            return frames
        once = frames[:1] if frames.stride(0) == 0 else frames
        return torch.unflatten(self.laid_out(once.flatten(0, 1)), 0, once.shape[:2]).expand(frames.shape)
