"""First weights other than torch's defaults."""

from __future__ import annotations

from torch import nn


def normal_by_fan_out(model: nn.Module) -> None:
    """Draw the weights of every convolution from N(0, 2 / fan-out), fan-out = out_channels * kernel height * kernel width.

    He et al., ICCV 2015, section 2.2 (backward form). Biases and linear layers keep torch's default, uniform within
    1/sqrt(fan-in).
    """
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
