"""How a training is run: what depends on the machine and not on the recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from tet_deploy.errors import ArgumentError

PRECISIONS = ("auto", "fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a training is run.

    Attributes
    ----------
    precision
        "fp32"; "bf16" for matrix products and convolutions in bfloat16; "auto": bf16 on CUDA devices that have it.
    accumulate
        Number of parts that each process takes its share of a batch in. The gradient is the whole batch's, but batch norm
        sees a part at a time.
    sync_batch_norm
        Whether batch norm takes its statistics over all processes. Without, each process's are its own, and the running
        ones that are kept are those of the first.
    encode_once
        Compute what lies before the first neurons once for an image that stands still, not at every step (see TimeMajor).
        Values are the same up to float rounding; False computes them as a camera's frames would be.
    evaluate_every
        Measure the held-out accuracy after every so many epochs, for the log; 0: only at the end.
    state
        File to keep the training's state in after each epoch.
    state_every
        Keep it also after so many batches within an epoch; 0: not.
    resume
        Go on from that file.
    log
        File with one JSON object a line for each epoch.
    overwrite
        Whether the checkpoint, state and log of a former training of the same names may be replaced.
    """

    precision: str = "auto"
    accumulate: int = 1
    sync_batch_norm: bool = False
    encode_once: bool = True
    evaluate_every: int = 0
    state: Path | None = None
    state_every: int = 0
    resume: bool = False
    log: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ArgumentError(f"precision {self.precision!r}: must be one of {', '.join(PRECISIONS)}.")
        for name, least in (("accumulate", 1), ("evaluate_every", 0), ("state_every", 0)):
            if getattr(self, name) < least:
                raise ArgumentError(f"{name}: must be at least {least}; got {getattr(self, name)}.")
        if self.resume and self.state is None:
            raise ArgumentError("resume: needs the file of a training's state. Give state=...")

    def takes_bf16(self, device: torch.device) -> bool:
        """Whether this device computes in bfloat16."""
        if self.precision != "auto":
            return self.precision == "bf16"
        return device.type == "cuda" and torch.cuda.is_bf16_supported()
