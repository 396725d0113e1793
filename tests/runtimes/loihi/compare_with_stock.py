"""Drive the bundle's process models and Lava's own side by side; run in the Lava interpreter by test_fast_models.

python compare_with_stock.py BUNDLE_CODE KIND SEED: exits with the first difference, or prints how many steps were equal.
"""

import sys

import numpy as np

sys.path.insert(0, sys.argv[1])

from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.utils import output_shape
from lava.proc.lif.models import PyLifResetModelBitAcc
from loihi_models.fast_models import FastConv, FastLIFReset

STEPS, CASES = 12, 60
EXTREMES = [0, 1, -1, 2**17 - 1, 2**17, 2**17 + 1, -(2**17), -(2**17) - 1, 2**18, -(2**18) + 1, 2**23 - 1, -(2**23)]


class Port:
    """Stands for both ends of a channel."""

    def __init__(self):
        self.sent, self.incoming = [], None

    def send(self, data):
        self.sent.append(np.array(data))

    def recv(self):
        return self.incoming.copy()


def lif_pair(rng):
    period, offset = int(rng.integers(1, 6)), int(rng.integers(0, 9))
    du = int(rng.choice([4095, 4095, 4095, 4094, 2047, 409, 1, 0]))
    params = {"du": du, "reset_interval": period, "reset_offset": offset}
    shape = (3, 2, 4)
    values = {
        "du": du,
        "dv": int(rng.choice([0, 1, 1024, 2048, 3000, 4095])),
        "vth": int(rng.choice([0, 1, 2**17 - 1, rng.integers(0, 2**17)])),
        "bias_mant": rng.choice([0, 1, -1, 4095, -4096, 32767, -32768, 700], shape).astype(np.int16),
        "bias_exp": np.full(shape, rng.integers(0, 8), np.int16),
    }
    pair = []
    for kind in (PyLifResetModelBitAcc, FastLIFReset):
        model = kind(params)
        for name, value in values.items():
            setattr(model, name, value)
        model.u, model.v = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        model.a_in, model.s_out = Port(), Port()
        pair.append(model)
    # Some of both: values at the limits, and values that let the potential creep about the threshold.
    span = int(rng.choice([40, 3000, 2**18]))

    def draw():
        if rng.random() < 0.4:  # one value at its limit, the others harmless
            return np.where(np.arange(24).reshape(shape) == 7, rng.choice(EXTREMES), 1)
        return np.where(rng.random(shape) < 0.5, rng.choice(EXTREMES, shape), rng.integers(-span, span + 1, shape))

    return pair, [model.a_in for model in pair], [model.s_out for model in pair], draw, ("u", "v")


def conv_pair(rng):
    groups = int(rng.integers(1, 3))
    channels, out_channels = groups * int(rng.integers(1, 3)), groups * int(rng.integers(1, 3))
    kernel, stride, padding, dilation = (rng.integers(low, 3, 2).astype(np.int8) for low in (1, 1, 0, 1))
    weight = rng.integers(-127, 128, (out_channels, *kernel, channels // groups)).astype(np.int32)
    shape = (*(int(dilation[i]) * (int(kernel[i]) - 1) + 1 + int(rng.integers(0, 4)) for i in (0, 1)), channels)
    bits = int(rng.choice([0, 8]))
    pair = []
    for kind in (PyConvModelFixed, FastConv):
        model = kind({})
        model.weight, model.kernel_size = weight, kernel
        model.stride, model.padding, model.dilation = stride, padding, dilation
        model.groups, model.num_message_bits = np.array([groups], np.int8), np.array([bits], np.int8)
        model.a_buf = np.zeros(output_shape(shape, out_channels, kernel, stride, padding, dilation), np.int32)
        model.s_in, model.a_out = Port(), Port()
        pair.append(model)
    limit = int(rng.choice([1, 127, 2**17, 2**20]))

    def draw():
        return (rng.random(shape) < 0.4) * rng.integers(-limit, limit + 1, shape)

    return pair, [model.s_in for model in pair], [model.a_out for model in pair], draw, ()


def main():
    kind, rng, equal = sys.argv[2], np.random.default_rng(int(sys.argv[3])), 0
    for case in range(CASES):
        (stock, fast), ins, outs, draw, states = {"lif": lif_pair, "conv": conv_pair}[kind](rng)
        for step in range(STEPS):
            data = draw().astype(np.int32)
            for model, port in zip((stock, fast), ins, strict=True):
                port.incoming = data
                model.time_step += 1
                model.run_spk()
            same = [np.array_equal(outs[0].sent[-1], outs[1].sent[-1])]
            same += [np.array_equal(getattr(stock, name), getattr(fast, name)) for name in states]
            if not all(same):
                sys.exit(f"{kind} case {case} step {step}: sent and {states} equal: {same}")
            equal += 1
    print(equal)


main()
