"""What to do where a device's memory is too small for a batch: say how many samples would fit.

torch and torchrun (2.13) count memory, as used here, but search for no batch that fits.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch

from tet_deploy.errors import ExecutionError

HEADROOM = 0.95  # of the memory; the rest is for fragments, and for what the estimate does not see


class Meter(Protocol):
    """Measures a device's memory, in bytes."""

    def limit(self) -> int:
        """What this process may use at most."""

    def used(self) -> int:
        """What its tensors use now."""

    def peak(self) -> int:
        """The most that its tensors used since `forget_peak`."""

    def forget_peak(self) -> None:
        """Begin to measure the peak, and give back what is cached."""


class CudaMeter:
    """Torch's own count on a CUDA device."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def limit(self) -> int:
        """What is free, and what torch holds already."""
        return int(torch.cuda.mem_get_info(self.device)[0] + torch.cuda.memory_reserved(self.device))

    def used(self) -> int:
        """Bytes in tensors now."""
        return int(torch.cuda.memory_allocated(self.device))

    def peak(self) -> int:
        """Most bytes in tensors."""
        return int(torch.cuda.max_memory_allocated(self.device))

    def forget_peak(self) -> None:
        """Begin anew."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(self.device)


def samples_that_fit(probe: Callable[[int], None], samples: int, meter: Meter | None, *, reserve: int = 0) -> int:
    """How many samples, fewer than `samples`, a forward and backward pass has room for; 0 if not even one.

    The pass is tried with half as many samples until it fits. Its peak then gives the memory per sample, and that the
    largest number that fits. Without a meter it is the number that was tried.

    Parameters
    ----------
    probe
        Runs the pass with that many samples and keeps nothing; raises torch's OutOfMemoryError where it does not fit.
    reserve
        Bytes that an update will need besides: moments of the optimiser that do not exist yet.
    """
    tried = samples
    while tried > 1:
        tried //= 2
        if meter is not None:
            meter.forget_peak()
            before = meter.used()
        if not _fits(probe, tried):
            continue
        if meter is None:
            return tried
        per_sample = max(1.0, (meter.peak() - before) / tried)
        room = HEADROOM * meter.limit() - before - reserve
        return max(0, min(int(room / per_sample), samples - 1))
    return 0


def _fits(probe: Callable[[int], None], samples: int) -> bool:
    try:
        probe(samples)
    except torch.cuda.OutOfMemoryError:
        return False
    return True


def out_of_memory(where: str, *, samples: int, steps: int, fits: int, processes: int = 1, kept: str = "") -> ExecutionError:
    """The error that says what would fit: parts of a batch, a smaller batch, or a narrower network.

    Activations grow with the width, so a width smaller by the same factor needs about the same memory.
    """
    start = f"training: out of memory in {where}, with {samples} samples at a time and T = {steps}.{kept}\n"
    if fits < 1:
        return ExecutionError(start + "Not one sample would fit: take a narrower network (--width), or fewer steps.")
    parts, smaller = -(-samples // fits), fits * processes
    return ExecutionError(
        f"{start}About {fits} would fit: take each batch in parts (--accumulate {parts}; batch norm then sees a part at a "
        f"time), a smaller batch (--batch-size {smaller}),\n"
        f"or a narrower network (--width, about {max(0.05, int(20 * fits / samples) / 20):.2f} of what it is)."
    )
