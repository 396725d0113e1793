"""The losses of Deng et al., ICLR 2022, section 4. O(t) is the readout at step t, y the label.

    SDT (7)     CE(mean_t O(t), y)
    TET (9)     mean_t CE(O(t), y)                  never below SDT (Lemma 4.1)
    MSE (12)    mean_t MSE(O(t), phi)               phi = the threshold, over all readouts
    total (13)  (1 - lambda) * TET + lambda * MSE

Readouts are [T, B, K], labels int64 [B].
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from tet_deploy.errors import ArgumentError, shown


def sdt_loss(readout: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of the mean readout (eq. 7); readout [T, B, K], labels int64 [B]."""
    return F.cross_entropy(readout.mean(dim=0), labels)


def tet_loss(readout: Tensor, labels: Tensor) -> Tensor:
    """Mean over the steps of each step's cross-entropy (eq. 9); readout [T, B, K], labels int64 [B]."""
    return F.cross_entropy(readout.flatten(0, 1), labels.repeat(len(readout)))


def mse_loss(readout: Tensor, phi: float = 1.0) -> Tensor:
    """Mean squared distance of every readout from phi (eq. 12); readout [T, B, K]."""
    return (readout - phi).square().mean()


CROSS_ENTROPIES = {"sdt": sdt_loss, "tet": tet_loss}


def total_loss(readout: Tensor, labels: Tensor, *, loss: str = "tet", mse_weight: float = 0.0, phi: float = 1.0) -> Tensor:
    """Cross-entropy and its regularising term (eq. 13); with `loss="sdt"` the SDT loss takes the place of TET.

    Parameters
    ----------
    readout
        [T, B, K].
    labels
        int64 [B], in 0..K-1.
    loss
        "sdt" or "tet".
    mse_weight
        lambda, in [0, 1]. The paper uses 0.05 on CIFAR and 0.001 on ImageNet and DVS-CIFAR10.
    phi
        The value that readouts are drawn to; the paper uses the threshold.

    Raises
    ------
    ArgumentError
        An unknown loss, or lambda outside [0, 1].
    """
    check_loss(loss, mse_weight)
    cross_entropy = CROSS_ENTROPIES[loss](readout, labels)
    if mse_weight == 0:
        return cross_entropy
    return (1 - mse_weight) * cross_entropy + mse_weight * mse_loss(readout, phi)


def check_loss(loss: str, mse_weight: float) -> None:
    """Raise an ArgumentError unless the loss is known and lambda lies in [0, 1]."""
    if loss not in CROSS_ENTROPIES:
        raise ArgumentError(f"loss {shown(loss)}: must be one of {', '.join(CROSS_ENTROPIES)}.")
    if not 0 <= mse_weight <= 1:
        raise ArgumentError(
            f"mse_weight (lambda, eq. 13): must lie in [0, 1]; got {mse_weight}. The paper has 0.05 or 0.001."
        )
