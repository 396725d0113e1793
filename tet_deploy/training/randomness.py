"""The random generators that a training draws from: torch's on CPU and CUDA, numpy's and Python's global ones."""

from __future__ import annotations

import contextlib
import random
from array import array
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

_CPU = torch.device("cpu")


def capture(device: torch.device = _CPU) -> dict[str, Tensor]:
    """The states of all generators as plain tensors; `restore` takes them back."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002  # other people's code draws from it
    numpy_words = [*legacy["state"]["key"], legacy["state"]["pos"], legacy["has_gauss"], _bits(legacy["gauss"])]
    version, python_words, next_gauss = random.getstate()
    states = {
        "torch": torch.get_rng_state(),
        "numpy": torch.from_numpy(np.asarray(numpy_words, dtype=np.int64)),
        "python": torch.tensor([version, *python_words, next_gauss is not None, _bits(next_gauss or 0.0)]),
    }
    if device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore(states: Mapping[str, Tensor], device: torch.device = _CPU) -> None:
    """Set all generators to what `capture` gave.

    Raises
    ------
    Exception
        Of some kind, for states that `capture` did not give.
    """
    torch.set_rng_state(states["torch"])
    *words, position, has_gauss, gauss = states["numpy"].tolist()
    key = np.asarray(array("I", words))  # refuses what is no word; numpy before 2.0 takes it modulo 2^32
    numpy_state = ("MT19937", key, position, has_gauss, _number(gauss))
    np.random.set_state(numpy_state)  # noqa: NPY002  # as above
    version, *python_words, has_gauss, gauss = states["python"].tolist()
    random.setstate((version, tuple(python_words), _number(gauss) if has_gauss else None))
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["cuda"], device)


@contextlib.contextmanager
def seeded(seed: Sequence[int], device: torch.device = _CPU) -> Iterator[None]:
    """Draw from fresh generators inside, and leave them as they were."""
    before = capture(device)
    torch_seed, numpy_seed, python_seed = (int(word) for word in np.random.SeedSequence(seed).generate_state(3))
    try:
        torch.default_generator.manual_seed(torch_seed)  # not torch.manual_seed: that seeds every CUDA device as well
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(torch_seed)
        np.random.seed(numpy_seed)  # noqa: NPY002  # as above
        random.seed(python_seed)
        yield
    finally:
        restore(before, device)


def _bits(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _number(bits: int) -> float:
    return float(np.int64(bits).view(np.float64))
