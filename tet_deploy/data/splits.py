"""Which samples are held out for the test: fixed by their names, the same on every machine and with every library."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from tet_deploy.errors import ArgumentError, DataError


def hold_out(names: Sequence[str], labels: np.ndarray, *, share: float) -> np.ndarray:
    """Choose the test samples of each class: those whose names have the smallest SHA-256.

    Parameters
    ----------
    names
        One a sample, such as "airplane/cifar10_airplane_7": class folder and file, without the file's suffix, so that
        other formats of the same recordings are split alike.
    labels
        int64 [N].
    share
        Of each class, rounded to whole samples; at least one is held out and one is kept.

    Returns
    -------
    np.ndarray
        bool [N]: True for test samples.

    Raises
    ------
    ArgumentError
        A share outside (0, 1).
    DataError
        A name that stands for two samples, or a class of one sample.
    """
    if not 0 < share < 1:
        raise ArgumentError(f"held out share: must lie between 0 and 1; got {share}.")
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise DataError(f"sample {twice!r}: stands for two files, so it could be in both parts. Rename or remove one.")
    test = np.zeros(len(names), dtype=bool)
    digests = [hashlib.sha256(name.encode()).digest() for name in names]
    for label in np.unique(labels):
        members = sorted(np.flatnonzero(labels == label), key=lambda index: digests[index])
        if len(members) < 2:
            raise DataError(f"class {label}: needs two samples, one to train and one to test; got {len(members)}.")
        count = min(max(1, round(share * len(members))), len(members) - 1)
        test[members[:count]] = True
    return test


def split_hash(names: Sequence[str], labels: np.ndarray, test: np.ndarray) -> str:
    """SHA-256, in hexadecimal, of the lines `part TAB label TAB name`, sorted: two equal hashes are one split."""
    lines = [
        f"{'test' if held_out else 'train'}\t{label}\t{name}\n"
        for name, label, held_out in zip(names, labels.tolist(), test.tolist(), strict=True)
    ]
    return hashlib.sha256("".join(sorted(lines)).encode()).hexdigest()
